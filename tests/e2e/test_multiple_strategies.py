"""Several strategies in one session: each for itself, also on the same symbol, five at a time."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from strategies.reactive import StrategyConfig
from tests.e2e.test_strategy_data_driven import crosses
from tests.support.next_open import Venue
from tests.support.reactive import RecordingStrategy, StandingSystem, loads
from tests.support.session_driver import Driver, minutes, system_of
from trading.market.dispatcher import StrategyDispatcher

pytestmark = pytest.mark.e2e

DAYS = {"AAPL": minutes(37), "GOOGL": minutes(25), "TSLA": minutes(13)}


def run(system: StandingSystem, **options: Any) -> tuple[Venue, dict[str, Any]]:
    venue = Venue(system.data)
    manager = StrategyDispatcher(system, make_executor=venue, **options)
    assert manager.initialize(), manager.failure
    assert manager.start_strategies(), manager.failure
    Driver(manager, system.data, system.clock).run(DAYS)
    manager.stop_strategies()
    for books in venue.books.values():
        for symbol in DAYS:
            books.settle(symbol)
    return venue, manager.get_metrics()


def test_two_strategies_different_symbols() -> None:
    """The seed's session of a cross on two symbols and an RSI on a third."""
    venue, metrics = run(system_of("test_multiple_strategies"))
    cross, rsi = metrics["strategies"]
    assert (cross["notifications_processed"], rsi["notifications_processed"]) == (2 * 78, 390)
    assert metrics["total_errors"] == 0
    assert {signal.symbol for signal in venue.signals["simple_ma_cross"]} <= {"AAPL", "GOOGL"}
    assert {signal.symbol for signal in venue.signals["rsi_strategy"]} == {"TSLA"}
    for symbol in ("AAPL", "GOOGL"):
        said = [signal.action.value for signal in venue.signals["simple_ma_cross"] if signal.symbol == symbol]
        assert said == [side for _, side in crosses(DAYS[symbol])]
    assert all(abs(quantity) == 10 for _, _, quantity, _ in venue.books["rsi_strategy"].fills)


def test_two_strategies_same_symbol() -> None:
    """Each has its own signals, position and cash; neither sees the other's."""
    cross = {"symbols": ["AAPL"], "interval": "5m"}
    system = StandingSystem(
        [
            StrategyConfig("strategies.examples.simple_ma_cross", config={**cross, "quantity": 7}),
            StrategyConfig("strategies.examples.rsi_strategy", config={**cross, "interval": "1m", "quantity": 3}),
        ]
    )
    venue, metrics = run(system)
    assert metrics["total_errors"] == 0
    first, second = venue.books["simple_ma_cross"], venue.books["rsi_strategy"]
    assert {abs(quantity) for _, _, quantity, _ in first.fills} == {Decimal(7)}
    assert {abs(quantity) for _, _, quantity, _ in second.fills} == {Decimal(3)}
    for books in (first, second):
        flows = sum((-quantity * price for _, _, quantity, price in books.fills), Decimal(0))
        assert books.cash == 100_000 + flows
        assert books.held.get("AAPL", 0) == sum(quantity for _, _, quantity, _ in books.fills)
    alone = StandingSystem(system.strategies[:1])
    assert run(alone)[0].books["simple_ma_cross"].fills == first.fills, "the other one changed nothing"


def test_five_concurrent_strategies() -> None:
    """Five threads over a day of three symbols: every one hears every bar, and the result is the same each time."""
    names = [f"s{number}" for number in range(5)]
    pairs = [(symbol, interval) for symbol in DAYS for interval in ("1m", "5m")]

    def once() -> dict[str, list[tuple[str, str]]]:
        system = StandingSystem([StrategyConfig(name, config={"pairs": pairs}) for name in names])
        manager = StrategyDispatcher(system, load=loads(**dict.fromkeys(names, RecordingStrategy)))
        assert manager.initialize()
        assert manager.start_strategies()
        Driver(manager, system.data, system.clock).run(DAYS)
        metrics = manager.get_metrics()
        assert (metrics["active_strategies"], metrics["total_errors"]) == (5, 0)
        assert metrics["total_notifications_processed"] == 5 * 3 * (390 + 78)
        manager.shutdown()
        found = {thread.name: thread for thread in manager._strategy_threads}
        assert found == {}, "nothing is left after the shutdown"
        return calls

    calls: dict[str, list[tuple[str, str]]] = {}
    original = RecordingStrategy.teardown

    def keep(self: RecordingStrategy, context: Any) -> None:
        calls[self.name] = list(self.calls)
        original(self, context)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RecordingStrategy, "teardown", keep)
        first = dict(once())
        second = dict(once())
    assert set(first) == set(names)
    assert first == second
    assert all(heard == first["s0"] for heard in first.values())
