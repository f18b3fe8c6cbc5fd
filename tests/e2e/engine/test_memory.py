"""What an engine keeps does not grow with the fills of a day."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from typing import Any

import pytest
from ib_async import Execution as IbExecution
from ib_async import Fill, Trade
from ib_async.objects import CommissionReport, TradeLogEntry

from portfolio.books import Booked, Line
from portfolio.facts import CommissionFact, ExecutionFact
from portfolio.models import Execution
from strategies.events import CommissionSnapshot, FillSnapshot, StatusSnapshot, TradeSnapshot
from tests.e2e.engine.harness import DISCRETIONARY, Rig, position, until
from trading.engine.broker_state import BrokerState
from trading.engine.events import Event
from trading.engine.handlers import Folding
from trading.engine.message_queue import Job, Slot
from trading.ib import memory
from trading.models import Order
from trading.orders.refs import new_ref

pytestmark = pytest.mark.e2e

OF_ONE_FILL = (
    *(IbExecution, Fill, Trade, CommissionReport, TradeLogEntry),
    *(FillSnapshot, CommissionSnapshot, TradeSnapshot, StatusSnapshot, Slot),
    *(Booked, Line, ExecutionFact, CommissionFact, Event, Order),
)
ORDERS, FILLS = 60, 5  # of one round
SPARE = 60  # objects of a kind; a kind of which one stayed by fill or by order would stand 900 or 180 higher


def kept() -> Counter[str]:
    """Count the engine's objects that are made for a fill or an order, unreachable ones included."""
    return Counter(type(one).__name__ for one in gc.get_objects() if isinstance(one, OF_ONE_FILL))


def test_objects_made_for_fills_do_not_pile_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_STEP", 10)
    monkeypatch.setattr(memory.Forgetting.__init__, "__kwdefaults__", {"trades": 20, "fills": 40, "log": 5})
    rig.strategy("ALPHA")
    engine = rig.engine()
    client_id = rig.start(engine, "ALPHA").client_id

    def round_of_fills(number: int) -> None:
        for _ in range(ORDERS):
            rig.inject("SPY", FILLS, new_ref("ALPHA"), client_id)
        until(lambda: Execution.objects.filter(commission__isnull=False).count() == number * ORDERS * FILLS, 60.0)
        until(lambda: not len(engine.message_queue))

    gc.disable()  # what only the collector frees, a day's fills pile up
    try:
        round_of_fills(1)
        first = kept()
        for number in (2, 3, 4):
            round_of_fills(number)
        until(lambda: all(count <= first[name] + SPARE for name, count in kept().items()), 30.0, "objects pile up")
    finally:
        gc.enable()


def test_a_restart_books_the_days_executions_as_they_come(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.engine().cleanup(1.0)
    rig.inject("SPY", 30)
    held: list[Slot] = []
    booked: list[ExecutionFact] = []
    ask, fold = BrokerState.replay, Folding._fold_money

    async def replay(self: BrokerState, since: Any = None) -> int:
        count = await ask(self, since)
        while not held and not booked:  # the answer does not end before something was done with it
            await asyncio.sleep(0.01)
        return count

    def fold_money(self: Folding, *args: Any) -> Any:
        found = fold(self, *args)
        booked.extend(found[0].new_executions)
        return found

    monkeypatch.setattr(BrokerState, "replay", replay)
    monkeypatch.setattr(Folding, "_fold_money", fold_money)

    def hold(self: Folding, slots: list[Slot]) -> None:  # a commission may come before the replay begins
        held.extend(
            slot for slot in slots if not isinstance(slot.item, Job) and slot.item and slot.item["type"] == "fill"
        )

    monkeypatch.setattr(Folding, "_hold", hold)
    rig.engine()
    until(lambda: position(DISCRETIONARY, "SPY") == 30 or held)
    assert not held
