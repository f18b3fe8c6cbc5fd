"""Who is told of what: only what was subscribed to, everybody who did, and what comes during the session."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import Any

import pytest

from strategies.reactive import StrategyConfig
from tests.support.reactive import RecordingStrategy, StandingSystem, loads
from tests.support.session_driver import Driver, minutes
from trading.market.dispatcher import StrategyDispatcher

Pairs = list[tuple[str, str]]


class Session:
    """Recording strategies over a driven session."""

    def __init__(self, **pairs: Pairs) -> None:
        configs = [StrategyConfig(name, config={"pairs": list(wanted)}) for name, wanted in pairs.items()]
        self.system = StandingSystem(configs)
        self.manager = StrategyDispatcher(self.system, load=loads(**dict.fromkeys(pairs, RecordingStrategy)))
        assert self.manager.initialize(), self.manager.failure
        assert self.manager.start_strategies(), self.manager.failure
        self.driver = Driver(self.manager, self.system.data, self.system.clock)

    def strategy(self, name: str) -> RecordingStrategy:
        found = next(one.strategy for one in self.manager._strategy_threads if one.strategy.name == name)
        assert isinstance(found, RecordingStrategy)
        return found


@pytest.fixture
def sessions() -> Iterator[Any]:
    made: list[Session] = []

    def make(**pairs: Pairs) -> Session:
        made.append(Session(**pairs))
        return made[-1]

    yield make
    for session in made:
        session.manager.shutdown()


def test_selective_subscriptions(sessions: Any) -> None:
    session = sessions(apple=[("AAPL", "5m")], google=[("GOOGL", "1m")])
    session.driver.run({"AAPL": minutes(1, 10), "GOOGL": minutes(2, 10)})
    assert session.strategy("apple").calls == [("AAPL", "5m")] * 2
    assert session.strategy("google").calls == [("GOOGL", "1m")] * 10


def test_multiple_strategies_same_subscription(sessions: Any) -> None:
    session = sessions(one=[("AAPL", "1m")], two=[("AAPL", "1m")], three=[("AAPL", "1m")])
    session.driver.run({"AAPL": minutes(1, 20)})
    assert [len(session.strategy(name).calls) for name in ("one", "two", "three")] == [20, 20, 20]
    assert session.manager.get_metrics()["total_subscriptions"] == 1


def test_one_strategy_many_subscriptions_hears_every_interval_in_its_order(sessions: Any) -> None:
    session = sessions(all=[("AAPL", "1m"), ("AAPL", "5m"), ("GOOGL", "1m")])
    session.driver.run({"AAPL": minutes(1, 5), "GOOGL": minutes(2, 5)})
    calls = session.strategy("all").calls
    assert calls.count(("AAPL", "5m")) == 1
    assert calls[-3:] == [("AAPL", "1m"), ("AAPL", "5m"), ("GOOGL", "1m")]


def test_strategy_without_subscriptions_is_told_nothing_and_holds_up_nobody(sessions: Any) -> None:
    session = sessions(none=[], one=[("AAPL", "1m")])
    session.driver.run({"AAPL": minutes(1, 5)})
    assert session.strategy("none").calls == []
    assert session.driver.waits == [True] * 5


def test_subscription_map_updates(sessions: Any) -> None:
    session = sessions(one=[("AAPL", "1m")], two=[("AAPL", "1m")])
    first = session.strategy("one")
    first.on_symbol_added = lambda symbol: first.config["pairs"].append((symbol, "1m"))
    session.driver.run({"AAPL": minutes(1, 3)})
    session.manager.notify_symbol_added("TSLA")
    session.driver.run({"TSLA": minutes(2, 4)})
    assert first.calls.count(("TSLA", "1m")) == 4
    assert session.strategy("two").calls.count(("TSLA", "1m")) == 0
    assert session.manager.get_all_subscriptions() == {("AAPL", "1m"), ("TSLA", "1m")}


def test_unsubscribed_data_wakes_nobody(sessions: Any) -> None:
    session = sessions(one=[("AAPL", "1m")])
    session.driver.run({"MSFT": minutes(1, 10)})
    assert session.strategy("one").calls == []
    assert session.manager.get_metrics()["total_notifications_processed"] == 0


def test_fifty_subscriptions_are_mapped_at_once(sessions: Any) -> None:
    session = sessions(wide=[(f"S{number}", "1m") for number in range(50)])
    began = perf_counter()
    session.manager._remap()
    assert perf_counter() - began < 0.1
    assert len(session.manager.get_all_subscriptions()) == 50
