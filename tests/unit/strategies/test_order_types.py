"""What each order type needs, and how it looks on IB's wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from ib_async import IB, Contract, Order, Stock

from strategies.exceptions import OrderDeniedError
from strategies.order_types import TYPES, Terms, check_terms
from strategies.sizing import order_of
from trading.gateway.protocol_fields import FieldReader
from trading.gateway.protocol_place_order import read_place_order
from trading.ib import mapping
from trading.ib.line import _Scribe

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
D = Decimal
WHOLE: dict[str, Terms] = {
    "MKT": Terms("MKT"),
    "LMT": Terms("LMT", limit=D("101.25")),
    "STP": Terms("STP", stop=D(99)),
    "STP LMT": Terms("STP LMT", limit=D("98.5"), stop=D(99)),
    "TRAIL": Terms("TRAIL", trail_percent=D("1.5")),
    "TRAIL LIMIT": Terms("TRAIL LIMIT", trail=D(2), stop=D(98), limit_offset=D("0.1")),
    "MOC": Terms("MOC"),
    "LOC": Terms("LOC", limit=D(100)),
    "MIT": Terms("MIT", stop=D(95)),
    "LIT": Terms("LIT", limit=D(94), stop=D(95)),
}
IN_WIRE = {
    "LMT": {"lmt": "101.25"},
    "STP": {"aux": "99.0"},
    "STP LMT": {"lmt": "98.5", "aux": "99.0"},
    "LOC": {"lmt": "100.0"},
    "MIT": {"aux": "95.0"},
    "LIT": {"lmt": "94.0", "aux": "95.0"},
}


def frame(order: Order, contract: Contract | None = None) -> list[str]:
    """Return the fields of the message that ib_async sends for an order."""
    scribe: Any = _Scribe(178)
    order.orderId = 7
    scribe.placeOrder(7, contract or Stock("AAPL", "SMART", "USD", conId=265598), order)
    [message] = scribe.frames
    return str(message[4:].decode()).split("\0")[:-1]


@pytest.mark.parametrize("name", TYPES)
def test_every_type_is_built_and_carries_its_prices_in_ibs_places(name: str) -> None:
    fields = frame(order_of(D(-10), WHOLE[name]))
    assert (fields[16], fields[17], fields[18]) == ("SELL", "10", name)
    wanted = IN_WIRE.get(name, {})
    assert (fields[19], fields[20]) == (
        wanted.get("lmt", ""),
        wanted.get("aux", "2.0" if name == "TRAIL LIMIT" else ""),
    )


@pytest.mark.parametrize("name", TYPES)
def test_every_type_is_read_back_as_it_was_meant(name: str) -> None:
    terms = WHOLE[name]
    order = order_of(D(10), terms)
    assert (mapping.limit_of(order), mapping.stop_of(order)) == (terms.limit, terms.stop)
    assert mapping.trail_of(order) == terms.trail
    percent = mapping.to_optional_decimal(order.trailingPercent)
    assert percent == terms.trail_percent


def test_gateway_reads_the_trailing_fields_where_ib_has_them() -> None:
    fields = frame(order_of(D(-10), WHOLE["TRAIL LIMIT"]))
    reader = FieldReader(fields)
    placed = read_place_order(reader, 178)
    reader.finish()
    assert (placed.order_type, placed.aux_price) == ("TRAIL LIMIT", D(2))
    assert {name: placed.echo[name] for name in ("trailStopPrice", "lmtPriceOffset")} == {
        "trailStopPrice": "98.0",
        "lmtPriceOffset": "0.1",
    }


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        (Terms("LMT"), "limit_missing"),
        (Terms("LMT", limit=D(0)), "limit_missing"),
        (Terms("STP"), "stop_missing"),
        (Terms("STP LMT", limit=D(1)), "stop_missing"),
        (Terms("TRAIL"), "trail_missing"),
        (Terms("TRAIL", trail=D(1), trail_percent=D(1)), "trail_missing"),
        (Terms("TRAIL", trail=D(-1)), "bad_trail"),
        (Terms("TRAIL", trail_percent=D(100)), "bad_trail"),
        (Terms("TRAIL LIMIT", trail=D(1), stop=D(9)), "offset_missing"),
        (Terms("MKT", trail=D(1)), "bad_trail"),
        (Terms("ICEBERG"), "unknown_order_type"),
        (Terms("MKT", tif="EVER"), "unknown_tif"),
        (Terms("MOC", tif="GTC"), "bad_tif"),
        (Terms("STP", stop=D(1), tif="IOC"), "bad_tif"),
        (Terms("LMT", limit=D(1), tif="GTD"), "good_till_missing"),
        (Terms("LMT", limit=D(1), good_till=NOON), "good_till_missing"),
        (Terms("MKT", good_after=NOON.replace(tzinfo=None)), "naive_time"),
        (Terms("LMT", limit=D(1), tif="GTD", good_till=NOON, good_after=NOON), "bad_times"),
        (Terms("MOC", outside_rth=True), "bad_rth"),
    ],
)
def test_terms_that_do_not_fit_are_refused_by_name(terms: Terms, code: str) -> None:
    with pytest.raises(OrderDeniedError) as caught:
        check_terms(terms)
    assert caught.value.code == code


def test_times_are_utc_on_the_wire_and_survive_ibs_own_zone() -> None:
    tokyo = NOON + timedelta(hours=1)
    order = order_of(D(1), Terms("LMT", limit=D(1), tif="GTD", good_till=tokyo, good_after=NOON))
    assert (order.goodTillDate, order.goodAfterTime) == ("20260302-13:00:00", "20260302-12:00:00")
    assert mapping.moment_of(order.goodTillDate) == tokyo
    assert mapping.moment_of("20260302 08:00:00 America/New_York") == datetime(2026, 3, 2, 13, tzinfo=UTC)
    assert mapping.moment_of("20260302 08:00:00 Nowhere/Else") is None
    assert mapping.moment_of("20260302 08:00:00") is None, "a zone that is not said is not guessed"
    assert mapping.moment_of("") is None


def test_adaptive_is_asked_for_only_where_ib_has_it() -> None:
    assert order_of(D(1), Terms("MKT"), algo=True, urgency="Urgent").algoStrategy == "Adaptive"
    for terms in (WHOLE["MOC"], WHOLE["STP"], Terms("LMT", limit=D(1), tif="IOC")):
        assert order_of(D(1), terms, algo=True).algoStrategy == ""


def test_outside_hours_only_where_the_type_allows_it() -> None:
    assert order_of(D(1), WHOLE["LMT"]).outsideRth is True
    assert order_of(D(1), Terms("LMT", limit=D(1), outside_rth=False)).outsideRth is False
    assert order_of(D(1), WHOLE["MKT"]).outsideRth is False
    assert order_of(D(1), WHOLE["LMT"], algo=True).outsideRth is False


def test_ib_object_is_not_needed_to_write_a_message() -> None:
    assert IB().client.connState == 0
    assert frame(order_of(D(1), WHOLE["MKT"]))[0] == "3"
