"""Imperative strategies in a run: their lives on one virtual clock, moved on from bar to bar.

Owns: when their code runs, what their engine and books are, their end. Leaves: the clock (``virtual_loop``), requests
(``run_ib``), orders (``brokers.backtest``), the market (``lane``).
Rule: what falls due before a bar ends runs before that bar is seen or filled; what it tells is told after every order
of the moment was matched. A strategy that fails, or lets no time pass, is stopped alone.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Container, Mapping, Sequence
from contextvars import Context, copy_context
from typing import Any

from ib_async import Contract, Fill, Trade

from strategies.attribution import current_strategy, enter_context
from strategies.bar_series import moment_of, nanos_of
from strategies.base import BaseStrategy
from strategies.exceptions import ConfigError, StrategyError
from strategies.reactive import StrategyContext
from trading.backtest.arrays import Pair, Track, base_pairs
from trading.backtest.contracts import BacktestSpec, StrategyEntry
from trading.backtest.desk import Desk
from trading.backtest.executor import Executor
from trading.backtest.lane import Lane
from trading.backtest.run_bars import RunBars, timeframe_of
from trading.backtest.run_books import RunBooks
from trading.backtest.run_ib import Instruments, RunIB
from trading.backtest.virtual_loop import VirtualLoop
from trading.brokers.backtest import BacktestBroker

logger = logging.getLogger(__name__)

TIDY_NS = 60_000_000_000
"""How long after the last bar a strategy may tidy up."""

_LEVELS = {"debug": logging.DEBUG, "warning": logging.WARNING, "error": logging.ERROR}


class Past:
    """The world of all imperative strategies of a run: one present, one loop."""

    def __init__(self, spec: BacktestSpec, tracks: Sequence[Track], lanes: Mapping[str, Lane], desk: Desk) -> None:
        bases = {track.series.symbol: track for track in tracks if track.is_base}
        # Not before there is a price: with bars before the run from the first bar's start on, else from its end.
        first = min(
            int((track.starts if track.first else track.ends)[track.first])
            for track in bases.values()
            if track.first < track.last
        )
        self.loop = VirtualLoop(max(nanos_of(spec.start), first))  # type: ignore[abstract]  # the rest refuses
        self.loop.on_overrun = self._stop_endless
        self.desk = desk
        self.instruments = Instruments(lanes)
        self.bars = RunBars(bases, self.instruments.symbol_of, lambda: moment_of(self.loop.now_ns))
        self.books = RunBooks(desk, self.instruments.contract_of, lambda: self.loop.now_ns)
        self._runners: dict[str, ImperativeRunner] = {}

    def take_in(self, runner: ImperativeRunner) -> None:
        """Let a strategy live here from now on."""
        self._runners[runner.entry.name] = runner
        self.books.add(runner.executor)

    # -- the engine's side

    def before(self, moment_ns: int) -> None:
        """Do what falls due before a moment, its bars not yet seen."""
        self.loop.run_through(moment_ns - 1)

    def settle(self, moment_ns: int) -> None:
        """Do what a moment's bars and fills set off, and what falls due then."""
        self.loop.now_ns = moment_ns
        self.loop.run_through(moment_ns)

    def end(self) -> None:
        """Let the strategies tidy up, then forget what still waits."""
        for runner in self._runners.values():
            runner.ask_to_stop()
        self.loop.run_through(self.loop.now_ns + TIDY_NS)
        self.loop.close()

    def _stop_endless(self, context: Context) -> None:
        name = context.run(current_strategy)
        runner = self._runners.get(name)
        if runner is not None and runner.is_running:
            runner.stop_for(StrategyError(f"{name} goes round without letting time pass; a sleep is missing."))
        else:  # it was cancelled, and goes on
            self.loop.forget(lambda other: other.run(current_strategy) == name)

    # -- the brokers' side

    @property
    def now_ns(self) -> int:
        """Return the present in epoch nanoseconds."""
        return self.loop.now_ns

    def symbol_of(self, contract: Contract) -> str | None:
        """Return the run's symbol of a contract, None for one that it has no bars of."""
        return self.instruments.symbol_of(contract)

    def contract_of(self, symbol: str) -> Contract:
        """Return the whole contract of a symbol."""
        return self.instruments.contract_of(symbol)

    def tell_fill(self, strategy: str, trade: Trade, fill: Fill) -> None:
        """Pass an execution on to the strategy's hooks, once its loop goes on."""
        runner = self._runners[strategy]

        def tell() -> None:
            trade.fillEvent.emit(trade, fill)
            runner.ib.execDetailsEvent.emit(trade, fill)

        runner.soon(tell)

    def tell_status(self, strategy: str, trade: Trade) -> None:
        """Pass a status on to the strategy's hooks, once its loop goes on."""
        runner = self._runners[strategy]

        def tell() -> None:
            trade.statusEvent.emit(trade)
            runner.ib.orderStatusEvent.emit(trade)

        runner.soon(tell)


class ImperativeRunner:
    """One imperative strategy of a run; the engine uses it as it uses a ``Runner``.

    Raises: ConfigError (bad_strategy, unknown_timeframe).
    """

    arrays = None

    def __init__(self, entry: StrategyEntry, spec: BacktestSpec) -> None:
        self.entry = entry
        self.errors: list[str] = []
        self.is_running = True
        self.stopped_at: int | None = None
        wanted = set(entry.symbols)
        bases = base_pairs(spec.bars)
        self.subscriptions: tuple[Pair, ...] = tuple(
            pair for pair in spec.bars if pair in bases and (not wanted or pair[0] in wanted)
        )
        missing = sorted(wanted - {symbol for symbol, _ in self.subscriptions})
        if missing:
            raise ConfigError(
                f"{entry.name} trades {', '.join(missing)}, of which the run has no bars.", code="no_bars"
            )
        self.executor: Executor
        self.ib: RunIB
        self.broker: BacktestBroker | None = None
        self.strategy: BaseStrategy
        self._past: Past
        self._context = copy_context()
        self._context.run(enter_context, entry.name)
        self._life: asyncio.Task[None] | None = None

    def attach(self, context: StrategyContext, executor: Executor, known: Container[Pair]) -> None:
        """Give the strategy its books.

        Raises: ConfigError (other_currency).
        """
        self.executor = executor
        executor.keep_currency(symbol for symbol, _ in self.subscriptions)

    def enter(self, past: Past) -> None:
        """Make the strategy, in a world.

        Raises: ConfigError (bad_strategy, unknown_timeframe).
        """
        self._past = past
        past.take_in(self)
        self.ib = RunIB(past.instruments, past.bars, lambda: past.loop.now_ns)
        try:
            made = self.entry.make(
                0, RunPort(self, past), self.entry.config, broker_type="backtest", strategy_symbol=self.entry.name
            )
        except Exception:  # noqa: BLE001 - the border of user code; the traceback is kept
            self.failed(traceback.format_exc())
            return
        if not isinstance(made, BaseStrategy):
            raise ConfigError(
                f"{self.entry.name} is a {type(made).__name__}, no imperative strategy.", code="bad_strategy"
            )
        made.code_hash = self.entry.code_hash
        interval = past.bars.interval_of(self.subscriptions[0][0])
        made.live_in(lambda: moment_of(past.loop.now_ns), past.bars, timeframe_of(interval))
        self.strategy = made

    # -- the engine's side

    def set_up(self) -> None:
        """Begin the strategy's life; its first steps are those of the first moment."""
        if not self.is_running:
            self.stopped_at = 0
            return
        self._life = self._past.loop.create_task(self.strategy.live_here(), context=self._context)

    def on_bars(self, symbol: str, interval: str) -> None:
        """Pass a bar on to what the strategy subscribed to, once its loop goes on."""
        if self.ib.hears(symbol):
            self.soon(self.ib.bring, symbol)

    def soon(self, act: Callable[..., object], *args: Any) -> None:
        """Do something as the strategy, when its loop goes on."""
        if self.is_running:
            self._past.loop.call_soon(act, *args, context=self._context)

    def tear_down(self) -> None:
        """Do nothing: ``Past.end`` stops all at once."""

    def ask_to_stop(self) -> None:
        """Ask the strategy to end, its working orders left as they are."""
        if self.is_running:
            self.strategy.request_stop(0)

    def stop_for(self, error: Exception) -> None:
        """Stop the strategy for something that is not its exception."""
        self.failed("".join(traceback.format_exception(error)))
        if self._life is not None:
            self._life.cancel()

    def failed(self, trace: str) -> None:
        """Take in that the strategy failed: its orders are taken back, its exits stay."""
        self.errors.append(trace)
        self.is_running = False
        self.stopped_at = self._past.desk.at + 1
        logger.warning("strategy stopped in a backtest strategy=%s\n%s", self.entry.name, trace)
        if self.broker is not None:
            self.broker.give_up("the strategy failed")


class RunPort:
    """The engine, as one strategy of a run sees it; implements ``strategies.ports.EnginePort``."""

    ac: Any = None

    def __init__(self, runner: ImperativeRunner, past: Past) -> None:
        self._runner, self._past = runner, past

    @property
    def portfolio_manager(self) -> RunBooks:
        """Return the books of the run."""
        return self._past.books

    @property
    def message_queue(self) -> Any:
        """Refuse: a run's fills go to its own books.

        Raises: StrategyError (not_in_backtest).
        """
        raise StrategyError("A backtest has no queue to the ledger.", code="not_in_backtest")

    async def connect_strategy(self, strategy: Any) -> Any:
        """Return the strategy's connection to the past."""
        return self._runner.ib

    def make_broker(self, strategy: Any) -> BacktestBroker:
        """Return the strategy's broker."""
        runner, past = self._runner, self._past
        runner.broker = BacktestBroker(runner.entry.name, runner.executor, past.desk, past)
        return runner.broker

    def strategy_changed(self, strategy: Any, state: str, message: str = "", traceback: str = "") -> None:
        """Take in that the strategy failed; that it runs, or ended, is known."""
        if state == "failed":
            self._runner.failed(traceback or message)

    def strategy_beat(self, strategy: Any) -> None:
        """Do nothing: there are no beats here."""

    def log(self, strategy_symbol: str, text: str, level: str = "info") -> None:
        """Write a line to the log, with the moment of the run."""
        now = moment_of(self._past.loop.now_ns)
        logger.log(_LEVELS.get(level, logging.INFO), "%s %s: %s", f"{now:%Y-%m-%d %H:%M:%S}Z", strategy_symbol, text)

    def keep_bars(self, series: str, timeframe: str, bars: Any, use_rth: bool, after: Any, of: Any) -> None:
        """Do nothing: bars of a run come from where they are kept."""
