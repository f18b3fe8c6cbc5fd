"""StrategyDispatcher, the session's strategy manager: loading, lifecycle, the map of subscriptions, figures."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from strategies.exceptions import LoadError
from strategies.loader import LoadedStrategy, load_strategy_module
from strategies.reactive import ReactiveStrategy, Signal, StrategyConfig, StrategyContext
from tests.support.reactive import Gateable, RecordingStrategy, StandingSystem, buy, loads, wait_until
from trading.market.dispatcher import StrategyDispatcher, checked_pairs

AGGREGATE = {
    "total_strategies",
    "active_strategies",
    "total_subscriptions",
    "total_notifications_processed",
    "total_signals_generated",
    "total_errors",
    "slowest_strategy",
    "slowest_avg_time_ms",
    "strategies",
}


class Refusing(RecordingStrategy):
    def setup(self, context: StrategyContext) -> bool:
        super().setup(context)
        return False


class RaisingSetup(RecordingStrategy):
    def setup(self, context: StrategyContext) -> bool:
        raise KeyError("no such key")


class RaisingInit(RecordingStrategy):
    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        raise ValueError("cannot be made")


class KnowsAfterSetup(RecordingStrategy):
    """Reads what setup sets, as a seed's sample does."""

    def setup(self, context: StrategyContext) -> bool:
        self.symbols = ["AAPL"]
        return super().setup(context)

    def get_subscriptions(self) -> list[tuple[str, str]]:
        return [(symbol, "5m") for symbol in self.symbols]


class Follower(RecordingStrategy):
    auto_subscribe = True


CLASSES: dict[str, type[ReactiveStrategy]] = {
    "one": RecordingStrategy,
    "two": RecordingStrategy,
    "refusing": Refusing,
    "raising_setup": RaisingSetup,
    "raising_init": RaisingInit,
    "later": KnowsAfterSetup,
    "follower": Follower,
}


class Made:
    """A dispatcher over configured strategies, always shut down."""

    def __init__(self) -> None:
        self.all: list[StrategyDispatcher] = []

    def __call__(self, *names: str, **options: Any) -> StrategyDispatcher:
        configs = options.pop("configs", {})
        system = StandingSystem(
            [StrategyConfig(f"strategies.examples.{name}", config=dict(configs.get(name, {}))) for name in names],
            SimpleNamespace(value=options.pop("mode", "backtest")),
            options.pop("speed", 0.0),
        )
        options.setdefault("load", loads(**CLASSES))
        dispatcher = StrategyDispatcher(system, queue_size=100, **options)
        self.all.append(dispatcher)
        return dispatcher


@pytest.fixture
def make() -> Iterator[Made]:
    made = Made()
    yield made
    for dispatcher in made.all:
        for thread in dispatcher._strategy_threads:
            thread.stop()
        dispatcher.shutdown()


def strategies_of(dispatcher: StrategyDispatcher) -> list[RecordingStrategy]:
    found = [thread.strategy for thread in dispatcher._strategy_threads]
    assert all(isinstance(one, RecordingStrategy) for one in found)
    return found  # type: ignore[return-value]


# -- creation and initialization


def test_manager_creation() -> None:
    """Over any system manager it is neither initialized nor running."""
    system = Mock()
    system.session_config.session_data_config.strategies = []
    manager = StrategyDispatcher(system)
    assert manager._system_manager is system
    assert not manager._initialized
    assert not manager._running


def test_initialize_no_strategies() -> None:
    """It is a success."""
    system = Mock()
    system.session_config.session_data_config.strategies = []
    manager = StrategyDispatcher(system)
    assert manager.initialize() is True
    assert manager._initialized
    assert manager._strategy_threads == []


def test_initializing_twice_loads_once(make: Made) -> None:
    manager = make("one")
    assert manager.initialize()
    assert manager.initialize()
    assert len(manager._strategy_threads) == 1


def test_strategies_are_named_after_their_module_and_get_their_configuration(make: Made) -> None:
    manager = make("one", "two", configs={"two": {"pairs": [["TSLA", "1m"]]}})
    assert manager.initialize()
    assert [thread.strategy.name for thread in manager._strategy_threads] == ["one", "two"]
    assert manager.get_all_subscriptions() == {("AAPL", "5m"), ("TSLA", "1m")}


def test_disabled_ones_are_left_out(make: Made) -> None:
    manager = make("one", "two")
    manager._system_manager.session_config.session_data_config.strategies[0].enabled = False
    assert manager.initialize()
    assert [thread.strategy.name for thread in manager._strategy_threads] == ["two"]


def test_duplicate_names_are_refused(make: Made) -> None:
    manager = make("one", "one")
    assert manager.initialize() is False
    assert "called one" in manager.failure


@pytest.mark.parametrize(("bad", "words"), [("raising_init", "cannot be made"), ("unknown", "unknown")])
def test_one_failure_fails_all_and_says_why(make: Made, bad: str, words: str, caplog: Any) -> None:
    manager = make("one", bad)
    with caplog.at_level(logging.ERROR):
        assert manager.initialize() is False
    assert words in manager.failure
    assert words in caplog.text
    assert manager._strategy_threads == []
    assert not manager._initialized


def test_failure_of_a_loader_keeps_its_sentence(make: Made) -> None:
    def load(module: str) -> LoadedStrategy:
        raise LoadError(f"{module} is broken in line 3.", code="syntax_error")

    manager = make("one", load=load)
    assert not manager.initialize()
    assert manager.failure == "strategies.examples.one is broken in line 3."


def system_of(manager: StrategyDispatcher) -> Any:
    return manager._system_manager


def test_bad_module_name_is_a_failure_with_a_reason(make: Made) -> None:
    manager = make("one")
    system_of(manager).strategies = [StrategyConfig("a-b")]
    assert not manager.initialize()
    assert "no module path" in manager.failure


def test_imperative_strategies_do_not_run_in_sessions(make: Made) -> None:
    manager = make()
    manager._load = load_strategy_module
    system_of(manager).strategies = [StrategyConfig("strategies.library.ma_cross")]
    assert not manager.initialize()
    assert "imperative" in manager.failure


def test_configuration_is_checked_by_the_files_own_parameters(make: Made) -> None:
    manager = make()
    manager._load = load_strategy_module
    module = "strategies.examples.simple_ma_cross"
    system_of(manager).strategies = [StrategyConfig(module, config={"fast_period": "x"})]
    assert not manager.initialize()
    assert manager.failure.startswith("simple_ma_cross:")
    assert "fast_period" in manager.failure
    system_of(manager).strategies = [StrategyConfig(module, config={"symbols": ["AAPL"]})]
    assert manager.initialize()
    assert manager._strategy_threads[0].strategy.config["slow_period"] == 20
    assert len(manager.loaded()["simple_ma_cross"].sha256) == 64


def test_class_of_another_name_is_taken_with_a_warning(make: Made, caplog: Any) -> None:
    with caplog.at_level(logging.WARNING):
        assert make("one").initialize()
    assert "found RecordingStrategy, expected OneStrategy" in caplog.text


def test_file_with_an_expected_name_is_taken_in_silence(tmp_path: Path, make: Made, caplog: Any) -> None:
    (tmp_path / "rsi_strategy.py").write_text(
        "from strategies.reactive import ReactiveStrategy\nclass RsiStrategy(ReactiveStrategy):\n"
        "    def get_subscriptions(self): return []\n    def on_bars(self, symbol, interval): return []\n"
    )
    manager = make("rsi_strategy", load=lambda module: load_strategy_module("rsi_strategy", [tmp_path]))
    with caplog.at_level(logging.WARNING):
        assert manager.initialize()
    assert "expected" not in caplog.text


# -- mode


@pytest.mark.parametrize(
    ("mode", "speed", "found"),
    [
        ("live", 0, "live"),
        ("live", 60, "live"),
        ("backtest", 0, "data-driven"),
        ("backtest", 60, "clock-driven"),
        ("backtest", 0.5, "clock-driven"),
    ],
)
def test_mode_follows_the_session(make: Made, mode: str, speed: float, found: str) -> None:
    manager = make("one", mode=mode, speed=speed)
    assert manager.initialize()
    assert manager._strategy_threads[0].mode == found
    assert manager._strategy_threads[0].context.mode == mode


# -- starting and stopping


def test_start_before_initialize_is_refused(make: Made) -> None:
    assert make("one").start_strategies() is False


def test_setup_comes_before_the_thread_and_teardown_after_it(make: Made) -> None:
    manager = make("one")
    assert manager.initialize()
    [strategy] = strategies_of(manager)
    alive: list[bool] = []
    thread = manager._strategy_threads[0]
    strategy.teardown = lambda context: alive.append(thread.is_alive())  # type: ignore[method-assign]
    assert manager.start_strategies()
    assert strategy.hooks == ["setup"]
    assert strategy.context is thread.context
    assert thread.is_alive()
    manager.stop_strategies()
    assert alive == [False]


def test_starting_twice_and_stopping_twice_do_no_harm(make: Made) -> None:
    manager = make("one")
    assert manager.initialize()
    assert manager.start_strategies()
    assert manager.start_strategies()
    manager.stop_strategies()
    manager.stop_strategies()
    assert strategies_of(manager)[0].hooks == ["setup", "teardown"]


@pytest.mark.parametrize(("bad", "words"), [("refusing", "returned False"), ("raising_setup", "KeyError")])
def test_setup_that_refuses_or_raises_leaves_nothing_running(make: Made, bad: str, words: str) -> None:
    manager = make("one", bad, "two")
    assert manager.initialize()
    first, *_ = strategies_of(manager)
    assert manager.start_strategies() is False
    assert words in manager.failure
    assert bad in manager.failure
    assert not any(thread.is_alive() for thread in manager._strategy_threads)
    assert first.hooks == ["setup", "teardown"], "who was set up is torn down"


def test_shutdown_forgets_everything_and_allows_a_new_beginning(make: Made) -> None:
    manager = make("one")
    assert manager.initialize()
    assert manager.start_strategies()
    thread = manager._strategy_threads[0]
    manager.shutdown()
    assert not thread.is_alive()
    assert manager._strategy_threads == []
    assert manager.get_all_subscriptions() == set()
    assert manager.initialize()
    assert manager.start_strategies()


def test_teardown_that_raises_does_not_keep_the_others_from_theirs(make: Made, caplog: Any) -> None:
    manager = make("one", "two")
    assert manager.initialize()
    first, second = strategies_of(manager)

    def fails(context: StrategyContext) -> None:
        raise OSError("disk full")

    first.teardown = fails  # type: ignore[method-assign]
    assert manager.start_strategies()
    manager.stop_strategies()
    assert second.hooks == ["setup", "teardown"]
    assert "disk full" in caplog.text


def test_strategy_that_does_not_end_is_told_and_not_torn_down_beside_its_own_code(
    make: Made, monkeypatch: Any, caplog: Any
) -> None:
    monkeypatch.setattr("trading.market.dispatcher.JOIN_S", 0.02)
    manager = make("one", "two", mode="live")
    assert manager.initialize()
    stuck, fine = strategies_of(manager)
    gate = Gateable()
    stuck.act = gate
    assert manager.start_strategies()
    manager.notify_strategies("AAPL", "5m")
    gate.wait_entered()
    manager.stop_strategies()
    assert "one still works" in caplog.text
    assert stuck.hooks == ["setup"]
    assert fine.hooks == ["setup", "teardown"]
    gate.let_go()


# -- subscriptions


def test_subscriptions_that_setup_decides_are_mapped_after_it(make: Made) -> None:
    manager = make("later")
    assert manager.initialize(), manager.failure
    assert manager.get_all_subscriptions() == set()
    assert manager.start_strategies()
    assert manager.get_all_subscriptions() == {("AAPL", "5m")}


def test_subscriptions_that_fail_after_setup_keep_it_from_starting(make: Made) -> None:
    manager = make("one")
    assert manager.initialize()
    strategies_of(manager)[0].config["pairs"] = [("AAPL", "1h")]
    assert manager.start_strategies() is False
    assert "1h" in manager.failure


@pytest.mark.parametrize("bad", [["AAPL"], [("AAPL",)], [("AAPL", "5m", "x")], [("AAPL", 5)], [("", "5m")]])
def test_what_is_no_pair_is_refused(bad: Any) -> None:
    with pytest.raises(Exception, match="return pairs"):
        checked_pairs(bad)


def test_pairs_count_once() -> None:
    assert checked_pairs([("A", "1m"), ("A", "1m"), ["A", "5m"]]) == [("A", "1m"), ("A", "5m")]


def test_subscription_map(make: Made) -> None:
    """Threads of a pair are those that follow it."""
    manager = make("one", "two", configs={"two": {"pairs": [("AAPL", "5m"), ("TSLA", "1m")]}})
    assert manager.initialize()
    names = [thread.strategy.name for thread in manager.get_subscribed_threads("AAPL", "5m")]
    assert names == ["one", "two"]
    assert [thread.strategy.name for thread in manager.get_subscribed_threads("TSLA", "1m")] == ["two"]
    assert manager.get_subscribed_threads("TSLA", "5m") == []


# -- signals, symbols, quality


def test_signals_reach_the_executor_of_their_strategy(make: Made) -> None:
    taken: list[tuple[str, str, str]] = []

    def make_executor(strategy: ReactiveStrategy, context: StrategyContext) -> Any:
        def sink(symbol: str, interval: str, signals: list[Signal]) -> None:
            taken.append((strategy.name, symbol, interval))

        return sink

    manager = make("one", make_executor=make_executor)
    assert manager.initialize()
    strategies_of(manager)[0].act = buy
    assert manager.start_strategies()
    manager.notify_strategies("AAPL", "5m")
    assert manager.wait_for_strategies()
    assert taken == [("one", "AAPL", "5m")]


def test_added_symbol_is_told_on_the_strategys_own_thread(make: Made) -> None:
    manager = make("one")
    assert manager.initialize()
    assert manager.start_strategies()
    manager.notify_symbol_added("NEW")
    [strategy] = strategies_of(manager)
    assert strategy.hooks == ["setup", "added NEW"]
    assert strategy.threads == {"Strategy-one"}


def test_added_symbol_is_subscribed_for_those_that_want_it(make: Made) -> None:
    manager = make("one", "follower", configs={"follower": {"pairs": [("AAPL", "5m"), ("AAPL", "1m")]}})
    assert manager.initialize()
    assert manager.start_strategies()
    manager.notify_symbol_added("NEW")
    assert [thread.strategy.name for thread in manager.get_subscribed_threads("NEW", "5m")] == ["follower"]
    assert [thread.strategy.name for thread in manager.get_subscribed_threads("NEW", "1m")] == ["follower"]


def test_added_symbol_that_the_hook_subscribes_is_in_the_map(make: Made) -> None:
    manager = make("one")
    assert manager.initialize()
    [strategy] = strategies_of(manager)
    pairs = strategy.config.setdefault("pairs", [("AAPL", "5m")])
    strategy.on_symbol_added = lambda symbol: pairs.append((symbol, "5m"))  # type: ignore[method-assign]
    assert manager.start_strategies()
    manager.notify_symbol_added("NEW")
    assert ("NEW", "5m") in manager.get_all_subscriptions()


def test_hook_that_raises_is_told_and_the_others_are_told_too(make: Made, caplog: Any) -> None:
    manager = make("one", "two")
    assert manager.initialize()
    first, second = strategies_of(manager)

    def fails(symbol: str) -> None:
        raise RuntimeError("not now")

    first.on_symbol_added = fails  # type: ignore[method-assign]
    assert manager.start_strategies()
    manager.notify_symbol_added("NEW")
    assert "added NEW" in second.hooks
    assert "one on_symbol_added failed" in caplog.text


def test_slow_hook_is_not_waited_for_and_counts_once_it_has_answered(make: Made, monkeypatch: Any) -> None:
    monkeypatch.setattr("trading.market.dispatcher.HOOK_WAIT_S", 0.01)
    manager = make("one", mode="live")
    assert manager.initialize()
    [strategy] = strategies_of(manager)
    pairs = strategy.config.setdefault("pairs", [("AAPL", "5m")])
    go = threading.Event()

    def slow(symbol: str) -> None:
        assert go.wait(10.0)
        pairs.append((symbol, "5m"))

    strategy.on_symbol_added = slow  # type: ignore[method-assign]
    assert manager.start_strategies()
    manager.notify_symbol_added("NEW")
    assert ("NEW", "5m") not in manager.get_all_subscriptions()
    go.set()
    wait_until(lambda: ("NEW", "5m") in manager.get_all_subscriptions())


def test_subscriptions_that_become_wrong_leave_the_map_as_it_was(make: Made, caplog: Any) -> None:
    manager = make("one")
    assert manager.initialize()
    [strategy] = strategies_of(manager)
    strategy.on_symbol_added = lambda symbol: strategy.config.update(pairs=[("AAPL", "nonsense")])  # type: ignore[method-assign]
    assert manager.start_strategies()
    manager.notify_symbol_added("NEW")
    assert manager.get_all_subscriptions() == {("AAPL", "5m")}
    assert "stay as they were" in caplog.text


def test_quality_is_told_when_it_crosses_downwards_and_only_to_who_follows(make: Made) -> None:
    manager = make("one", "two", configs={"two": {"pairs": [("TSLA", "1m")]}})
    assert manager.initialize()
    assert manager.start_strategies()
    for quality in (99.0, 94.0, 90.0, 96.0, 93.0):
        manager.notify_quality("AAPL", "5m", quality)
    first, second = strategies_of(manager)
    assert first.hooks == ["setup", "quality AAPL 5m 94", "quality AAPL 5m 93"]
    assert second.hooks == ["setup"]


# -- figures


def test_metrics_of_nobody_are_zeros(make: Made) -> None:
    manager = make()
    assert manager.initialize()
    metrics = manager.get_metrics()
    assert set(metrics) == AGGREGATE
    assert metrics["slowest_strategy"] is None
    assert metrics["slowest_avg_time_ms"] == 0
    assert metrics["strategies"] == []


def test_metrics_add_up_and_name_the_slowest(make: Made) -> None:
    manager = make("one", "two")
    assert manager.initialize()
    slow, fast = strategies_of(manager)
    slow.act = lambda symbol, interval: buy(symbol, interval) if sum(range(100_000)) else []
    fast.act = lambda symbol, interval: [][0]
    assert manager.start_strategies()
    for _ in range(3):
        manager.notify_strategies("AAPL", "5m")
        assert manager.wait_for_strategies()
    metrics = manager.get_metrics()
    assert (metrics["total_strategies"], metrics["active_strategies"], metrics["total_subscriptions"]) == (2, 2, 1)
    assert metrics["total_notifications_processed"] == 3
    assert metrics["total_signals_generated"] == 3
    assert metrics["total_errors"] == 3
    assert metrics["slowest_strategy"] == "one"
    assert metrics["slowest_avg_time_ms"] == metrics["strategies"][0]["avg_processing_time_ms"] > 0
    manager.stop_strategies()
    assert manager.get_metrics()["active_strategies"] == 0
