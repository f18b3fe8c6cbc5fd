"""The lookahead check finds strategies that know the future, clears honest ones, and says when it cannot tell."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ib_async import Stock

from portfolio.arctic.client import get_ac
from strategies.bar_series import BarSeries, moment_of
from strategies.base import BaseStrategy
from strategies.examples.simple_ma_cross import SimpleMaCrossStrategy
from strategies.reactive import ArrayStrategy, ReactiveStrategy, Signal, SignalArrays, StrategyContext
from tests.support.backtests import BUY, CLOSE, D, days, minutes, sample_days, spec_of
from trading.backtest.contracts import BacktestSpec, StrategyEntry
from trading.backtest.lookahead import CLEAN, INCONCLUSIVE, LOOKAHEAD, Depth, LookaheadReport, check_lookahead

PAIR = ("X", "1d")
QUICK = Depth(sample=6, minimum=5, quiet=4)


def walk(bars: int = 240) -> BarSeries:
    """Return days of a random walk, every run the same."""
    source = np.random.default_rng(7)
    closes = np.round(100 + np.cumsum(source.normal(0, 1, bars)), 2)
    opens = np.concatenate(([100.0], closes[:-1]))
    highs, lows = np.maximum(opens, closes) + 0.5, np.minimum(opens, closes) - 0.5
    return days("X", list(zip(opens, highs, lows, closes, strict=True)))


class Follower(ReactiveStrategy):
    """Buys where a number of the present is above zero, and closes where it is not."""

    is_long = False

    def get_subscriptions(self) -> Sequence[tuple[str, str]]:
        return [PAIR]

    def number(self, bars: BarSeries) -> float:
        """Return what it goes by."""
        return float(bars.close[-1] - bars.close[-5:].mean())

    def on_bars(self, symbol: str, interval: str) -> Sequence[Signal]:
        assert self.context is not None
        bars = self.context.get_bars(symbol, interval)
        wanted = self.number(bars) > 0
        if wanted is self.is_long:
            return []
        self.is_long = wanted
        return [Signal(symbol, BUY if wanted else CLOSE, 10 if wanted else None)]


def following(number: Callable[[BarSeries], float]) -> type[Follower]:
    class Made(Follower):
        def number(self, bars: BarSeries) -> float:
            return number(bars)

    return Made


def spec(make: Any, *bars: BarSeries) -> BacktestSpec:
    return spec_of([StrategyEntry("S", "reactive", make, {}, D(1_000))], bars or [walk()])


def check(make: Any, *bars: BarSeries, depth: Depth = QUICK, **options: Any) -> LookaheadReport:
    [report] = check_lookahead(spec(make, *bars), depth=depth, **options)
    return report


# -- what knows the future


def test_an_honest_strategy_is_clean_and_what_was_looked_at_is_told() -> None:
    report = check(Follower)
    assert (report.verdict, report.findings, report.reasons) == (CLEAN, [], [])
    assert (report.entries, report.exits, report.quiet) == (6, 5, 4)  # the last is open
    assert report.trades > 20
    assert report.reruns > 12


def test_tomorrow_read_from_beyond_the_cursor_is_found() -> None:
    def tomorrow(bars: BarSeries) -> float:
        closes = bars.whole()[1][3]
        return float(closes[min(len(bars), len(closes) - 1)] - closes[len(bars) - 1])

    report = check(following(tomorrow))
    assert report.verdict == LOOKAHEAD
    assert {"vanished", "appeared"} & {finding.kind for finding in report.findings}
    assert "is not there when the bars end at" in " ".join(finding.text for finding in report.findings)


def test_an_average_centred_on_the_present_is_found() -> None:
    def centred(bars: BarSeries) -> float:
        closes = pd.Series(bars.whole()[1][3]).rolling(7, center=True, min_periods=1).mean()
        return float(closes.iloc[len(bars) - 1] - bars.close[-1])

    assert check(following(centred)).verdict == LOOKAHEAD


def test_a_number_that_only_shades_the_decision_is_found_by_its_value() -> None:
    def scored(bars: BarSeries) -> float:
        spread_of_all = 1.0 + float(bars.whole()[1][3].std())
        return float(bars.close[-1] - bars.close[-5:].mean()) / spread_of_all

    report = check(following(scored))
    assert report.verdict == LOOKAHEAD
    assert {finding.kind for finding in report.findings} == {"number"}
    assert "spread_of_all" in report.findings[0].text


def test_code_that_fails_where_the_bars_end_is_found() -> None:
    report = check(following(lambda bars: float(bars.whole()[1][3][len(bars)] - bars.close[-1])))
    assert report.verdict == LOOKAHEAD
    assert {finding.kind for finding in report.findings} == {"failed"}
    assert "IndexError" in report.findings[0].text


def test_the_future_read_from_storage_by_itself_is_found() -> None:
    bars = walk()
    frame = pd.DataFrame({"close": bars.whole()[1][3]}, index=pd.DatetimeIndex(bars.whole()[0], tz="UTC"))
    get_ac().library("market_data").write("CHEAT_1d", frame)

    class FromStorage(Follower):
        def setup(self, context: StrategyContext) -> bool:
            whole = get_ac().library("market_data").read("CHEAT_1d").data["close"]
            self.better = whole.shift(-1) - whole
            return super().setup(context)

        def number(self, bars: BarSeries) -> float:
            return float(self.better.get(moment_of(bars.last_start_ns), 0.0))

    try:
        report = check(FromStorage, bars)
    finally:
        get_ac().library("market_data").delete("CHEAT_1d")
    assert report.verdict == LOOKAHEAD


def test_what_is_read_from_a_file_is_named_and_never_cleared(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text("\n".join(str(close) for close in walk().whole()[1][3]))

    class FromFile(Follower):
        def setup(self, context: StrategyContext) -> bool:
            self.closes = [float(line) for line in path.read_text().splitlines()]
            return super().setup(context)

        def number(self, bars: BarSeries) -> float:
            return self.closes[min(len(bars), len(self.closes) - 1)] - self.closes[len(bars) - 1]

    report = check(FromFile)
    assert report.verdict == INCONCLUSIVE
    assert any("prices.csv" in reason for reason in report.reasons)
    assert any("mirrored" in reason for reason in report.reasons)


# -- trades within a bar, and orders that wait


class Scalper(ReactiveStrategy):
    """Enters every fifth day with exits so near that the entry's own bar reaches one."""

    knows = False

    def get_subscriptions(self) -> Sequence[tuple[str, str]]:
        return [PAIR]

    def on_bars(self, symbol: str, interval: str) -> Sequence[Signal]:
        assert self.context is not None
        bars = self.context.get_bars(symbol, interval)
        price = bars.last_close
        rises = bars.close[-1] > bars.close[-3:].mean()
        if self.knows:
            closes = bars.whole()[1][3]
            rises = len(bars) < len(closes) and closes[len(bars)] > price
        if len(bars) % 5 or not rises:
            return []
        return [Signal(symbol, BUY, 10, stop_loss=round(price - 0.4, 2), take_profit=round(price + 0.4, 2))]


def test_trades_that_begin_and_end_in_one_bar_are_looked_at() -> None:
    class Knowing(Scalper):
        knows = True

    assert check(Scalper).verdict == CLEAN
    assert check(Knowing).verdict == LOOKAHEAD


class Patient(ReactiveStrategy):
    """Waits with a limit below the price; sells what it has at the next close."""

    knows = False

    def get_subscriptions(self) -> Sequence[tuple[str, str]]:
        return [PAIR]

    def on_bars(self, symbol: str, interval: str) -> Sequence[Signal]:
        assert self.context is not None
        bars = self.context.get_bars(symbol, interval)
        limit = bars.last_low + 0.1
        if self.knows:
            lows = bars.whole()[1][2]
            limit = float(lows[len(bars)]) if len(bars) < len(lows) else limit
        if len(bars) % 3:
            return [Signal(symbol, CLOSE)]
        return [Signal(symbol, BUY, 10, price=round(limit, 2))]


def test_limits_set_by_the_future_are_found_and_honest_ones_are_clean() -> None:
    class Knowing(Patient):
        knows = True

    honest = check(Patient)
    assert (honest.verdict, honest.findings) == (CLEAN, [])
    assert honest.orders > 0  # limits that never filled
    report = check(Knowing)
    assert report.verdict == LOOKAHEAD
    assert "changed" in {finding.kind for finding in report.findings}


# -- what it cannot tell


def test_too_few_trades_are_inconclusive_and_never_clean() -> None:
    report = check(Follower, depth=Depth(sample=6, minimum=10_000))
    assert report.verdict == INCONCLUSIVE
    assert "fewer than 10000 say nothing" in report.reasons[0]


def test_chance_is_inconclusive() -> None:
    report = check(following(lambda bars: random.random() - 0.5), depth=Depth(3, 5, 0))
    assert any("gave other signals the second time" in reason for reason in report.reasons)
    assert report.verdict != CLEAN


def test_the_clock_of_the_machine_is_no_number_to_compare() -> None:
    from time import perf_counter

    class Timed(Follower):
        def number(self, bars: BarSeries) -> float:
            self.began = perf_counter()
            return super().number(bars)

    assert check(Timed).verdict == CLEAN


def test_a_strategy_that_ignores_the_bars_is_not_cleared() -> None:
    report = check(following(lambda bars: float(len(bars) % 7 > 3) - 0.5))
    assert (report.verdict, len(report.reasons)) == (INCONCLUSIVE, 1)
    assert "mirrored" in report.reasons[0]


def test_a_check_that_is_stopped_says_so_and_tells_progress_until_then() -> None:
    told: list[float] = []

    def progress(done: float, text: str) -> None:
        told.append(done)

    report = check(Follower, progress=progress, should_stop=lambda: len(told) > 4)
    assert (report.cancelled, report.verdict) == (True, INCONCLUSIVE)
    assert 0 < report.reruns < 5
    assert told == sorted(told)


def test_a_position_that_is_open_at_the_end_has_no_exit_to_look_at() -> None:
    class Holder(Follower):
        def on_bars(self, symbol: str, interval: str) -> Sequence[Signal]:
            assert self.context is not None
            bars = self.context.get_bars(symbol, interval)
            if self.is_long or bars.close[-1] <= bars.close[0]:
                return []
            self.is_long = True
            return [Signal(symbol, BUY, 10)]

    report = check(Holder, depth=Depth(5, 1, 2))
    assert (report.trades, report.entries, report.exits, report.findings) == (1, 1, 0, [])


# -- other intervals, shipped strategies, a small wallet


def test_longer_bars_are_cut_where_their_own_end_is_not_reached() -> None:
    class Quarter(Follower):
        def get_subscriptions(self) -> Sequence[tuple[str, str]]:
            return [("X", "15m")]

    source = np.random.default_rng(3)
    closes = np.round(100 + np.cumsum(source.normal(0, 0.2, 1500)), 2)
    rows = [(close, close + 0.1, close - 0.1, close) for close in closes.tolist()]
    report = check(Quarter, minutes("X", rows))
    assert (report.verdict, report.findings) == (CLEAN, [])
    assert report.trades > 10


def test_the_shipped_cross_of_averages_is_clean_and_unsized_entries_have_a_wallet() -> None:
    config = {"symbols": ["AAPL"], "interval": "1d", "min_quality": 0}
    entry = StrategyEntry("ma", "reactive", SimpleMaCrossStrategy, config, D(1))
    [report] = check_lookahead(spec_of([entry], [sample_days("AAPL").prefix(700)]), depth=Depth(4, 10, 2))
    assert (report.verdict, report.reasons, report.findings) == (CLEAN, [], [])
    assert report.trades > 10


def test_a_spec_that_cannot_be_run_is_refused() -> None:
    from strategies.exceptions import ConfigError

    with pytest.raises(ConfigError, match="no bars"):
        check_lookahead(spec_of([StrategyEntry("S", "reactive", Follower, {}, D(1))], []))


# -- strategies that declare arrays


def declaring(number: Callable[[BarSeries], Any]) -> type[ArrayStrategy]:
    """Return a strategy of arrays that is long where the numbers are above zero."""

    class Made(ArrayStrategy):
        def get_subscriptions(self) -> Sequence[tuple[str, str]]:
            return [PAIR]

        def signals_as_arrays(self, bars: BarSeries) -> SignalArrays:
            return SignalArrays(np.where(number(bars) > 0, 10.0, 0.0))

    return Made


def past_rise(bars: BarSeries) -> Any:
    return np.diff(bars.close, prepend=bars.close[0])


def next_rise(bars: BarSeries) -> Any:
    return np.diff(bars.close, append=bars.close[-1])


def test_arrays_of_the_past_are_clean() -> None:
    report = check(declaring(past_rise))
    assert (report.verdict, report.findings, report.reasons) == (CLEAN, [], [])
    assert report.trades > 20


def test_arrays_that_know_the_next_bar_are_found_by_their_orders() -> None:
    assert check(declaring(next_rise)).verdict == LOOKAHEAD


def test_arrays_that_the_engine_refuses_to_run_are_found_as_well() -> None:
    def average_of_all(bars: BarSeries) -> Any:
        return bars.close - bars.close.mean()

    report = check(declaring(average_of_all))
    assert report.trades == 0
    assert report.verdict == LOOKAHEAD
    assert {(finding.kind, finding.role) for finding in report.findings} == {("changed", "target")}
    assert "A target of" in report.findings[0].text


def test_a_file_that_arrays_are_made_of_is_named(tmp_path: Path) -> None:
    path = tmp_path / "factor.csv"
    path.write_text("1")

    def scaled(bars: BarSeries) -> Any:
        return past_rise(bars) * float(path.read_text())

    report = check(declaring(scaled))
    assert report.verdict == INCONCLUSIVE
    assert any("factor.csv" in reason for reason in report.reasons)


def test_arrays_that_ignore_the_bars_are_not_cleared() -> None:
    report = check(declaring(lambda bars: np.arange(len(bars)) % 7 - 3))
    assert (report.verdict, len(report.reasons)) == (INCONCLUSIVE, 1)
    assert "mirrored" in report.reasons[0]


# -- imperative strategies


class Lives(BaseStrategy):
    """Buys and sells at closes by what it expects of the next one."""

    async def initialize_strategy(self) -> None:
        self.closes, self.is_long = list[float](), False
        self.contract = await self.qualify(Stock("X", "SMART", "USD"))
        self.subscribe_bars(self.contract)

    async def run_strategy(self) -> None:
        await self.until_stopped()

    def rises(self) -> bool:
        return self.closes[-1] > sum(self.closes[-5:]) / len(self.closes[-5:])

    async def on_bar(self, contract: Any, bar: Any) -> None:
        self.closes.append(bar.close)
        wanted = self.rises()
        if wanted is not self.is_long:
            self.is_long = wanted
            await self.place_order(contract, 10 if wanted else -10)


def check_life(kind: type[BaseStrategy], bars: BarSeries) -> LookaheadReport:
    pytest.importorskip("trading.backtest.imperative", reason="imperative strategies do not run in backtests here")
    entry = StrategyEntry("S", "imperative", kind, {}, D(1_000))
    [report] = check_lookahead(spec_of([entry], [bars]), depth=QUICK)
    return report


def test_an_honest_life_is_clean() -> None:
    report = check_life(Lives, walk())
    assert (report.verdict, report.findings, report.reasons) == (CLEAN, [], [])
    assert report.trades > 20


def test_a_life_that_reads_tomorrow_from_storage_is_found() -> None:
    bars = walk()
    frame = pd.DataFrame({"close": bars.whole()[1][3]}, index=pd.DatetimeIndex(bars.whole()[0], tz="UTC"))

    class Knowing(Lives):
        async def initialize_strategy(self) -> None:
            self.known: list[float] = get_ac().library("market_data").read("LIFE_1d").data["close"].to_list()
            await super().initialize_strategy()

        def rises(self) -> bool:
            place = len(self.closes) + 1  # it hears from the second bar on
            return self.known[min(place, len(self.known) - 1)] > self.closes[-1]

    get_ac().library("market_data").write("LIFE_1d", frame)
    try:
        report = check_life(Knowing, bars)
    finally:
        get_ac().library("market_data").delete("LIFE_1d")
    assert report.verdict == LOOKAHEAD


def test_a_life_that_reads_a_file_is_not_cleared(tmp_path: Path) -> None:
    path = tmp_path / "prices.txt"
    path.write_text("\n".join(str(close) for close in walk().whole()[1][3]))

    class Reading(Lives):
        def rises(self) -> bool:
            whole = [float(line) for line in path.read_text().splitlines()]
            return whole[min(len(self.closes) + 1, len(whole) - 1)] > self.closes[-1]

    report = check_life(Reading, walk())
    assert report.verdict == INCONCLUSIVE
    assert any("prices.txt" in reason for reason in report.reasons)


# -- several symbols


def test_trades_before_a_second_symbol_has_bars_are_left_out_of_the_count() -> None:
    whole, late = walk(), walk()
    starts, columns = late.whole()
    second = BarSeries.from_columns("Y", "1d", starts[120:].copy(), [column[120:].copy() for column in columns])

    class Both(Follower):
        def get_subscriptions(self) -> Sequence[tuple[str, str]]:
            return [PAIR, ("Y", "1d")]

        def on_bars(self, symbol: str, interval: str) -> Sequence[Signal]:
            return super().on_bars(symbol, interval) if symbol == "X" else []

    alone, both = check(Follower, whole), check(Both, whole, second)
    assert both.verdict == CLEAN
    assert 5 < both.trades < alone.trades
    assert (both.entries, both.quiet) == (6, 4)
