"""Run reactive strategies over bars: one clock, no threads, every moment in a fixed order.

Owns: the loop. Leaves: the clock (``arrays``), orders (``executor``, ``lane``, ``desk``), results' figures (``metrics``).
Rule: at each moment every bar that ends then meets the orders that were there before it began, then all bars of the
moment become visible, then strategies are told, in the order of the spec and of their subscriptions. A strategy whose
code fails is stopped alone; its exits stay, as they would at a broker.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from strategies.bar_series import BarSeries, all_columns, moment_of
from strategies.exceptions import ConfigError
from strategies.reactive import ReactiveStrategy, StrategyContext
from trading.backtest.arrays import Clock, Pair, Track, lay_out, merge, terms_of_symbol
from trading.backtest.contracts import (
    BacktestResult,
    BacktestSpec,
    OpenPosition,
    Progress,
    ShouldStop,
    StrategyEntry,
    StrategyOutcome,
)
from trading.backtest.curve import Leg, equity_curve
from trading.backtest.desk import Desk
from trading.backtest.executor import Executor
from trading.backtest.lane import Lane
from trading.backtest.view import RunClock, RunData

LOOK_EVERY_S = 0.2
_FIRST_BLOCK = 64
_LARGEST_BLOCK = 65_536
OnBars = Callable[[str, str], Any]


@dataclass(slots=True)
class Runner:
    """One strategy in the run."""

    entry: StrategyEntry
    strategy: ReactiveStrategy
    context: StrategyContext
    executor: Executor
    subscriptions: tuple[Pair, ...] = ()
    errors: list[str] = field(default_factory=list)
    is_running: bool = True
    stopped_at: int | None = None  # how many moments it lived through


@dataclass(slots=True)
class Step:
    """What is to be done at moments with the same set of new bars."""

    lanes: list[Lane]
    others: list[BarSeries]
    calls: list[tuple[Runner, OnBars, str, str]]


def run_backtest(
    spec: BacktestSpec, *, progress: Progress | None = None, should_stop: ShouldStop | None = None
) -> BacktestResult:
    """Run a spec; equal specs give equal results.

    Raises: ConfigError when the spec cannot be run, with the place and the reason.
    """
    run = Run(spec)
    return run.run(progress, should_stop)


class Run:
    """One run of one spec."""

    def __init__(self, spec: BacktestSpec) -> None:
        self._spec = spec
        self._tracks = lay_out(spec)
        self._clock: Clock = merge(self._tracks)
        self._desk = Desk(spec.models)
        self._now = RunClock(self._clock.moments)
        self._lanes = {
            track.series.symbol: Lane(track, terms_of_symbol(spec, track.series.symbol), self._desk)
            for track in self._tracks
            if track.is_base
        }
        for track in self._tracks:
            track.series.count = track.first
        self._data = RunData(spec.bars)
        self._runners = [self._make(entry) for entry in spec.strategies]
        self._steps: list[Step] = []

    def _make(self, entry: StrategyEntry) -> Runner:
        if entry.kind != "reactive":
            raise ConfigError(f"{entry.name} is of the kind «{entry.kind}»; this engine runs reactive ones.")
        strategy = entry.make(entry.name, dict(entry.config))
        context = StrategyContext(self._data, self._now, None, "backtest")
        runner = Runner(entry, strategy, context, Executor(entry, self._lanes, self._desk))
        runner.subscriptions = self._subscriptions(runner)
        return runner

    def _subscriptions(self, runner: Runner) -> tuple[Pair, ...]:
        pairs = tuple(
            dict.fromkeys((str(symbol), str(interval)) for symbol, interval in runner.strategy.get_subscriptions())
        )
        for pair in pairs:
            if pair not in self._spec.bars:
                raise ConfigError(f"{runner.entry.name} subscribes to {pair[0]} {pair[1]}, of which there are no bars.")
        return pairs

    # -- the life of a run

    def run(self, progress: Progress | None, should_stop: ShouldStop | None) -> BacktestResult:
        """Set up, go through the moments, tidy up."""
        began = time.perf_counter()
        for runner in self._runners:
            self._guard(runner, lambda runner=runner: self._set_up(runner))
        self._plan_steps()
        done = self._go(progress, should_stop)
        return self._result(done, time.perf_counter() - began)

    def _set_up(self, runner: Runner) -> None:
        if not runner.strategy.setup(runner.context):
            runner.errors.append("setup answered that the strategy cannot run.")
            runner.is_running = False
            return
        runner.subscriptions = self._subscriptions(runner)

    def _guard(self, runner: Runner, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception:  # user code
            self._stop(runner)

    def _stop(self, runner: Runner) -> None:
        runner.errors.append(traceback.format_exc())
        runner.is_running = False

    def _plan_steps(self) -> None:
        """Work out what is to be done at each set of new bars."""
        self._steps = [self._step([self._tracks[place] for place in places]) for places in self._clock.sets]

    def _step(self, tracks: Sequence[Track]) -> Step:
        pairs = {track.pair for track in tracks}
        return Step(
            lanes=[self._lanes[track.series.symbol] for track in tracks if track.is_base],
            others=[track.series for track in tracks if not track.is_base],
            calls=[
                (runner, runner.strategy.on_bars, *pair)
                for runner in self._runners
                if runner.is_running
                for pair in runner.subscriptions
                if pair in pairs
            ],
        )

    def _go(self, progress: Progress | None, should_stop: ShouldStop | None) -> int:
        """Go through the moments in blocks; return how many were done."""
        total, done, block = len(self._clock.moments), 0, _FIRST_BLOCK
        looked = time.perf_counter()
        while done < total:
            until = min(done + block, total)
            self._block(done, until)
            done = until
            now = time.perf_counter()
            if now - looked > LOOK_EVERY_S:
                if progress is not None:
                    progress(done / total, f"{moment_of(int(self._clock.moments[done - 1])):%Y-%m-%d}")
                if should_stop is not None and should_stop():
                    break
                block = max(block // 2, 1) if now - looked > 2 * LOOK_EVERY_S else block
                looked = now
            else:
                block = min(block * 2, _LARGEST_BLOCK)
        return done

    def _block(self, first: int, until: int) -> None:
        """The loop: as little as can be for each bar."""
        at, clock, desk, steps = first, self._now, self._desk, self._steps
        moments = self._clock.moments[first:until].tolist()
        for code, now_ns in zip(self._clock.codes[first:until].tolist(), moments, strict=True):
            step = steps[code]
            clock.at = desk.at = at
            desk.now_ns = now_ns
            for lane in step.lanes:
                series = lane.series
                row = series.count
                if lane.working:
                    lane.match(row)
                series.count = row + 1
            for series in step.others:
                series.count += 1
            for runner, on_bars, symbol, interval in step.calls:
                try:
                    signals = on_bars(symbol, interval)
                    if signals:
                        runner.executor.take(signals)
                except Exception:  # user code
                    if runner.is_running:
                        self._fail(runner, at)
                        steps = self._steps
            at += 1

    def _fail(self, runner: Runner, at: int) -> None:
        """Stop one strategy alone."""
        self._stop(runner)
        runner.stopped_at = at + 1
        for holding in runner.executor.holdings.values():
            for order in list(holding.orders):
                self._desk.cancel(order, "the strategy failed")
        self._plan_steps()

    # -- what came out

    def _result(self, done: int, seconds: float) -> BacktestResult:
        moments = self._clock.moments
        end_ns = int(moments[done - 1]) if done else int(moments[0])
        for runner in self._runners:
            if runner.is_running:
                self._guard(runner, lambda runner=runner: runner.strategy.teardown(runner.context))
        for lane in self._lanes.values():
            lane.expire(end_ns)
            for order in list(lane.working):
                self._desk.orders.append(order.record("open", None))
        self._desk.orders.sort(key=lambda order: order.order_id)
        bases = [track for track in self._tracks if track.is_base]
        return BacktestResult(
            fills=self._desk.fills,
            orders=self._desk.orders,
            strategies={runner.entry.name: self._outcome(runner, done) for runner in self._runners},
            started=self._spec.start,
            ended=moment_of(end_ns),
            bars=sum(track.series.count - track.first for track in bases),
            seconds=seconds,
            cancelled=done < len(moments),
        )

    def _outcome(self, runner: Runner, done: int) -> StrategyOutcome:
        book = runner.executor.book
        followed = {symbol for symbol, _ in runner.subscriptions} | {s for s, h in book.holdings.items() if h.steps.at}
        legs = []
        for symbol in [symbol for symbol in self._lanes if symbol in followed]:
            track, holding = self._lanes[symbol].track, book.holdings[symbol]
            closes = all_columns(track.series)[4]
            legs.append(Leg(track.ends, closes, track.first, track.series.count, holding.multiplier, holding.steps))
        at_ns, curve = equity_curve(self._clock.moments[:done], book.start_cash, book.steps, legs)
        return StrategyOutcome(
            name=runner.entry.name,
            start_cash=book.start_cash,
            cash=book.cash,
            equity=book.equity(),
            realized=book.realized,
            fees=book.fees,
            positions=self._positions(runner),
            equity_ns=at_ns,
            equity_curve=curve,
            errors=runner.errors,
            signals=runner.executor.signals,
            dividends=book.dividends,
        )

    def _positions(self, runner: Runner) -> list[OpenPosition]:
        found = []
        for symbol, holding in runner.executor.holdings.items():
            if holding.held:
                mark = holding.price or Decimal(0)
                unrealized = holding.held * mark * holding.multiplier - holding.basis
                found.append(OpenPosition(runner.entry.name, symbol, holding.held, holding.average, mark, unrealized))
        return found
