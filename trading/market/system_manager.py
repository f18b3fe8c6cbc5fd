"""SystemManager: one session with everything that belongs to it, started, stopped and thrown away.

Owns: putting the parts together, the coordinator's thread, and the getters through which parts and strategies find one
another. Leaves: the flow (``coordinator``), where bars and orders come from (given by whoever starts it: command,
engine or test).
Rule: ``start_session`` returns when strategies run, or raises with the reason; nothing is left running then.
"""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from strategies.exceptions import ConflictError, MatsError, StrategyError
from trading.market.coordinator import BY_REQUEST, SessionCoordinator
from trading.market.dispatcher import ExecutorMaker, StrategyDispatcher
from trading.market.feeds import BarFeed
from trading.market.gap_keeper import GapKeeper
from trading.market.gaps import BarRequests, GapFiller
from trading.market.processor import DataProcessor
from trading.market.scanners.loader import load_scanner
from trading.market.scanners.manager import Planned
from trading.market.scanners.schedule import scan_times
from trading.market.session_data import SessionData
from trading.market.session_parts import Mode, ScannerConfig, SessionConfig
from trading.market.session_ports import DeskPort, NoVenue, SessionPorts, VenuePort
from trading.market.session_status import OVER, NobodyWatches, Phase, SessionObserver
from trading.market.session_store import SessionStore, make_session_data
from trading.market.session_table import TradingSession
from trading.market.time_manager import TimeManager

logger = logging.getLogger(__name__)

STOP_S = 30.0


class SessionFailedError(StrategyError, RuntimeError):
    """A session could not be started."""

    code = "session_failed"


class SystemManager:
    """One session. Thread-safe."""

    def __init__(
        self,
        feed: BarFeed,
        *,
        time_manager: TimeManager,
        desk: DeskPort | None = None,
        make_executor: ExecutorMaker | None = None,
        venue: VenuePort | None = None,
        observer: SessionObserver | None = None,
        requests: BarRequests | None = None,
    ) -> None:
        """``requests``: where a live session asks again for bars that are missing."""
        self.session_config: SessionConfig | None = None
        self._feed, self._desk, self._make_executor = feed, desk, make_executor
        self._venue, self._observer = venue or NoVenue(), observer or NobodyWatches()
        self._requests = requests
        self._time_manager = time_manager
        self._session_data: Any = None
        self._strategy_manager: StrategyDispatcher | None = None
        self._coordinator: SessionCoordinator | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    # -- getters

    @property
    def mode(self) -> Mode:
        """Return live or backtest.

        Raises: RuntimeError before a session was started.
        """
        return self._config().mode

    def _config(self) -> SessionConfig:
        if self.session_config is None:
            raise RuntimeError("No session was started.")
        return self.session_config

    def get_strategy_manager(self) -> StrategyDispatcher:
        """Return what runs the session's strategies.

        Raises: RuntimeError before a session was started.
        """
        if self._strategy_manager is None:
            raise RuntimeError("StrategyManager not initialized")
        return self._strategy_manager

    def get_session_data(self) -> Any:
        """Return the session's bars, None before a session was started."""
        return self._session_data

    def get_time_manager(self) -> TimeManager:
        """Return the session's clock."""
        return self._time_manager

    def get_coordinator(self) -> SessionCoordinator:
        """Return what drives the session.

        Raises: RuntimeError before a session was started.
        """
        if self._coordinator is None:
            raise RuntimeError("No session was started.")
        return self._coordinator

    # -- life

    def start_session(self, session_config: SessionConfig) -> None:
        """Start a session on a thread of its own; return when its strategies run.

        Raises: ConflictError (session_runs); SessionFailedError, a RuntimeError, with the reason.
        """
        with self._lock:
            if self.is_running:
                raise ConflictError("A session runs already; stop it first.", code="session_runs")
            try:
                self._put_together(session_config)
            except MatsError as error:
                raise SessionFailedError(error.message) from error
            coordinator = self.get_coordinator()
            self._thread = threading.Thread(
                target=coordinator.run, name=f"Session-{session_config.session_name}", daemon=True
            )
            self._thread.start()
        coordinator.begun.wait()
        if coordinator.phase is Phase.FAILED:
            message, trace = coordinator.status().message, coordinator.error
            self.shutdown()
            raise SessionFailedError(message, trace=trace)

    def _put_together(self, config: SessionConfig) -> None:
        self.session_config = config
        data = self._session_data = make_session_data(config, self._time_manager)
        if self._desk is not None:
            self._desk.follow(data)
        self._strategy_manager = StrategyDispatcher(self, make_executor=self._make_executor)
        ports = SessionPorts(
            config,
            self._time_manager,
            data,
            DataProcessor(config, SessionStore(config, data), self._strategy_manager),
            self._strategy_manager,
            self._feed,
            self._desk,
            self._observer,
            self._venue,
            self._gap_keeper(config, data),
        )
        scanners = [partial(plan_scanner, part) for part in config.session_data_config.scanners if part.enabled]
        self._coordinator = SessionCoordinator(ports, scanners)

    def _gap_keeper(self, config: SessionConfig, data: SessionData) -> GapKeeper | None:
        if config.mode is not Mode.LIVE or self._requests is None:
            return None
        part = config.session_data_config.gap_filler
        filler = GapFiller(
            data,
            self._requests,
            mode=config.mode.value,
            max_retries=part.max_retries,
            retry_interval_s=part.retry_interval_seconds,
        )
        return GapKeeper(filler.run, self._time_manager.now_ns)

    @property
    def is_running(self) -> bool:
        """Tell whether the coordinator's thread lives."""
        return self._thread is not None and self._thread.is_alive()

    def wait(self, timeout_s: float | None = None) -> Phase | None:
        """Wait for the end; return how it ended, None when the time was over first."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        phase = self.get_coordinator().phase
        return phase if phase in OVER and not self.is_running else None

    def request_stop(self, why: str = BY_REQUEST) -> None:
        """Ask the session to end; returns at once. Harmless when none runs."""
        if self._coordinator is not None:
            self._coordinator.stop(why)

    def stop_session(self, timeout_s: float = STOP_S) -> bool:
        """End the session: strategies first, then the rest; tell whether it ended in time. Harmless when none runs."""
        self.request_stop()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        if self.is_running:
            logger.error("session does not end within %s s", timeout_s)
        return not self.is_running

    def shutdown(self) -> None:
        """Stop and forget everything; ``start_session`` may follow."""
        self.stop_session()
        if self._strategy_manager is not None:
            self._strategy_manager.shutdown()
        self._strategy_manager = None


def plan_scanner(part: ScannerConfig, session: TradingSession) -> Planned:
    """Return a scanner of the configuration for one day: a fresh instance and its moments.

    Raises: LoadError; ConfigError (bad_scanner_config).
    """
    scanner = load_scanner(part.module).cls(part.config)
    until = session.regular_close
    moments = scan_times(part.regular_session, session.day, ZoneInfo(session.zone), until) if until else []
    return Planned(part.name, scanner, moments, part.pre_session)
