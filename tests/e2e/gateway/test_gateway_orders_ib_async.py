"""Every family of orders through unmodified ib_async 2.1 over loopback."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import ib_async
import pytest

from tests.e2e.gateway.test_gateway_ib_async import connected, eventually, last_price, qualified
from trading.gateway.model import Contract, OrderRequest
from trading.gateway.testing import RunningGateway, running_gateway

pytestmark = pytest.mark.e2e
AAPL_ID, SPY_ID = 265598, 756733
NEW_YORK = ZoneInfo("America/New_York")


@pytest.fixture
def gateway() -> Iterator[RunningGateway]:
    """A gateway with a fresh account."""
    with running_gateway() as running:
        yield running


def order(action: str, quantity: float, kind: str, **fields: Any) -> ib_async.Order:
    """An order with its type's fields."""
    return ib_async.Order(action=action, totalQuantity=quantity, orderType=kind, **fields)


def errors_of(ib: ib_async.IB) -> list[tuple[int, int]]:
    """Ids and codes of the errors from now on."""
    heard: list[tuple[int, int]] = []
    ib.errorEvent += lambda req_id, code, *_: heard.append((req_id, code))
    return heard


async def test_resting_orders_of_every_type_come_back_as_sent(gateway: RunningGateway) -> None:
    async with connected(gateway, 1) as ib:
        contract = await qualified(ib)
        price = await last_price(ib, contract)
        low, high = round(price * 0.5, 2), round(price * 2, 2)
        sent = [
            order("BUY", 1, "STP LMT", auxPrice=high, lmtPrice=high + 1),
            order("BUY", 2, "MIT", auxPrice=low),
            order("BUY", 3, "LIT", auxPrice=low, lmtPrice=low - 1),
            order("SELL", 4, "TRAIL", auxPrice=50.0, trailStopPrice=low),
            order("SELL", 5, "TRAIL", trailingPercent=40.0),
            order("SELL", 6, "TRAIL LIMIT", auxPrice=50.0, lmtPriceOffset=0.5, trailStopPrice=low),
            order("BUY", 7, "LMT", lmtPrice=low, tif="GTD", goodTillDate="20991231 00:00:00 UTC"),
            order("BUY", 8, "MKT", goodAfterTime="20991231 00:00:00 UTC", tif="GTC"),
        ]
        trades = [ib.placeOrder(contract, each) for each in sent]
        await eventually(lambda: all(trade.order.permId for trade in trades))
    async with connected(gateway, 1) as ib:
        shown = {trade.order.totalQuantity: trade.order for trade in ib.openTrades()}
        assert sorted(shown) == [1, 2, 3, 4, 5, 6, 7, 8]
        for each in sent:
            back = shown[each.totalQuantity]
            assert (back.orderType, back.goodTillDate, back.goodAfterTime) == (
                each.orderType, each.goodTillDate, each.goodAfterTime,
            )  # fmt: skip
        assert (shown[1].auxPrice, shown[1].lmtPrice) == (high, high + 1)
        assert shown[6].lmtPriceOffset == 0.5
        assert shown[4].trailStopPrice >= round(price - 60, 2)  # it has followed the price up
        assert shown[5].trailingPercent == 40.0
        assert price * 0.4 < shown[5].trailStopPrice < price
        shown[6].lmtPriceOffset = 0.75  # what TWS shows can be sent back with a change
        ib.placeOrder(contract, shown[6])
        await eventually(
            lambda: gateway.call(
                lambda: any(o.request.echo.get("lmtPriceOffset") == "0.75" for o in gateway.venue.open_orders())
            )
        )


async def test_a_trailing_stop_sells_when_the_price_turns(gateway: RunningGateway) -> None:
    async with connected(gateway, 1) as ib:
        contract = await qualified(ib)
        trade = ib.placeOrder(contract, order("SELL", 10, "TRAIL", auxPrice=0.05))
        await eventually(lambda: trade.orderStatus.status == "Filled")
        assert trade.fills[0].execution.side == "SLD"


async def test_orders_on_close_fill_at_the_close() -> None:
    with running_gateway(clock="replay", speed=8000) as replayed:
        async with connected(replayed, 1) as ib:
            contract = await qualified(ib)
            market = ib.placeOrder(contract, order("BUY", 500, "MOC"))
            limit = ib.placeOrder(contract, order("BUY", 10, "LOC", lmtPrice=1.0))
            await eventually(lambda: market.isDone() and limit.isDone())
            if market.fills:  # placed within ten minutes of a close it is refused: both are right
                assert [fill.execution.shares for fill in market.fills] == [500]
                closed = market.fills[0].execution.time.astimezone(NEW_YORK)
                assert (closed.hour, closed.minute) == (16, 0)
            assert limit.fills == []


async def test_times_in_force(gateway: RunningGateway) -> None:
    async with connected(gateway, 1) as ib:
        contract = await qualified(ib)
        codes = errors_of(ib)
        part = ib.placeOrder(contract, order("BUY", 4000, "MKT", tif="IOC"))
        none = ib.placeOrder(contract, order("BUY", 4000, "MKT", tif="FOK"))
        whole = ib.placeOrder(contract, order("BUY", 10, "MKT", tif="FOK"))
        past = ib.placeOrder(contract, order("BUY", 1, "MKT", tif="GTD", goodTillDate="20200101 00:00:00 UTC"))
        await eventually(lambda: all(trade.isDone() for trade in (part, none, whole, past)))
        assert part.orderStatus.status == none.orderStatus.status == "Cancelled"
        assert 0 < part.filled() < 4000
        assert (none.filled(), whole.filled(), whole.orderStatus.status) == (0, 10, "Filled")
        assert (past.order.orderId, 334) in codes


async def test_a_bracket_enters_and_leaves_once(gateway: RunningGateway) -> None:
    async with connected(gateway, 1) as ib:
        contract = await qualified(ib)
        price = await last_price(ib, contract)
        bracket = ib.bracketOrder("BUY", 10, round(price + 5, 2), round(price + 50, 2), round(price - 50, 2))
        trades = [ib.placeOrder(contract, each) for each in bracket]
        await eventually(lambda: trades[0].orderStatus.status == "Filled")
        assert {trade.orderStatus.status for trade in trades[1:]} <= {"PreSubmitted", "Submitted"}
        shown = {t.order.orderId: t.order for t in await _afresh(gateway)}
        assert {each.ocaGroup for each in shown.values()} == {str(trades[0].order.permId)}
        trades[2].order.auxPrice = round(price + 60, 2)  # the stop above the market: it is triggered at once
        ib.placeOrder(contract, trades[2].order)
        await eventually(lambda: trades[2].orderStatus.status == "Filled")
        await eventually(lambda: trades[1].orderStatus.status == "Cancelled")
        await eventually(lambda: not [row for row in ib.positions() if row.position])


async def _afresh(gateway: RunningGateway) -> list[ib_async.Trade]:
    """The open orders as a client sees them that did not place them."""
    async with connected(gateway, 7) as other:
        return list(await other.reqAllOpenOrdersAsync())


async def test_one_cancels_all(gateway: RunningGateway) -> None:
    async with connected(gateway, 1) as ib:
        contract = await qualified(ib)
        price = await last_price(ib, contract)
        members: list[ib_async.Order] = [
            ib_async.LimitOrder("BUY", 10, round(price * share, 2)) for share in (0.5, 0.6, 1.5)
        ]
        trades = [ib.placeOrder(contract, each) for each in ib.oneCancelsAll(members, "pair", 1)]
        await eventually(lambda: [trade.orderStatus.status for trade in trades] == ["Cancelled", "Cancelled", "Filled"])


def pair() -> ib_async.Contract:
    """SPY against two AAPL."""
    legs = [ib_async.ComboLeg(SPY_ID, 1, "BUY", "SMART"), ib_async.ComboLeg(AAPL_ID, 2, "SELL", "SMART")]
    return ib_async.Contract(secType="BAG", symbol="SPY", exchange="SMART", currency="USD", comboLegs=legs)


async def test_a_combination_reports_itself_and_its_legs(gateway: RunningGateway) -> None:
    async with connected(gateway, 1) as ib:
        state = await ib.whatIfOrderAsync(pair(), ib_async.MarketOrder("BUY", 10))
        assert float(state.initMarginChange) > 0
        trade = ib.placeOrder(pair(), ib_async.MarketOrder("BUY", 10, orderRef="DEMO/9"))
        await eventually(lambda: trade.orderStatus.status == "Filled" and len(ib.fills()) == 3)
        fills = {fill.contract.secType + str(fill.contract.conId): fill.execution for fill in ib.fills()}
        whole, spy, aapl = fills["BAG28812380"], fills[f"STK{SPY_ID}"], fills[f"STK{AAPL_ID}"]
        assert [e.execId.count(".") for e in (whole, spy, aapl)] == [3, 4, 4]
        assert (spy.side, spy.shares, aapl.side, aapl.shares) == ("BOT", 10, "SLD", 20)
        assert whole.price == pytest.approx(spy.price - 2 * aapl.price)
        assert {e.orderRef for e in fills.values()} == {"DEMO/9"}
        await eventually(
            lambda: {row.contract.conId: row.position for row in ib.positions()} == {SPY_ID: 10, AAPL_ID: -20}
        )
        await eventually(lambda: sum(bool(fill.commissionReport.execId) for fill in ib.fills()) == 2)


async def test_a_resting_combination_shows_its_legs_to_others(gateway: RunningGateway) -> None:
    async with connected(gateway, 1) as ib:
        resting = ib.placeOrder(pair(), ib_async.LimitOrder("BUY", 1, -900.5))
        await eventually(lambda: resting.orderStatus.status == "Submitted")
        (shown,) = await _afresh(gateway)
        assert [(leg.conId, leg.ratio, leg.action) for leg in shown.contract.comboLegs] == [
            (SPY_ID, 1, "BUY"),
            (AAPL_ID, 2, "SELL"),
        ]
        assert (shown.contract.secType, shown.order.lmtPrice) == ("BAG", -900.5)
        assert shown.contract.comboLegsDescrip == f"{SPY_ID}|1,{AAPL_ID}|-2"
        ib.cancelOrder(resting.order)
        await eventually(lambda: resting.orderStatus.status == "Cancelled")


def typed(gateway: RunningGateway, quantity: int, kind: str = "LMT", limit: str | None = "1.00") -> None:
    """Type an order into the gateway's TWS."""
    request = OrderRequest(
        0, 0, Contract(con_id=AAPL_ID, exchange="SMART"), "BUY", Decimal(quantity), kind,
        limit_price=None if limit is None else Decimal(limit),
    )  # fmt: skip

    def place() -> None:
        now = gateway.venue.market_now(datetime.now(UTC))
        gateway.server.publish(gateway.venue.place_manual(request, now))

    gateway.call(place)


async def test_client_0_hears_of_typed_orders_and_cancels_them_once_bound(gateway: RunningGateway) -> None:
    typed(gateway, 11)  # before anybody is there
    async with connected(gateway, 1) as plain, connected(gateway, 0) as zero:
        # ib_async asks client 0 to bind when it connects.
        await eventually(lambda: [t.order.totalQuantity for t in zero.openTrades()] == [11])
        assert [t.order.orderId for t in zero.openTrades()] == [-1]
        typed(gateway, 12)
        await eventually(lambda: {t.order.orderId for t in zero.openTrades()} == {-1, -2})
        typed(gateway, 13, "MKT", None)
        await eventually(lambda: zero.fills() and zero.fills()[0].execution.orderId == -3)
        assert plain.openTrades() == []
        for trade in list(zero.openTrades()):
            zero.cancelOrder(trade.order)
        await eventually(lambda: zero.openTrades() == [])
        codes = errors_of(plain)
        plain.reqAutoOpenOrders(True)
        await eventually(lambda: 327 in [code for _, code in codes])


async def test_a_correction_reaches_owner_and_master_and_nobody_else(gateway: RunningGateway) -> None:
    async with connected(gateway, 0) as master, connected(gateway, 1) as owner, connected(gateway, 2) as other:
        trade = owner.placeOrder(await qualified(owner), ib_async.MarketOrder("BUY", 10))
        await eventually(lambda: trade.orderStatus.status == "Filled" and master.fills())
        first = trade.fills[0].execution.execId
        gateway.call(lambda: gateway.server.publish(gateway.venue.correct(first, price=Decimal("123.45"))))
        wanted = first[:-2] + "02"
        for ib in (master, owner):
            await eventually(lambda ib=ib: wanted in {fill.execution.execId for fill in ib.fills()})  # type: ignore[misc]
        assert other.fills() == []
