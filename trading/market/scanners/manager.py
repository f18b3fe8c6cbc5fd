"""ScannerManager: the life of a session's scanners, one day at a time.

Owns: states, the grid of each scanner, what a scan promotes and what is left behind, the record of every scan.
Leaves: data and symbols (``SessionHost``, the coordinator), modules (``loader``).
Rule: a scanner is strictly sequential. In a backtest a scan runs on the coordinator's thread while the clock stands
still; live it runs on a thread of the scanner's own, and a scan that becomes due meanwhile is left out and told. What
it promotes is handed over on the coordinator's thread alone.

initialized → setup_pending → setup_complete → (scanning → scan_complete)* → teardown_pending → teardown_complete; any
→ error.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any, Protocol

from strategies.exceptions import ConflictError, MatsError
from trading.market.scanners.base import BaseScanner, ScanContext, ScanHost, ScanResult
from trading.market.scanners.members import members_of
from trading.market.scanners.schedule import Grid

logger = logging.getLogger(__name__)

JOIN_S = 5.0


class ScannerState(StrEnum):
    """Where a scanner stands."""

    INITIALIZED = "initialized"
    SETUP_PENDING = "setup_pending"
    SETUP_COMPLETE = "setup_complete"
    SCANNING = "scanning"
    SCAN_COMPLETE = "scan_complete"
    TEARDOWN_PENDING = "teardown_pending"
    TEARDOWN_COMPLETE = "teardown_complete"
    ERROR = "error"


_S = ScannerState
NEXT: dict[ScannerState, frozenset[ScannerState]] = {
    _S.INITIALIZED: frozenset({_S.SETUP_PENDING, _S.TEARDOWN_PENDING, _S.ERROR}),
    _S.SETUP_PENDING: frozenset({_S.SETUP_COMPLETE, _S.ERROR}),
    _S.SETUP_COMPLETE: frozenset({_S.SCANNING, _S.TEARDOWN_PENDING, _S.ERROR}),
    _S.SCANNING: frozenset({_S.SCAN_COMPLETE, _S.ERROR}),
    _S.SCAN_COMPLETE: frozenset({_S.SCANNING, _S.TEARDOWN_PENDING, _S.ERROR}),
    _S.TEARDOWN_PENDING: frozenset({_S.TEARDOWN_COMPLETE, _S.ERROR}),
    _S.TEARDOWN_COMPLETE: frozenset(),
    _S.ERROR: frozenset(),
}
READY = frozenset({_S.SETUP_COMPLETE, _S.SCAN_COMPLETE})
OVER = frozenset({_S.TEARDOWN_COMPLETE, _S.ERROR})


class SessionHost(ScanHost, Protocol):
    """What the manager needs of a session beyond what scanners see."""

    def promote(self, symbol: str, by: str) -> bool:
        """Load a symbol in full and tell the strategies; False when it was there already.

        Raises: MatsError where its data cannot be had.
        """

    def discard(self, symbol: str) -> None:
        """Remove what was provisioned for a symbol that nobody promoted."""


@dataclass(frozen=True, slots=True)
class ScanRecord:
    """One scan as it is told and stored. ``at``: the moment scanned for, aware UTC."""

    scanner: str
    at: datetime
    result: ScanResult
    universe: int


class _Background:
    """One scan on a thread of its own; a daemon, so that a scan that hangs does not keep the process."""

    def __init__(self, name: str, work: Callable[[], ScanRecord]) -> None:
        self.record: ScanRecord | None = None
        self._work = work
        self._thread = threading.Thread(target=self._run, name=f"scan-{name}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.record = self._work()

    def has_ended(self, wait_s: float = 0.0) -> bool:
        """Wait for the end; tell whether it came."""
        self._thread.join(wait_s)
        return not self._thread.is_alive()


@dataclass(slots=True)
class _Run:
    """One scanner of the day."""

    name: str
    scanner: BaseScanner
    grid: Grid
    pre_session: bool
    context: ScanContext
    state: ScannerState = ScannerState.INITIALIZED
    error: str = ""
    scans: int = 0
    skipped: int = 0
    promoted: set[str] = field(default_factory=set)
    last_at: datetime | None = None
    last_ms: float = 0.0
    running: _Background | None = None

    def move(self, state: ScannerState) -> None:
        """Take the next state.

        Raises: ConflictError for a step that the table does not have.
        """
        if state not in NEXT[self.state]:
            raise ConflictError(f"Scanner {self.name} is {self.state}; it cannot be {state}.", code="scanner_state")
        self.state = state


@dataclass(frozen=True, slots=True)
class Planned:
    """A scanner of a day with its moments."""

    name: str
    scanner: BaseScanner
    moments: Sequence[datetime]
    pre_session: bool


class ScannerManager:
    """The scanners of one session. All methods run on the coordinator's thread, except ``status``."""

    def __init__(
        self, host: SessionHost, on_scan: Callable[[ScanRecord], None] = lambda record: None, *, in_background: bool
    ) -> None:
        self._host = host
        self._on_scan = on_scan
        self._in_background = in_background
        self._runs: list[_Run] = []

    # -- a day

    def begin_day(self, planned: Sequence[Planned]) -> None:
        """Take the day's scanners and set each up; one that fails is in error and the others go on."""
        self.end_day()
        self._runs = [
            _Run(
                one.name,
                one.scanner,
                Grid(one.moments),
                one.pre_session,
                ScanContext(self._host, ()),
            )
            for one in planned
        ]
        for run in self._runs:
            self._set_up(run)

    def scan_before_open(self) -> None:
        """Run the pre-session scans, one after the other, and tear down those that have no other."""
        for run in self._runs:
            if run.pre_session and run.state in READY:
                self._finish(run, self._scan(run))
            self._end_if_over(run)

    @property
    def next_at(self) -> datetime | None:
        """Return the next moment at which a scan is due; None when none is."""
        waiting = [run.grid.next_at for run in self._runs if run.state not in OVER]
        return min((moment for moment in waiting if moment is not None), default=None)

    def run_due(self, now: datetime) -> None:
        """Start or run what is due, take over what finished in the background, tear down what is over."""
        for run in self._runs:
            self._take_finished(run)
            if run.state not in OVER and run.grid.take(now):
                self._run_one(run, now)
            self._end_if_over(run)

    def end_day(self) -> None:
        """Wait for scans under way, tear everything down and forget it."""
        for run in self._runs:
            self._take_finished(run, wait_s=JOIN_S)
            if run.state not in OVER:
                self._tear_down(run)
        self._runs = []

    def status(self) -> list[dict[str, Any]]:
        """Return every scanner's state and figures, JSON-able. Thread-safe."""
        runs = self._runs  # replaced as a whole, never changed
        return [
            {
                "name": run.name,
                "state": str(run.state),
                "error": run.error,
                "scans": run.scans,
                "skipped": run.skipped,
                "missed": run.grid.missed,
                "universe": len(run.context.universe),
                "promoted": sorted(run.promoted),
                "last_at": run.last_at.isoformat() if run.last_at else None,
                "last_ms": round(run.last_ms, 3),
                "next_at": run.grid.next_at.isoformat() if run.grid.next_at and run.state not in OVER else None,
            }
            for run in runs
        ]

    # -- one scanner

    def _set_up(self, run: _Run) -> None:
        run.move(_S.SETUP_PENDING)
        try:
            run.context.universe = members_of(run.scanner.universe())
            is_ready = run.scanner.setup(run.context)
        except Exception as error:
            logger.exception("scanner setup failed scanner=%s", run.name)
            self._fail(run, f"setup: {type(error).__name__}: {error}")
            return
        if is_ready is False:
            self._fail(run, "setup: it gave up; its log says why.")
        else:
            run.move(_S.SETUP_COMPLETE)

    def _run_one(self, run: _Run, now: datetime) -> None:
        if run.running is not None:
            run.skipped += 1
            self._tell(ScanRecord(run.name, now, ScanResult(skipped=True), len(run.context.universe)))
        elif self._in_background:
            run.move(_S.SCANNING)
            run.running = _Background(run.name, partial(self._call, run))
        else:
            self._finish(run, self._scan(run))

    def _scan(self, run: _Run) -> ScanRecord:
        run.move(_S.SCANNING)
        return self._call(run)

    def _call(self, run: _Run) -> ScanRecord:
        """Run the scanner's own code; whatever it raises is its error."""
        at = self._host.time_manager.get_current_time()
        began = time.perf_counter()
        run.context.wanted.clear()
        try:
            result = run.scanner.scan(run.context)
            if not isinstance(result, ScanResult):
                raise TypeError(f"scan returned {type(result).__name__}, not ScanResult")
        except Exception as error:
            logger.exception("scan failed scanner=%s", run.name)
            result = ScanResult(error=f"{type(error).__name__}: {error}")
            run.error = result.error or ""
        result.execution_time_ms = (time.perf_counter() - began) * 1000
        return ScanRecord(run.name, at, result, len(run.context.universe))

    def _take_finished(self, run: _Run, wait_s: float = 0.0) -> None:
        running = run.running
        if running is None:
            return
        if running.has_ended(wait_s):
            run.running = None
            if running.record is not None:
                self._finish(run, running.record)
            else:
                self._fail(run, "the scan's thread ended without an answer; the log has more")
        elif wait_s:
            run.running = None
            self._fail(run, f"the scan did not end within {wait_s:g} s")

    def _finish(self, run: _Run, record: ScanRecord) -> None:
        run.scans += 1
        run.last_at, run.last_ms = record.at, record.result.execution_time_ms
        if run.error:
            self._fail(run, run.error)
        else:
            self._promote(run, record.result)
            run.move(_S.SCAN_COMPLETE)
        self._tell(record)

    def _promote(self, run: _Run, result: ScanResult) -> None:
        for symbol in run.context.wanted:
            try:
                is_new = self._host.promote(symbol, run.name)
            except MatsError as error:
                logger.warning("symbol not promoted scanner=%s symbol=%s reason=%s", run.name, symbol, error.message)
                text = f"{symbol}: {error.message}"
                result.error = f"{result.error} {text}" if result.error else text
                continue
            run.promoted.add(symbol)
            if is_new:
                result.promoted.append(symbol)

    def _end_if_over(self, run: _Run) -> None:
        if run.grid.is_over and run.running is None and run.state in READY:
            self._tear_down(run)

    def _tear_down(self, run: _Run) -> None:
        run.move(_S.TEARDOWN_PENDING)
        try:
            run.scanner.teardown(run.context)
        except Exception as error:
            logger.exception("scanner teardown failed scanner=%s", run.name)
            self._fail(run, f"teardown: {type(error).__name__}: {error}")
            return
        self._leave(run)
        run.move(_S.TEARDOWN_COMPLETE)

    def _leave(self, run: _Run) -> None:
        """Remove what the scanner asked for and nobody promoted or holds."""
        wanted = {symbol for other in self._runs for symbol in other.promoted}
        needed = {
            symbol
            for other in self._runs
            if other is not run and other.state not in OVER
            for symbol in other.context.provisioned
        }
        for symbol in sorted(run.context.provisioned - wanted - needed):
            if not self._host.is_locked(symbol):
                self._host.discard(symbol)

    def _fail(self, run: _Run, text: str) -> None:
        run.error = text
        run.state = ScannerState.ERROR
        self._leave(run)

    def _tell(self, record: ScanRecord) -> None:
        try:
            self._on_scan(record)
        except Exception:
            logger.exception("scan not told scanner=%s", record.scanner)
