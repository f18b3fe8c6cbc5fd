"""The RSI and VWAP examples: when they signal, and when they must not."""

from __future__ import annotations

import doctest
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import strategies.examples.rsi_strategy as rsi_module
from strategies.bar_series import Bar, BarSeries
from strategies.examples.rsi_strategy import RsiStrategy, plain_rsi
from strategies.examples.vwap_strategy import VwapStrategy, session_vwap
from strategies.reactive import Signal, SignalAction
from tests.support.reactive import MINUTE_NS, OPEN_NS, StandingData, standing_context

BUY, SELL, CLOSE = SignalAction.BUY, SignalAction.SELL, SignalAction.CLOSE
DAY_NS = 24 * 60 * MINUTE_NS


def feed(strategy: RsiStrategy, closes: Sequence[float]) -> list[SignalAction | None]:
    context = standing_context()
    assert strategy.setup(context)
    assert isinstance(context.session_data, StandingData)
    said = []
    for close in closes:
        context.session_data.add("TSLA", "1m", close)
        signals = strategy.on_bars("TSLA", "1m")
        said.append(signals[0].action if signals else None)
    return said


def rsi(**config: Any) -> RsiStrategy:
    return RsiStrategy("rsi_strategy", {"symbols": ["TSLA"], "interval": "1m", "rsi_period": 4, **config})


def test_rsi_is_the_plain_average_of_the_changes() -> None:
    assert plain_rsi(np.array([10.0, 12.0, 11.0, 12.0, 10.0])) == pytest.approx(50.0)
    assert plain_rsi(np.array([10.0, 13.0, 12.0])) == pytest.approx(75.0)
    assert doctest.testmod(rsi_module).failed == 0


def test_rsi_buys_weakness_and_sells_strength_once_each() -> None:
    falling, rising = [100.0 - n for n in range(20)], [81.0 + n for n in range(20)]
    said = [action for action in feed(rsi(), [*falling, *rising, *falling]) if action]
    assert said == [BUY, SELL, BUY]


def test_rsi_waits_for_its_period_and_ten_bars_more() -> None:
    said = feed(rsi(), [100.0 - n for n in range(14)])
    assert said == [None] * 13 + [BUY]


def test_rsi_between_the_bounds_says_nothing() -> None:
    assert feed(rsi(), [100.0, 101.0] * 20) == [None] * 40


def test_rsi_trades_ten_by_default() -> None:
    context = standing_context()
    strategy = rsi()
    assert strategy.setup(context)
    assert isinstance(context.session_data, StandingData)
    context.session_data.add("TSLA", "1m", *(100.0 - n for n in range(14)))
    [signal] = strategy.on_bars("TSLA", "1m")
    assert signal.quantity == 10


@pytest.mark.parametrize("make", [lambda: RsiStrategy("x", {}), lambda: VwapStrategy("x", {})])
def test_without_symbols_they_refuse(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert not make().setup(standing_context())
    assert "No symbols" in caplog.text


class Day:
    """Quarter-hour bars of one day, written one after the other."""

    def __init__(self, **config: Any) -> None:
        self.context = standing_context()
        self.series = self.context.session_data.get_bars_ref("AAPL", "15m")
        self.strategy = VwapStrategy(
            "vwap_strategy", {"symbols": ["AAPL"], "interval": "15m", "volume_threshold": 200, **config}
        )
        assert self.strategy.setup(self.context)

    def bar(self, number: int, close: float, volume: float = 100.0, day: int = 0) -> list[Signal]:
        start = OPEN_NS + day * DAY_NS + number * 15 * MINUTE_NS
        self.series.append(Bar(start, close, close, close, close, volume))
        return list(self.strategy.on_bars("AAPL", "15m"))

    def actions(self, closes: Sequence[float], first: int = 0, day: int = 0) -> list[SignalAction | None]:
        found = [self.bar(first + n, close, day=day) for n, close in enumerate(closes)]
        return [signals[0].action if signals else None for signals in found]


def test_vwap_weighs_typical_prices_by_volume_from_the_open_on() -> None:
    bars = BarSeries("AAPL", "15m")
    bars.append(Bar(OPEN_NS - MINUTE_NS, 1, 1, 1, 1, 1e9))
    bars.append(Bar(OPEN_NS, 10, 12, 9, 12, 100))  # typical 11
    bars.append(Bar(OPEN_NS + MINUTE_NS, 10, 10, 10, 10, 300))
    found = session_vwap(bars, OPEN_NS)
    assert found is not None
    assert found[0] == pytest.approx(10.25)
    assert found[1] == 400
    assert session_vwap(bars, OPEN_NS + 2 * MINUTE_NS) is None


def test_vwap_buys_below_and_closes_at_the_average() -> None:
    assert Day().actions([100, 100, 98, 98, 101]) == [None, None, BUY, None, CLOSE]


def test_vwap_waits_for_the_volume_of_the_session() -> None:
    assert Day(volume_threshold=350).actions([100, 100, 98, 97]) == [None, None, None, BUY]


def test_vwap_goes_short_only_where_that_is_allowed() -> None:
    assert Day().actions([100, 100, 103]) == [None, None, None]
    assert Day(allow_short=True).actions([100, 100, 103, 99]) == [None, None, SELL, CLOSE]


def test_vwap_is_flat_before_the_close_and_opens_nothing_then() -> None:
    day = Day()
    assert day.actions([100, 100, 98]) == [None, None, BUY]
    assert day.actions([90, 80], first=24) == [CLOSE, None]  # 15:30 and 15:45


def test_vwap_closes_before_an_early_close() -> None:
    day = Day()
    christmas_eve = 357  # 2024-12-24, shut at 13:00; the same clock time in UTC, for both days are in winter
    assert day.actions([100, 100, 98], day=christmas_eve) == [None, None, BUY]
    assert day.actions([97], first=12, day=christmas_eve) == [CLOSE]


def test_vwap_begins_anew_each_day() -> None:
    day = Day()
    day.actions([100, 100])
    assert day.actions([50, 50, 50], day=1) == [None, None, None], "yesterday's prices do not count"


def test_vwap_ignores_bars_outside_of_the_session() -> None:
    day = Day()
    assert day.actions([100, 100], first=-4) == [None, None]
    assert day.actions([50, 50, 50]) == [None, None, None]
    assert day.actions([50], day=4) == [None], "a Saturday"


def test_vwap_after_a_restart_closes_at_the_end_of_the_day_although_it_knows_of_nothing() -> None:
    assert Day().actions([100], first=24) == [CLOSE]
