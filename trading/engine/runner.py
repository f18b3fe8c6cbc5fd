"""One strategy's life as the engine sees it: its states, its sign of life, its restarts.

Owns: the moves along ``lifecycle``, the restart budget, the facts for the StrategyRun row.
Leaves: making the instance and its client id (``supervisor``), the thread itself (``strategies.life``).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from trading.engine import lifecycle
from trading.engine.lifecycle import StrategyState
from trading.models import StrategyRun

SILENT_AFTER_S = 5.0
NOT_ANSWERING = "its loop does not answer"
_HOUR_S = 3600.0
_BACKOFF_FIRST_S = 1.0
_BACKOFF_MAX_S = 60.0
_MESSAGE_LENGTH = 400


@dataclass(slots=True)
class RestartBudget:
    """Restarts within the last hour. Units: seconds on the given monotonic clock."""

    clock: Callable[[], float] = time.monotonic
    times: deque[float] = field(default_factory=deque)

    def next_delay(self, per_hour: int) -> float | None:
        """Return how long to wait before the next restart; None when the hour's budget is used up."""
        now = self.clock()
        while self.times and now - self.times[0] > _HOUR_S:
            self.times.popleft()
        if len(self.times) >= per_hour:
            return None
        return min(_BACKOFF_FIRST_S * 2.0 ** len(self.times), _BACKOFF_MAX_S)

    def spend(self) -> None:
        """Count one restart."""
        self.times.append(self.clock())


class Runner:
    """State of one strategy. Every change happens under ``lock``; ``changed`` tells waiters."""

    def __init__(self, symbol: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.symbol = symbol
        self.state = StrategyState.STOPPED
        self.strategy: Any = None
        self.client_id: int | None = None
        self.connected = False
        self.message = ""
        self.traceback = ""
        self.started_at: datetime | None = None
        self.beat_at: datetime | None = None
        self.restarts = 0
        self.restart_wanted = False
        self.restart_due: float | None = None
        self.silent = False
        self.stop_wanted = False
        self.budget = RestartBudget(clock)
        self.changed = threading.Condition(threading.RLock())
        self._clock = clock
        self._beat = clock()

    def move(self, target: StrategyState, message: str = "", traceback: str = "") -> None:
        """Enter a state.

        Raises: ConflictError when the lifecycle knows no such move.
        """
        with self.changed:
            self.state = lifecycle.move(self.state, target)
            self.message = message[:_MESSAGE_LENGTH]
            self.traceback = traceback
            if target is StrategyState.STARTING:
                self.started_at = datetime.now(UTC)
                self.call_off_restart()
                self.silent = self.stop_wanted = False
                self._beat = self._clock()
            self.changed.notify_all()

    def call_off_restart(self) -> None:
        """Forget a restart that was wanted or planned."""
        self.restart_wanted = False
        self.restart_due = None

    def note(self, message: str) -> None:
        """Show a message without a change of state."""
        with self.changed:
            self.message = message[:_MESSAGE_LENGTH]
            self.changed.notify_all()

    def wait_until(self, states: frozenset[StrategyState], timeout_s: float) -> bool:
        """Block until the runner is in one of the states; tell False when the time is over."""
        with self.changed:
            return self.changed.wait_for(lambda: self.state in states, timeout_s)

    def beat(self) -> bool:
        """Take note that the loop lives; tell whether it had been silent."""
        self._beat = self._clock()
        self.beat_at = datetime.now(UTC)
        was_silent, self.silent = self.silent, False
        return was_silent

    def fell_silent(self) -> bool:
        """Tell once when the loop has not answered for SILENT_AFTER_S although the strategy should live."""
        alive = self.state in (StrategyState.STARTING, StrategyState.RUNNING, StrategyState.STOPPING)
        if not alive or self.silent or self._clock() - self._beat < SILENT_AFTER_S:
            return False
        self.silent = True
        return True

    def silence_s(self) -> float:
        """Return how long the loop has not answered. Units: seconds."""
        return self._clock() - self._beat

    def row(self) -> StrategyRun:
        """Return the facts as the StrategyRun row to store."""
        return StrategyRun(
            symbol=self.symbol,
            state=self.state,
            client_id=self.client_id,
            connected=self.connected,
            message=self.message,
            traceback=self.traceback,
            started_at=self.started_at,
            heartbeat_at=self.beat_at,
            restarts=self.restarts,
            updated_at=datetime.now(UTC),
        )
