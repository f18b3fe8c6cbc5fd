"""What a strategy finds when it is told: the bar itself, all bars of that instant, nothing of the future."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from strategies.bar_series import BarSeries
from strategies.reactive import StrategyConfig
from tests.support.reactive import MINUTE_NS, RecordingStrategy, StandingSystem, buy, loads
from tests.support.session_driver import Driver, minutes
from trading.market.dispatcher import StrategyDispatcher


class Rig:
    """One recording strategy on AAPL and GOOGL over a driven session."""

    def __init__(self) -> None:
        config = StrategyConfig("one", config={"pairs": [("AAPL", "1m"), ("AAPL", "5m"), ("GOOGL", "1m")]})
        self.system = StandingSystem([config])
        self.signals: list[str] = []
        self.manager = StrategyDispatcher(
            self.system,
            load=loads(one=RecordingStrategy),
            make_executor=lambda strategy, context: lambda symbol, interval, signals: self.signals.append(symbol),
        )
        assert self.manager.initialize()
        assert self.manager.start_strategies()
        self.driver = Driver(self.manager, self.system.data, self.system.clock)
        found = self.manager._strategy_threads[0].strategy
        assert isinstance(found, RecordingStrategy)
        self.strategy = found


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.manager.shutdown()


def context_of(strategy: RecordingStrategy) -> Any:
    assert strategy.context is not None
    return strategy.context


def test_bar_is_there_when_its_notification_comes(rig: Rig) -> None:
    seen: list[tuple[str, int]] = []

    def act(symbol: str, interval: str) -> list[Any]:
        seen.append((interval, len(context_of(rig.strategy).get_bars(symbol, interval))))
        return []

    rig.strategy.act = act
    rig.driver.run({"AAPL": minutes(1, 10)})
    assert [count for interval, count in seen if interval == "1m"] == list(range(1, 11))
    assert [count for interval, count in seen if interval == "5m"] == [1, 2]


def test_all_symbols_of_the_instant_are_there_before_anybody_is_told(rig: Rig) -> None:
    counts: list[tuple[int, int]] = []

    def act(symbol: str, interval: str) -> list[Any]:
        context = context_of(rig.strategy)
        counts.append((len(context.get_bars("AAPL", "1m")), len(context.get_bars("GOOGL", "1m"))))
        return []

    rig.strategy.act = act
    rig.driver.run({"AAPL": minutes(1, 10), "GOOGL": minutes(2, 10)})
    assert all(left == right for left, right in counts)


def test_nothing_of_the_future_is_visible(rig: Rig) -> None:
    late: list[bool] = []

    def act(symbol: str, interval: str) -> list[Any]:
        context = context_of(rig.strategy)
        last = context.get_bars(symbol, interval)[-1]
        length = MINUTE_NS * (5 if interval == "5m" else 1)
        late.append(last.start_ns + length > int(context.get_current_time().timestamp() * 1e9))
        return []

    rig.strategy.act = act
    rig.driver.run({"AAPL": minutes(1, 30)})
    assert len(late) == 36
    assert not any(late)


def test_bars_are_a_reference_that_grows_never_a_copy(rig: Rig) -> None:
    seen: set[int] = set()

    def act(symbol: str, interval: str) -> list[Any]:
        bars = context_of(rig.strategy).get_bars("AAPL", "1m")
        seen.add(id(bars))
        assert bars.close.base is not None, "a view into the columns"
        return []

    rig.strategy.act = act
    rig.driver.run({"AAPL": minutes(1, 50)})
    assert seen == {id(rig.system.data.series["AAPL", "1m"])}


def test_strategies_cannot_change_history_for_others(rig: Rig) -> None:
    rig.strategy.act = lambda symbol, interval: context_of(rig.strategy).get_bars(symbol, interval).close.fill(0.0)
    rig.driver.run({"AAPL": minutes(1, 5)})
    assert rig.manager.get_metrics()["total_errors"] == 6
    assert min(rig.system.data.series["AAPL", "1m"].close) > 0


def test_signals_come_in_the_order_of_the_bars(rig: Rig) -> None:
    rig.strategy.act = buy
    rig.driver.run({"AAPL": minutes(1, 5), "GOOGL": minutes(2, 5)})
    assert rig.signals == ["AAPL", "GOOGL"] * 4 + ["AAPL", "AAPL", "GOOGL"]


def test_error_at_one_bar_does_not_cost_the_next(rig: Rig) -> None:
    def act(symbol: str, interval: str) -> list[Any]:
        if len(rig.strategy.calls) == 3:
            raise ZeroDivisionError
        return buy(symbol, interval)

    rig.strategy.act = act
    rig.driver.run({"AAPL": minutes(1, 4)})
    metrics = rig.manager.get_metrics()
    assert (metrics["total_errors"], metrics["total_signals_generated"]) == (1, 3)


def test_series_can_be_read_while_it_grows() -> None:
    """A live writer appends on its own thread: readers see whole bars, whatever moment they look."""
    series, stop, torn = BarSeries("AAPL", "1m"), threading.Event(), list[str]()
    bars = minutes(3, 20_000)

    def read() -> None:
        while not stop.is_set():
            count = len(series)
            closes, opens = series.close[:count], series.open[:count]
            if count > 1 and not (opens[1:] == closes[:-1]).all():
                torn.append(f"at {count}")

    readers = [threading.Thread(target=read, daemon=True) for _ in range(2)]
    for reader in readers:
        reader.start()
    for bar in bars:
        series.append(bar)
    stop.set()
    for reader in readers:
        reader.join(10.0)
    assert torn == []
