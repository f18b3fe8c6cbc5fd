"""What a session says of itself: its phases, its figures, and who is told.

Leaves: moving through the phases (``coordinator``), storing and showing (``trading.session_runs``). Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Protocol

from trading.market.scanners.manager import ScanRecord


class Phase(StrEnum):
    """Where a session stands."""

    VALIDATING = "validating"  # phase 0: streams, modules, data; once
    PREPARING = "preparing"  # 1: yesterday is cleared, the clock goes to the next open
    LOADING = "loading"  # 2: symbols, history, indicators, the day's bars, strategies, pre-session scans
    STREAMING = "streaming"  # 3
    PAUSED = "paused"
    CLOSING = "closing"  # 4: strategies hear nothing any more
    ENDED = "ended"
    STOPPED = "stopped"  # by a person
    FAILED = "failed"


OVER = frozenset({Phase.ENDED, Phase.STOPPED, Phase.FAILED})


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """A moment of a session. ``metrics`` is JSON-able; ``clock`` is the session's own present, aware UTC."""

    phase: Phase
    day: date | None = None
    clock: datetime | None = None
    message: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)


class SessionObserver(Protocol):
    """Who is told of a session; called on the coordinator's thread, and must neither wait nor raise."""

    def phase(self, status: SessionStatus) -> None:
        """Take note of another phase."""

    def progress(self, make: Callable[[], SessionStatus]) -> None:
        """Take note of how far it is; called every turn, and only ``make`` costs something."""

    def scanned(self, record: ScanRecord) -> None:
        """Take note of a scan."""


class NobodyWatches:
    """An observer for sessions that nobody looks at."""

    def phase(self, status: SessionStatus) -> None:
        """Ignore it."""

    def progress(self, make: Callable[[], SessionStatus]) -> None:
        """Ignore it."""

    def scanned(self, record: ScanRecord) -> None:
        """Ignore it."""
