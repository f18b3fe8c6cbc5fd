"""The moving-average cross: when it signals, and when it must not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from strategies.examples.simple_ma_cross import Params, SimpleMaCrossStrategy
from strategies.reactive import Signal, SignalAction
from tests.support.reactive import StandingData, standing_context

BUY, SELL = SignalAction.BUY, SignalAction.SELL
SHORT = {"symbols": ["AAPL"], "interval": "5m", "fast_period": 2, "slow_period": 3}


class Bench:
    """One strategy over bars that the test writes."""

    def __init__(self, **config: Any) -> None:
        self.context = standing_context()
        assert isinstance(self.context.session_data, StandingData)
        self.data = self.context.session_data
        self.strategy = SimpleMaCrossStrategy("simple_ma_cross", {**SHORT, **config})
        self.agreed = self.strategy.setup(self.context)

    def feed(self, closes: Sequence[float], symbol: str = "AAPL") -> list[list[Signal]]:
        """Append closes one after the other; return what the strategy said at each."""
        said = []
        for close in closes:
            self.data.add(symbol, "5m", close, minutes=5)
            said.append(list(self.strategy.on_bars(symbol, "5m")))
        return said

    def actions(self, closes: Sequence[float], symbol: str = "AAPL") -> list[SignalAction | None]:
        return [signals[0].action if signals else None for signals in self.feed(closes, symbol)]


def test_agrees_to_a_good_configuration() -> None:
    assert Bench().agreed


@pytest.mark.parametrize(
    "bad",
    [
        {"symbols": []},
        {"fast_period": 20, "slow_period": 10},
        {"fast_period": 10, "slow_period": 10},
        {"fast_period": 0},
        {"fast_period": -5},
    ],
)
def test_refuses_a_configuration_that_cannot_cross(bad: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    assert not Bench(**bad).agreed
    assert caplog.records, "it says why"


def test_subscriptions_are_known_before_setup() -> None:
    strategy = SimpleMaCrossStrategy("x", {"symbols": ["AAPL", "GOOGL"], "interval": "15m"})
    assert strategy.get_subscriptions() == [("AAPL", "15m"), ("GOOGL", "15m")]


def test_crossing_upwards_buys_once() -> None:
    # averages of 2 and 3: 10,10,10 equal; 13: (11.5 > 11) crosses above; 14 stays above
    assert Bench().actions([10, 10, 10, 13, 14, 15]) == [None, None, None, BUY, None, None]


def test_crossing_downwards_sells_once() -> None:
    assert Bench().actions([10, 10, 10, 7, 6, 5]) == [None, None, None, SELL, None, None]


def test_crosses_alternate() -> None:
    assert [a for a in Bench().actions([10, 10, 10, 13, 13, 7, 7, 13, 13, 7]) if a] == [BUY, SELL, BUY, SELL]


def test_needs_one_bar_more_than_the_slow_average() -> None:
    assert Bench().actions([10, 10, 13]) == [None, None, None]
    assert Bench().actions([10, 10, 10, 13])[-1] is BUY


def test_same_signal_is_not_given_twice_although_the_averages_touch_between() -> None:
    # up at the fourth bar; equal averages at the seventh; above again at the eighth
    assert [a for a in Bench().actions([10, 10, 10, 13, 13, 13, 13, 16]) if a] == [BUY]


def test_symbols_do_not_mix() -> None:
    bench = Bench(symbols=["AAPL", "GOOGL"])
    assert bench.actions([10, 10, 10, 13])[-1] is BUY
    assert bench.actions([10, 10, 10, 13], "GOOGL")[-1] is BUY


def test_bars_of_others_are_left_alone() -> None:
    bench = Bench()
    bench.data.add("TSLA", "5m", 10, 10, 10, 13)
    bench.data.add("AAPL", "1m", 10, 10, 10, 13)
    assert bench.strategy.on_bars("TSLA", "5m") == []
    assert bench.strategy.on_bars("AAPL", "1m") == []


@pytest.mark.parametrize(("quality", "signals"), [(100.0, 1), (95.0, 1), (94.9, 0)])
def test_incomplete_bars_are_skipped(quality: float, signals: int) -> None:
    bench = Bench()
    bench.data.add("AAPL", "5m", 10, 10, 10)
    bench.data.quality["AAPL", "5m"] = quality
    assert len(bench.feed([13])[0]) == signals


def test_signal_says_what_crossed_and_leaves_the_size_to_the_executor() -> None:
    [signal] = Bench().feed([10, 10, 10, 13])[-1]
    assert signal.symbol == "AAPL"
    assert signal.quantity is None
    assert "11.50" in signal.reason
    assert "11.00" in signal.reason
    assert signal.metadata == {"fast_ma": 11.5, "slow_ma": 11.0, "interval": "5m"}


def test_quantity_of_the_configuration_is_the_signals() -> None:
    [signal] = Bench(quantity=7).feed([10, 10, 10, 13])[-1]
    assert signal.quantity == 7


def test_default_periods_are_ten_and_twenty() -> None:
    bench = Bench()
    bench.strategy = SimpleMaCrossStrategy("x", {"symbols": ["AAPL"]})
    assert bench.strategy.setup(bench.context)
    assert (bench.strategy.fast_period, bench.strategy.slow_period) == (10, 20)
    assert bench.actions([10] * 20) == [None] * 20
    assert bench.actions([11]) == [BUY]


def test_parameters_are_checked_before_it_is_made() -> None:
    assert Params(symbols=["AAPL"]).slow_period == 20
    with pytest.raises(ValidationError, match="longer than the fast one"):
        Params(fast_period=20, slow_period=10)
    with pytest.raises(ValidationError):
        Params(interval="1h")
