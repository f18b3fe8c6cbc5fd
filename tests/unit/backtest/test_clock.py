"""One clock for all symbols and intervals: a bar is seen at its end, by everybody, before anybody is told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from strategies.bar_series import BarSeries, moment_of
from strategies.reactive import ReactiveStrategy, Signal
from tests.support.backtests import (
    BUY,
    SELL,
    D,
    Script,
    days,
    fills_of,
    flat,
    making,
    minutes,
    scripted,
    series,
    spec_of,
)
from trading.backtest.contracts import BacktestResult, StrategyEntry
from trading.backtest.engine import run_backtest

OPEN = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)


def fives(symbol: str, minute_bars: BarSeries) -> BarSeries:
    """Five-minute bars of minute bars, by hand."""
    starts, (opens, highs, lows, closes, volumes) = minute_bars.whole()
    rows = [
        (opens[n], highs[n : n + 5].max(), lows[n : n + 5].min(), closes[n + 4], volumes[n : n + 5].sum())
        for n in range(0, len(starts), 5)
    ]
    return series(symbol, "5m", starts[::5].tolist(), rows)


class Watcher(Script):
    """Notes at each call which bars of every pair it can see."""

    def on_bars(self, symbol: str, interval: str) -> Sequence[Signal] | None:
        super().on_bars(symbol, interval)
        assert self.context is not None
        seen = {}
        for pair in self.config["pairs"]:
            bars = self.context.get_bars(*pair)
            seen[pair] = bars[-1].timestamp if len(bars) else None
        self.config["notes"].append((symbol, interval, self.context.get_current_time(), seen))
        return None


def watch(pairs: Sequence[tuple[str, str]], bars: Sequence[BarSeries], **times: Any) -> list[Any]:
    notes: list[Any] = []
    entry = StrategyEntry("W", "reactive", Watcher, {"pairs": pairs, "plan": {}, "notes": notes}, D(1000))
    result = run_backtest(spec_of([entry], bars, **times))
    assert not result.strategies["W"].errors
    return notes


def test_a_five_minute_bar_stamped_half_past_is_seen_at_its_end() -> None:
    ones = minutes("X", [flat(100 + n) for n in range(10)])
    notes = watch([("X", "1m"), ("X", "5m")], [ones, fives("X", ones)])
    told = [note[2] for note in notes if note[1] == "5m"]
    assert told == [OPEN + timedelta(minutes=5), OPEN + timedelta(minutes=10)]
    for _, _, now, seen in notes:
        assert seen["X", "1m"] == now - timedelta(minutes=1)
        whole = (now - OPEN) // timedelta(minutes=5)
        assert seen["X", "5m"] == (OPEN + timedelta(minutes=5 * (whole - 1)) if whole else None)


def test_nobody_ever_sees_a_bar_that_has_not_ended() -> None:
    ones, others = minutes("X", [flat(100)] * 800), minutes("Y", [flat(50)] * 700, after_open=3)
    daily = days("X", [flat(100)] * 3)
    pairs = [("X", "1m"), ("X", "5m"), ("X", "1d"), ("Y", "1m")]
    lengths = {"1m": timedelta(minutes=1), "5m": timedelta(minutes=5), "1d": timedelta(hours=21)}
    for _, _, now, seen in watch(pairs, [ones, fives("X", ones), daily, others]):
        for (_, interval), start in seen.items():
            assert start is None or start + lengths[interval] <= now


def test_a_daily_bar_is_seen_at_the_close_also_on_a_short_day() -> None:
    ones = minutes("X", [flat(100)] * 500, day=date(2024, 11, 29))  # closes at 13:00 New York
    daily = days("X", [flat(100)] * 2, first=date(2024, 11, 29))
    told = [note[2] for note in watch([("X", "1m"), ("X", "1d")], [ones, daily]) if note[1] == "1d"]
    assert told == [datetime(2024, 11, 29, 18, tzinfo=UTC), datetime(2024, 12, 2, 21, tzinfo=UTC)]


def test_all_bars_of_a_moment_are_seen_before_anybody_is_told() -> None:
    pairs = [("X", "1m"), ("Y", "1m")]
    notes = watch(pairs, [minutes("X", [flat(1)] * 5), minutes("Y", [flat(2)] * 5)])
    assert len(notes) == 10
    assert all(seen["X", "1m"] == seen["Y", "1m"] == now - timedelta(minutes=1) for _, _, now, seen in notes)


def test_strategies_are_told_in_a_fixed_order_and_only_of_their_pairs() -> None:
    bars = [minutes(symbol, [flat(100)] * 10) for symbol in "XYZ"]
    bars.append(fives("X", bars[0]))
    calls: list[tuple[str, str, str]] = []

    def note(self: ReactiveStrategy, symbol: str, interval: str) -> None:
        calls.append((self.name, symbol, interval))

    first, second = [("Z", "1m"), ("X", "1m")], [("X", "5m"), ("X", "1m")]
    entries = [
        StrategyEntry(name, "reactive", making(note, pairs), {}, D(1000))
        for name, pairs in (("A", first), ("B", second))
    ]
    result = run_backtest(spec_of(entries, bars))
    minute = [("A", "Z", "1m"), ("A", "X", "1m"), ("B", "X", "1m")]
    fifth = [*minute[:2], ("B", "X", "5m"), minute[2]]
    assert calls == ([*minute * 4, *fifth]) * 2
    assert result.strategies["A"].bars_seen == 20
    assert result.strategies["B"].bars_seen == 12


def test_symbols_with_gaps_meet_on_the_clock_and_not_by_row() -> None:
    """Older engines stepped symbols by the number of the row: a gap shifted one against the other (trap 34)."""
    xs = minutes("X", [flat(100 + n) for n in range(10)])
    starts, columns = minutes("Y", [flat(200 + n) for n in range(10)]).whole()
    keep = np.array([0, 1, 5, 6, 9])
    ys = BarSeries.from_columns("Y", "1m", starts[keep], [column[keep] for column in columns])
    plan = {2: [Signal("Y", BUY, 1)]}  # at 09:33 by X's third bar
    result = run_backtest(spec_of([scripted("S", [("X", "1m")], plan)], [xs, ys]))
    assert fills_of(result) == [("1", "205")]
    assert moment_of(result.fills[0].time_ns) == OPEN + timedelta(minutes=5)


def test_an_order_meets_no_bar_that_began_before_it() -> None:
    """A strategy of minutes trades a symbol of days: on the second day's morning only the third day lies ahead."""
    ones = minutes("X", [flat(100)] * 400)
    daily = days("Y", [flat(50), flat(60), flat(70)])
    result = run_backtest(
        spec_of([scripted("S", [("X", "1m")], {395: [Signal("Y", BUY, 1, tif="GTC")]})], [ones, daily])
    )
    assert fills_of(result) == [("1", "70")]


def test_strategies_have_books_of_their_own() -> None:
    bars = minutes("X", [flat(100)] * 5)
    pairs = [("X", "1m")]
    entries = [
        scripted("A", pairs, {0: [Signal("X", BUY, 10)]}, cash=2000),
        scripted("B", pairs, {1: [Signal("X", SELL, 5)]}, cash=3000),
    ]
    result = run_backtest(spec_of(entries, [bars]))
    assert [(fill.strategy, fill.quantity) for fill in result.fills] == [("A", D(10)), ("B", D(-5))]
    assert (result.strategies["A"].cash, result.strategies["B"].cash) == (D(1000), D(3500))
    assert [position.quantity for position in result.strategies["B"].positions] == [-5]


def test_a_strategy_may_act_from_start_on_and_has_seen_what_lies_before() -> None:
    bars = minutes("X", [flat(100)] * 10)
    start = OPEN + timedelta(minutes=4)
    notes = watch([("X", "1m")], [bars], start=start, end=OPEN + timedelta(minutes=8))
    assert [note[2] for note in notes] == [OPEN + timedelta(minutes=n) for n in range(4, 9)]
    assert notes[0][3]["X", "1m"] == OPEN + timedelta(minutes=3)
    assert len(bars) == 8  # the rest stays beyond the cursor


def test_the_curve_has_a_point_for_every_base_bar_of_its_symbols() -> None:
    ones, daily = minutes("X", [flat(100)] * 10), minutes("Y", [flat(50)] * 4, after_open=8)
    result: BacktestResult = run_backtest(
        spec_of([scripted("S", [("X", "1m"), ("Y", "1m")], {0: [Signal("X", BUY, 1)]})], [ones, daily])
    )
    outcome = result.strategies["S"]
    assert [moment_of(ns) for ns in outcome.equity_ns.tolist()] == [OPEN + timedelta(minutes=n) for n in range(1, 13)]
    assert outcome.equity_curve.tolist() == [100_000.0] * 12
    assert result.bars == 14


def test_a_longer_interval_that_is_not_given_is_made_of_the_base_bars() -> None:
    ones = minutes("X", [(float(100 + n), 101.0 + n, 99.0 + n, 100.5 + n, 10.0) for n in range(400)])
    seen = []

    def note(self: ReactiveStrategy, symbol: str, interval: str) -> None:
        assert self.context is not None
        seen.append((interval, self.context.get_current_time(), self.context.get_bars(symbol, interval)[-1]))

    pairs = [("X", "5m"), ("X", "1d")]
    run_backtest(spec_of([StrategyEntry("S", "reactive", making(note, pairs), {}, D(1))], [ones]))
    fives_seen, days_seen = ([row for row in seen if row[0] == interval] for interval in ("5m", "1d"))
    assert len(fives_seen) == 80
    assert fives_seen[1][1] == OPEN + timedelta(minutes=10)
    assert fives_seen[1][2][1:] == (105.0, 110.0, 104.0, 109.5, 50.0)
    assert [row[1] for row in days_seen] == [OPEN + timedelta(minutes=390)]
    assert days_seen[0][2][1:] == (100.0, 490.0, 99.0, 489.5, 3900.0)


def test_indicators_are_read_through_the_cursor_and_know_no_future() -> None:
    closes = [100.0, 101, 99, 102, 105, 103, 104, 108, 107, 110]
    notes = []

    def note(self: ReactiveStrategy, symbol: str, interval: str) -> None:
        assert self.context is not None
        average = self.context.get_indicator(symbol, interval, "sma", 3)
        bars = self.context.get_bars(symbol, interval)
        notes.append((average.value, average.previous, len(average.values), bars.last_close))

    entry = StrategyEntry("S", "reactive", making(note, [("X", "1m")]), {}, D(1))
    run_backtest(spec_of([entry], [minutes("X", [flat(close) for close in closes])]))
    averages = [None, None, *(sum(closes[n - 2 : n + 1]) / 3 for n in range(2, 10))]
    for place, (value, previous, length, close) in enumerate(notes):
        assert (length, close) == (place + 1, closes[place])
        for found, expected in ((value, averages[place]), (previous, averages[place - 1] if place else None)):
            assert found == expected if expected is None else found == pytest.approx(expected)


def test_quality_of_a_run_is_that_of_the_session_so_far() -> None:
    starts, columns = minutes("X", [flat(100)] * 20).whole()
    keep = np.array([n for n in range(20) if n not in (3, 4)])
    bars = BarSeries.from_columns("X", "1m", starts[keep], [column[keep] for column in columns])
    notes = []

    def note(self: ReactiveStrategy, symbol: str, interval: str) -> None:
        assert self.context is not None
        notes.append(round(self.context.get_bar_quality(symbol, interval), 1))

    plan = {0: [Signal("X", BUY, 1)], 5: [Signal("X", BUY, 1)]}
    entries = [
        StrategyEntry("S", "reactive", making(note, [("X", "1m")]), {}, D(1)),
        scripted("Q", [("X", "1m")], plan, min_quality=95),
    ]
    result = run_backtest(spec_of(entries, [bars]))
    assert notes[:4] == [100.0, 100.0, 100.0, 66.7]
    assert notes[-1] == 90.0
    assert [order.state for order in result.orders] == ["filled", "denied"]
    assert result.orders[1].reason == "The bars of X are 75.0 % complete, below 95 %."


def test_a_strategy_can_ask_the_clock_about_sessions() -> None:
    notes = []

    def note(self: ReactiveStrategy, symbol: str, interval: str) -> None:
        assert self.context is not None
        clock: Any = self.context.time_manager
        notes.append(clock.next_close(self.context.get_current_time()))

    entry = StrategyEntry("S", "reactive", making(note, [("X", "1m")]), {}, D(1))
    run_backtest(spec_of([entry], [minutes("X", [flat(100)] * 391)]))
    assert notes[0] == OPEN + timedelta(minutes=390)
    assert notes[-1] == OPEN + timedelta(days=1, minutes=390)
