"""One live session inside the engine: its strategies' order lives, its system, its record.

Owns: who owns the trades of a session's strategies, starting and ending everything in order.
Leaves: the flow (``market.coordinator``), orders (``session_life``), which sessions run when (``sessions``).
Rule: each strategy of a session trades for the strategy row of its name, which has cash, limits and states; without one
the session does not start. What was started is ended, whatever goes wrong in between.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

from django.db import connection as database

from portfolio.models import Execution, Position
from strategies.exceptions import ConfigError, ConflictError, MatsError, NotFoundError, StrategyError
from strategies.models import Strategy
from strategies.reactive import ReactiveStrategy, Signal, StrategyContext
from trading.engine.lifecycle import StrategyState
from trading.engine.session_feed import LiveFeed
from trading.engine.session_life import SessionLife
from trading.engine.supervisor import ENDED, SETTLED, find_strategy
from trading.market.calendar_rows import make_time_manager
from trading.market.coordinator import BY_REQUEST, SessionCoordinator
from trading.market.scanners.base import MarketScan
from trading.market.session_gates import session_gates
from trading.market.session_parts import Mode, SessionConfig
from trading.market.session_status import Phase
from trading.market.signal_rules import Gates
from trading.market.strategy_thread import SignalSink
from trading.market.system_manager import SystemManager
from trading.models import Order
from trading.orders.state import WORKING
from trading.session_runs import RunRecorder

if TYPE_CHECKING:
    from trading.engine.manager import StrategyManager

logger = logging.getLogger(__name__)

LIFE_WAIT_S = 45.0
_WORKING = [str(state) for state in WORKING]


@dataclass(slots=True)
class _Seat:
    """One strategy of the session: its row's symbol, what bounds it, its life while there is one."""

    symbol: str
    gates: Gates
    allow_repeats: bool
    data: Any = None
    life: SessionLife | None = None
    unheard: int = 0


@dataclass(slots=True)
class LiveSession:
    """A session that is starting, running or over. Thread-safe."""

    engine: StrategyManager
    config: SessionConfig
    recorder: RunRecorder
    seats: dict[str, _Seat] = field(default_factory=dict)  # by the strategy's name in the session
    system: SystemManager | None = None
    failure: str = ""
    begun: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    stop_wanted: threading.Event = field(default_factory=threading.Event)

    @property
    def name(self) -> str:
        """Return the session's name."""
        return self.config.session_name

    @property
    def owners(self) -> list[str]:
        """Return the strategy rows that its trades belong to."""
        return [seat.symbol for seat in self.seats.values()]

    # -- the session's thread

    def run(self) -> None:
        """Start everything, go through the day, end everything."""
        try:
            self._start()
            assert self.system is not None  # noqa: S101 - _start made it
            self.begun.set()
            self.system.wait()
            coordinator = self.system.get_coordinator()
            if coordinator.phase is Phase.FAILED:
                self.failure = coordinator.status().message
                self.recorder.fail(coordinator.error, self.failure)
        except MatsError as error:
            self.failure = error.message
            self.recorder.fail(str(error.fields.get("trace", "")), self.failure)
        except Exception as error:
            logger.exception("session failed session=%s", self.name)
            self.failure = f"{type(error).__name__}: {error}"
            self.recorder.fail("", self.failure)
        finally:
            self._end()

    def _start(self) -> None:
        self._take_seats()
        feed = LiveFeed(self.engine.market, self.engine.session, self._trouble)
        self.system = SystemManager(
            feed,
            time_manager=make_time_manager(Mode.LIVE.value, group=self.config.exchange_group),
            make_executor=self._sink_for,
            venue=_Venue(self, feed),
            observer=self.recorder,
            requests=feed,
        )
        for name, seat in self.seats.items():
            self._check_stop()
            self.engine.session_claims[seat.symbol] = partial(self._make_life, seat)
            runner = self.engine.supervisor.start(seat.symbol)
            runner.wait_until(SETTLED, LIFE_WAIT_S)
            if runner.state is not StrategyState.RUNNING:
                raise StrategyError(
                    f"{name} has no line for its orders: {runner.message or runner.state}.", code="start_failed"
                )
        self._check_stop()
        self.system.start_session(self.config)

    def _check_stop(self) -> None:
        if self.stop_wanted.is_set():
            raise ConflictError("Stopped by request before it began.", code="session_over")

    def _take_seats(self) -> None:
        """Find the row of each strategy.

        Raises: ConfigError (no_owner) saying which row to make.
        """
        for entry in self.config.session_data_config.strategies:
            if not entry.enabled:
                continue
            name = entry.module.rpartition(".")[2]
            row = _owner_of(name)
            allow_short = bool(entry.config.get("allow_short", False))
            gates = session_gates(entry.config, self.config.trading_config, allow_short=allow_short)
            self.seats[name] = _Seat(row.symbol, gates, bool(entry.config.get("allow_repeats", False)))

    def _make_life(self, seat: _Seat, client_id: int, params: Mapping[str, Any]) -> SessionLife:
        """Return the life of a strategy; also when the supervisor starts it again after a failure."""
        assert self.system is not None  # noqa: S101 - lives are made after it
        seat.life = SessionLife(
            client_id,
            self.engine,
            params,
            strategy_symbol=seat.symbol,
            market=self.engine.market,
            canceller=self.engine.trade_manager,
            data=_LateData(self.system),
            gates=seat.gates,
            allow_repeats=seat.allow_repeats,
        )
        return seat.life

    def _sink_for(self, strategy: ReactiveStrategy, context: StrategyContext) -> SignalSink:
        return partial(self._take, self.seats[strategy.name])

    def _take(self, seat: _Seat, symbol: str, interval: str, signals: Sequence[Signal]) -> None:
        """Hand signals over; on the strategy's thread."""
        if seat.life is None or not seat.life.take(interval, signals):
            seat.unheard += len(signals)
            words = ", ".join(f"{signal.action.value} {signal.symbol}" for signal in signals)
            self.engine.log(seat.symbol, f"Signals refused, it has no line for its orders: {words}.", "warning")

    def _trouble(self, text: str) -> None:
        self.engine.log("", f"Session {self.name}: {text}", "warning")

    def _end(self) -> None:
        try:
            if self.system is not None:
                self.system.shutdown()
            self._stop_lives()
        except Exception:
            logger.exception("session not ended in order session=%s", self.name)
        finally:
            for seat in self.seats.values():
                self.engine.session_claims.pop(seat.symbol, None)
            self.begun.set()
            self.over.set()
            database.close()

    def _stop_lives(self) -> None:
        asked = []
        for seat in self.seats.values():
            runner = self.engine.supervisor.runner(seat.symbol)
            if seat.life is None or runner.strategy is not seat.life:
                continue
            try:
                asked.append(self.engine.supervisor.request_stop(seat.symbol, self.engine.settings.stop_timeout_s))
            except MatsError as error:
                logger.info("not stopped strategy=%s reason=%s", seat.symbol, error.message)
        for runner in asked:
            runner.wait_until(ENDED, self.engine.settings.stop_timeout_s + self.engine.stop_grace_s)

    # -- from other threads

    def coordinator(self) -> SessionCoordinator:
        """Return what drives it.

        Raises: ConflictError (not_streaming) before it streams.
        """
        if self.system is None or not self.begun.is_set():
            raise ConflictError(f"Session {self.name} has not begun yet.", code="not_streaming")
        return self.system.get_coordinator()

    def request_stop(self, why: str = BY_REQUEST) -> None:
        """Ask it to end; returns at once."""
        self.stop_wanted.set()
        if self.system is not None:
            self.system.request_stop(why)

    def stop(self, timeout_s: float) -> bool:
        """End it; tell whether it ended in time."""
        self.request_stop()
        return self.over.wait(timeout_s)


def _owner_of(name: str) -> Strategy:
    """Return the row that a session's strategy trades for.

    Raises: ConfigError (no_owner).
    """
    try:
        row = find_strategy(name)
    except NotFoundError:
        raise ConfigError(
            f"{name} has no strategy row: its trades need an owner with cash and limits. Make a strategy called {name} "
            f"with the file {name}.py and a target weight, and leave it inactive.",
            code="no_owner",
        ) from None
    if row.filename != f"{name}.py":
        raise ConfigError(
            f"The strategy {row.symbol} has the file {row.filename}; for a session it must be {name}.py, whose code "
            "decides.",
            code="no_owner",
        )
    return row


class _LateData:
    """The session's data, which is made after the lives that read its quality."""

    def __init__(self, system: SystemManager) -> None:
        self._system = system

    def get_bar_quality(self, symbol: str, interval: str) -> float:
        data = self._system.get_session_data()
        return 0.0 if data is None else float(data.get_bar_quality(symbol, interval))


class _Venue:
    """What a live session asks of the engine and its books."""

    def __init__(self, session: LiveSession, feed: LiveFeed) -> None:
        self._session, self._feed = session, feed

    def market_scan(self, scan: MarketScan) -> list[str]:
        """Return the symbols of one of IB's rankings."""
        return self._feed.market_scan(scan)

    def holds(self, symbol: str) -> bool:
        """Tell whether a position or an order of the session's strategies holds a symbol."""
        owners = self._session.owners
        held = Position.objects.filter(owner__in=owners, instrument__symbol=symbol).exclude(quantity=Decimal(0))
        return held.exists() or Order.objects.filter(owner__in=owners, symbol=symbol, state__in=_WORKING).exists()

    def figures(self) -> dict[str, dict[str, Any]]:
        """Return what the strategies traded since the session began, and what was refused."""
        since = self._session.recorder.run.started_at
        found: dict[str, dict[str, Any]] = {}
        for name, seat in self._session.seats.items():
            told = seat.life.executor.figures.as_dict() if seat.life is not None else {"refused": 0}
            fills = Execution.objects.filter(owner=seat.symbol, superseded=False, executed_at__gte=since)
            found[name] = {
                "owner": seat.symbol,
                "fills": fills.count(),
                "denied": told["refused"] + seat.unheard,
                "last_refusal": told.get("last_refusal", ""),
            }
        return found
