"""Clock-driven sessions: the clock does not wait, and who is late shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from strategies.reactive import StrategyConfig
from tests.support.reactive import Gateable, RecordingStrategy, StandingSystem, loads, wait_until
from tests.support.session_driver import Driver, minutes, system_of
from trading.market.dispatcher import StrategyDispatcher

pytestmark = pytest.mark.e2e


class Session:
    """Recording strategies in a clock-driven session."""

    def __init__(self, *names: str, queue_size: int = 1000) -> None:
        configs = [StrategyConfig(name, config={"pairs": [("AAPL", "1m")]}) for name in names]
        self.system = StandingSystem(configs, speed=60.0)
        self.manager = StrategyDispatcher(
            self.system, load=loads(**dict.fromkeys(names, RecordingStrategy)), queue_size=queue_size
        )
        assert self.manager.initialize()
        assert self.manager.start_strategies()
        self.driver = Driver(self.manager, self.system.data, self.system.clock)

    def strategy(self, name: str) -> RecordingStrategy:
        found = next(thread.strategy for thread in self.manager._strategy_threads if thread.strategy.name == name)
        assert isinstance(found, RecordingStrategy)
        return found

    def metrics(self, name: str) -> dict[str, Any]:
        each = self.manager.get_metrics()["strategies"]
        return next(one for one in each if one["strategy_name"] == name)


@pytest.fixture
def sessions() -> Iterator[Any]:
    made: list[Session] = []

    def make(*names: str, **options: Any) -> Session:
        made.append(Session(*names, **options))
        return made[-1]

    yield make
    for session in made:
        session.manager.shutdown()


def test_clock_driven_with_fast_strategy() -> None:
    """The seed's own session at speed 60: every bar in time, no overruns."""
    system = system_of("test_single_strategy", speed=60.0)
    manager = StrategyDispatcher(system)
    assert manager.initialize()
    assert manager._strategy_threads[0].mode == "clock-driven"
    assert manager.start_strategies()
    driver = Driver(manager, system.data, system.clock, wait_s=10.0)
    driver.run({"AAPL": minutes(11)})
    [metrics] = manager.get_metrics()["strategies"]
    manager.shutdown()
    assert driver.waits == [True] * 390
    assert (metrics["notifications_processed"], metrics["overruns"], metrics["errors"]) == (78, 0, 0)


def test_clock_driven_with_slow_strategy(sessions: Any) -> None:
    """The clock goes on without it; its overruns are counted, and it still gets every bar."""
    session = sessions("slow", "fast")
    gate = Gateable()
    session.strategy("slow").act = gate
    session.driver.wait_s = 0.005
    session.driver.run({"AAPL": minutes(1, 20)})
    assert session.driver.waits == [False] * 20
    assert session.metrics("slow")["overruns"] == 20
    wait_until(lambda: len(session.strategy("fast").calls) == 20)
    gate.let_go(20)
    wait_until(lambda: len(session.strategy("slow").calls) == 20, "no bar is lost")
    assert session.driver.tell([]), "and it has caught up"


def test_clock_driven_backpressure_metrics(sessions: Any) -> None:
    """Queue size, overruns and dropped bars tell who cannot keep up, and of nobody else."""
    session = sessions("slow", "fast", queue_size=10)
    gate = Gateable()
    session.strategy("slow").act = gate
    session.driver.wait_s = 0.0
    for number, bar in enumerate(minutes(1, 15), start=1):
        session.driver.turn({"AAPL": bar})
        if number == 1:
            gate.wait_entered()
        wait_until(lambda number=number: len(session.strategy("fast").calls) == number)  # type: ignore[misc]
    slow, fast = session.metrics("slow"), session.metrics("fast")
    assert (slow["queue_size"], slow["errors"], slow["overruns"]) == (10, 4, 15)
    assert (fast["queue_size"], fast["errors"]) == (0, 0)
    aggregate = session.manager.get_metrics()
    assert aggregate["total_errors"] == 4
    gate.let_go(15)
    wait_until(lambda: session.metrics("slow")["queue_size"] == 0)
