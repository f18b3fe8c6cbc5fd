"""A session's strategies from their configuration to their teardown, with real files and real threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from strategies.reactive import Signal, SignalAction, StrategyConfig
from tests.support.reactive import StandingSystem
from tests.support.session_driver import Driver, minutes, system_of
from trading.market.dispatcher import StrategyDispatcher


def strategy_threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("Strategy-")}


@pytest.fixture
def session_config_with_strategy() -> StandingSystem:
    """The session of one moving-average cross on AAPL."""
    return system_of("test_single_strategy")


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = strategy_threads()
    yield
    assert strategy_threads() <= before


def run_day(system: StandingSystem, *, symbols: tuple[str, ...] = ("AAPL",)) -> tuple[StrategyDispatcher, list[Signal]]:
    """Initialize, start, drive a day, stop; return the dispatcher, stopped, and the signals in order."""
    taken: list[Signal] = []
    manager = StrategyDispatcher(
        system, make_executor=lambda strategy, context: lambda symbol, interval, signals: taken.extend(signals)
    )
    assert manager.initialize(), manager.failure
    assert manager.start_strategies(), manager.failure
    driver = Driver(manager, system.data, system.clock)
    driver.run({symbol: minutes(seed) for seed, symbol in enumerate(symbols)})
    manager.stop_strategies()
    return manager, taken


def test_full_lifecycle(session_config_with_strategy: StandingSystem) -> None:
    manager, signals = run_day(session_config_with_strategy)
    metrics = manager.get_metrics()
    assert metrics["total_strategies"] == 1
    assert metrics["active_strategies"] == 0
    assert metrics["total_notifications_processed"] == 78, "every five-minute bar of the day, and no minute"
    assert metrics["total_errors"] == 0
    assert metrics["total_signals_generated"] == len(signals) > 0
    sides = [signal.action for signal in signals]
    assert set(sides) <= {SignalAction.BUY, SignalAction.SELL}
    assert all(one is not following for one, following in pairwise(sides)), "no side twice in a row"
    manager.shutdown()
    assert manager.get_metrics()["total_strategies"] == 0


def test_session_without_strategies_lives_as_well() -> None:
    system = StandingSystem()
    manager, signals = run_day(system)
    assert signals == []
    assert manager.get_metrics()["total_strategies"] == 0


def test_same_dispatcher_runs_a_second_session(session_config_with_strategy: StandingSystem) -> None:
    system = session_config_with_strategy
    manager, _ = run_day(system)
    manager.shutdown()
    system.data.series.clear()
    assert manager.initialize()
    assert manager.start_strategies()
    Driver(manager, system.data, system.clock).run({"AAPL": minutes(7)})
    assert manager.get_metrics()["total_notifications_processed"] == 78
    manager.shutdown()


def test_configuration_that_a_strategy_refuses_ends_in_a_reason_and_no_threads() -> None:
    system = StandingSystem([StrategyConfig("strategies.examples.simple_ma_cross", config={"symbols": []})])
    manager = StrategyDispatcher(system)
    assert manager.initialize()
    assert not manager.start_strategies()
    assert "simple_ma_cross" in manager.failure


def test_one_bad_strategy_keeps_the_whole_session_from_starting() -> None:
    system = system_of("test_multiple_strategies")
    system.strategies.append(StrategyConfig("strategies.examples.there_is_none"))
    manager = StrategyDispatcher(system)
    assert not manager.initialize()
    assert "there_is_none.py does not exist" in manager.failure


def test_twenty_strategies_start_and_stop_in_seconds() -> None:
    from time import perf_counter

    from tests.support.reactive import RecordingStrategy, loads

    names = [f"s{number}" for number in range(20)]
    system = StandingSystem([StrategyConfig(name) for name in names], SimpleNamespace(value="live"))
    manager = StrategyDispatcher(system, load=loads(**dict.fromkeys(names, RecordingStrategy)))
    began = perf_counter()
    assert manager.initialize()
    assert manager.start_strategies()
    assert perf_counter() - began < 2.0
    assert manager.get_metrics()["active_strategies"] == 20
    manager.shutdown()


def test_strategies_of_one_session_run_on_threads_of_their_own(session_config_with_strategy: StandingSystem) -> None:
    system: Any = system_of("test_multiple_strategies")
    manager = StrategyDispatcher(system)
    assert manager.initialize()
    assert manager.start_strategies()
    assert strategy_threads() >= {"Strategy-simple_ma_cross", "Strategy-rsi_strategy"}
    manager.shutdown()
