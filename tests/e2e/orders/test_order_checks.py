"""What stands between a wish and the wire, with a risk desk of the test's own: legs, changes, families, haste."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from ib_async import LimitOrder, MarketOrder, Order, Stock

from strategies.combos import combination
from strategies.exceptions import OrderDeniedError
from tests.e2e.orders.conftest import Desk, until
from trading.brokers.preview import preview
from trading.gateway.testing import RunningGateway
from trading.models import Order as OrderRow
from trading.orders import facts as shapes
from trading.orders import queries
from trading.orders.db_threads import in_db_thread
from trading.orders.drafts import OrderDraft
from trading.orders.limits import Limit
from trading.orders.state import OrderState
from trading.orders.trading_state import TradingState

pytestmark = [pytest.mark.e2e]

AAPL_ID, SPY_ID = 265598, 756733


class Risk:
    """A desk whose limits the test sets; what works is read from the books, slowly when asked."""

    def __init__(self) -> None:
        self.limits: dict[str, int] = {}
        self.held: dict[int, int] = {}
        self.standing = shapes.Standing()
        self.turns = 0
        self.slow_s = 0.0
        self.asked: list[OrderDraft] = []

    async def prepare(self, ib: Any, contract: Any) -> None:
        """Nothing needs a price."""

    def facts(self, draft: OrderDraft, params: Any) -> shapes.RiskFacts:
        """Return what the checks may ask."""
        now = datetime.now(UTC)
        self.asked.append(draft)
        desk = shapes.Desk(
            limit=lambda name: Limit(name, Decimal(self.limits[name]), "account") if name in self.limits else None,
            now=now,
            standing=self.standing,
            quote=shapes.Quote(Decimal(200), 1.0),
            unit_value=lambda con_id, price: Decimal(200),
            take_turn=self._take_turn,
        )
        return shapes.RiskFacts(
            read_orders_today=lambda: 0,
            read_realized_today=lambda: Decimal(0),
            read_equity=lambda: Decimal(1_000_000),
            read_position=lambda: Decimal(self.held.get(draft.contract.con_id, 0)),
            read_open_orders=lambda: self._open_orders(now),
            desk=desk,
        )

    def _take_turn(self, minute: Limit | None, second: Limit | None) -> None:
        self.turns += 1

    def _open_orders(self, now: datetime) -> list[shapes.OpenOrder]:
        found = queries.open_orders(now)
        time.sleep(self.slow_s)
        return found


@pytest.fixture
def risk(desk: Desk) -> Risk:
    """The desk's checks."""
    made = Risk()
    desk.engine.risk = made  # type: ignore[assignment]  # the engine's side as the broker uses it
    return made


def stock(symbol: str) -> Stock:
    return Stock(symbol, "SMART", "USD")


async def pair(desk: Desk) -> Any:
    """SPY against two AAPL."""
    spy, aapl = await desk.broker.qualify_all([stock("SPY"), stock("AAPL")])
    return combination([(spy, 1), (aapl, -2)])


def sent(gateway: RunningGateway) -> int:
    return gateway.call(lambda: sum(gateway.venue.received_order_refs.values()))


async def resting(desk: Desk, quantity: int = 10, action: str = "BUY", price: float = 1.0) -> Any:
    ticket = await desk.broker.place_order(stock("AAPL"), LimitOrder(action, quantity, price), owner="T")
    await until(lambda: ticket.state is OrderState.ACCEPTED, "accepted")
    return ticket


async def test_combination_is_checked_by_what_it_does_in_each_leg(
    desk: Desk, risk: Risk, gateway: RunningGateway
) -> None:
    whole, before = await pair(desk), sent(gateway)
    risk.limits["order_quantity"] = 15
    with pytest.raises(OrderDeniedError) as caught:
        await desk.broker.place_order(whole, MarketOrder("BUY", 8), owner="T")
    assert (caught.value.code, sent(gateway)) == ("order_quantity", before)
    legs = [(draft.contract.con_id, draft.side, draft.quantity) for draft in risk.asked[1:]]
    assert legs == [(SPY_ID, "BUY", Decimal(8)), (AAPL_ID, "SELL", Decimal(16))]
    assert (await in_db_thread(lambda: OrderRow.objects.get())).state == "denied"
    risk.held = {AAPL_ID: 16}  # the same sale only reduces now
    ticket = await desk.broker.place_order(whole, MarketOrder("BUY", 8), owner="T")
    assert await ticket.wait_done(10.0)


async def test_preview_of_a_combination_says_what_stands_against_it_and_counts_for_no_rate(
    desk: Desk, risk: Risk, gateway: RunningGateway
) -> None:
    whole, before = await pair(desk), sent(gateway)
    found = await preview(desk.broker, whole, MarketOrder("BUY", 8), "T")
    assert (found["denied"], found["what_if"]["known"]) == (None, True)
    assert (await preview(desk.broker, stock("SPY"), MarketOrder("BUY", 1), "T"))["denied"] is None
    desk.engine.gate.lock_instruments([AAPL_ID])
    found = await preview(desk.broker, whole, MarketOrder("BUY", 8), "T")
    assert found["denied"]["code"] == "instrument_locked"
    assert (risk.turns, sent(gateway)) == (0, before)


async def test_preview_of_what_ib_refuses_knows_no_margin(desk: Desk, risk: Risk) -> None:
    found = await preview(desk.broker, stock("AAPL"), LimitOrder("BUY", 1, 1.00001), "T")
    assert found["what_if"]["known"] is False
    assert found["what_if"]["message"]


async def test_change_beyond_a_limit_is_refused_and_leaves_the_order_as_it_was(desk: Desk, risk: Risk) -> None:
    ticket = await resting(desk)
    risk.limits["order_quantity"] = 15
    with pytest.raises(OrderDeniedError) as caught:
        await desk.broker.modify_order(ticket.order_ref, quantity=Decimal(16))
    assert caught.value.code == "order_quantity"
    assert (ticket.trade.order.totalQuantity, ticket.progress.quantity) == (10, 10)
    await desk.broker.modify_order(ticket.order_ref, quantity=Decimal(15))
    await until(lambda: ticket.progress.quantity == 15, "what the limit allows is taken")


async def test_less_of_an_order_passes_as_a_cancel_does_and_more_does_not(desk: Desk, risk: Risk) -> None:
    ticket = await resting(desk)
    desk.engine.gate.set_halted({"": "for the test"})
    risk.standing = shapes.Standing(state=TradingState.HALTED)
    for changes in ({"quantity": Decimal(11)}, {"quantity": Decimal(4), "limit": Decimal(2)}):
        with pytest.raises(OrderDeniedError) as caught:
            await desk.broker.modify_order(ticket.order_ref, **changes)
        assert caught.value.code == "halted"
    await desk.broker.modify_order(ticket.order_ref, quantity=Decimal(4))
    await until(lambda: ticket.progress.quantity == 4, "smaller although trading is halted")


async def test_combination_with_a_locked_leg_is_not_changed(desk: Desk, risk: Risk) -> None:
    ticket = await desk.broker.place_order(await pair(desk), LimitOrder("BUY", 1, -5000), owner="T")
    await until(lambda: ticket.state is OrderState.ACCEPTED, "accepted")
    desk.engine.gate.lock_instruments([AAPL_ID])
    with pytest.raises(OrderDeniedError) as caught:
        await desk.broker.modify_order(ticket.order_ref, limit=Decimal(-4000))
    assert caught.value.code == "instrument_locked"


async def test_combination_from_before_a_restart_is_changed_once_its_legs_are_known(desk: Desk, risk: Risk) -> None:
    ticket = await desk.broker.place_order(await pair(desk), LimitOrder("BUY", 1, -5000), owner="T")
    await until(lambda: ticket.state is OrderState.ACCEPTED, "accepted")
    desk.broker._legs.clear()
    desk.broker._contracts.clear()
    await desk.broker.modify_order(ticket.order_ref, limit=Decimal("-4999.5"))
    await until(lambda: ticket.trade.order.lmtPrice == -4999.5, "changed")


async def test_orders_that_hurry_do_not_pass_a_limit_side_by_side(desk: Desk, risk: Risk) -> None:
    await desk.broker.qualify_all([stock("AAPL")])
    risk.limits["active_orders"], risk.slow_s = 1, 0.05
    orders = [LimitOrder("BUY", 1 + number, 1.0) for number in range(3)]
    placed = await asyncio.gather(
        *(desk.broker.place_order(stock("AAPL"), order, owner="T") for order in orders), return_exceptions=True
    )
    denied = [one.code for one in placed if isinstance(one, OrderDeniedError)]
    assert denied == ["too_many_working_orders"] * 2, placed
    [ticket] = [one for one in placed if not isinstance(one, BaseException)]
    await until(lambda: ticket.state is OrderState.ACCEPTED, "one works")


async def test_exits_that_cancel_each_other_are_no_short_sale_placed_or_changed(desk: Desk, risk: Risk) -> None:
    risk.limits["allow_short"] = 0
    aapl = stock("AAPL")
    entry = LimitOrder("BUY", 10, 1.0, transmit=False)
    profit = LimitOrder("SELL", 10, 9000.0, transmit=False)
    stop = Order(action="SELL", totalQuantity=10, orderType="STP", auxPrice=0.5)
    members = [(aapl, entry), (aapl, profit), (aapl, stop)]
    tickets = await desk.broker.place_family(members, owner="T", is_bracket=True)
    await until(lambda: all(one.state is OrderState.ACCEPTED for one in tickets), "all rest")
    await desk.broker.modify_order(tickets[2].order_ref, stop=Decimal("0.6"))  # its entry has not filled yet
    await until(lambda: tickets[2].trade.order.auxPrice == 0.6, "changed")
    with pytest.raises(OrderDeniedError) as caught:
        await desk.broker.modify_order(tickets[2].order_ref, quantity=Decimal(11))
    assert caught.value.code == "allow_short"
    alone = await in_db_thread(lambda: OrderRow.objects.filter(parent_ref=tickets[0].order_ref).count())
    assert alone == 2
    for ticket in reversed(tickets):
        if not ticket.is_done:
            await desk.broker.cancel_order(ticket.order_ref)
