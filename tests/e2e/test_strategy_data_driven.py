"""Data-driven sessions from bars to fills: every bar, the right signals, the same result each time."""

from __future__ import annotations

import threading
from decimal import Decimal

import pytest

from strategies.bar_series import Bar
from tests.support.next_open import Venue
from tests.support.reactive import DEADLINE_S, Gateable, RecordingStrategy, StandingSystem, loads
from tests.support.session_driver import Driver, minutes, system_of
from trading.market.dispatcher import StrategyDispatcher

pytestmark = pytest.mark.e2e


def session(seed: int) -> tuple[Venue, StrategyDispatcher, Driver]:
    """Run the single-strategy session over a seeded day."""
    system = system_of("test_single_strategy")
    venue = Venue(system.data)
    manager = StrategyDispatcher(system, make_executor=venue)
    assert manager.initialize(), manager.failure
    assert manager.start_strategies(), manager.failure
    driver = Driver(manager, system.data, system.clock)
    driver.run({"AAPL": minutes(seed)})
    venue.books["simple_ma_cross"].settle("AAPL")
    manager.stop_strategies()
    return venue, manager, driver


def crosses(bars: list[Bar], fast: int = 10, slow: int = 20) -> list[tuple[int, str]]:
    """Say in plain Python at which five-minute bar which side crosses: (number of bars seen, side)."""
    closes = [bars[end - 1].close for end in range(5, len(bars) + 1, 5)]
    found: list[tuple[int, str]] = []
    for seen in range(slow + 1, len(closes) + 1):
        now = sum(closes[seen - fast : seen]) / fast - sum(closes[seen - slow : seen]) / slow
        before = sum(closes[seen - 1 - fast : seen - 1]) / fast - sum(closes[seen - 1 - slow : seen - 1]) / slow
        side = "BUY" if before <= 0 < now else "SELL" if before >= 0 > now else ""
        if side and (not found or found[-1][1] != side):
            found.append((seen, side))
    return found


@pytest.mark.parametrize("seed", [24, 25, 37])
def test_data_driven_with_single_strategy(seed: int) -> None:
    """Every bar, the signals that the averages say, nothing lost, the same each time."""
    venue, manager, driver = session(seed)
    [metrics] = manager.get_metrics()["strategies"]
    assert metrics["notifications_processed"] == 78
    assert (metrics["errors"], metrics["overruns"]) == (0, 0)
    assert driver.waits == [True] * 390
    expected = crosses(minutes(seed))
    assert [signal.action.value for signal in venue.signals["simple_ma_cross"]] == [side for _, side in expected]
    assert expected, "the seed's day has a cross"
    again, _, _ = session(seed)
    books, others = venue.books["simple_ma_cross"], again.books["simple_ma_cross"]
    assert books.fills == others.fills
    assert books.cash == others.cash


def test_data_driven_with_slow_strategy() -> None:
    """The slowest strategy sets the pace, and no bar is lost over it."""
    from strategies.reactive import StrategyConfig

    system = StandingSystem([StrategyConfig("slow", config={"pairs": [("AAPL", "1m")]})])
    manager = StrategyDispatcher(system, load=loads(slow=RecordingStrategy))
    assert manager.initialize()
    assert manager.start_strategies()
    strategy, gate = manager._strategy_threads[0].strategy, Gateable()
    assert isinstance(strategy, RecordingStrategy)
    strategy.act = gate
    driver = Driver(manager, system.data, system.clock)
    feeder = threading.Thread(target=driver.run, args=({"AAPL": minutes(1, 25)},), daemon=True)
    feeder.start()
    for number in range(1, 26):
        gate.wait_entered()
        assert len(system.data.series["AAPL", "1m"]) == number
        gate.let_go()
    feeder.join(DEADLINE_S)
    assert not feeder.is_alive()
    assert len(strategy.calls) == 25
    manager.shutdown()


def test_data_driven_signal_generation() -> None:
    """From bar to signal to order to fill: sized by equity, filled at the next minute's open, to the cent."""
    venue, _, _ = session(37)
    bars, books = minutes(37), venue.books["simple_ma_cross"]
    cash, held, expected = Decimal(100_000), Decimal(0), []
    for seen, side in crosses(bars):
        if seen * 5 >= len(bars) or (side == "SELL" and not held):
            continue  # nothing to sell, or no bar after the last one to fill at
        price = Decimal(str(bars[seen * 5].open))
        close = Decimal(str(bars[seen * 5 - 1].close))
        quantity = -held if side == "SELL" else (cash * Decimal("0.1") / close).to_integral_value("ROUND_FLOOR")
        cash, held = cash - quantity * price, held + quantity
        expected.append(("AAPL", bars[seen * 5].start_ns, quantity, price))
    assert books.fills == expected
    assert books.cash == cash
    assert len(expected) >= 4
    figures = venue.executors["simple_ma_cross"].figures.as_dict()
    assert figures["received"] == figures["traded"] + figures["refused"]
