"""Limits, presets and attributes at the paper venue: what IB refuses beyond an order's own words."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.unit.gateway.venue_desk import (
    AAPL,
    EURUSD,
    SECOND,
    SPY,
    SPY_ID,
    START,
    changed,
    codes,
    only,
    order,
    statuses,
    venue,
)
from trading.gateway.exchange import Exchange
from trading.gateway.exchange_checks import refuse_order
from trading.gateway.exchange_price_checks import Case
from trading.gateway.exchange_terms import Terms
from trading.gateway.instruments import load_table
from trading.gateway.model import Executed, ExecutionFilter, OrderError

D = Decimal
FAR: dict[str, Any] = {"order_type": "LMT", "limit_price": "1.00"}


@pytest.fixture
def exchange() -> Exchange:
    return venue()


def test_the_twenty_first_order_of_a_contract_and_side_is_refused(exchange: Exchange) -> None:
    for order_id in range(1, 21):
        assert codes(exchange.place(order(order_id, **FAR), START)) == []
    events = exchange.place(order(21, **FAR), START)
    assert (codes(events), statuses(events)) == ([201], ["Inactive"])
    assert "20 active orders" in only(OrderError, events)[0].text
    assert codes(exchange.place(order(1, client_id=2, **FAR), START)) == [201]  # the account counts, not the client
    assert codes(exchange.place(order(22, "SELL", order_type="LMT", limit_price="900.00"), START)) == []
    assert codes(exchange.place(order(23, contract=AAPL, **FAR), START)) == []
    exchange.cancel(1, 1, START)
    assert codes(exchange.place(order(24, **FAR), START)) == []


def test_the_limit_can_be_lifted() -> None:
    exchange = venue(max_active_orders=1000)
    assert [codes(exchange.place(order(n, quantity=1, **FAR), START)) for n in range(1, 41)] == [[]] * 40


def test_a_preset_limits_the_size() -> None:
    exchange = venue(size_limit=D(500))
    assert codes(exchange.place(order(1, quantity=501), START)) == [383]
    assert codes(exchange.place(order(2, quantity=500), START)) == []


@pytest.mark.parametrize(("quantity", "code"), [("2", 388), ("7", 10250), ("7.5", 10243), ("10", None)])
def test_the_size_fits_the_instruments_step(quantity: str, code: int | None) -> None:
    instrument = next(each for each in load_table() if each.con_id == SPY_ID)
    coarse = replace(instrument, size_increment=D(5))
    refusal = refuse_order(Case(order(1, quantity=quantity, tif="DAY"), coarse, Terms(), START))
    assert (refusal.code if refusal else None) == code


def test_forex_takes_whole_units_of_its_increment(exchange: Exchange) -> None:
    assert codes(exchange.place(order(1, quantity="100000.5", contract=EURUSD), START)) == [10243]


@pytest.mark.parametrize(
    ("fields", "code", "named"),
    [
        ({"eTradeOnly": 1}, 10268, "EtradeOnly"),
        ({"firmQuoteOnly": 1}, 10269, "firmQuoteOnly"),
        ({"nbboPriceCap": "1.5"}, 10270, "nbboPriceCap"),
        ({"cashQty": "1000"}, 10244, "Cash Quantity"),
        ({"hedgeType": "D"}, 10340, "hedgeType"),
        ({"minQty": "10"}, 10340, "minQty"),
        ({"triggerMethod": "1"}, 10340, "triggerMethod"),
        ({"modelCode": "Growth"}, 10340, "modelCode"),
        ({"autoCancelParent": "1"}, 10340, "autoCancelParent"),
        ({"discretionaryAmt": "0.1"}, 10340, "discretionaryAmt"),
        ({"scalePriceIncrement": "0.1"}, 10340, "scalePriceIncrement"),
        ({"adjustedOrderType": "STP"}, 10340, "adjustedOrderType"),
        ({"echo": {"conditions": "1\x003\x00a\x001\x0020261118 16:00:00"}}, 10340, "conditions"),
    ],
)
def test_what_would_change_an_orders_fate_and_is_not_simulated_is_refused(
    exchange: Exchange, fields: dict[str, Any], code: int, named: str
) -> None:
    (error,) = only(OrderError, exchange.place(order(1, **fields), START))
    assert error.code == code
    assert named in error.text
    assert exchange.executions(ExecutionFilter()) == []


def test_what_open_order_shows_for_nothing_may_come_back(exchange: Exchange) -> None:
    shown: dict[str, Any] = {"deltaNeutralOrderType": "None", "adjustedOrderType": "None", "exemptCode": "-1"}
    assert codes(exchange.place(order(1, clearingIntent="IB", **shown), START)) == []


def test_an_order_still_being_processed_cannot_be_modified() -> None:
    exchange = venue(processing_s=0.5)
    request = order(1, **FAR)
    exchange.place(request, START)
    assert codes(exchange.place(changed(request, quantity=D(50)), START)) == [2102]
    assert codes(exchange.place(changed(request, quantity=D(50)), START + SECOND)) == []
    assert [o.request.quantity for o in exchange.open_orders()] == [50]


def test_price_size_time_and_hours_may_change(exchange: Exchange) -> None:
    request = order(1, **FAR)
    exchange.place(request, START)
    wish: dict[str, Any] = {"limit_price": D("2.00"), "quantity": D(7), "tif": "GTC", "outside_rth": True}
    assert codes(exchange.place(changed(request, **wish), START)) == []
    shown = exchange.open_orders()[0].request
    assert {name: getattr(shown, name) for name in wish} == wish


def test_a_modification_beyond_the_margin_leaves_the_order_as_it_was(exchange: Exchange) -> None:
    request = order(1, order_type="LMT", limit_price="500.00", contract=SPY)
    far = changed(request, limit_price=D("100.00"))
    exchange.place(far, START)
    assert codes(exchange.place(changed(far, quantity=D(1_000_000)), START)) == [201]
    assert [o.request.quantity for o in exchange.open_orders()] == [100]


def test_a_correction_is_the_same_execution_with_the_next_revision(exchange: Exchange) -> None:
    (first,) = (e.execution for e in only(Executed, exchange.place(order(1), START)))
    (second,) = (e.execution for e in only(Executed, exchange.correct(first.exec_id, price=D("5.00"))))
    (third,) = (e.execution for e in only(Executed, exchange.correct(second.exec_id, quantity=D(90))))
    assert [e.exec_id[-3:] for e in (first, second, third)] == [".01", ".02", ".03"]
    assert {e.exec_id[:-3] for e in (first, second, third)} == {first.exec_id[:-3]}
    assert (third.price, third.quantity, third.client_id) == (D("5.00"), D(90), 1)
    assert [row.quantity for row in exchange.positions(START)] == [90]
