"""Run strategies over bars: one clock, no threads, every moment in a fixed order.

Owns: the loop. Leaves: the clock (``arrays``), orders (``executor``, ``lane``, ``desk``), user code (``runner``,
``imperative``).
Rule: at each moment every bar that ends then meets the orders that were there before it began; then all bars of the
moment become visible; then strategies are told, in the order of the spec and of their subscriptions. A strategy whose
code fails is stopped alone; its exits stay, as they would at a broker.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

from strategies.bar_series import BarSeries, moment_of
from strategies.exceptions import ConfigError
from strategies.reactive import StrategyContext
from trading.backtest import actions
from trading.backtest.arrays import Track, lay_out, merge, terms_of_symbol
from trading.backtest.checks import check_spec
from trading.backtest.contracts import BacktestResult, BacktestSpec, Progress, ShouldStop
from trading.backtest.desk import Desk
from trading.backtest.executor import Executor
from trading.backtest.lane import Lane, warnings_of
from trading.backtest.outcome import named_rows, outcome_of
from trading.backtest.runner import Runner
from trading.backtest.view import RunClock, RunData

if TYPE_CHECKING:
    from trading.backtest.imperative import ImperativeRunner, Past

LOOK_EVERY_S = 0.2
_FIRST_BLOCK = 64
_LARGEST_BLOCK = 65_536
AnyRunner = Union[Runner, "ImperativeRunner"]
Call = tuple[AnyRunner, Callable[[str, str], Any], str, str]


class Feed:
    """A series that orders do not meet. ``row`` is the bar that comes next."""

    __slots__ = ("row", "series")

    def __init__(self, track: Track) -> None:
        self.series, self.row = track.series, track.first


@dataclass(slots=True)
class Step:
    """What is to be done at the moments that have the same set of new bars."""

    lanes: list[Lane]
    others: list[Feed]
    calls: list[Call]


def run_backtest(
    spec: BacktestSpec, *, progress: Progress | None = None, should_stop: ShouldStop | None = None
) -> BacktestResult:
    """Run a spec from start to end; equal specs give equal results, bit by bit.

    Raises: ConfigError when it cannot be run, with the place and the reason.
    """
    runners = _runners(spec)
    return _compiled(spec, runners) or _Run(spec, runners).run(progress, should_stop)


def run_by_bars(spec: BacktestSpec, *, should_stop: ShouldStop | None = None) -> BacktestResult:
    """Run a spec bar by bar, also where the compiled loop would do: what tests hold that to."""
    return _Run(spec, _runners(spec)).run(None, should_stop)


def _runners(spec: BacktestSpec) -> list[AnyRunner]:
    """Make the strategies of a spec.

    Raises: ConfigError (bad_strategy).
    """
    made: list[AnyRunner] = []
    for entry in spec.strategies:
        if entry.kind == "imperative":
            from trading.backtest.imperative import ImperativeRunner  # it brings ib_async along

            made.append(ImperativeRunner(entry, spec))
        else:
            made.append(Runner(entry))
    return made


def _compiled(spec: BacktestSpec, runners: Sequence[AnyRunner]) -> BacktestResult | None:
    """Run one strategy of arrays over one series in the compiled loop; None for everything else."""
    strategy = runners[0].arrays if len(runners) == 1 and len(spec.bars) == 1 else None
    if strategy is None:
        return None
    from trading.backtest.compiled_result import run_compiled  # the compiler takes a second to import

    return run_compiled(spec, strategy)


class _Run:
    """One run of one spec."""

    def __init__(self, spec: BacktestSpec, runners: Sequence[AnyRunner]) -> None:
        self._spec, self._runners = spec, runners
        wanted = [pair for runner in runners for pair in runner.subscriptions]
        self._tracks = lay_out(spec, wanted)
        check_spec(spec, self._tracks)
        self._clock = merge(self._tracks)
        self._desk = Desk(spec.models)
        self._now = RunClock(spec.overrides, (track.sessions for track in self._tracks))
        self._now.follow(self._clock.moments)
        data = RunData(self._now)
        self._lanes: dict[str, Lane] = {}
        for track in self._tracks:
            track.series.count = track.first
            terms = terms_of_symbol(spec, track.series.symbol)
            data.add_series(track.series, exchange=terms.exchange)
            if track.is_base:
                self._lanes[track.series.symbol] = Lane(track, terms, self._desk, data)
        self._feeds = {track.pair: Feed(track) for track in self._tracks if not track.is_base}
        self._actions = actions.dated(spec.actions, self._lanes, self._clock.moments)
        self._warnings: list[str] = [
            text for lane in self._lanes.values() for text in warnings_of(lane.track, spec.models)
        ]
        known = {track.pair for track in self._tracks}
        for runner in self._runners:
            context = StrategyContext(data, self._now, None, "backtest")
            runner.attach(context, Executor(runner.entry, self._lanes, self._desk), known)
        self._past = self._make_past()
        self._steps: list[Step] = []

    def _make_past(self) -> Past | None:
        """Make the world of the imperative strategies, where there are any."""
        lives = [runner for runner in self._runners if not isinstance(runner, Runner)]
        if not lives:
            return None
        from trading.backtest.imperative import Past

        past = Past(self._spec, self._tracks, self._lanes, self._desk)
        for runner in lives:
            runner.enter(past)
        return past

    def run(self, progress: Progress | None, should_stop: ShouldStop | None) -> BacktestResult:
        """Set up, go through the moments, tidy up."""
        began = time.perf_counter()
        for runner in self._runners:
            runner.set_up()
        self._plan_steps()
        done = self._go(progress, should_stop)
        for runner in self._runners:
            runner.tear_down()
        if self._past is not None:
            self._past.end()
        return self._result(done, time.perf_counter() - began)

    # -- the loop

    def _plan_steps(self) -> None:
        """Work out what is to be done at each set of new bars."""
        self._steps = [self._step([self._tracks[place] for place in places]) for places in self._clock.sets]

    def _step(self, tracks: Sequence[Track]) -> Step:
        pairs = {track.pair for track in tracks}
        calls: list[Call] = [
            (runner, runner.on_bars, *pair)
            for runner in self._runners
            if runner.is_running
            for pair in runner.subscriptions
            if pair in pairs
        ]
        lanes = [self._lanes[track.series.symbol] for track in tracks if track.is_base]
        return Step(lanes, [self._feeds[track.pair] for track in tracks if not track.is_base], calls)

    def _go(self, progress: Progress | None, should_stop: ShouldStop | None) -> int:
        """Go through the moments in blocks; return how many were done.

        A block lasts a fraction of a second, so that progress is told and a wish to stop is heard some times a second.
        """
        total, done, block = len(self._clock.moments), 0, _FIRST_BLOCK
        waiting = list(reversed(self._actions))
        looked = time.perf_counter()
        while done < total:
            while waiting and waiting[-1].at == done:
                self._act(waiting.pop())
            until = min(done + block, total, waiting[-1].at if waiting else total)
            began = time.perf_counter()
            if self._past is None:
                self._block(done, until)
            else:
                self._live(self._past, done, until)
            done, now = until, time.perf_counter()
            block = _next_block(block, now - began)
            if now - looked >= LOOK_EVERY_S:
                looked = now
                if progress is not None:
                    progress(done / total, f"{moment_of(int(self._clock.moments[done - 1])):%Y-%m-%d}")
                if should_stop is not None and should_stop():
                    break
        return done

    def _act(self, dated: actions.DatedAction) -> None:
        """A split or a dividend."""
        if self._past is not None:
            self._past.before(dated.action.at_ns)
        self._desk.at = dated.at
        self._desk.now_ns = dated.action.at_ns
        symbol = dated.action.symbol
        holdings = [runner.executor.book.holdings[symbol] for runner in self._runners]
        self._warnings.extend(actions.apply(dated.action, holdings, self._desk))

    def _live(self, past: Past, first: int, until: int) -> None:
        """Go through some moments with strategies that live between them as well."""
        for at, now_ns in enumerate(self._clock.moments[first:until].tolist(), first):
            past.before(now_ns)
            self._block(at, at + 1)
            past.settle(now_ns)

    def _block(self, first: int, until: int) -> None:
        """Go through some moments: for each bar as little as can be."""
        clock, desk, steps, at = self._now, self._desk, self._steps, first
        moments = self._clock.moments[first:until].tolist()
        for code, now_ns in zip(self._clock.codes[first:until].tolist(), moments, strict=True):
            step = steps[code]
            clock.at = desk.at = at
            desk.now_ns = now_ns
            for lane in step.lanes:
                series, row = lane.series, lane.row
                if series.count != row:
                    raise _moved(series)
                if lane.working:
                    lane.match(row)
                lane.row = series.count = row + 1
            for feed in step.others:
                if feed.series.count != feed.row:
                    raise _moved(feed.series)
                feed.row = feed.series.count = feed.row + 1
            for call in step.calls:
                runner, on_bars, symbol, interval = call
                try:
                    signals = on_bars(symbol, interval)
                    if signals:
                        runner.executor.take(signals)
                except Exception:  # noqa: BLE001 - the border of user code; ``failed`` keeps the traceback
                    self._fail(runner, at)
                    steps = self._steps
                    self._tell(step.calls[step.calls.index(call) + 1 :], at)
                    break
            at += 1

    def _fail(self, runner: AnyRunner, at: int) -> None:
        """Stop one strategy: its orders are taken back, its exits stay."""
        runner.failed(traceback.format_exc())
        runner.stopped_at = at + 1
        for holding in runner.executor.book.holdings.values():
            for order in list(holding.orders):
                self._desk.cancel(order, "the strategy failed")
        self._plan_steps()

    def _tell(self, calls: Sequence[Call], at: int) -> None:
        """The rest of a moment in which a strategy failed."""
        for runner, on_bars, symbol, interval in calls:
            if runner.is_running:
                try:
                    runner.executor.take(on_bars(symbol, interval) or ())
                except Exception:  # noqa: BLE001 - the border of user code; ``failed`` keeps the traceback
                    self._fail(runner, at)

    # -- what came out

    def _result(self, done: int, seconds: float) -> BacktestResult:
        moments, desk = self._clock.moments, self._desk
        ended_ns = int(moments[max(done - 1, 0)])
        for lane in self._lanes.values():
            lane.expire(ended_ns)
            desk.orders.extend(order.record("open", None) for order in lane.working)
        desk.orders.sort()  # by number, the first value
        fills, orders = named_rows(desk)
        bases = [track for track in self._tracks if track.is_base]
        return BacktestResult(
            fills=fills,
            orders=orders,
            strategies={
                runner.entry.name: outcome_of(runner, self._clock, done, self._tracks, self._lanes)
                for runner in self._runners
            },
            started=self._spec.start,
            ended=moment_of(ended_ns),
            bars=sum(track.series.count - track.first for track in bases),
            seconds=seconds,
            cancelled=done < len(moments),
            warnings=self._warnings,
        )


def _moved(series: BarSeries) -> ConfigError:
    return ConfigError(
        f"A strategy moved the cursor of {series.symbol} {series.interval}; beyond it lies the future: the run ends.",
        code="cursor_moved",
    )


def _next_block(block: int, spent_s: float) -> int:
    if spent_s < LOOK_EVERY_S / 4:
        return min(block * 2, _LARGEST_BLOCK)
    return max(block // 2, 1) if spent_s > LOOK_EVERY_S else block
