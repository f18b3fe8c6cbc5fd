"""Who waits for whom, by mode: data-driven blocks, the others do not, and back-pressure shows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import pytest

from strategies.exceptions import StrategyError
from strategies.reactive import Signal, StrategyConfig
from tests.support.reactive import DEADLINE_S, Gateable, RecordingStrategy, StandingSystem, loads, wait_until
from tests.support.session_driver import Driver, minutes
from trading.market.dispatcher import StrategyDispatcher


class Rig:
    """Recording strategies in one mode."""

    def __init__(self, mode: str, **pairs: list[tuple[str, str]]) -> None:
        configs = [StrategyConfig(name, config={"pairs": wanted}) for name, wanted in pairs.items()]
        self.system = StandingSystem(
            configs,
            SimpleNamespace(value="live" if mode == "live" else "backtest"),
            60.0 if mode == "clock-driven" else 0.0,
        )
        self.manager = StrategyDispatcher(
            self.system, load=loads(**dict.fromkeys(pairs, RecordingStrategy)), queue_size=50
        )
        assert self.manager.initialize()
        assert self.manager.start_strategies()
        self.driver = Driver(self.manager, self.system.data, self.system.clock)
        self.gates: list[Gateable] = []

    def strategy(self, name: str) -> RecordingStrategy:
        found = next(one.strategy for one in self.manager._strategy_threads if one.strategy.name == name)
        assert isinstance(found, RecordingStrategy)
        return found

    def hold(self, name: str) -> Gateable:
        gate = Gateable()
        self.strategy(name).act = gate
        self.gates.append(gate)
        return gate

    def overruns(self, name: str) -> int:
        return int(
            next(one for one in self.manager.get_metrics()["strategies"] if one["strategy_name"] == name)["overruns"]
        )


@pytest.fixture
def rigs() -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(mode: str, **pairs: list[tuple[str, str]]) -> Rig:
        made.append(Rig(mode, **(pairs or {"one": [("AAPL", "1m")]})))
        return made[-1]

    yield make
    for rig in made:
        for gate in rig.gates:
            gate.let_go(1000)
        rig.manager.shutdown()


def begin(work: Callable[[], Any]) -> tuple[threading.Thread, threading.Event]:
    done = threading.Event()

    def run() -> None:
        work()
        done.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, done


def test_data_driven_blocking(rigs: Any) -> None:
    """The processor goes on only when the strategy is done with the bar."""
    rig = rigs("data-driven")
    gate = rig.hold("one")
    _, done = begin(lambda: rig.driver.run({"AAPL": minutes(1, 3)}))
    for number in range(1, 4):
        gate.wait_entered()
        assert len(rig.system.data.series["AAPL", "1m"]) == number, "no further bar before this one is done"
        assert not done.is_set()
        gate.let_go()
    assert done.wait(DEADLINE_S)
    assert rig.driver.waits == [True] * 3
    assert rig.overruns("one") == 0


def test_data_driven_waits_for_every_interval_of_the_bar(rigs: Any) -> None:
    rig = rigs("data-driven", one=[("AAPL", "1m"), ("AAPL", "5m"), ("AAPL", "15m")])
    gate = rig.hold("one")
    _, done = begin(lambda: rig.driver.tell([("AAPL", "1m"), ("AAPL", "5m"), ("AAPL", "15m")]))
    for _ in range(3):
        gate.wait_entered()
        assert not done.is_set(), "released before the last of the three"
        gate.let_go()
    assert done.wait(DEADLINE_S)
    assert len(rig.strategy("one").calls) == 3


def test_data_driven_slow_strategy_sets_the_pace_of_all(rigs: Any) -> None:
    rig = rigs("data-driven", slow=[("AAPL", "1m")], fast=[("AAPL", "1m")])
    gate = rig.hold("slow")
    _, done = begin(lambda: rig.driver.run({"AAPL": minutes(1, 2)}))
    gate.wait_entered()
    wait_until(lambda: len(rig.strategy("fast").calls) == 1)
    assert not done.wait(0.05)
    assert len(rig.strategy("fast").calls) == 1
    gate.let_go(2)
    assert done.wait(DEADLINE_S)
    assert len(rig.strategy("fast").calls) == 2


@pytest.mark.parametrize("mode", ["data-driven", "clock-driven", "live"])
def test_strategy_that_was_not_notified_is_waited_for_by_nobody(rigs: Any, mode: str) -> None:
    rig = rigs(mode, told=[("AAPL", "1m")], untold=[("TSLA", "1m")])
    _, done = begin(lambda: rig.driver.run({"AAPL": minutes(1, 20)}))
    assert done.wait(DEADLINE_S), "deadlocked on a strategy without work"
    assert rig.driver.waits == [True] * 20
    assert rig.strategy("untold").calls == []


@pytest.mark.parametrize("mode", ["clock-driven", "live"])
def test_clock_driven_timeout(rigs: Any, mode: str) -> None:
    """A slow strategy does not stop the clock; it is late, and that shows."""
    rig = rigs(mode)
    gate = rig.hold("one")
    rig.driver.wait_s = 0.01
    began = perf_counter()
    rig.driver.run({"AAPL": minutes(1, 5)})
    assert perf_counter() - began < 5.0
    assert rig.driver.waits == [False] * 5
    assert rig.overruns("one") == 5
    gate.let_go(5)
    wait_until(lambda: len(rig.strategy("one").calls) == 5, "late, and yet every bar")


def test_default_wait_is_a_tenth_of_a_second_for_all_together(rigs: Any) -> None:
    names = [f"s{number}" for number in range(8)]
    rig = rigs("clock-driven", **{name: [("AAPL", "1m")] for name in names})
    for name in names:
        rig.hold(name)
    began = perf_counter()
    assert not rig.driver.tell([("AAPL", "1m")])
    assert 0.09 <= perf_counter() - began < 0.7, "not a tenth of a second each"


def test_three_notifications_a_bar_are_no_overruns(rigs: Any) -> None:
    rig = rigs("clock-driven", one=[("AAPL", "1m"), ("AAPL", "5m"), ("AAPL", "15m")])
    rig.driver.wait_s = 5.0
    for _ in range(10):
        assert rig.driver.tell([("AAPL", "1m"), ("AAPL", "5m"), ("AAPL", "15m")])
    assert rig.overruns("one") == 0
    assert len(rig.strategy("one").calls) == 30


def test_late_ready_of_an_earlier_bar_does_not_release_the_next_one(rigs: Any) -> None:
    rig = rigs("clock-driven")
    gate = rig.hold("one")
    rig.driver.wait_s = 0.01
    assert not rig.driver.tell([("AAPL", "1m")])
    gate.let_go(1)  # the first bar is done only now
    gate.wait_entered()
    assert not rig.driver.tell([("AAPL", "1m")]), "the second one is not"
    gate.let_go(1)


def test_backpressure_detection(rigs: Any) -> None:
    """A strategy that cannot keep up shows in queue size and overruns, and in dropped bars once its queue is full."""
    rig = rigs("live", slow=[("AAPL", "1m")], fast=[("AAPL", "1m")])
    gate = rig.hold("slow")
    rig.driver.wait_s = 0.0
    for number in range(1, 61):
        rig.driver.tell([("AAPL", "1m")])
        if number == 1:
            gate.wait_entered()
        wait_until(lambda number=number: len(rig.strategy("fast").calls) == number)  # type: ignore[misc]
    slow, fast = rig.manager.get_metrics()["strategies"]
    assert slow["queue_size"] == 50
    assert slow["overruns"] >= 59
    assert slow["errors"] == 9, "60 less one in work and 50 that wait"
    assert (fast["queue_size"], fast["errors"]) == (0, 0)
    gate.let_go(60)


def test_dead_strategy_ends_a_data_driven_session_instead_of_hanging_it(rigs: Any) -> None:
    rig = rigs("data-driven")

    def act(symbol: str, interval: str) -> list[Signal]:
        raise SystemExit(1)

    rig.strategy("one").act = act
    rig.manager._strategy_threads[0].get_subscription()._look_every_s = 0.01
    rig.driver.tell([("AAPL", "1m")])  # ready also on this way out
    wait_until(lambda: not rig.manager._strategy_threads[0].is_alive())
    assert rig.manager.get_metrics()["active_strategies"] == 0


def test_strategy_that_dies_with_work_left_is_an_error(rigs: Any) -> None:
    rig = rigs("data-driven", one=[("AAPL", "1m"), ("AAPL", "5m")])

    def act(symbol: str, interval: str) -> list[Signal]:
        raise SystemExit(1)

    rig.strategy("one").act = act
    rig.manager._strategy_threads[0].get_subscription()._look_every_s = 0.01
    with pytest.raises(StrategyError, match="one: the thread died"):
        rig.driver.tell([("AAPL", "1m"), ("AAPL", "5m")])


def test_stop_ends_a_data_driven_wait(rigs: Any) -> None:
    rig = rigs("data-driven")
    gate = rig.hold("one")
    _, done = begin(lambda: rig.driver.tell([("AAPL", "1m")]))
    gate.wait_entered()
    rig.manager._strategy_threads[0].stop()
    assert done.wait(DEADLINE_S)
    assert rig.driver.waits == [False]


@pytest.mark.parametrize("mode", ["data-driven", "clock-driven", "live"])
def test_five_concurrent_strategies(rigs: Any, mode: str) -> None:
    names = [f"s{number}" for number in range(5)]
    rig = rigs(mode, **{name: [("AAPL", "1m"), ("AAPL", "5m")] for name in names})
    rig.driver.wait_s = 10.0
    rig.driver.run({"AAPL": minutes(1, 100)})
    assert rig.driver.waits == [True] * 100
    assert [len(rig.strategy(name).calls) for name in names] == [120] * 5
    assert rig.manager.get_metrics()["total_errors"] == 0
