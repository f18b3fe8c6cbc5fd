"""SessionCoordinator: a session from its first check to its last bar, day by day.

Owns: the phases, the order of a turn, the clock of a backtest, what comes in during the session, pause and end.
Leaves: loading a symbol (``session_symbols``), working on bars (``processor``), strategies (``dispatcher``), scans
(``scanners.manager``), fills of a backtest (``sim_desk``), storing what it says (its observer).
Rule: phase 0 once; then for each day: 1 clear and move the clock, 2 load, 3 stream, 4 close. A turn goes: symbols that
wait, scans that are due, pause, is it over, move the clock, hand out the bars that end now, wait for strategies. What
ends exactly at the close is kept. One thread does all of it; ``pause``, ``resume``, ``stop`` and ``add_symbol`` may be
called from any.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import date, datetime
from typing import Any

from strategies.bar_series import nanos_of
from strategies.exceptions import ConfigError, ConflictError, MatsError, StrategyError
from trading.market.pace import Pace
from trading.market.scanners.base import MarketScan, Need
from trading.market.scanners.manager import Planned, ScannerManager, ScanRecord
from trading.market.session_metrics import Totals, metrics_of
from trading.market.session_parts import RunMode
from trading.market.session_ports import SessionPorts
from trading.market.session_status import OVER, Phase, SessionStatus
from trading.market.session_symbols import SessionSymbols
from trading.market.session_table import TradingSession

logger = logging.getLogger(__name__)

LATE_GRACE_NS = 10_000_000_000  # live, the last bars come after the close
LIVE_LOOK_S = 0.25
BY_REQUEST = "Stopped by request."


class StopWanted(Exception):  # noqa: N818 - no error: somebody asked
    """Raised inside a turn to leave it."""


class SessionCoordinator:
    """Drives one session on the calling thread."""

    def __init__(self, ports: SessionPorts, scanners: Sequence[Callable[[TradingSession], Planned]] = ()) -> None:
        self.ports = ports
        self._config, self._clock = ports.config, ports.time_manager
        self._make_scanners = scanners
        self.scanners = ScannerManager(self, self._scanned, in_background=self.is_live)
        self.symbols = SessionSymbols(ports.config, ports.feed, ports.processor, ports.time_manager, ports.desk)
        self.totals = Totals()
        self.day: date | None = None
        self.error = ""
        self._phase, self._message = Phase.VALIDATING, ""
        self._why = BY_REQUEST
        self._pending: deque[tuple[str, str, Future[bool]]] = deque()
        self._stop, self._go_on, self._news = threading.Event(), threading.Event(), threading.Event()
        self._go_on.set()
        self.begun = threading.Event()
        """Set once bars are streamed to strategies, or it is clear that none ever will be."""

    # -- from any thread

    @property
    def phase(self) -> Phase:
        """Return where the session stands."""
        return self._phase

    @property
    def is_live(self) -> bool:
        """Tell whether the clock is the real one."""
        return self._config.run_mode is RunMode.LIVE

    @property
    def is_paused(self) -> bool:
        """Tell whether strategies hear nothing because a person wants it so."""
        return not self._go_on.is_set()

    def pause(self) -> None:
        """Have strategies hear nothing. A backtest's clock stands still; live bars are taken in all the same.

        Raises: ConflictError (session_over, not_streaming).
        """
        self._require_streaming("paused")
        self._go_on.clear()

    def resume(self) -> None:
        """Go on.

        Raises: ConflictError (session_over, not_streaming).
        """
        self._require_streaming("resumed")
        self._go_on.set()

    def stop(self, why: str = BY_REQUEST) -> None:
        """End the session after the turn under way; a second time changes nothing."""
        if not self._stop.is_set():
            self._why = why
        self._stop.set()
        self._go_on.set()
        self._news.set()

    def add_symbol(self, symbol: str, by: str) -> Future[bool]:
        """Have a symbol added at the next turn; the answer tells whether it was new.

        Raises: ConflictError (session_over, not_streaming).
        """
        self._require_streaming("given symbols")
        future: Future[bool] = Future()
        self._pending.append((symbol, by, future))
        self._news.set()
        return future

    def _require_streaming(self, what: str) -> None:
        if self._phase in OVER:
            raise ConflictError(f"The session is {self._phase}; it cannot be {what}.", code="session_over")
        if self._phase not in (Phase.STREAMING, Phase.PAUSED):
            raise ConflictError(f"The session is {self._phase}; it cannot be {what} yet.", code="not_streaming")

    def status(self) -> SessionStatus:
        """Return the moment. Thread-safe."""
        try:
            clock: datetime | None = self._clock.get_current_time()
        except ConfigError:  # a backtest's, before the first day
            clock = None
        return SessionStatus(self._phase, self.day, clock, self._message, metrics_of(self))

    # -- the phases

    def run(self) -> Phase:
        """Go through the session; return how it ended. Whatever goes wrong is its message, with ``error`` beside it."""
        try:
            self._validate()
            for number, day in enumerate(self._days()):
                self._prepare(day, first=number == 0)
                self._load()
                self._stream()
                self._close_day()
            self._end(Phase.ENDED)
        except StopWanted:
            self._end(Phase.STOPPED, self._why)
        except MatsError as error:
            self._fail(error.message)
        except Exception as error:
            logger.exception("session failed session=%s", self._config.session_name)
            self._fail(f"{type(error).__name__}: {error}")
        finally:
            self.begun.set()
            self._refuse_pending()
        return self._phase

    def _validate(self) -> None:
        """Phase 0: can its symbols, scanners and strategies be had at all."""
        self._enter(Phase.VALIDATING)
        problems = [self.ports.feed.problem(symbol, self.symbols.base) for symbol in self._wanted()]
        told = [problem for problem in problems if problem]
        if told:
            raise ConfigError(" ".join(told), code="no_bars")

    def _wanted(self) -> list[str]:
        return self._config.session_data_config.symbols

    def _days(self) -> list[date]:
        if self.is_live:
            return [self._live_day()]
        backtest = self._config.backtest_config
        assert backtest is not None  # noqa: S101 - a checked configuration
        days = self._clock.get_trading_dates(backtest.start_date, backtest.end_date)
        if not days:
            raise ConfigError(
                f"There is no trading day from {backtest.start_date} to {backtest.end_date}.", code="no_trading_day"
            )
        return days

    def _live_day(self) -> date:
        """Return the day that is traded, or is to be traded next on this date."""
        now = self._clock.get_current_time()
        day = self._clock.trading_day_of(now)
        close = self._clock.get_trading_session(day).regular_close
        if close is None or now >= close:
            opens = self._clock.next_open(now)
            raise ConfigError(f"The market is closed until {opens:%Y-%m-%d %H:%M} UTC.", code="market_closed")
        return day

    def _prepare(self, day: date, *, first: bool) -> None:
        """Phase 1: forget yesterday, move the clock to the open."""
        self.day = day
        self._enter(Phase.PREPARING)
        session = self._session()
        if not first:
            self.totals.carry(self.ports.strategies.get_metrics())
            self.ports.strategies.shutdown()
        self.symbols.begin_day(session)
        self.ports.processor.begin_day(session)
        if not self.is_live and session.regular_open is not None:
            self._clock.set_time(session.regular_open)

    def _load(self) -> None:
        """Phase 2: symbols with their history, strategies, scanners."""
        self._enter(Phase.LOADING)
        strategies = self.ports.strategies
        if not strategies.initialize():
            raise StrategyError(f"Strategies cannot be initialized. {strategies.failure}", code="not_initialized")
        for symbol in self._wanted():
            self._check_stop()
            self.symbols.load(symbol)
        if not strategies.start_strategies():
            raise StrategyError(f"Strategies cannot be started. {strategies.failure}", code="not_started")
        self._check_subscriptions()
        self.scanners.begin_day([make(self._session()) for make in self._make_scanners])
        self.scanners.scan_before_open()

    def _check_subscriptions(self) -> None:
        """Refuse intervals that never come: a strategy that waits for them would be silent for ever."""
        made = {self.symbols.base, *self._config.session_data_config.streams}
        symbols = set(self.symbols.symbols())
        for symbol, interval in sorted(self.ports.strategies.get_all_subscriptions()):
            if interval not in made:
                raise StrategyError(
                    f"A strategy follows {symbol} {interval}; the session's streams are {', '.join(sorted(made))}.",
                    code="not_streamed",
                )
            if symbol not in symbols:
                logger.warning("a strategy follows %s, which is not among the session's symbols", symbol)

    def _stream(self) -> None:
        """Phase 3."""
        self.ports.processor.activate()
        if self.ports.gaps is not None:
            self.ports.gaps.start()
        self._enter(Phase.STREAMING)
        self.begun.set()
        if self.is_live:
            self._follow()
        elif self._config.run_mode is RunMode.CLOCK_DRIVEN:
            self._step_by_clock()
        else:
            self._jump()

    def _close_day(self) -> None:
        """Phase 4: nobody is told anything more; the data of the last day stays."""
        self._enter(Phase.CLOSING)
        self.ports.processor.deactivate()
        self.scanners.end_day()
        self.ports.strategies.stop_strategies()
        if self.ports.desk is not None:
            self.ports.desk.expire(self._clock.now_ns())

    def _end(self, phase: Phase, message: str = "") -> None:
        self._tidy_up()
        self._enter(phase, message)

    def _fail(self, message: str) -> None:
        self.error = traceback.format_exc()
        self._tidy_up()
        self._enter(Phase.FAILED, message)

    def _tidy_up(self) -> None:
        """Leave nothing running, whatever happened before."""
        self.ports.processor.deactivate()
        gaps = [self.ports.gaps.stop] if self.ports.gaps is not None else []
        for deed in (*gaps, self.scanners.end_day, self.symbols.close, self.ports.strategies.stop_strategies):
            try:
                deed()
            except Exception:
                logger.exception("session not tidied up session=%s", self._config.session_name)

    def _enter(self, phase: Phase, message: str = "") -> None:
        self._phase, self._message = phase, message
        logger.info("session=%s phase=%s day=%s %s", self._config.session_name, phase, self.day, message)
        self.ports.observer.phase(self.status())

    def _session(self) -> TradingSession:
        assert self.day is not None  # noqa: S101 - set in phase 1
        return self._clock.get_trading_session(self.day)

    @property
    def _close_ns(self) -> int:
        close = self._session().regular_close
        if close is None:
            raise ConfigError(f"{self.day} is no trading day any more: its calendar was changed.", code="no_session")
        return nanos_of(close)

    # -- streaming

    def _jump(self) -> None:
        """Data-driven: from one moment at which something happens to the next."""
        close = self._close_ns
        while True:
            self._begin_turn()
            moments = [close, *(moment for moment in (self.symbols.next_end, self._scan_ns()) if moment is not None)]
            moment = min(moments)
            self._clock.set_time_ns(moment)
            self._deliver(moment)
            if moment >= close:
                return

    def _step_by_clock(self) -> None:
        """Clock-driven: a minute at a time, as fast as the configuration says."""
        backtest = self._config.backtest_config
        assert backtest is not None  # noqa: S101 - a checked configuration
        close, pace = self._close_ns, Pace(backtest.speed_multiplier)
        while True:
            paused_s = self._begin_turn()
            pace.shift(paused_s)
            moment = min(pace.next_minute(self._clock.now_ns()), close)
            if self._stop.wait(pace.wait_s()):
                raise StopWanted
            self._clock.set_time_ns(moment)
            self._deliver(moment)
            if moment >= close:
                return

    def _follow(self) -> None:
        """Live: whatever came, until a little after the close, which operators may move during the day."""
        while True:
            self._begin_turn()
            now = self._clock.now_ns()
            self._deliver(now)
            if now >= self._close_ns + LATE_GRACE_NS:
                return
            self._wait_for_news()

    def _wait_for_news(self) -> None:
        self.ports.feed.wait(LIVE_LOOK_S)
        self._news.clear()

    def _begin_turn(self) -> float:
        """Do what comes before the clock moves; return how long the session was paused."""
        self._check_stop()
        self._insert_pending()
        self.scanners.run_due(self._clock.get_current_time())
        return self._pause_gate()

    def _pause_gate(self) -> float:
        if self.is_live:
            self._show_pause()
            return 0.0
        if self._go_on.is_set():
            return 0.0
        begun = time.monotonic()
        self._enter(Phase.PAUSED)
        while not self._go_on.wait(0.5):
            self.ports.observer.progress(self.status)
        self._check_stop()
        self._enter(Phase.STREAMING)
        return time.monotonic() - begun

    def _show_pause(self) -> None:
        """Live: the market goes on; strategies hear nothing of it."""
        wanted = Phase.PAUSED if self.is_paused else Phase.STREAMING
        if self._phase is not wanted:
            self.ports.processor.hold(self.is_paused)
            self._enter(wanted)

    def _deliver(self, now_ns: int) -> None:
        """Hand out what ended by now: orders meet it, strategies hear of it, their signals become orders."""
        bars = self.symbols.take(now_ns)
        desk = self.ports.desk
        if desk is not None and bars:
            desk.meet(now_ns, dict.fromkeys(symbol for symbol, _ in bars))
        self.ports.processor.process(now_ns, bars)
        if desk is not None:
            desk.settle(now_ns)
        self.ports.observer.progress(self.status)

    def _scan_ns(self) -> int | None:
        moment = self.scanners.next_at
        return None if moment is None else max(nanos_of(moment), self._clock.now_ns())

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise StopWanted

    # -- symbols during the session

    def _insert_pending(self) -> None:
        while self._pending:
            symbol, by, future = self._pending.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(self.promote(symbol, by))
            except MatsError as error:
                future.set_exception(error)
            except Exception as error:
                future.set_exception(error)
                raise

    def _refuse_pending(self) -> None:
        while self._pending:
            self._pending.popleft()[2].set_exception(
                ConflictError("The session ended before the symbol was added.", code="session_over")
            )

    def _insert_symbols_mid_session(self, symbols: Sequence[str], by: str = "") -> list[str]:
        """Load symbols as at the start of the day, then tell the strategies of each; return those that were new.

        The clock stands still meanwhile: a backtest's because this is its thread, a live one's bars wait in the feed.
        """
        added = [symbol for symbol in symbols if self.symbols.load(symbol, by)]
        for symbol in added:
            self.ports.strategies.notify_symbol_added(symbol)
        return added

    # -- what scanners ask (scanners.manager.SessionHost)

    @property
    def session_data(self) -> Any:
        """Return the session's bars."""
        return self.ports.session_data

    @property
    def time_manager(self) -> Any:
        """Return the session's clock."""
        return self._clock

    @property
    def mode(self) -> str:
        """Return live or backtest."""
        return str(self._config.mode.value)

    def provision(self, needs: Sequence[Need]) -> None:
        """Have light data of symbols."""
        self.symbols.provision(needs, "scanner")

    def market_scan(self, scan: MarketScan) -> list[str]:
        """Return the symbols of one of IB's rankings."""
        return self.ports.venue.market_scan(scan)

    def is_locked(self, symbol: str) -> bool:
        """Tell whether a position or an order holds a symbol."""
        desk = self.ports.desk
        return desk.is_locked(symbol) if desk is not None else self.ports.venue.holds(symbol)

    def promote(self, symbol: str, by: str) -> bool:
        """Add a symbol now; False when it was there already."""
        return bool(self._insert_symbols_mid_session([symbol], by))

    def discard(self, symbol: str) -> None:
        """Remove a symbol that was there for scanners alone."""
        self.symbols.discard(symbol)

    def _scanned(self, record: ScanRecord) -> None:
        self.ports.observer.scanned(record)
