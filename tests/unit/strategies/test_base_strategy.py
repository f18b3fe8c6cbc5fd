"""ReactiveStrategy, its signals and its context: what a strategy's author relies on."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from strategies.bar_series import BarSeries
from strategies.reactive import (
    LOW_QUALITY,
    TARGET,
    ArrayStrategy,
    ReactiveStrategy,
    Signal,
    SignalAction,
    SignalArrays,
    StrategyContext,
)
from tests.support.reactive import RecordingStrategy, StandingData, standing_context


class PlainStrategy(ReactiveStrategy):
    """Only what must be there."""

    def get_subscriptions(self) -> list[tuple[str, str]]:
        return [("AAPL", "5m")]

    def on_bars(self, symbol: str, interval: str) -> list[Signal]:
        return []


def test_strategy_initialization() -> None:
    """It keeps its name and configuration and has no context yet."""
    strategy = PlainStrategy("test_strategy", {"test_param": 123})
    assert strategy.name == "test_strategy"
    assert strategy.config == {"test_param": 123}
    assert strategy.context is None


def test_configuration_is_the_strategys_own() -> None:
    given = {"length": 1}
    strategy = PlainStrategy("one", given)
    given["length"] = 2
    assert strategy.config == {"length": 1}


def test_strategy_setup() -> None:
    """It keeps the context and agrees."""
    strategy, context = PlainStrategy("test", {}), standing_context()
    assert strategy.setup(context) is True
    assert strategy.context is context


def test_strategy_subscriptions() -> None:
    """They are pairs of symbol and interval."""
    assert PlainStrategy("test", {}).get_subscriptions() == [("AAPL", "5m")]


@pytest.mark.parametrize("missing", ["get_subscriptions", "on_bars"])
def test_strategy_without_a_required_method_cannot_be_made(missing: str) -> None:
    methods: dict[str, Any] = {
        "get_subscriptions": lambda self: [],
        "on_bars": lambda self, symbol, interval: [],
    }
    del methods[missing]
    with pytest.raises(TypeError, match=missing):
        type("Lacking", (ReactiveStrategy,), methods)("x", {})


def test_signal_creation() -> None:
    """It keeps what it was given."""
    signal = Signal(symbol="AAPL", action=SignalAction.BUY, quantity=100, reason="Test signal")
    assert (signal.symbol, signal.action, signal.quantity) == ("AAPL", SignalAction.BUY, 100)
    assert signal.metadata == {}
    assert (signal.price, signal.order_type, signal.tif) == (None, None, "DAY")


def test_signals_do_not_share_their_metadata() -> None:
    first, second = Signal("A", SignalAction.HOLD), Signal("B", SignalAction.HOLD)
    assert first.metadata is not None
    first.metadata["seen"] = True
    assert second.metadata == {}


def test_actions_are_the_four_of_the_contract() -> None:
    assert [action.value for action in SignalAction] == ["BUY", "SELL", "HOLD", "CLOSE"]


def test_context_gives_the_bars_themselves_not_a_copy() -> None:
    context = standing_context()
    data = context.session_data
    assert isinstance(data, StandingData)
    data.add("AAPL", "5m", 1.0)
    bars = context.get_bars("AAPL", "5m")
    data.add("AAPL", "5m", 2.0)
    assert bars is context.get_bars("AAPL", "5m")
    assert [bar.close for bar in bars] == [1.0, 2.0]


def test_context_passes_time_quality_and_indicators_through() -> None:
    class Data(StandingData):
        def get_indicator(self, symbol: str, interval: str, name: str, period: int = 0, **params: float | str) -> Any:
            return symbol, interval, name, period, params

    data = Data()
    data.quality["AAPL", "5m"] = 97.5
    base = standing_context()
    context = StrategyContext(data, base.time_manager, None, "backtest")
    assert context.get_current_time() == base.time_manager.get_current_time()
    assert context.get_bar_quality("AAPL", "5m") == 97.5
    assert context.get_bar_quality("NONE", "5m") == 0.0
    found: Any = context.get_indicator("AAPL", "5m", "macd", 12, slow=26.0)
    assert found == ("AAPL", "5m", "macd", 12, {"slow": 26.0})


def test_low_quality_is_told_in_the_strategys_own_log(caplog: pytest.LogCaptureFixture) -> None:
    strategy = PlainStrategy("warned", {})
    with caplog.at_level(logging.WARNING, logger="strategy.warned"):
        strategy.on_quality_update("AAPL", "5m", LOW_QUALITY)
        assert not caplog.records
        strategy.on_quality_update("AAPL", "5m", 94.9)
    assert "94.9" in caplog.text


def test_signals_are_logged_with_side_size_and_reason(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="strategy.teller"):
        PlainStrategy("teller", {}).log_signal(Signal("AAPL", SignalAction.SELL, 5, reason="why not"))
    assert all(word in caplog.text for word in ("SELL", "AAPL", "5", "why not"))


def test_optional_hooks_do_nothing_by_themselves() -> None:
    strategy, context = PlainStrategy("quiet", {}), standing_context()
    strategy.setup(context)
    strategy.on_symbol_added("TSLA")
    strategy.teardown(context)
    assert strategy.get_subscriptions() == [("AAPL", "5m")]


def test_changed_configuration_sets_the_strategy_up_anew() -> None:
    strategy, context = RecordingStrategy("edited", {"pairs": [("AAPL", "1m")]}), standing_context()
    strategy.setup(context)
    assert strategy.on_config_changed({"pairs": [("TSLA", "1m")]})
    assert strategy.get_subscriptions() == [("TSLA", "1m")]
    assert strategy.hooks == ["setup", "setup"]


def test_changed_configuration_that_setup_refuses_ends_it() -> None:
    class Picky(PlainStrategy):
        def setup(self, context: StrategyContext) -> bool:
            return bool(super().setup(context) and self.config.get("symbols"))

    def made(config: Mapping[str, Any]) -> Picky:
        strategy = Picky("picky", config)
        assert strategy.setup(standing_context())
        return strategy

    assert not made({"symbols": ["AAPL"]}).on_config_changed({"symbols": []})


class Aiming(ArrayStrategy):
    """Aims at what a test says."""

    targets: Sequence[float] = ()

    def get_subscriptions(self) -> list[tuple[str, str]]:
        return [("AAPL", "5m")]

    def signals_as_arrays(self, bars: BarSeries) -> SignalArrays:
        return SignalArrays(np.array(self.targets[: len(bars)]))


def aiming(mode: str) -> tuple[Aiming, StandingData]:
    data = StandingData()
    made = Aiming("aiming", {})
    made.setup(StrategyContext(data, standing_context().time_manager, None, mode))
    return made, data


def spoken(made: Aiming, data: StandingData, *targets: float) -> list[Any]:
    made.targets = targets
    found: list[Any] = []
    for _ in targets:
        data.add("AAPL", "5m", 50.0)
        said = made.on_bars("AAPL", "5m") or []
        found += [(one.action.value, one.quantity, (one.metadata or {})[TARGET]) for one in said]
    return found


def test_arrays_say_the_way_from_target_to_target() -> None:
    made, data = aiming("backtest")
    assert spoken(made, data, 0.0, 10.0, 10.0, float("nan"), -5.0) == [("BUY", 10, 10), ("SELL", 15, -5)]


def test_arrays_say_their_first_target_live_even_where_it_is_flat() -> None:
    """What an earlier life left is not known to the strategy; the executor compares."""
    made, data = aiming("live")
    assert spoken(made, data, float("nan"), 0.0, 0.0, 10.0) == [("SELL", 0, 0), ("BUY", 10, 10)]
