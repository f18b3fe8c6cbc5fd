"""Does a strategy know what it cannot know yet? Its run over all bars beside runs over bars that end earlier.

Owns: which moments are looked at, comparing, the verdict. Leaves: cutting bars (``cuts``), noting what is said
(``witness``), words for people and rows (``honesty``).
Rule: a run over bars that end at a moment must be, to that moment, the run over all bars: the same signals, orders and
numbers. So for each sampled trade the bars end where its entry was decided, where it filled, where its exit was decided
and where that filled; orders that never filled and moments without a signal are looked at as well. The wallet is huge,
the stake fixed, no bound or gate is applied, so that no trade hangs on another. Nothing is closed at the end of the
data, so no exit is forced. Too few trades, a strategy that repeats itself differently or reads elsewhere: inconclusive,
never clean. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from portfolio.arctic.horizon import reading_until
from strategies.bar_series import BarSeries, Floats, moment_of
from strategies.reactive import ArrayStrategy
from trading.backtest.contracts import BacktestSpec, Progress, ShouldStop, StrategyEntry
from trading.backtest.cuts import Cutter
from trading.backtest.likeness import (
    Finding,
    Look,
    Numbers,
    difference,
    figure,
    is_same_number,
    last_line,
    says_the_same,
    steady,
    written,
)
from trading.backtest.rehearsal import Fresh, Notes, Rehearsal
from trading.backtest.targets import targets_of
from trading.backtest.trades import trades_of

CLEAN, LOOKAHEAD, INCONCLUSIVE = "clean", "lookahead", "inconclusive"
SAMPLE, MINIMUM, QUIET = 20, 10, 10


@dataclass(slots=True)
class LookaheadReport:
    """What came of the check of one strategy. ``reasons`` say why it is inconclusive."""

    strategy: str
    trades: int = 0
    sampled: int = 0
    entries: int = 0
    exits: int = 0
    orders: int = 0  # looked at that never filled
    quiet: int = 0  # moments looked at that had no signal
    reruns: int = 0
    findings: list[Finding] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    cancelled: bool = False

    @property
    def verdict(self) -> str:
        """Return lookahead, inconclusive or clean."""
        return LOOKAHEAD if self.findings else INCONCLUSIVE if self.reasons else CLEAN


@dataclass(frozen=True, slots=True)
class Depth:
    """How much is looked at: trades sampled (0: all), trades needed, moments without a signal."""

    sample: int = SAMPLE
    minimum: int = MINIMUM
    quiet: int = QUIET


def check_lookahead(
    spec: BacktestSpec,
    *,
    depth: Depth | None = None,
    fresh: Fresh | None = None,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> list[LookaheadReport]:
    """Check each strategy of a spec by itself; ``fresh`` gives its class anew for each run, so that none remembers.

    Raises: ConfigError when the spec cannot be run.
    """
    reports, count = [], len(spec.strategies)
    for place, entry in enumerate(spec.strategies):
        tell = _part(progress, place, count)
        check = _Check(spec, entry, fresh or (lambda entry: entry.make), tell, should_stop)
        reports.append(check.run(depth or Depth()))
    return reports


def _part(progress: Progress | None, place: int, count: int) -> Progress:
    if progress is None:
        return lambda done, text: None
    return lambda done, text: progress((place + done) / count, text)


class _Check:
    """The check of one strategy."""

    def __init__(
        self, spec: BacktestSpec, entry: StrategyEntry, fresh: Fresh, tell: Progress, should_stop: ShouldStop | None
    ) -> None:
        self._rehearsal = Rehearsal(spec, entry, fresh, should_stop)
        self._tell, self._should_stop = tell, should_stop
        self._report = LookaheadReport(entry.name)
        self._cutter: Cutter

    def run(self, depth: Depth) -> LookaheadReport:
        """Run over all bars, then over fewer."""
        report, run = self._report, self._rehearsal.run
        self._tell(0.0, f"{report.strategy}: the run over all bars.")
        self._cutter = Cutter(self._rehearsal.spec, self._rehearsal.wanted())
        whole = self._cutter.whole()
        first = run(whole)
        looks = self._looks(first, depth)
        moments = {look.at_ns for look in looks}
        second, third = run(whole, moments), run(whole, moments)
        if not self._is_stopped(first, second, third):
            self._judge(first, second, third, depth)
            self._rerun(whole, second, steady(second.numbers, third.numbers), looks)
            if first.error and not self._rehearsal.is_imperative:
                self._check_arrays(whole, depth)
            self._mirror(first, whole)
        if report.cancelled:
            report.reasons.append("It was stopped before all was looked at.")
        return report

    def _is_stopped(self, *notes: Notes) -> bool:
        self._report.cancelled = self._report.cancelled or any(one.result.cancelled for one in notes)
        return self._report.cancelled

    # -- what is looked at

    def _looks(self, notes: Notes, depth: Depth) -> list[Look]:
        """The moments, in order; what falls on the same one is looked at once.

        Before every series has a bar the run cannot end, so trades of that time are left out.
        """
        found: dict[int, Look] = {}
        placed = {order.order_id: order.placed_ns for order in notes.orders}
        first_ns = self._cutter.ready_ns
        trades = [one for one in trades_of(notes.result.fills) if placed[one.entry_order] >= first_ns]
        self._report.trades = len(trades)

        def add(at_ns: int, role: str) -> None:
            end_ns = self._cutter.moment_from(at_ns)  # an imperative strategy orders between bars as well
            if end_ns is not None:
                found.setdefault(end_ns, Look(end_ns, set())).roles.add(role)

        sampled = spread(trades, depth.sample)
        for trade in sampled:
            add(placed[trade.entry_order], "entry")
            add(self._cutter.seen_at(trade.symbol, trade.opened_ns), "entry")
            if trade.exit_order is not None:
                add(placed[trade.exit_order], "exit")
                add(self._cutter.seen_at(trade.symbol, trade.closed_ns), "exit")
        filled = {fill.order_id for fill in notes.result.fills}
        idle = [one for one in notes.orders if one.order_id not in filled and one.placed_ns >= first_ns]
        never = spread(idle, depth.sample)
        for order in never:
            add(order.placed_ns, "order")
        busy = {said.at_ns for said in notes.said} | set(placed.values()) | found.keys()
        idle_moments = [one for one in self._cutter.moments.tolist() if one >= first_ns and one not in busy]
        quiet = spread(idle_moments, depth.quiet, at_least=False)
        for at_ns in quiet:
            add(at_ns, "quiet")
        report = self._report
        report.sampled, report.orders, report.quiet = len(sampled), len(never), len(quiet)
        report.entries, report.exits = len(sampled), sum(trade.exit_order is not None for trade in sampled)
        return [found[key] for key in sorted(found)]

    # -- what is found

    def _judge(self, first: Notes, second: Notes, third: Notes, depth: Depth) -> None:
        """What keeps the check from a verdict."""
        reasons = self._report.reasons
        if self._report.trades < depth.minimum:
            reasons.append(
                f"It made {self._report.trades} trades; fewer than {depth.minimum} say nothing. Take a longer period."
            )
        if first.error:
            reasons.append(f"Its code fails: {last_line(first.error)}")
        if not (says_the_same(first, second) and says_the_same(first, third)):
            reasons.append(
                "The same bars gave other signals the second time: it hangs on chance, or on what an earlier run left."
            )
        if first.opened:
            names = ", ".join(sorted(first.opened)[:5])
            reasons.append(f"It reads beside its bars what cannot be cut at a moment: {names}.")

    def _rerun(self, spec: BacktestSpec, whole: Notes, numbers: Numbers, looks: Sequence[Look]) -> None:
        """Run to each moment and compare.

        An imperative strategy is told that a run ends, and may order then: it is held against a run that ends there
        too, with the bars behind its end laid out.
        """
        report = self._report
        for place, look in enumerate(looks):
            self._tell(0.1 + 0.85 * place / len(looks), f"{report.strategy}: bars to {written(look.at_ns)}.")
            if self._should_stop is not None and self._should_stop():
                report.cancelled = True
            fewer = None if report.cancelled else self._cutter.until(look.at_ns)
            if fewer is None:
                continue
            cut = self._rehearsal.run(fewer, [look.at_ns], look.at_ns)
            if self._rehearsal.is_imperative:
                whole = self._rehearsal.run(replace(spec, end=moment_of(look.at_ns)))
            if self._is_stopped(cut, whole):
                return
            report.reruns += 1
            found = difference(whole, cut, look, numbers)
            if found is not None:
                report.findings.append(found)

    def _check_arrays(self, spec: BacktestSpec, depth: Depth) -> None:
        """Hold arrays against those over fewer bars: the engine refuses to run them when they know the future."""
        made = self._rehearsal.make()
        pairs = list(made.get_subscriptions()) if isinstance(made, ArrayStrategy) else []
        if len(pairs) != 1 or self._report.cancelled:
            return
        name, series = self._report.strategy, spec.bars[pairs[0]]
        try:
            whole = targets_of(name, made, series, series.capacity)
            for row in _rows_of_interest(whole, depth):
                at_ns = self._cutter.end_of(pairs[0], row)
                fewer = self._cutter.until(at_ns)
                if fewer is None:
                    continue
                with reading_until(moment_of(at_ns)):
                    cut = targets_of(name, self._rehearsal.make(), fewer.bars[pairs[0]], row + 1)
                found = self._array_finding(pairs[0], whole, cut, at_ns)
                self._report.reruns += 1
                if found is not None:
                    self._report.findings.append(found)
        except Exception as error:  # noqa: BLE001 - the border of user code; the run's own error is among the reasons
            self._report.reasons.append(f"Its arrays cannot be looked at: {type(error).__name__}: {error}")

    def _array_finding(self, pair: tuple[str, str], whole: Floats, cut: Floats, at_ns: int) -> Finding | None:
        for row, (one, other) in enumerate(zip(whole, cut, strict=False)):
            if not is_same_number(one, other):
                shown = self._cutter.end_of(pair, row)
                return Finding("changed", "target", pair[0], shown, at_ns, figure(float(one)), figure(float(other)))
        return None

    def _mirror(self, whole: Notes, spec: BacktestSpec) -> None:
        """Run over mirrored prices: a strategy that does the same there does not decide by these bars."""
        can_be = all((series.whole()[1][2] > 0).all() for series in spec.bars.values())
        if self._report.cancelled or self._report.findings or not whole.orders or not can_be:
            return
        bars = {pair: mirrored(series) for pair, series in spec.bars.items()}
        other = self._rehearsal.run(replace(spec, bars=bars))
        if _deeds(other) == _deeds(whole):
            self._report.reasons.append(
                "Its signals are the same where all prices are mirrored: it does not decide by the bars of the run, "
                "but by the clock alone or by prices from elsewhere, where this check cannot look."
            )


def _deeds(notes: Notes) -> list[Any]:
    """What it said; of one that declares arrays, and is not asked bar by bar, what it ordered."""
    return [one[:4] for one in notes.said] or [(one.placed_ns, one.symbol, one.side) for one in notes.orders]


def _rows_of_interest(targets: Floats, depth: Depth) -> list[int]:
    """Where the target changes, and some rows where it does not."""
    changes = np.flatnonzero(np.diff(targets, prepend=0.0)).tolist()
    busy = set(changes)
    rest = spread([row for row in range(len(targets)) if row not in busy], depth.quiet, at_least=False)
    return sorted({*spread(changes, depth.sample), *rest})


def spread(rows: Sequence[Any], count: int, *, at_least: bool = True) -> list[Any]:
    """Return so many rows evenly from first to last; 0 means all of them, or none without ``at_least``.

    >>> spread(range(10), 4), spread("abc", 9), spread("abc", 0), spread("abc", 0, at_least=False)
    ([0, 3, 6, 9], ['a', 'b', 'c'], ['a', 'b', 'c'], [])
    """
    if count == 0:
        return list(rows) if at_least else []
    if len(rows) <= count:
        return list(rows)
    return [rows[int(place)] for place in np.linspace(0, len(rows) - 1, count).astype(int)]


def mirrored(series: BarSeries) -> BarSeries:
    """Return bars in which every rise is a fall of the same share."""
    starts, (open_, high, low, close, volume) = series.whole()
    scale = float(close[0]) ** 2 if len(close) else 1.0
    columns = [scale / open_, scale / low, scale / high, scale / close, volume.copy()]
    return BarSeries.from_columns(series.symbol, series.interval, starts.copy(), columns)
