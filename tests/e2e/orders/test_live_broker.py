"""Orders of one strategy over a real connection: on record before the wire, followed by our own states."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from ib_async import Contract, LimitOrder, MarketOrder, Stock

from strategies.exceptions import OrderDeniedError, OrderRefusedError
from tests.e2e.orders.conftest import DEADLINE_S, Desk, until
from tests.unit.orders.evidence import draft
from trading.engine import gate as gates
from trading.gateway.testing import RunningGateway
from trading.models import Order
from trading.orders.db_threads import in_db_thread
from trading.orders.state import OrderState

pytestmark = [pytest.mark.e2e]


def apple() -> Contract:
    return Stock("AAPL", "SMART", "USD")


async def rows() -> dict[str, Order]:
    return {row.order_ref: row for row in await in_db_thread(lambda: list(Order.objects.order_by("id")))}


async def test_market_order_fills_and_every_message_reaches_the_ledger(desk: Desk, gateway: RunningGateway) -> None:
    ticket = await desk.broker.place_order(apple(), MarketOrder("BUY", 100), owner="T")
    assert (await rows())[ticket.order_ref].state == "intent"
    assert await ticket.wait_done(DEADLINE_S)
    assert (ticket.state, ticket.filled) == (OrderState.FILLED, Decimal(100))
    fills = desk.heard.of_type("fill")
    await until(lambda: len(desk.heard.of_type("commission")) == len(fills), "every fill has its commission")
    assert {message["fill"].order_ref for message in fills} == {ticket.order_ref}
    assert gateway.call(lambda: gateway.venue.received_order_refs[ticket.order_ref]) == 1


async def test_working_order_is_modified_and_cancelled(desk: Desk) -> None:
    ticket = await desk.broker.place_order(apple(), LimitOrder("BUY", 10, 1.0), owner="T")
    await until(lambda: ticket.state is OrderState.ACCEPTED, "accepted")
    await desk.broker.modify_order(ticket.order_ref, quantity=Decimal(7), limit=Decimal("1.5"))
    await until(lambda: ticket.progress.quantity == 7, "IB took the change")
    assert ticket.trade.order.lmtPrice == 1.5
    await desk.broker.cancel_order(ticket.order_ref)
    assert await ticket.wait_done(DEADLINE_S)
    assert ticket.state is OrderState.CANCELLED
    with pytest.raises(OrderRefusedError) as caught:
        await desk.broker.cancel_order(ticket.order_ref)
    assert caught.value.code == "order_done"


async def test_shut_gate_denies_and_leaves_a_record(desk: Desk) -> None:
    desk.engine.gate.shut(gates.NOT_RECONCILED)
    with pytest.raises(OrderDeniedError) as caught:
        await desk.broker.place_order(apple(), MarketOrder("BUY", 1), owner="T")
    assert caught.value.code == "not_reconciled"
    [row] = (await rows()).values()
    assert row.state == "denied"
    assert row.reason.startswith("not_reconciled")


async def test_locked_instrument_takes_no_orders(desk: Desk) -> None:
    desk.engine.gate.lock_instruments([265598])
    with pytest.raises(OrderDeniedError) as caught:
        await desk.broker.place_order(apple(), MarketOrder("BUY", 1), owner="T")
    assert caught.value.code == "instrument_locked"


async def test_failed_check_is_never_sent(desk: Desk, gateway: RunningGateway) -> None:
    before = gateway.call(lambda: sum(gateway.venue.received_order_refs.values()))
    with pytest.raises(OrderDeniedError) as caught:
        await desk.broker.place_order(apple(), MarketOrder("BUY", 0), owner="T")
    assert caught.value.code == "size_zero"
    assert gateway.call(lambda: sum(gateway.venue.received_order_refs.values())) == before


async def test_unknown_contract_is_denied(desk: Desk) -> None:
    with pytest.raises(OrderDeniedError) as caught:
        await desk.broker.place_order(Stock("NOPE123", "SMART", "USD"), MarketOrder("BUY", 1), owner="T")
    assert caught.value.code == "unknown_contract"


async def test_price_off_the_tick_is_rejected_by_ib(desk: Desk) -> None:
    ticket = await desk.broker.place_order(apple(), LimitOrder("BUY", 10, 1.00001), owner="T")
    assert await ticket.wait_done(DEADLINE_S)
    assert (ticket.state, ticket.reason[:3]) == (OrderState.REJECTED, "110")
    assert ticket.trade.isDone()


async def test_disconnected_broker_denies(desk: Desk) -> None:
    ticket = await desk.broker.place_order(apple(), MarketOrder("BUY", 1), owner="T")  # fills the contract cache
    await ticket.wait_done(DEADLINE_S)
    desk.connection.disconnect()
    with pytest.raises(OrderDeniedError) as caught:
        await desk.broker.place_order(apple(), MarketOrder("BUY", 1), owner="T")
    assert caught.value.code == "not_connected"


async def _cut(desk: Desk) -> None:
    transport = desk.connection.ib.client.conn.transport
    assert transport is not None
    transport.abort()
    await until(lambda: not desk.connection.connected, "the loss was noticed")


async def test_cancel_while_the_strategy_was_away_reaches_its_ticket(desk: Desk, gateway: RunningGateway) -> None:
    """Statuses of an outage are not replayed by IB; the broker asks after the reconnect."""
    ticket = await desk.broker.place_order(apple(), LimitOrder("BUY", 10, 1.0), owner="T")
    await until(lambda: ticket.state is OrderState.ACCEPTED, "accepted")
    order_id = ticket.order.orderId
    await _cut(desk)
    events = gateway.call(lambda: gateway.venue.cancel(7, order_id, datetime.now(UTC)))
    assert events
    await desk.connection.connect_once()
    assert await ticket.wait_done(DEADLINE_S)
    assert ticket.state is OrderState.CANCELLED


async def test_fills_while_the_strategy_was_away_reach_its_ticket(desk: Desk, gateway: RunningGateway) -> None:
    ticket = await desk.broker.place_order(apple(), LimitOrder("BUY", 10, 1.0), owner="T")
    await until(lambda: ticket.state is OrderState.ACCEPTED, "accepted")
    await desk.broker.modify_order(ticket.order_ref, limit=Decimal(100_000))
    await _cut(desk)
    await desk.connection.connect_once()
    assert await ticket.wait_done(DEADLINE_S)
    assert (ticket.state, ticket.filled) == (OrderState.FILLED, Decimal(10))


async def test_caller_cancelled_while_committing_leaves_no_open_intent(desk: Desk, gateway: RunningGateway) -> None:
    first = await desk.broker.place_order(apple(), MarketOrder("BUY", 1), owner="T")
    await first.wait_done(DEADLINE_S)
    placing = asyncio.create_task(desk.broker.place_order(apple(), MarketOrder("BUY", 2), owner="T"))
    await asyncio.sleep(0)  # let it hand the intent to the database thread
    placing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await placing
    async with asyncio.timeout(DEADLINE_S):
        while [row.state for row in (await rows()).values() if row.quantity == 2] not in ([], ["denied"]):
            await asyncio.sleep(0.01)
    assert gateway.call(lambda: len(gateway.venue.received_order_refs)) > 0
    refs = [ref for ref, row in (await rows()).items() if row.quantity == 2]
    assert gateway.call(lambda: [ref for ref in refs if gateway.venue.received_order_refs[ref]]) == []


async def test_orders_of_another_client_are_refused_clearly(desk: Desk) -> None:
    ref = await in_db_thread(lambda: desk.engine.intents.commit(draft()))
    await in_db_thread(desk.engine.intents.mark_sent, ref, 55, 3)
    with pytest.raises(OrderRefusedError) as caught:
        await desk.broker.cancel_order(ref)
    assert (caught.value.code, caught.value.fields["client_id"]) == ("foreign_client", 55)


async def test_burst_of_partial_fills_is_taken_in_completely(desk: Desk, gateway: RunningGateway) -> None:
    burst = gateway.call(lambda: gateway.venue.inject_fills(265598, 500, "T/burst", 7))
    gateway.call(lambda: gateway.server.publish(burst))
    await until(lambda: len(desk.heard.of_type("fill")) == 500, "500 fills")
    await until(lambda: len(desk.heard.of_type("commission")) == 500, "500 commissions")
    assert len({message["fill"].exec_id for message in desk.heard.of_type("fill")}) == 500


async def test_change_while_the_line_is_down_is_refused_and_leaves_one_order(
    desk: Desk, gateway: RunningGateway
) -> None:
    ticket = await desk.broker.place_order(apple(), LimitOrder("BUY", 5, 1.0), owner="T")
    await until(lambda: ticket.state is OrderState.ACCEPTED, "accepted")
    await _cut(desk)
    with pytest.raises(OrderRefusedError) as caught:
        await desk.broker.modify_order(ticket.order_ref, quantity=Decimal(7))
    assert caught.value.code == "not_connected"
    await desk.connection.connect_once()
    await until(lambda: ticket.trade.orderStatus.status in ("PreSubmitted", "Submitted"), "told anew")
    assert gateway.call(lambda: gateway.venue.received_order_refs[ticket.order_ref]) == 1
    assert ticket.progress.quantity == 5


async def test_change_that_ib_refuses_leaves_the_order_as_it_was(desk: Desk) -> None:
    ticket = await desk.broker.place_order(apple(), LimitOrder("BUY", 5, 1.0), owner="T")
    await until(lambda: ticket.state is OrderState.ACCEPTED, "accepted")
    before = ticket.trade.order.lmtPrice
    heard = len(desk.heard.of_type("status_change"))
    await desk.broker.modify_order(ticket.order_ref, limit=Decimal("1.00001"))
    await until(lambda: ticket.reason.startswith("110"), "IB refused it")
    assert len(desk.heard.of_type("status_change")) > heard
    assert (ticket.state, ticket.progress.quantity) == (OrderState.ACCEPTED, Decimal(5))
    assert ticket.trade.order.lmtPrice == before
