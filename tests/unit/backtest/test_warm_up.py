"""The warm-up check tells how much history decisions need, and when it cannot tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from strategies.bar_series import BarSeries
from strategies.reactive import ArrayStrategy, ReactiveStrategy, Signal, SignalArrays
from tests.support.backtests import BUY, CLOSE, D, days, minutes, spec_of
from trading.backtest.contracts import StrategyEntry
from trading.backtest.warm_up import ENOUGH, INCONCLUSIVE, SHORT, WarmUpDepth, WarmUpReport, check_warm_up

PAIR = ("X", "1d")
DEPTH = WarmUpDepth(lengths=(10, 40, 80, 160), watch=12, tolerance=1e-4)


def walk(bars: int = 400) -> BarSeries:
    """Return days of a random walk, every run the same."""
    source = np.random.default_rng(11)
    closes = np.round(200 + np.cumsum(source.normal(0, 1, bars)), 2)
    opens = np.concatenate(([200.0], closes[:-1]))
    highs, lows = np.maximum(opens, closes) + 0.5, np.minimum(opens, closes) - 0.5
    return days("X", list(zip(opens, highs, lows, closes, strict=True)))


def check(make: Any, *bars: BarSeries, depth: WarmUpDepth = DEPTH, **options: Any) -> WarmUpReport:
    spec = spec_of([StrategyEntry("S", "reactive", make, {}, D(1_000))], bars or [walk()])
    [report] = check_warm_up(spec, depth=depth, **options)
    return report


def ok(report: WarmUpReport) -> dict[int, bool]:
    return {one.bars: one.is_enough for one in report.lengths if one.drift is not None}


class Smooth(ReactiveStrategy):
    """Trades where the close crosses an exponential average of ``period`` over all bars there are."""

    period = 20
    warm_up_bars = 160

    def get_subscriptions(self) -> Sequence[tuple[str, str]]:
        return [PAIR]

    def on_bars(self, symbol: str, interval: str) -> Sequence[Signal]:
        assert self.context is not None
        bars = self.context.get_bars(symbol, interval)
        average = self.average(bars.close)
        return [Signal(symbol, BUY if bars.last_close > average else CLOSE, metadata={"average": average})]

    def average(self, closes: Any) -> float:
        share = 2 / (self.period + 1)
        weights = (1 - share) ** np.arange(len(closes))[::-1]
        return float((closes * weights).sum() / weights.sum())


def declaring(bars: int, kind: type[ReactiveStrategy] = Smooth) -> type[ReactiveStrategy]:
    """Return a strategy that declares so many bars of warm-up."""
    return type("Made", (kind,), {"warm_up_bars": bars, "__module__": __name__})


def test_the_smallest_length_that_is_enough_is_told_with_the_drift_of_each() -> None:
    report = check(Smooth)
    assert (report.verdict, report.reasons, report.declared) == (ENOUGH, [], 160)
    assert ok(report) == {10: False, 40: False, 80: True, 160: True}
    assert report.needed == 80
    drifts = [one.drift.worst for one in report.lengths if one.drift is not None]
    assert drifts == sorted(drifts, reverse=True)
    assert drifts[0] > 0.001


def test_a_declared_warm_up_that_drifts_is_short_and_is_compared_itself() -> None:
    report = check(declaring(30))
    assert (report.verdict, report.needed) == (SHORT, 80)
    assert ok(report)[30] is False


def test_no_declared_warm_up_at_all_is_compared_as_well() -> None:
    report = check(declaring(0))
    assert (report.verdict, report.lengths[0].bars, ok(report)[0]) == (SHORT, 0, False)


def test_the_bound_of_drift_can_be_set() -> None:
    loose = WarmUpDepth(lengths=DEPTH.lengths, watch=12, tolerance=0.02)
    assert (check(Smooth).needed or 0) > (check(Smooth, depth=loose).needed or 0)


def test_indicators_that_are_not_warm_yet_drift_without_bound() -> None:
    class Averaged(Smooth):
        def on_bars(self, symbol: str, interval: str) -> Sequence[Signal]:
            assert self.context is not None
            self.context.get_indicator(symbol, interval, "sma", 50)
            return []

    report = check(Averaged, depth=WarmUpDepth(lengths=(20, 60), watch=5))
    short, long, declared = (one.drift for one in report.lengths)
    assert short is not None
    assert (short.worst, short.worst_name) == (float("inf"), "X sma_50_1d")
    assert max(one.worst for one in (long, declared) if one is not None) < 1e-12
    assert report.needed == 60


def test_signals_that_differ_are_drift_though_no_number_tells() -> None:
    class Silent(Smooth):
        def on_bars(self, symbol: str, interval: str) -> Sequence[Signal]:
            assert self.context is not None
            is_late = len(self.context.get_bars(symbol, interval)) > 300
            return [Signal(symbol, BUY if is_late else CLOSE)]

    report = check(Silent)
    assert report.verdict == SHORT
    assert all(one.drift is None or one.drift.signals > 0 for one in report.lengths)


def test_the_number_of_bars_is_no_drift() -> None:
    class Counting(Smooth):
        def on_bars(self, symbol: str, interval: str) -> Sequence[Signal]:
            assert self.context is not None
            bars = self.context.get_bars(symbol, interval)
            count = len(bars)
            last = count - 1
            mean = float(bars.close[last - 4 : count].mean())
            return [Signal(symbol, BUY if bars.last_close > mean else CLOSE)]

    report = check(Counting)
    assert (report.verdict, report.needed) == (ENOUGH, 10)


def test_numbers_gathered_bar_by_bar_are_never_cleared() -> None:
    class Gathering(Smooth):
        mean = 0.0

        def on_bars(self, symbol: str, interval: str) -> Sequence[Signal]:
            assert self.context is not None
            close = self.context.get_bars(symbol, interval).last_close
            self.mean = close if not self.mean else 0.9 * self.mean + 0.1 * close
            return []

    report = check(Gathering)
    assert report.verdict == INCONCLUSIVE
    assert "gathers numbers bar by bar" in report.reasons[0]
    assert "self.mean" in report.reasons[0]


def test_running_sums_that_never_come_nearer_are_inconclusive_and_named() -> None:
    class Summing(Smooth):
        def on_bars(self, symbol: str, interval: str) -> Sequence[Signal]:
            assert self.context is not None
            bars = self.context.get_bars(symbol, interval)
            total = float(bars.close.sum())
            return [Signal(symbol, BUY if total > 0 else CLOSE)]

    report = check(Summing)
    assert report.verdict == INCONCLUSIVE
    assert "More bars bring it no nearer: X 1d on_bars.total" in report.reasons[0]


def test_signals_that_hang_on_the_time_of_the_start_are_noted() -> None:
    class Once(Smooth):
        is_in = False

        def on_bars(self, symbol: str, interval: str) -> Sequence[Signal]:
            assert self.context is not None
            wanted = bool(self.context.get_bars(symbol, interval).close[-1] > 1)
            if wanted is self.is_in:
                return []
            self.is_in = wanted
            return [Signal(symbol, BUY)]

    report = check(Once)
    assert report.verdict == ENOUGH
    assert "than after a start there" in report.notes[0]


def rolling_mean(values: Any) -> Any:
    sums = np.cumsum(np.concatenate(([0.0], values)))
    ends = np.arange(1, len(values) + 1)
    counts = np.minimum(ends, 50)
    return (sums[1:] - sums[ends - counts]) / counts


def test_arrays_are_compared_by_their_targets() -> None:
    class Arrays(ArrayStrategy):
        warm_up_bars = 100

        def get_subscriptions(self) -> Sequence[tuple[str, str]]:
            return [PAIR]

        def signals_as_arrays(self, bars: BarSeries) -> SignalArrays:
            means = rolling_mean(bars.close)
            return SignalArrays(np.round(means, 6))

    report = check(Arrays, depth=WarmUpDepth(lengths=(10, 60), watch=5))
    assert (report.verdict, report.needed) == (ENOUGH, 60)
    shortest = report.lengths[0].drift
    assert shortest is not None
    assert shortest.by_name["X signal target"] > 0


def test_longer_bars_have_their_own_length() -> None:
    class Quarter(Smooth):
        period = 5
        warm_up_bars = 40

        def get_subscriptions(self) -> Sequence[tuple[str, str]]:
            return [("X", "15m")]

    source = np.random.default_rng(3)
    closes = np.round(100 + np.cumsum(source.normal(0, 0.2, 2400)), 2)
    rows = [(close, close + 0.1, close - 0.1, close) for close in closes.tolist()]
    report = check(Quarter, minutes("X", rows), depth=WarmUpDepth(lengths=(5, 30), watch=6))
    assert (report.verdict, report.needed, report.watched) == (ENOUGH, 30, 6)
    assert 120 < report.history < 165


# -- what it cannot tell


def test_too_few_bars_for_any_length_are_inconclusive() -> None:
    report = check(declaring(200), walk(60), depth=WarmUpDepth(lengths=(100,), watch=5))
    assert report.verdict == INCONCLUSIVE
    assert "too few bars to compare any length" in report.reasons[0]
    assert all("comparing takes" in one.reason for one in report.lengths)


def test_a_length_that_is_nearly_all_history_is_not_held_against_itself() -> None:
    report = check(Smooth, walk(120), depth=WarmUpDepth(lengths=(10, 100), watch=5))
    assert [one.drift is None for one in report.lengths] == [False, True, True]
    assert report.verdict == INCONCLUSIVE
    assert "are not enough, and there are too few to try the 160" in report.reasons[0]


def test_nothing_said_and_nothing_reckoned_is_inconclusive() -> None:
    class Mute(Smooth):
        def on_bars(self, symbol: str, interval: str) -> Sequence[Signal]:
            return []

    report = check(Mute)
    assert report.verdict == INCONCLUSIVE
    assert "nothing to compare" in report.reasons[0]


def test_code_that_fails_with_less_history_makes_the_length_too_short() -> None:
    class Deep(Smooth):
        def on_bars(self, symbol: str, interval: str) -> Sequence[Signal]:
            assert self.context is not None
            past = float(self.context.get_bars(symbol, interval).close[-50])
            return [Signal(symbol, BUY if past > 200 else CLOSE)]

    report = check(Deep)
    assert report.needed == 80
    assert "IndexError" in report.lengths[0].reason


def test_code_that_fails_with_all_history_is_inconclusive() -> None:
    class Broken(Smooth):
        def on_bars(self, symbol: str, interval: str) -> Sequence[Signal]:
            raise ValueError("no")

    report = check(Broken)
    assert report.verdict == INCONCLUSIVE
    assert "ValueError: no" in report.reasons[0]


def test_a_check_that_is_stopped_says_so_and_clears_nothing() -> None:
    told: list[float] = []
    report = check(Smooth, progress=lambda done, text: told.append(done), should_stop=lambda: len(told) > 3)
    assert (report.cancelled, report.verdict) == (True, INCONCLUSIVE)
    assert sum(one.drift is not None for one in report.lengths) == 2
    assert told == sorted(told)


@pytest.mark.parametrize("watch", [1, 5])
def test_so_many_bars_are_watched_as_were_asked_for(watch: int) -> None:
    report = check(Smooth, depth=WarmUpDepth(lengths=(40,), watch=watch))
    assert report.watched == watch
