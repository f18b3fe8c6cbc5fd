"""Orders whose fields the official ibapi 9.81 encodes in its own way, over loopback."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from ibapi.contract import ComboLeg, Contract
from ibapi.order import Order

from tests.e2e.gateway.official import Official, official_client, official_order, stock
from trading.gateway import model
from trading.gateway.testing import RunningGateway, running_gateway

pytestmark = pytest.mark.e2e
AAPL_ID, SPY_ID = 265598, 756733


@pytest.fixture
def gateway() -> Iterator[RunningGateway]:
    """A gateway with a fresh account."""
    with running_gateway() as running:
        yield running


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[Official]:
    """A connected official client."""
    with official_client(gateway.port, 5) as connected:
        yield connected


def first_id(client: Official) -> int:
    """The client's next order id."""
    order_id: int = client.wait("nextValidId")[0]
    return order_id


def opened(client: Official, order_id: int) -> tuple[Contract, Order]:
    """Contract and order of an openOrder."""
    arguments = client.wait("openOrder", lambda number, *_: number == order_id)
    return arguments[1], arguments[2]


def test_trailing_dated_and_grouped_orders_come_back_as_sent(client: Official) -> None:
    number = first_id(client)
    trail = official_order("SELL", 10, "TRAIL")
    trail.trailingPercent = 30.0
    limited = official_order("SELL", 10, "TRAIL LIMIT")
    limited.auxPrice, limited.lmtPriceOffset, limited.trailStopPrice = 60.0, 0.25, 1.5
    dated = official_order("BUY", 10, "LIT", 0.5)
    dated.auxPrice, dated.tif, dated.goodTillDate = 1.0, "GTD", "20991231 00:00:00 UTC"
    dated.ocaGroup, dated.ocaType = "pair", 2
    for offset, order in enumerate((trail, limited, dated)):
        client.placeOrder(number + offset, stock(), order)
    assert opened(client, number)[1].trailingPercent == 30.0
    assert opened(client, number + 1)[1].lmtPriceOffset == 0.25
    back = opened(client, number + 2)[1]
    assert (back.orderType, back.auxPrice, back.lmtPrice, back.tif) == ("LIT", 1.0, 0.5, "GTD")
    assert (back.goodTillDate, back.ocaGroup, back.ocaType) == ("20991231 00:00:00 UTC", "pair", 2)
    client.reqGlobalCancel()
    for offset in range(3):
        client.wait("error", lambda req_id, code, *_, n=number + offset: (req_id, code) == (n, 202))


def test_a_bracket_is_released_by_its_last_child(client: Official) -> None:
    number = first_id(client)
    parent, target, stop = (official_order(*fields) for fields in (
        ("BUY", 10, "MKT"), ("SELL", 10, "LMT", 9000.0), ("SELL", 10, "STP"),
    ))  # fmt: skip
    parent.transmit = target.transmit = False
    target.parentId = stop.parentId = number
    stop.auxPrice = 1.0
    for offset, order in enumerate((parent, target, stop)):
        client.placeOrder(number + offset, stock(), order)
    client.wait("orderStatus", lambda n, status, *_: (n, status) == (number, "Filled"))
    assert opened(client, number + 2)[1].parentId == number
    assert opened(client, number + 1)[1].ocaGroup == opened(client, number + 2)[1].ocaGroup != ""
    client.cancelOrder(number + 1)
    client.cancelOrder(number + 2)
    client.wait("orderStatus", lambda n, status, *_: (n, status) == (number + 2, "Cancelled"))


def combination() -> Contract:
    """SPY against two AAPL."""
    contract = Contract()
    contract.symbol, contract.secType, contract.exchange, contract.currency = "SPY", "BAG", "SMART", "USD"
    contract.comboLegs = []
    for con_id, ratio, action in ((SPY_ID, 1, "BUY"), (AAPL_ID, 2, "SELL")):
        leg = ComboLeg()
        leg.conId, leg.ratio, leg.action, leg.exchange = con_id, ratio, action, "SMART"
        contract.comboLegs.append(leg)
    return contract


def test_a_combination_executes_as_a_whole_and_by_leg(client: Official) -> None:
    number = first_id(client)
    client.placeOrder(number, combination(), official_order("BUY", 10, "MKT"))
    client.wait("orderStatus", lambda n, status, *_: (n, status) == (number, "Filled"))
    legs = opened(client, number)[0].comboLegs
    assert [(leg.conId, leg.ratio, leg.action) for leg in legs] == [(SPY_ID, 1, "BUY"), (AAPL_ID, 2, "SELL")]
    executions = client.all("execDetails")
    assert [(contract.secType, execution.shares) for _, contract, execution in executions] == [
        ("BAG", 10), ("STK", 10), ("STK", 20),
    ]  # fmt: skip
    reported = client.wait("commissionReport", lambda report: report.execId.count(".") == 4)[0]
    assert reported.commission > 0


def test_client_0_is_told_which_id_a_typed_order_got(gateway: RunningGateway) -> None:
    contract = model.Contract(con_id=AAPL_ID, exchange="SMART")
    request = model.OrderRequest(0, 0, contract, "BUY", Decimal(7), "LMT", limit_price=Decimal("1.00"))

    def typed() -> None:
        now = gateway.venue.market_now(datetime.now(UTC))
        gateway.server.publish(gateway.venue.place_manual(request, now))

    with official_client(gateway.port, 0) as zero:
        gateway.call(typed)
        assert opened(zero, 0)[1].totalQuantity == 7  # heard of, not bound
        zero.cancelOrder(0)
        zero.wait("error", lambda req_id, code, *_: (req_id, code) == (0, 136))
        zero.reqOpenOrders()
        perm_id, client_id, order_id = zero.wait("orderBound")
        assert (client_id, order_id) == (0, -1)
        assert opened(zero, -1)[1].permId == perm_id
        zero.cancelOrder(-1)
        zero.wait("orderStatus", lambda n, status, *_: (n, status) == (-1, "Cancelled"))


def test_the_defaults_that_tws_refuses_are_refused(client: Official) -> None:
    number = first_id(client)
    order = Order()
    order.action, order.totalQuantity, order.orderType = "BUY", 1, "MKT"
    client.placeOrder(number, stock(), order)
    client.wait("error", lambda req_id, code, *_: (req_id, code) == (number, 10268))
