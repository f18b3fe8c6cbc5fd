"""The real clients understand every answer at every version, to its last field."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import ib_async
import pytest

from tests.unit.gateway.wire_clients import UnpluggedIbAsync, ib_async_hears, ibapi_hears
from tests.unit.gateway.wire_fake import DETAILS, NOW, execution, held, order
from trading.gateway import model
from trading.gateway import protocol_executions as executions_wire
from trading.gateway import protocol_open_order as orders_wire
from trading.gateway import protocol_responses as respond
from trading.gateway.protocol_messages import PlacedOrder
from trading.gateway.protocol_requests import decode

MODERN = range(157, 179)
OLD = range(151, 158)
UNSET = 1.7976931348623157e308


def one(calls: list[tuple[str, tuple[Any, ...]]], name: str) -> tuple[Any, ...]:
    """The arguments of the only callback, which must be ``name``."""
    assert [call[0] for call in calls] == [name]
    return calls[0][1]


@pytest.mark.parametrize("version", MODERN)
def test_open_order_in_ib_async_shows_tws_defaults(version: int) -> None:
    _, contract, shown, state = one(ib_async_hears(orders_wire.open_order(order(), version), version), "openOrder")
    assert (contract.conId, contract.right, shown.permId, shown.clientId) == (265598, "?", 777, 1)
    assert (shown.lmtPrice, shown.auxPrice, shown.totalQuantity) == (187.5, 0.0, 100.0)
    assert (shown.ocaType, shown.clearingIntent, shown.adjustedOrderType) == (3, "IB", "None")
    assert (shown.deltaNeutralOrderType, shown.deltaNeutralOpenClose) == ("None", "?")
    assert (shown.orderRef, shown.account, shown.tif, state.status) == ("DEMO/1", "DU1", "DAY", "Submitted")
    assert (state.commission, float(state.initMarginChange)) == (UNSET, UNSET)


@pytest.mark.parametrize("version", OLD)
def test_open_order_in_the_official_client_shows_the_same(version: int) -> None:
    _, contract, shown, state = one(ibapi_hears(orders_wire.open_order(order(), version), version), "openOrder")
    assert (contract.conId, shown.permId, shown.lmtPrice, shown.orderRef) == (265598, 777, 187.5, "DEMO/1")
    assert (shown.deltaNeutralOpenClose, shown.clearingIntent, state.status) == ("?", "IB", "Submitted")


def sent(version: int, contract: ib_async.Contract, given: ib_async.Order) -> PlacedOrder:
    """Take an order through ib_async's encoder and our decoder."""
    client = UnpluggedIbAsync(version)
    client.placeOrder(42, contract, given)  # type: ignore[no-untyped-call]  # ib_async leaves it untyped
    placed, _ = decode(client.fields(), version)
    assert isinstance(placed, PlacedOrder)
    return placed


@pytest.mark.parametrize("version", MODERN)
def test_what_ib_async_sent_comes_back_in_open_and_completed_order(version: int) -> None:
    bag = ib_async.Contract(
        symbol="AAPL", secType="BAG", comboLegs=[ib_async.ComboLeg(1, 2, "BUY", "SMART", exemptCode=-1)]
    )
    given = ib_async.Order(
        action="BUY", totalQuantity=10, orderType="LMT", lmtPrice=1.5, hedgeType="D", hedgeParam="x",
        scalePriceIncrement=0.5, scaleInitPosition=3, algoStrategy="Adaptive",
        algoParams=[ib_async.TagValue("adaptivePriority", "Urgent")], allOrNone=True, ocaType=1, duration=7,
        conditions=[ib_async.MarginCondition(4, "o", True, 30)], conditionsCancelOrder=True,
        orderComboLegs=[ib_async.OrderComboLeg(1.25)],
        smartComboRoutingParams=[ib_async.TagValue("NonGuaranteed", "1")], usePriceMgmtAlgo=True, notHeld=True,
    )  # fmt: skip
    placed = sent(version, bag, given)
    request = replace(
        order().request, echo=placed.echo, algo_strategy=placed.algo_strategy, algo_params=placed.algo_params
    )
    snapshot = replace(
        order(), request=request, completed_time="20260302 10:00:00 US/Eastern", completed_status="Filled"
    )
    _, contract, shown, _ = one(ib_async_hears(orders_wire.open_order(snapshot, version), version), "openOrder")
    assert [(leg.conId, leg.ratio, leg.exemptCode) for leg in contract.comboLegs] == [(1, 2, -1)]
    assert (shown.conditions, shown.conditionsCancelOrder) == (given.conditions, True)
    assert [(tag.tag, tag.value) for tag in shown.algoParams] == [("adaptivePriority", "Urgent")]
    assert (shown.hedgeType, shown.hedgeParam, shown.scalePriceIncrement, shown.scaleInitPosition) == ("D", "x", 0.5, 3)
    assert (shown.allOrNone, shown.ocaType, shown.notHeld, shown.orderComboLegs[0].price) == (True, 1, True, 1.25)
    assert shown.duration == (7 if version >= 159 else ib_async.Order().duration)
    done_contract, done, state = one(
        ib_async_hears(orders_wire.completed_order(snapshot, version), version), "completedOrder"
    )
    assert (done_contract.comboLegs[0].ratio, done.conditions, done.algoStrategy) == (2, given.conditions, "Adaptive")
    assert (state.completedStatus, done.hedgeParam, done.permId) == ("Filled", "x", 777)


@pytest.mark.parametrize("version", range(170, 179))
def test_last_field_of_both_order_messages_lands_where_it_belongs(version: int) -> None:
    request = replace(order().request, echo={"midOffsetAtHalf": "0.25"})
    snapshot = replace(order(), request=request)
    opened = one(ib_async_hears(orders_wire.open_order(snapshot, version), version), "openOrder")[2]
    done = one(ib_async_hears(orders_wire.completed_order(snapshot, version), version), "completedOrder")[1]
    assert (opened.midOffsetAtHalf, done.midOffsetAtHalf) == (0.25, 0.25)


@pytest.mark.parametrize("version", OLD)
def test_completed_order_in_the_official_client(version: int) -> None:
    snapshot = replace(order(), status="Filled", completed_status="Filled Size: 100")
    _, done, state = one(ibapi_hears(orders_wire.completed_order(snapshot, version), version), "completedOrder")
    assert (done.permId, state.completedStatus) == (777, "Filled Size: 100")


@pytest.mark.parametrize("version", [157, 178])
def test_what_if_answer_carries_margins_and_commission(version: int) -> None:
    one_, two, three, four, five, six, seven, eight, nine, ten = (Decimal(number) for number in range(1, 11))
    answer = model.WhatIf(one_, two, three, four, five, six, seven, eight, nine, ten, currency="USD")
    snapshot = replace(order(), request=replace(order().request, what_if=True), status="PreSubmitted")
    frame = orders_wire.open_order(snapshot, version, answer)
    _, _, shown, state = one(ib_async_hears(frame, version), "openOrder")
    assert (shown.whatIf, state.status, state.commission, state.commissionCurrency) == (
        True,
        "PreSubmitted",
        10.0,
        "USD",
    )
    assert (state.initMarginBefore, state.maintMarginChange, state.equityWithLoanAfter) == ("1", "5", "9")


@pytest.mark.parametrize("version", [*OLD, *MODERN])
def test_execution_is_understood_and_ends_where_the_version_says(version: int) -> None:
    frame = executions_wire.execution_details(-1, executions_wire.execution_body(execution()), version)
    hears = ib_async_hears if version >= 157 else ibapi_hears
    req_id, contract, fill = one(hears(frame, version), "execDetails")
    assert (req_id, contract.conId, fill.execId, fill.shares, fill.price) == (
        -1,
        265598,
        execution().exec_id,
        40,
        187.5,
    )
    assert (fill.side, fill.cumQty, fill.orderRef, fill.lastLiquidity, fill.permId) == ("BOT", 40, "DEMO/1", 2, 777)
    assert frame.count(b"\0", 4) == (32 if version >= 178 else 31)
    if version >= 157:
        assert fill.time == NOW


@pytest.mark.parametrize("version", [*OLD, *MODERN])
def test_contract_details_are_understood(version: int) -> None:
    details = replace(DETAILS, long_name="SOCIÉTÉ", min_size=Decimal("0.1"))
    hears = ib_async_hears if version >= 157 else ibapi_hears
    _, got = one(hears(respond.contract_details(5, details, version), version), "contractDetails")
    assert (got.contract.conId, got.contract.primaryExchange, got.minTick) == (265598, "NASDAQ", 0.01)
    assert (got.timeZoneId, got.marketRuleIds, got.validExchanges) == ("US/Eastern", "26,26", "SMART,NASDAQ")
    assert got.stockType == ("COMMON" if version >= 152 else "")
    assert got.longName == "SOCIÉTÉ"
    if version >= 164:
        assert (got.minSize, got.suggestedSizeIncrement) == (0.1, 1.0)


@pytest.mark.parametrize("version", [151, 157])
def test_sizes_are_whole_for_clients_that_read_ints(version: int) -> None:
    half = Decimal("100.5")
    bar = model.Bar(NOW, half, half, half, half, half, half, 3)
    assert one(ibapi_hears(respond.tick_size(1, 0, half, version), version), "tickSize")[2] == 100
    assert one(ibapi_hears(respond.real_time_bar(1, bar, version), version), "realtimeBar")[6] == 100
    figures = model.Pnl(half, half, half, half, half)
    assert one(ibapi_hears(respond.pnl_single(1, figures, version), version), "pnlSingle")[1] == 100
    calls = ibapi_hears(respond.historical_data(1, "a", "b", [("20260302", bar)], version, traded=True), version)
    assert calls[0][1][1].volume == 100


def test_sizes_keep_their_fraction_for_modern_clients() -> None:
    _, tick, amount = one(ib_async_hears(respond.tick_size(1, 0, Decimal("0.5"), 178), 178), "tickSize")
    assert (tick, amount) == (0, 0.5)


def test_historical_bars_of_quotes_carry_minus_one_instead_of_volume() -> None:
    two = Decimal(2)
    bar = model.Bar(NOW, two, two, two, two, two, two, 3)
    calls = ib_async_hears(respond.historical_data(1, "a", "b", [("20260302", bar)], 178, traded=False), 178)
    assert (calls[0][1][1].volume, calls[0][1][1].average, calls[0][1][1].barCount) == (-1, -1, -1)


def test_update_of_a_growing_bar_has_close_before_high_and_low() -> None:
    bar = model.Bar(NOW, Decimal(2), Decimal(4), Decimal(1), Decimal(3), Decimal(9), Decimal("2.5"), 7)
    _, got = one(
        ib_async_hears(respond.historical_data_update(1, "20260302", bar, 178, traded=True), 178),
        "historicalDataUpdate",
    )
    assert (got.open, got.high, got.low, got.close, got.volume, got.barCount) == (2, 4, 1, 3, 9, 7)


@pytest.mark.parametrize("version", [157, 165, 166, 178])
def test_error_has_room_for_the_reject_details_from_166_on(version: int) -> None:
    req_id, code, text, rejected = one(ib_async_hears(respond.error(5, 200, "No security", version), version), "error")
    assert (req_id, code, text, rejected) == (5, 200, "No security", "")


@pytest.mark.parametrize("version", [157, 175, 176, 178])
def test_symbol_samples_gain_the_description_at_176(version: int) -> None:
    _, found = one(ib_async_hears(respond.symbol_samples(5, [DETAILS, DETAILS], version), version), "symbolSamples")
    assert [row.contract.symbol for row in found] == ["AAPL", "AAPL"]
    assert found[1].contract.description == ("APPLE INC" if version >= 176 else "")


def test_commission_of_an_opening_fill_has_no_realized_pnl() -> None:
    paid = model.Commission("e.1", Decimal("1.05"), "USD", None, 1)
    assert executions_wire.commission_report(paid).split(b"\0")[-5:-1] == [
        b"USD",
        b"1.7976931348623157E308",
        b"1.7976931348623157E308",
        b"",
    ]


def test_position_and_portfolio_rows_are_understood() -> None:
    account, contract, quantity, cost = one(ib_async_hears(respond.position(held()), 178), "position")
    assert (account, contract.conId, quantity, cost) == ("DU1", 265598, 40.0, 187.525)
    row = one(ib_async_hears(respond.portfolio_value(held()), 178), "updatePortfolio")
    assert (row[0].primaryExchange, row[1], row[7]) == ("NASDAQ", 40.0, "DU1")


def test_current_time_is_epoch_seconds() -> None:
    assert one(ib_async_hears(respond.current_time(datetime(2026, 3, 2, tzinfo=UTC)), 178), "currentTime") == (
        1772409600,
    )
