"""The live sessions of one engine: started, paused and stopped by command, and by themselves while the market is open.

Owns: which session runs, when active ones begin, alerts about those that failed, scans by hand and by schedule.
Leaves: one session (``live_session``), one scan (``hand_scan``).
Rule: a session runs once at a time, and an active one once a day: what a person stopped stays stopped until the next
day, and one that failed waits for a person. Nothing begins before orders may flow.
"""

from __future__ import annotations

import logging
import threading
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import connection

from portfolio.cron import last_due_in
from strategies.exceptions import ConflictError, MatsError, TransientError
from trading.alerts import clear_alert, raise_alert
from trading.engine.hand_scan import scan_by_hand
from trading.engine.live_session import LiveSession
from trading.market.calendar_rows import make_time_manager
from trading.market.session_config import Mode, SessionConfig
from trading.market.session_status import Phase
from trading.market.time_manager import TimeManager
from trading.models import Severity
from trading.session_models import ScannerConfig, SessionRun
from trading.session_models import SessionConfig as SessionRow
from trading.session_runs import RunRecorder, close_lost_runs, store_scan, this_process
from trading.session_services import EXCHANGE_ZONE, checked_session, find_scanner, find_session

if TYPE_CHECKING:
    from trading.engine.manager import StrategyManager

logger = logging.getLogger(__name__)

START_WAIT_S = 180.0
STOP_WAIT_S = 60.0
ADD_WAIT_S = 90.0
BEFORE_OPEN = timedelta(minutes=5)
ENGINE_STOPPED = "Stopped with its engine."
Result = dict[str, Any]


def _alert_key(name: str) -> str:
    return f"session:{name}"


class LiveSessions:
    """All sessions of an engine. Thread-safe."""

    def __init__(self, engine: StrategyManager) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._sessions: dict[str, LiveSession] = {}
        self._tried: set[tuple[str, date]] = set()
        self._scanning: set[str] = set()
        self._scanned: dict[str, datetime] = {}  # which time of its schedule a scanner is through with
        self._clocks: dict[str, TimeManager] = {}
        self._closed = False

    # -- commands

    def start(self, name: str) -> Result:
        """Start a saved live session and wait until its strategies run.

        Raises: NotFoundError; ConfigError for one that cannot run; ConflictError (session_runs, no_live_session);
        StrategyError (session_failed) with the reason.
        """
        session = self._begin(name)
        if not session.begun.wait(START_WAIT_S):
            raise TransientError(f"Session {name} is still starting; its page tells how it goes on.", code="timeout")
        if session.failure:
            raise ConflictError(f"Session {name} failed. {session.failure}", code="session_failed")
        return {"session": name, "run": session.recorder.run.pk, "phase": str(session.coordinator().phase)}

    def _begin(self, name: str) -> LiveSession:
        row = find_session(name)
        config = checked_session(row.name, row.config)
        if config.mode is not Mode.LIVE:
            raise ConflictError(
                f"{name} is a backtest; run it with manage.py run_session {name}.", code="no_live_session"
            )
        with self._lock:
            if self._closed:
                raise ConflictError("The engine is stopping; it starts nothing.", code="engine_stopping")
            known = self._sessions.get(name)
            if known is not None and not known.over.is_set():
                raise ConflictError(f"Session {name} runs already.", code="session_runs")
            self._check_apart(config)
            session = LiveSession(self._engine, config, RunRecorder(name, config.run_mode.value))
            self._sessions[name] = session
        threading.Thread(target=self._run, args=(session,), name=f"mats-session-{name}", daemon=True).start()
        return session

    def _check_apart(self, config: SessionConfig) -> None:
        """Refuse two sessions that would decide for one strategy at the same time."""
        mine = {entry.module.rpartition(".")[2] for entry in config.session_data_config.strategies if entry.enabled}
        for other in self._sessions.values():
            theirs = {entry.module.rpartition(".")[2] for entry in other.config.session_data_config.strategies}
            shared = sorted(mine & theirs)
            if shared and not other.over.is_set():
                raise ConflictError(
                    f"Session {other.name} runs {', '.join(shared)} already; a strategy belongs to one session.",
                    code="sessions_overlap",
                )

    def _run(self, session: LiveSession) -> None:
        session.run()
        name, failure = session.name, session.failure
        if failure:
            self._engine.message_queue.submit(
                lambda: raise_alert(
                    _alert_key(name), Severity.CRITICAL, f"Session {name} failed", f"{failure} It is not started again."
                ),
                "alert",
            )

    def pause(self, name: str) -> Result:
        """Have a session's strategies hear nothing.

        Raises: ConflictError.
        """
        self._running(name).coordinator().pause()
        return {"session": name, "phase": str(Phase.PAUSED)}

    def resume(self, name: str) -> Result:
        """Have a paused session's strategies hear of bars again.

        Raises: ConflictError.
        """
        self._running(name).coordinator().resume()
        return {"session": name, "phase": str(Phase.STREAMING)}

    def stop(self, name: str) -> Result:
        """End a session; positions stay as they are.

        Raises: ConflictError (not_running, does_not_stop).
        """
        session = self._running(name)
        if not session.stop(STOP_WAIT_S + self._engine.settings.stop_timeout_s):
            raise ConflictError(f"Session {name} does not end in time; its page tells more.", code="does_not_stop")
        return {"session": name, "phase": str(session.recorder.run.phase)}

    def promote(self, name: str, symbol: str) -> Result:
        """Add a symbol to a running session.

        Raises: ConflictError; NotFoundError for a symbol that IB does not know.
        """
        future = self._running(name).coordinator().add_symbol(symbol, "operator")
        try:
            is_new = future.result(ADD_WAIT_S)
        except TimeoutError as error:
            future.cancel()
            raise TransientError(f"{symbol} was not added within {ADD_WAIT_S:g} s.", code="timeout") from error
        return {"session": name, "symbol": symbol, "is_new": is_new}

    def _running(self, name: str) -> LiveSession:
        with self._lock:
            session = self._sessions.get(name)
        if session is None or session.over.is_set():
            raise ConflictError(f"Session {name} does not run.", code="not_running")
        return session

    def stop_all(self, timeout_s: float) -> None:
        """End all sessions; the engine is stopping."""
        with self._lock:
            self._closed = True
            sessions = [session for session in self._sessions.values() if not session.over.is_set()]
        for session in sessions:
            session.request_stop(ENGINE_STOPPED)
        for session in sessions:
            session.stop(timeout_s)

    # -- by the clock

    def open(self) -> None:
        """Mark what an earlier engine of this database left behind as lost."""
        close_lost_runs(this_process())
        close_lost_runs()

    def tick(self) -> None:
        """Begin active sessions whose market opens or is open, and scans that are due; called every few seconds."""
        if self._closed or not self._engine.gate.is_open:
            return
        for row in SessionRow.objects.filter(active=True):
            self._begin_if_due(row)
        for scanner in ScannerConfig.objects.filter(enabled=True).exclude(schedule=""):
            self._scan_if_due(scanner)

    def _begin_if_due(self, row: SessionRow) -> None:
        group = str(row.config.get("exchange_group", "US_EQUITY")) if isinstance(row.config, dict) else "US_EQUITY"
        day = open_day(self._clock(group), datetime.now(UTC))
        if day is None or (row.name, day) in self._tried or self._was_ended(row.name, day):
            return
        self._tried.add((row.name, day))
        try:
            self._begin(row.name)
            self._engine.message_queue.submit(lambda: clear_alert(_alert_key(row.name)), "alert")
        except MatsError as error:
            text, key = error.message, _alert_key(row.name)
            logger.warning("session not begun session=%s reason=%s", row.name, text)
            self._engine.message_queue.submit(
                lambda: raise_alert(key, Severity.CRITICAL, f"Session {row.name} did not begin", text), "alert"
            )

    def _clock(self, group: str) -> TimeManager:
        known = self._clocks.get(group)
        if known is None:
            known = self._clocks[group] = make_time_manager(Mode.LIVE.value, group=group)
        return known

    def _was_ended(self, name: str, day: date) -> bool:
        """Tell whether the day's session ran to its end, was stopped by a person, or runs.

        One that stopped with an engine goes on with the next, as strategies do.
        """
        ended = [str(phase) for phase in (Phase.ENDED, Phase.STOPPED)]
        runs = SessionRun.objects.filter(name=name, mode="live", day=day, phase__in=ended)
        if runs.exclude(message=ENGINE_STOPPED).exists():
            return True
        with self._lock:
            session = self._sessions.get(name)
        return session is not None and not session.over.is_set()

    # -- scans

    def scan(self, name: str) -> Result:
        """Scan once, now, and store what was found.

        Raises: NotFoundError; ConflictError (scan_runs); ConfigError, LoadError for a scanner that cannot be used.
        """
        row = find_scanner(name)
        with self._lock:
            if name in self._scanning:
                raise ConflictError(f"{name} is scanning already.", code="scan_runs")
            self._scanning.add(name)
        try:
            record = scan_by_hand(self._engine, row)
        finally:
            with self._lock:
                self._scanning.discard(name)
        scan = store_scan(record)
        if record.result.error:
            raise ConflictError(f"The scan failed. {record.result.error}", code="scan_failed")
        return {"scanner": name, "scan": scan.pk, "symbols": record.result.symbols, "at": record.at.isoformat()}

    def _scan_if_due(self, row: ScannerConfig) -> None:
        due = last_due_in(row.schedule, datetime.now(UTC), EXCHANGE_ZONE)
        before = self._scanned.setdefault(row.name, due)  # what was due before the engine came is not made up for
        if due <= before:
            return
        self._scanned[row.name] = due
        threading.Thread(target=self._scan_quietly, args=(row.name,), name=f"mats-scan-{row.name}", daemon=True).start()

    def _scan_quietly(self, name: str) -> None:
        try:
            self.scan(name)
        except MatsError as error:
            logger.warning("scan by schedule failed scanner=%s reason=%s", name, error.message)
        except Exception:
            logger.exception("scan by schedule failed scanner=%s", name)
        finally:
            connection.close()


def open_day(clock: TimeManager, now: datetime) -> date | None:
    """Return the session day that is open now, or opens within minutes; None while the market is closed."""
    day = clock.trading_day_of(now + BEFORE_OPEN)
    session = clock.get_trading_session(day)
    if session.regular_open is None or session.regular_close is None:
        return None
    return day if session.regular_open - BEFORE_OPEN <= now < session.regular_close else None
