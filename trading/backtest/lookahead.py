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

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import numpy as np

from portfolio.arctic.horizon import reading_until
from strategies.bar_series import BarSeries, moment_of
from trading.backtest.contracts import BacktestOrder, BacktestResult, BacktestSpec, Progress, ShouldStop, StrategyEntry
from trading.backtest.cuts import Cutter
from trading.backtest.engine import run_backtest
from trading.backtest.outside import noting
from trading.backtest.runner import Runner
from trading.backtest.trades import Trade, trades_of
from trading.backtest.witness import Number, Place, Said, Witness
from trading.market.signal_rules import Gates

CLEAN, LOOKAHEAD, INCONCLUSIVE = "clean", "lookahead", "inconclusive"
WALLET, STAKE = Decimal(10) ** 12, Decimal(10) ** 6
SAMPLE, MINIMUM, QUIET = 20, 10, 10
_RELATIVE, _ABSOLUTE = 1e-9, 1e-12  # floats that differ by less are the same
Fresh = Callable[[StrategyEntry], Callable[..., Any]]


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference. ``at_ns`` is when it shows, ``cut_ns`` where the bars ended; epoch nanoseconds UTC.

    ``kind``: vanished, appeared, changed, number, failed. ``role``: entry, exit, order, quiet.
    """

    kind: str
    role: str
    symbol: str
    at_ns: int
    cut_ns: int
    whole: str  # what the run over all bars has
    cut: str  # what the run over fewer bars has

    @property
    def text(self) -> str:
        """Return it as a sentence."""
        what = {"entry": "An entry", "exit": "An exit", "order": "An order", "quiet": "A signal"}[self.role]
        at, end = _written(self.at_ns), _written(self.cut_ns)
        if self.kind == "failed":
            return f"With bars that end at {end} its code fails: {self.cut}"
        if self.kind == "number":
            return f"At {at} it reckons with {self.whole}; with bars that end at {end} it is {self.cut}."
        if self.kind == "vanished":
            return f"{what} of {at} ({self.whole}) is not there when the bars end at {end}."
        if self.kind == "appeared":
            return f"When the bars end at {end} there is at {at}: {self.cut}. Over all bars there is not."
        return f"{what} of {at} is {self.whole}; when the bars end at {end} it is {self.cut}."


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


@dataclass(slots=True)
class Notes:
    """One run as it is compared."""

    said: list[Said]
    orders: list[BacktestOrder]
    numbers: dict[Place, dict[str, Number]]
    error: str
    calls: int
    result: BacktestResult
    opened: set[str]


@dataclass(slots=True)
class Look:
    """A moment at which the bars are to end, and what for."""

    at_ns: int
    roles: set[str]


class _Check:
    """The check of one strategy."""

    def __init__(
        self, spec: BacktestSpec, entry: StrategyEntry, fresh: Fresh, tell: Progress, should_stop: ShouldStop | None
    ) -> None:
        gates = Gates(fraction=STAKE / WALLET, allow_short=spec.models.allow_short)
        self._entry = replace(entry, cash=WALLET, gates=gates)
        models = replace(spec.models, check_cash=False, participation=None)
        self._spec = replace(spec, strategies=[self._entry], models=models)
        self._fresh, self._tell, self._should_stop = fresh, tell, should_stop
        self._report = LookaheadReport(entry.name)
        self._cutter: Cutter

    def run(self, depth: Depth) -> LookaheadReport:
        """Run over all bars, then over fewer."""
        report = self._report
        self._tell(0.0, f"{report.strategy}: the run over all bars.")
        self._cutter = Cutter(self._spec, self._wanted())
        whole = self._cutter.whole()
        first = self._notes(whole)
        trades = trades_of(first.result.fills)
        report.trades = len(trades)
        looks = self._looks(first, trades, depth)
        moments = {look.at_ns for look in looks}
        second, third = self._notes(whole, moments), self._notes(whole, moments)
        if not self._is_stopped(first, second, third):
            self._judge(first, second, third, depth)
            self._rerun(second, _steady(second.numbers, third.numbers), looks)
            self._mirror(first, whole, depth)
        if report.cancelled:
            report.reasons.append("It was stopped before all was looked at.")
        return report

    def _wanted(self) -> list[tuple[str, str]]:
        return list(Runner(replace(self._entry, make=self._fresh(self._entry))).subscriptions)

    def _is_stopped(self, *notes: Notes) -> bool:
        self._report.cancelled = self._report.cancelled or any(one.result.cancelled for one in notes)
        return self._report.cancelled

    # -- one run

    def _notes(self, spec: BacktestSpec, moments: Iterable[int] = (), until_ns: int | None = None) -> Notes:
        with reading_until(None if until_ns is None else moment_of(until_ns)):
            opened: set[str] = set()
            with noting(opened):
                make = self._fresh(self._entry)
            witness = Witness(make, list(moments), opened)
            entry = replace(self._entry, make=witness)
            result = run_backtest(replace(spec, strategies=[entry]), should_stop=self._should_stop)
        errors = result.strategies[entry.name].errors
        return Notes(
            said=witness.said,
            orders=result.orders,
            numbers=witness.numbers,
            error=errors[0] if errors else "",
            calls=witness.calls,
            result=result,
            opened=witness.opened,
        )

    # -- what is looked at

    def _looks(self, notes: Notes, trades: Sequence[Trade], depth: Depth) -> list[Look]:
        """The moments, in order; what falls on the same one is looked at once."""
        found: dict[int, Look] = {}
        placed = {order.order_id: order.placed_ns for order in notes.orders}

        def add(at_ns: int, role: str) -> None:
            found.setdefault(at_ns, Look(at_ns, set())).roles.add(role)

        sampled = spread(trades, depth.sample)
        for trade in sampled:
            add(placed[trade.entry_order], "entry")
            add(self._cutter.seen_at(trade.symbol, trade.opened_ns), "entry")
            if trade.exit_order is not None:
                add(placed[trade.exit_order], "exit")
                add(self._cutter.seen_at(trade.symbol, trade.closed_ns), "exit")
        filled = {fill.order_id for fill in notes.result.fills}
        idle = [order for order in notes.orders if order.order_id not in filled]
        never = spread(idle, depth.sample)
        for order in never:
            add(order.placed_ns, "order")
        busy = {said.at_ns for said in notes.said} | found.keys()
        quiet = spread([one for one in self._cutter.moments.tolist() if one not in busy], depth.quiet, at_least=False)
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
            reasons.append(f"Its code fails: {_last_line(first.error)}")
        if not (_says_the_same(first, second) and _says_the_same(first, third)):
            reasons.append(
                "The same bars gave other signals the second time: it hangs on chance, or on what an earlier run left."
            )
        if first.opened:
            names = ", ".join(sorted(first.opened)[:5])
            reasons.append(f"It reads beside its bars what cannot be cut at a moment: {names}.")

    def _rerun(self, whole: Notes, numbers: dict[Place, dict[str, Number]], looks: Sequence[Look]) -> None:
        """Run to each moment and compare."""
        report = self._report
        for place, look in enumerate(looks):
            self._tell(0.1 + 0.85 * place / len(looks), f"{report.strategy}: bars to {_written(look.at_ns)}.")
            if self._should_stop is not None and self._should_stop():
                report.cancelled = True
            spec = None if report.cancelled else self._cutter.until(look.at_ns)
            if spec is None:
                continue
            cut = self._notes(spec, [look.at_ns], look.at_ns)
            if self._is_stopped(cut):
                return
            report.reruns += 1
            found = difference(whole, cut, look, numbers)
            if found is not None:
                report.findings.append(found)

    def _mirror(self, whole: Notes, spec: BacktestSpec, depth: Depth) -> None:
        """Run over mirrored prices: a strategy that says the same there does not decide by these bars."""
        can_be = all((series.whole()[1][2] > 0).all() for series in spec.bars.values())
        if self._report.cancelled or self._report.findings or not whole.said or not can_be:
            return
        bars = {pair: mirrored(series) for pair, series in spec.bars.items()}
        other = self._notes(replace(spec, bars=bars))
        if [one[:4] for one in other.said] == [one[:4] for one in whole.said]:
            self._report.reasons.append(
                "Its signals are the same where all prices are mirrored: it does not decide by the bars of the run, "
                "but by the clock alone or by prices from elsewhere, where this check cannot look."
            )


def difference(whole: Notes, cut: Notes, look: Look, numbers: dict[Place, dict[str, Number]]) -> Finding | None:
    """Return the first thing up to the moment that the two runs do not share; None when they share all."""
    at = look.at_ns
    role = next((one for one in ("entry", "exit", "order") if one in look.roles), "quiet")
    if cut.error and (not whole.error or cut.calls < whole.calls):
        return Finding("failed", role, "", at, at, "", _last_line(cut.error))
    theirs = [one for one in whole.said if one.at_ns <= at]
    found = _first_difference(
        [(one.at_ns, one.symbol, one.text, one) for one in theirs],
        [(one.at_ns, one.symbol, one.text, one) for one in cut.said],
        lambda one, other: _same_said(one[3], other[3]),
    ) or _first_difference(
        [_of_order(one) for one in whole.orders if one.placed_ns <= at],
        [_of_order(one) for one in cut.orders if one.placed_ns <= at],
        lambda one, other: one == other,
    )
    if found is not None:
        kind, moment, symbol, one, other = found
        return Finding(kind, role, symbol, moment, at, one, other)
    return _number_that_differs(numbers, cut.numbers, role, at)


def _first_difference(
    whole: Sequence[tuple[Any, ...]], cut: Sequence[tuple[Any, ...]], is_same: Callable[[Any, Any], bool]
) -> tuple[str, int, str, str, str] | None:
    """Kind, moment, symbol and both texts of the first pair that differs."""
    for one, other in zip(whole, cut, strict=False):
        if is_same(one, other):
            continue
        if one[:2] == other[:2]:
            return "changed", one[0], one[1], one[2], other[2]
        if one[0] <= other[0]:
            return "vanished", one[0], one[1], one[2], ""
        return "appeared", other[0], other[1], "", other[2]
    if len(whole) > len(cut):
        one = whole[len(cut)]
        return "vanished", one[0], one[1], one[2], ""
    if len(cut) > len(whole):
        other = cut[len(whole)]
        return "appeared", other[0], other[1], "", other[2]
    return None


def _of_order(order: BacktestOrder) -> tuple[Any, ...]:
    prices = "".join(f" {name} {price}" for name, price in (("at", order.limit), ("stop", order.stop)) if price)
    denied = ", denied" if order.state == "denied" else ""
    text = f"{order.side} {order.quantity:f} {order.symbol} {order.order_type}{prices}{denied}"
    return order.placed_ns, order.symbol, text


def _number_that_differs(
    whole: dict[Place, dict[str, Number]], cut: dict[Place, dict[str, Number]], role: str, at: int
) -> Finding | None:
    for place, numbers in cut.items():
        known = whole.get(place, {})
        for name, value in numbers.items():
            if name in known and not is_same_number(known[name], value):
                one, other = f"{name} = {_figure(known[name])}", _figure(value)
                return Finding("number", role, place[1], place[0], at, one, other)
    return None


def _steady(first: dict[Place, dict[str, Number]], second: dict[Place, dict[str, Number]]) -> dict[Place, Any]:
    """Numbers that were the same in two runs over the same bars; clocks and counters of the process are not."""
    return {
        place: {
            name: value
            for name, value in numbers.items()
            if name in second.get(place, {}) and is_same_number(value, second[place][name])
        }
        for place, numbers in first.items()
    }


def _says_the_same(one: Notes, other: Notes) -> bool:
    return len(one.said) == len(other.said) and all(map(_same_said, one.said, other.said))


def _same_said(one: Said, other: Said) -> bool:
    if one[:3] != other[:3] or len(one.numbers) != len(other.numbers):
        return False
    terms = zip(one.terms, other.terms, strict=True)
    numbers = zip(one.numbers, other.numbers, strict=True)
    return all(is_same_number(a, b) for a, b in terms) and all(
        a[0] == b[0] and is_same_number(a[1], b[1]) for a, b in numbers
    )


def is_same_number(one: Any, other: Any) -> bool:
    """Tell whether two values are the same but for the last digits of floats; two NaN are.

    >>> is_same_number(0.1 + 0.2, 0.3), is_same_number(1.0, 1.001), is_same_number(float("nan"), float("nan"))
    (True, False, True)
    """
    if one is None or other is None or isinstance(one, str) or isinstance(other, str):
        return bool(one == other)
    try:
        a, b = float(one), float(other)
    except (TypeError, ValueError):
        return bool(one == other)
    if a != a or b != b:
        return a != a and b != b
    return a == b or abs(a - b) <= max(_ABSOLUTE, _RELATIVE * max(abs(a), abs(b)))


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


def _figure(value: Number) -> str:
    return "nothing" if value is None else f"{float(value):.10g}"


def _last_line(error: str) -> str:
    return error.strip().rpartition("\n")[2]


def _written(nanos: int) -> str:
    return f"{moment_of(nanos):%Y-%m-%d %H:%M:%S}Z"
