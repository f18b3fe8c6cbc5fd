"""A strategy decides on its own books, as they are after everything it has heard."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal
from typing import Any

import pytest
from ib_async import Order as IbOrder
from ib_async import Stock

from portfolio.models import CashBalance
from tests.e2e.engine.harness import Rig, position, run_state, until
from trading.engine.message_queue import Job
from trading.services import enqueue

pytestmark = pytest.mark.e2e

LISTENER = """
from strategies.base import BaseStrategy

class ListeningStrategy(BaseStrategy):
    async def initialize_strategy(self):
        self.fills, self.statuses = [], []
    async def run_strategy(self):
        await self.until_stopped()
    def on_fill(self, trade, fill):
        self.fills.append(fill.execution.orderRef)
    def on_status_change(self, trade, status):
        self.statuses.append(trade.order.orderRef)
"""


def waits(engine: Any, name: str) -> bool:
    """Tell whether a job of that name is in the queue."""
    return any(isinstance(slot.item, Job) and slot.item.name == name for slot in list(engine.message_queue._slots))


def test_flatten_counts_a_fill_that_the_ledger_has_not_booked_yet(rig: Rig) -> None:
    rig.strategy("ALPHA", weight="0.5")
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    rig.trade(alpha, "SPY", 20)
    until(lambda: position("ALPHA", "SPY") == 20)
    exit_order = rig.place(alpha, "SPY", -20, limit=100_000.0)
    until(lambda: exit_order.state == "accepted")
    busy = threading.Event()
    engine.message_queue.submit(lambda: busy.wait(20.0), "busy")
    try:
        rig.on_loop(alpha, alpha.broker.modify_order(exit_order.order_ref, limit=Decimal(1)))
        assert rig.on_loop(alpha, exit_order.wait_done(10.0))
        assert position("ALPHA", "SPY") == 20  # the ledger lags behind what the strategy heard
        closing = asyncio.run_coroutine_threadsafe(alpha.flatten(), alpha._loop)
        until(lambda: waits(engine, "caught_up"), 5.0, "flatten waits for the ledger")
    finally:
        busy.set()
    assert closing.result(15.0) == []
    rig.assert_books_equal_broker()
    assert position("ALPHA", "SPY") == 0


def test_strategy_added_while_the_engine_runs_has_its_cash_before_its_first_order(rig: Rig) -> None:
    engine = rig.engine()
    rig.strategy("LATE", weight="0.25")
    late = rig.start(engine, "LATE")
    rig.trade(late, "SPY", 10)
    until(lambda: position("LATE", "SPY") == 10)
    balance = CashBalance.objects.get(owner="LATE", currency="USD")
    assert balance.amount > 200_000
    rig.assert_books_equal_broker()


def test_hooks_hear_nothing_of_orders_that_another_strategy_left_under_the_client_id(rig: Rig) -> None:
    rig.strategy("ALPHA")
    rig.strategy("BETA", LISTENER)
    engine = rig.engine()
    left = rig.place(rig.start(engine, "ALPHA"), "SPY", 1, limit=1.0)
    enqueue("stop_strategy", {"symbol": "ALPHA"}, source="test")
    until(lambda: run_state("ALPHA") == "stopped")
    beta = rig.start(engine, "BETA")
    assert beta.client_id == 1
    rig.inject("SPY", 3, order_ref=left.order_ref, client_id=1)
    until(lambda: position("ALPHA", "SPY") == 3)
    own = rig.trade(beta, "SPY", 1)
    until(lambda: own.order_ref in beta.fills and own.order_ref in beta.statuses)
    assert set(beta.fills) == {own.order_ref}
    assert set(beta.statuses) == {own.order_ref}


def test_order_object_used_twice_makes_two_orders_that_are_cancelled_each_by_itself(rig: Rig) -> None:
    rig.strategy("ALPHA", weight="0.5")
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    order = IbOrder(action="BUY", totalQuantity=1, orderType="LMT", lmtPrice=1.0, tif="DAY")
    contract = Stock("SPY", "SMART", "USD")

    async def _send_both() -> list[Any]:
        first = await alpha.broker.place_order(contract, order, owner="ALPHA")
        order.totalQuantity = 2
        return [first, await alpha.broker.place_order(contract, order, owner="ALPHA")]

    first, second = rig.on_loop(alpha, _send_both())
    until(lambda: (first.state, second.state) == ("accepted", "accepted"))
    rig.on_loop(alpha, alpha.broker.cancel_order(first.order_ref))
    assert rig.on_loop(alpha, first.wait_done(10.0))
    assert (first.state, second.state) == ("cancelled", "accepted")
