"""Questions of one kind asked at once on one connection each get their own, whole answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from ib_async import LimitOrder, Stock

from tests.e2e.orders.conftest import Desk, until
from trading.brokers.live import LiveBroker
from trading.engine.broker_state import BrokerState
from trading.ib.capture import Capture
from trading.ib.connection import IBConnection

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio]


async def test_all_clients_orders_are_not_mistaken_for_those_of_the_master(
    desk: Desk, connect: Callable[..., IBConnection]
) -> None:
    ticket = await desk.broker.place_order(Stock("SPY", "SMART", "USD"), LimitOrder("BUY", 1, 1.0), owner="T")
    await until(lambda: ticket.state == "accepted", "the order works")
    master = connect(0)
    capture = Capture(master.ib, desk.engine.message_queue.put)
    await master.connect_once()
    broker = LiveBroker(master.ib, "Discretionary", engine=desk.engine)
    try:
        _, answers, again = await asyncio.gather(
            broker.refresh(), BrokerState(master, capture).orders(), BrokerState(master, capture).orders()
        )
        assert [trade.order_ref for trade in answers.open] == [ticket.order_ref]
        assert answers == again
    finally:
        broker.close()
        master.disconnect()
