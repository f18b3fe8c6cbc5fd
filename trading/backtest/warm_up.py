"""How many bars does a strategy need before its first decision? The last bars, decided upon with less history.

Owns: which lengths can be compared, the drift of each, the verdict. Leaves: cutting bars (``cuts``), running
(``rehearsal``), noting (``witness``), words for people and rows (``honesty``).
Rule: every run begins at the same bar, as a start of the engine does, and differs in nothing but the bars that lie
before it; what it says and reckons with at the last bars is held against the run that has all history. A length is
compared only where the history is half as long again, else it would be held against itself. Numbers that count bars are
left out. What a strategy gathers bar by bar cannot be brought back by warm-up: then nothing is cleared. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from strategies.bar_series import Nanos
from strategies.reactive import ArrayStrategy, ReactiveStrategy, Signal, SignalAction
from trading.backtest.contracts import BacktestSpec, Progress, ShouldStop, StrategyEntry
from trading.backtest.cuts import Cutter
from trading.backtest.drift import Drift, compare, grown, stuck
from trading.backtest.likeness import Numbers, last_line, steady
from trading.backtest.rehearsal import Fresh, Notes, Rehearsal
from trading.backtest.targets import targets_of

ENOUGH, SHORT, INCONCLUSIVE = "enough", "short", "inconclusive"
LENGTHS = (199, 399, 499, 999, 1999)
TOLERANCE, WATCH = 0.001, 20
_HISTORY = 1.5  # so many times a length must there be before the watched bars


@dataclass(frozen=True, slots=True)
class WarmUpDepth:
    """What is compared: bars of warm-up, drift that is still right (a fraction), bars whose decisions are compared."""

    lengths: Sequence[int] = LENGTHS
    tolerance: float = TOLERANCE
    watch: int = WATCH


@dataclass(slots=True)
class Length:
    """One length of warm-up. ``drift`` None: it was not compared, ``reason`` says why. ``is_enough``: it and all longer
    ones are within the tolerance.
    """

    bars: int
    drift: Drift | None = None
    reason: str = ""
    is_enough: bool = False


@dataclass(slots=True)
class WarmUpReport:
    """What came of the check of one strategy. ``needed``: the smallest length that is enough, None when none is known.

    ``reasons`` say why it is inconclusive; ``notes`` what else a reader must know.
    """

    strategy: str
    declared: int = 0
    history: int = 0  # bars before the watched ones, of the pair that has fewest
    watched: int = 0
    numbers: int = 0  # that were compared
    tolerance: float = TOLERANCE
    lengths: list[Length] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cancelled: bool = False

    @property
    def needed(self) -> int | None:
        """Return the smallest length whose drift, and that of every longer one, is within the tolerance."""
        return min((one.bars for one in self.lengths if one.is_enough), default=None)

    @property
    def verdict(self) -> str:
        """Return inconclusive, short or enough."""
        if self._is_declared_short():
            return SHORT
        if self.reasons:
            return INCONCLUSIVE
        return ENOUGH if self.needed is not None and self.needed <= self.declared else SHORT

    def _is_declared_short(self) -> bool:
        """Tell whether the declared length itself was seen to drift: what else is unknown does not mend that."""
        found = next((one.drift for one in self.lengths if one.bars == self.declared), None)
        return found is not None and not found.is_within(self.tolerance)


def check_warm_up(
    spec: BacktestSpec,
    *,
    depth: WarmUpDepth | None = None,
    fresh: Fresh | None = None,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> list[WarmUpReport]:
    """Check each strategy of a spec by itself; ``fresh`` gives its class anew for each run.

    Raises: ConfigError when the spec cannot be run.
    """
    reports, count = [], len(spec.strategies)
    for place, entry in enumerate(spec.strategies):

        def tell(done: float, text: str, place: int = place) -> None:
            if progress is not None:
                progress((place + done) / count, text)

        check = _Check(spec, entry, fresh or (lambda entry: entry.make), tell, should_stop)
        reports.append(check.run(depth or WarmUpDepth()))
    return reports


class BarByBar(ReactiveStrategy):
    """A strategy of arrays asked at each bar, as it is live."""

    def __init__(self, arrays: ArrayStrategy) -> None:
        super().__init__(arrays.name, arrays.config)
        self._arrays = arrays

    def get_subscriptions(self) -> Sequence[tuple[str, str]]:
        """Return the arrays' pair."""
        return self._arrays.get_subscriptions()

    def setup(self, context: Any) -> bool:
        """Set the arrays up."""
        return self._arrays.setup(context)

    def on_bars(self, symbol: str, interval: str) -> Sequence[Signal] | None:
        """Return the target that the bars so far lead to, as a number of a signal that trades nothing."""
        context = self._arrays.context
        if context is None:
            return None
        bars = context.get_bars(symbol, interval)
        target = float(targets_of(self.name, self._arrays, bars, len(bars))[-1])
        return [Signal(symbol, SignalAction.HOLD, metadata={"target": target})]


def _as_live(made: Any) -> Any:
    return BarByBar(made) if isinstance(made, ArrayStrategy) else made


class _Check:
    """The check of one strategy."""

    def __init__(
        self, spec: BacktestSpec, entry: StrategyEntry, fresh: Fresh, tell: Progress, should_stop: ShouldStop | None
    ) -> None:
        self._rehearsal = Rehearsal(spec, entry, fresh, should_stop)
        self._tell, self._should_stop = tell, should_stop
        self._report = WarmUpReport(entry.name)
        self._cutter: Cutter
        self._watched: Nanos

    def run(self, depth: WarmUpDepth) -> WarmUpReport:
        """Run with all history, then with less."""
        report = self._report
        report.tolerance = depth.tolerance
        report.declared = max(int(self._rehearsal.make().warm_up_bars), 0)
        wanted = self._rehearsal.wanted()
        self._cutter = Cutter(self._rehearsal.spec, wanted)
        self._watched = self._cutter.last_moments(wanted, depth.watch)
        report.watched = len(self._watched)
        report.lengths = [Length(bars) for bars in sorted({*depth.lengths, report.declared})]
        if not report.watched:
            report.reasons.append("No bar of what it subscribes to ends in the period.")
            return report
        report.history = self._cutter.history(wanted, int(self._watched[0]))
        self._compare(depth)
        if report.cancelled:
            report.reasons.append("It was stopped before all was compared.")
        return report

    def _compare(self, depth: WarmUpDepth) -> None:
        report = self._report
        self._tell(0.0, f"{report.strategy}: the run with all history.")
        whole = self._run(self._cutter.from_moment(int(self._watched[0])))
        again = self._run(self._cutter.from_moment(int(self._watched[0])))
        along = self._run(self._cutter.whole())
        if report.cancelled:
            return
        if whole.error:
            report.reasons.append(f"Its code fails with all history: {last_line(whole.error)}")
            return
        numbers = steady(whole.numbers, again.numbers)
        report.numbers = len({(place[1:], name) for place, found in numbers.items() for name in found})
        for place, length in enumerate(report.lengths):
            self._tell(0.3 + 0.7 * place / len(report.lengths), f"{report.strategy}: {length.bars} bars of warm-up.")
            if self._should_stop is not None and self._should_stop():
                report.cancelled = True
            if report.cancelled:
                return
            self._measure(length, whole, numbers)
        self._judge(depth)
        self._judge_memory(whole, along, numbers, depth)

    def _run(self, spec: BacktestSpec) -> Notes:
        notes = self._rehearsal.run(spec, self._watched.tolist(), shape=_as_live)
        self._report.cancelled = self._report.cancelled or notes.result.cancelled
        return notes

    def _measure(self, length: Length, whole: Notes, numbers: Numbers) -> None:
        needed = ceil(length.bars * _HISTORY)
        if self._report.history < needed:
            length.reason = f"There are {self._report.history} bars before the watched ones; comparing takes {needed}."
            return
        spec = self._cutter.from_moment(int(self._watched[0]), length.bars)
        cut = self._run(spec)
        if cut.error:
            length.reason = f"Its code fails: {last_line(cut.error)}"
            length.drift = Drift({"its code": float("inf")})
            return
        length.drift = compare(whole, numbers, cut, self._report.tolerance)

    # -- what follows

    def _judge(self, depth: WarmUpDepth) -> None:
        report = self._report
        compared = [one for one in report.lengths if one.drift is not None]
        self._judge_stuck([one.drift for one in compared if one.drift is not None])
        for one in reversed(compared):
            if one.drift is None or not one.drift.is_within(depth.tolerance):
                break
            one.is_enough = True
        if not compared:
            report.reasons.append(
                f"There are too few bars to compare any length: {report.history} before the watched ones. Take a longer"
                " period, or shorter lengths."
            )
        elif not report.numbers and not any(one.drift and one.drift.signals for one in compared):
            report.reasons.append(
                "It said and reckoned with nothing at the watched bars, so there is nothing to compare."
            )
        elif report.needed is None or report.needed > report.declared:
            self._judge_shortage(compared)

    def _judge_stuck(self, drifts: Sequence[Drift]) -> None:
        """What does not come nearer with more bars is no question of warm-up, yet may decide."""
        report = self._report
        found = stuck(drifts, report.tolerance)
        for drift in drifts:
            drift.ignored = found
        if found:
            report.reasons.append(
                f"More bars bring it no nearer: {', '.join(sorted(found)[:5])}. It hangs on where the bars begin, or"
                " needs far more of them. If it decides, no length tried is enough; where a running sum is only on the"
                " way to what decides, put it into a function that returns that."
            )

    def _judge_shortage(self, compared: Sequence[Length]) -> None:
        """A declared length that was not compared may yet be enough where only longer ones could not be tried."""
        report = self._report
        was_compared = any(one.bars == report.declared for one in compared)
        if not was_compared and report.needed is None and report.declared > compared[-1].bars:
            report.reasons.append(
                f"Up to {compared[-1].bars} bars are not enough, and there are too few to try the {report.declared}"
                " that it declares. Take a longer period."
            )

    def _judge_memory(self, whole: Notes, along: Notes, numbers: Numbers, depth: WarmUpDepth) -> None:
        """What it gathered bar by bar is gone after a start, whatever the warm-up."""
        report = self._report
        if along.error:
            report.notes.append(f"Its code fails where it runs through all bars: {last_line(along.error)}")
            return
        found = grown(along.numbers, numbers, depth.tolerance)
        if found:
            report.reasons.append(
                f"It gathers numbers bar by bar, which a start loses and no warm-up brings back: {'; '.join(found[:4])}"
                ". Make them of the bars that there are."
            )
        elif compare(along, along.numbers, whole, depth.tolerance).signals:
            report.notes.append(
                "Running all along, it gives other signals at the watched bars than after a start there: it keeps "
                "something that a start loses."
            )
