"""placeOrder as the real clients send it is read to its last field, or not at all."""

from decimal import Decimal
from typing import Any

import ib_async
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ibapi.contract import ComboLeg, Contract
from ibapi.order import Order, OrderComboLeg
from ibapi.order_condition import PriceCondition, TimeCondition
from ibapi.tag_value import TagValue

from tests.unit.gateway.wire_clients import UnpluggedIbapi, UnpluggedIbAsync
from trading.gateway.protocol_errors import DecodeError
from trading.gateway.protocol_messages import PlacedOrder
from trading.gateway.protocol_requests import decode

MODERN = range(157, 179)
STOCK = ib_async.Stock("AAPL", "SMART", "USD", conId=265598)
BAG = ib_async.Contract(
    symbol="AAPL",
    secType="BAG",
    exchange="SMART",
    currency="USD",
    comboLegs=[ib_async.ComboLeg(1, 1, "BUY", "SMART"), ib_async.ComboLeg(2, 2, "SELL", "SMART", exemptCode=-1)],
    deltaNeutralContract=ib_async.DeltaNeutralContract(9, 0.5, 187.5),
)
CONDITIONS = [
    ib_async.PriceCondition(1, "a", True, 187.5, 265598, "SMART", 2),
    ib_async.TimeCondition(3, "o", False, "20260302 15:00:00 UTC"),
    ib_async.MarginCondition(4, "a", True, 30),
    ib_async.ExecutionCondition(5, "a", "STK", "SMART", "AAPL"),
    ib_async.VolumeCondition(6, "a", True, 1000, 265598, "SMART"),
    ib_async.PercentChangeCondition(7, "a", True, 2.5, 265598, "SMART"),
]


def read(fields: list[str], version: int) -> PlacedOrder:
    """Decode a message that must be a placeOrder."""
    request, _ = decode(fields, version)
    assert isinstance(request, PlacedOrder)
    return request


def sent_by_ib_async(version: int, contract: ib_async.Contract, order: ib_async.Order) -> list[str]:
    """Let ib_async encode an order."""
    client = UnpluggedIbAsync(version)
    client.placeOrder(42, contract, order)  # type: ignore[no-untyped-call]  # ib_async leaves it untyped
    return client.fields()


@pytest.mark.parametrize("version", MODERN)
def test_plain_limit_order_of_ib_async_keeps_every_decisive_field(version: int) -> None:
    order = ib_async.LimitOrder(
        "SELL", 100, 187.5, tif="GTC", orderRef="DEMO/1", parentId=7, transmit=False, outsideRth=True, whatIf=True,
        ocaGroup="oca", account="DU1", algoStrategy="Adaptive",
        algoParams=[ib_async.TagValue("adaptivePriority", "Patient")],
    )  # fmt: skip
    placed = read(sent_by_ib_async(version, STOCK, order), version)
    assert (placed.order_id, placed.contract.con_id, placed.action, placed.quantity) == (
        42,
        265598,
        "SELL",
        Decimal(100),
    )
    assert (placed.order_type, placed.limit_price, placed.aux_price) == ("LMT", Decimal("187.5"), None)
    assert (placed.tif, placed.order_ref, placed.parent_id, placed.account) == ("GTC", "DEMO/1", 7, "DU1")
    assert (placed.transmit, placed.outside_rth, placed.what_if, placed.oca_group) == (False, True, True, "oca")
    assert (placed.algo_strategy, placed.algo_params) == ("Adaptive", (("adaptivePriority", "Patient"),))


@pytest.mark.parametrize("version", MODERN)
def test_order_with_every_optional_block_of_ib_async_is_read_to_the_end(version: int) -> None:
    order = ib_async.Order(
        action="BUY", totalQuantity=10, orderType="PEG BENCH", lmtPrice=1.5, conditions=list(CONDITIONS),
        conditionsIgnoreRth=True, hedgeType="D", hedgeParam="x", scalePriceIncrement=0.1, scaleAutoReset=True,
        deltaNeutralOrderType="LMT", deltaNeutralConId=9, algoStrategy="Twap", algoParams=[],
        orderComboLegs=[ib_async.OrderComboLeg(1.0), ib_async.OrderComboLeg(2.0)],
        smartComboRoutingParams=[ib_async.TagValue("NonGuaranteed", "1")],
        orderMiscOptions=[ib_async.TagValue("a", "b")], usePriceMgmtAlgo=True, referenceExchangeId="NYSE",
    )  # fmt: skip
    placed = read(sent_by_ib_async(version, BAG, order), version)
    assert placed.echo["comboLegs"].startswith("2\0001\0001\0BUY")
    assert placed.echo["conditions"].startswith("6\0001\0a\0001\000187.5")
    assert placed.echo["deltaNeutralContract"] == "9\0000.5\000187.5"
    assert (placed.echo["usePriceMgmtAlgo"], placed.echo["referenceExchangeId"]) == ("1", "NYSE")


@pytest.mark.parametrize("version", range(170, 179))
@pytest.mark.parametrize("order_type", ["PEG BEST", "PEGBEST", "PEG MID", "PEGMID"])
@pytest.mark.parametrize("offset", [0.01, float("inf")])
@pytest.mark.parametrize("exchange", ["IBKRATS", "SMART"])
def test_pegged_tail_is_read_to_the_end(version: int, order_type: str, offset: float, exchange: str) -> None:
    contract = ib_async.Stock("AAPL", exchange, "USD")
    order = ib_async.Order(
        action="BUY", totalQuantity=10, orderType=order_type, minTradeQty=1, minCompeteSize=2,
        competeAgainstBestOffset=offset, midOffsetAtWhole=0.1, midOffsetAtHalf=0.2,
    )  # fmt: skip
    assert read(sent_by_ib_async(version, contract, order), version).order_type == order_type


@pytest.mark.parametrize("version", range(151, 158))
def test_order_of_the_official_client_is_read_to_the_end(version: int) -> None:
    contract = Contract()
    contract.symbol, contract.secType, contract.exchange, contract.currency = "AAPL", "BAG", "SMART", "USD"
    leg = ComboLeg()
    leg.conId, leg.ratio, leg.action, leg.exchange = 1, 1, "BUY", "SMART"
    contract.comboLegs = [leg]
    order = Order()
    order.action, order.totalQuantity, order.orderType, order.lmtPrice = "BUY", 100, "LMT", 1.25
    order.orderRef, order.whatIf = "REF", True
    combo_leg = OrderComboLeg()
    combo_leg.price = 1.0
    order.orderComboLegs = [combo_leg]
    order.smartComboRoutingParams = [TagValue("NonGuaranteed", "1")]
    order.algoStrategy, order.algoParams = "Adaptive", [TagValue("adaptivePriority", "Urgent")]
    order.conditions = [PriceCondition(0, 265598, "SMART", True, 187.5), TimeCondition(True, "20260302 15:00:00 UTC")]
    client = UnpluggedIbapi(version)
    client.placeOrder(42, contract, order)
    placed = read(client.fields(), version)
    assert (placed.quantity, placed.limit_price, placed.order_ref, placed.what_if) == (
        Decimal(100),
        Decimal("1.25"),
        "REF",
        True,
    )
    assert placed.echo["eTradeOnly"] == "1"
    assert placed.algo_params == (("adaptivePriority", "Urgent"),)


@pytest.mark.parametrize("version", [157, 166, 170, 178])
def test_a_field_too_few_or_too_many_anywhere_is_never_an_order(version: int) -> None:
    order = ib_async.LimitOrder("BUY", 100, 187.5, whatIf=True, orderRef="DEMO/1", account="DU1", tif="DAY")
    fields = sent_by_ib_async(version, STOCK, order)
    for position in range(1, len(fields)):
        with pytest.raises(DecodeError):
            read(fields[:position] + fields[position + 1 :], version)
    for position in range(1, len(fields) + 1):
        with pytest.raises(DecodeError):
            read([*fields[:position], "", *fields[position:]], version)


NEW_ORDERS = {
    "trail": ib_async.Order(
        action="SELL", totalQuantity=10, orderType="TRAIL", trailingPercent=1.5, trailStopPrice=180.25
    ),
    "trail limit": ib_async.Order(
        action="SELL", totalQuantity=10, orderType="TRAIL LIMIT", auxPrice=0.5, lmtPriceOffset=0.1, trailStopPrice=180
    ),
    "dated": ib_async.LimitOrder(
        "BUY", 10, 1.0, tif="GTD", goodTillDate="20261118 15:00:00 UTC", goodAfterTime="20261118 14:00:00 UTC"
    ),
    "group": ib_async.LimitOrder("BUY", 10, 1.0, ocaGroup="pair", ocaType=2, allOrNone=True),
}  # fmt: skip
KEPT = {
    "trail": {"trailingPercent": "1.5", "trailStopPrice": "180.25"},
    "trail limit": {"lmtPriceOffset": "0.1", "trailStopPrice": "180"},
    "dated": {"goodTillDate": "20261118 15:00:00 UTC", "goodAfterTime": "20261118 14:00:00 UTC"},
    "group": {"ocaType": "2", "allOrNone": "1"},
}


@pytest.mark.parametrize("version", [157, 163, 170, 178])
@pytest.mark.parametrize("kind", NEW_ORDERS)
@pytest.mark.parametrize("contract", [STOCK, BAG])
def test_what_the_desk_reads_beyond_the_head_arrives_under_its_name(
    version: int, kind: str, contract: ib_async.Contract
) -> None:
    fields = sent_by_ib_async(version, contract, NEW_ORDERS[kind])
    assert KEPT[kind].items() <= read(fields, version).echo.items()
    for shifted in (fields[:-1], [*fields, ""]):
        with pytest.raises(DecodeError):
            read(shifted, version)


@pytest.mark.parametrize("version", [157, 178])
def test_error_of_an_unreadable_order_names_its_order_id(version: int) -> None:
    fields = sent_by_ib_async(version, STOCK, ib_async.MarketOrder("BUY", 1))
    with pytest.raises(DecodeError) as caught:
        read([*fields, "surplus"], version)
    assert caught.value.req_id == 42


@st.composite
def orders(draw: st.DrawFn) -> dict[str, Any]:
    """Some fields of an order, any mixture."""
    text = st.text("abcXYZ019 .-é", max_size=8)
    price = st.floats(0.01, 1e6, allow_nan=False)
    return draw(
        st.fixed_dictionaries(
            {"action": st.sampled_from(["BUY", "SELL"]), "totalQuantity": st.integers(0, 10**7)},
            optional={
                "orderType": st.sampled_from(["MKT", "LMT", "STP", "PEG BENCH", "PEG MID", "VOL", "TRAIL"]),
                "lmtPrice": price,
                "auxPrice": price,
                "trailStopPrice": price,
                "orderRef": text,
                "ocaGroup": text,
                "hedgeType": st.sampled_from(["", "D", "B"]),
                "scalePriceIncrement": st.sampled_from([0.0, 0.5]),
                "deltaNeutralOrderType": st.sampled_from(["", "None", "LMT"]),
                "algoStrategy": st.sampled_from(["", "Vwap"]),
                "conditions": st.lists(st.sampled_from(CONDITIONS), max_size=3),
                "whatIf": st.booleans(),
                "transmit": st.booleans(),
                "minQty": st.integers(0, 9),
                "usePriceMgmtAlgo": st.sampled_from([None, True]),
                "displaySize": st.integers(0, 9),
                "manualOrderTime": text,
                "faGroup": text,
                "modelCode": text,
            },
        )
    )


@settings(max_examples=150, deadline=None)
@given(orders(), st.sampled_from(MODERN), st.sampled_from([STOCK, BAG]))
def test_whatever_ib_async_sends_is_read_and_says_the_same(
    values: dict[str, Any], version: int, contract: ib_async.Contract
) -> None:
    order = ib_async.Order(**values)
    placed = read(sent_by_ib_async(version, contract, order), version)
    assert (placed.what_if, placed.transmit, placed.order_ref) == (order.whatIf, order.transmit, order.orderRef)
    assert placed.quantity == order.totalQuantity
    assert placed.echo.get("conditions", "0").split("\0")[0] == str(len(order.conditions))
