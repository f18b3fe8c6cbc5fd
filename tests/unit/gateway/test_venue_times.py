"""When orders of the paper venue begin and end: time in force, dates, openings, hours, and what IB says about it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.unit.gateway.venue_desk import (
    EURUSD,
    MS,
    SECOND,
    START,
    changed,
    codes,
    executed,
    last_price,
    only,
    order,
    run,
    status_of,
    statuses,
    venue,
)
from trading.gateway.exchange import Exchange
from trading.gateway.model import Executed, OrderError

D = Decimal
NIGHT = START.replace(hour=3, minute=0, second=0)
OPEN = START.replace(hour=14, minute=30, second=0)


@pytest.fixture
def exchange() -> Exchange:
    return venue()


@pytest.fixture
def sleeping() -> Exchange:
    exchange = venue(hours="exchange", speed=1)
    exchange.advance(NIGHT)
    return exchange


class TestAtOnce:
    def test_immediate_or_cancel_takes_what_there_is_and_ends(self, exchange: Exchange) -> None:
        events = exchange.place(order(1, quantity=5000, tif="IOC"), START)
        assert 0 < executed(events) < 5000
        assert statuses(events) == ["PreSubmitted", "Submitted", "Cancelled"]
        assert codes(events) == [202]
        assert exchange.open_orders() == []

    def test_immediate_or_cancel_that_does_not_reach_the_market_ends_empty(self, exchange: Exchange) -> None:
        events = exchange.place(order(1, order_type="LMT", limit_price="1.00", tif="IOC"), START)
        assert executed(events) == 0
        assert statuses(events)[-1] == "Cancelled"

    def test_fill_or_kill_takes_all_or_nothing(self, exchange: Exchange) -> None:
        killed = exchange.place(order(1, quantity=5000, tif="FOK"), START)
        filled = exchange.place(order(2, quantity=100, tif="FOK"), START)
        assert (executed(killed), statuses(killed)[-1], codes(killed)) == (D(0), "Cancelled", [202])
        assert (executed(filled), statuses(filled)[-1]) == (D(100), "Filled")

    def test_all_or_none_waits_for_the_whole(self, exchange: Exchange) -> None:
        assert executed(exchange.place(order(1, quantity=1500, allOrNone=1), START)) in (0, 1500)
        events = run(exchange, START, START + 60 * SECOND)
        assert {e.execution.quantity for e in only(Executed, events)} <= {D(1500)}
        assert status_of(exchange, 1) == "Filled"

    def test_in_a_closed_market_they_end_at_once(self, sleeping: Exchange) -> None:
        assert statuses(sleeping.place(order(1, tif="IOC"), NIGHT))[-1] == "Cancelled"

    @pytest.mark.parametrize("kind", ["STP", "MIT"])
    def test_they_are_for_orders_that_work_at_once(self, exchange: Exchange, kind: str) -> None:
        assert codes(exchange.place(order(1, order_type=kind, aux_price="1.00", tif="IOC"), START)) == [111]


class TestDates:
    @pytest.mark.parametrize(
        ("text", "lives", "ends"),
        [
            ("20261118-15:31:10", 59, 60),
            ("20261118 10:31:10 US/Eastern", 59, 60),
            ("20261118 10:31:10", 59, 60),  # the instrument's zone
            ("20261118", 48_589, 48_590),  # that day in New York
            ("20261120 10:30:10 US/Eastern", 2 * 86_400 - 1, 2 * 86_400),
        ],
    )
    def test_good_till_date_ends_then(self, exchange: Exchange, text: str, lives: int, ends: int) -> None:
        exchange.place(order(1, order_type="LMT", limit_price="1.00", tif="GTD", goodTillDate=text), START)
        assert exchange.advance(START + lives * SECOND) == []
        assert statuses(exchange.advance(START + ends * SECOND)) == ["Cancelled"]

    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            ({"tif": "GTD"}, 334),
            ({"tif": "GTD", "goodTillDate": "20261118-15:30:10"}, 334),
            ({"tif": "GTD", "goodTillDate": "tomorrow"}, 337),
            ({"tif": "GTD", "goodTillDate": "20261118 10:31:10 Nowhere/Land"}, 337),
            ({"goodAfterTime": "noon"}, 337),
            ({"tif": "GTD", "goodAfterTime": "20261119-10:00:00", "goodTillDate": "20261119-09:00:00"}, 334),
        ],
    )
    def test_dates_that_make_no_sense_are_refused(self, exchange: Exchange, fields: dict[str, Any], code: int) -> None:
        assert codes(exchange.place(order(1, order_type="LMT", limit_price="1.00", **fields), START)) == [code]

    def test_good_after_time_sleeps_until_then(self, exchange: Exchange) -> None:
        events = exchange.place(order(1, goodAfterTime="20261118-15:31:10"), START)
        assert (statuses(events), codes(events)) == (["PreSubmitted"], [399])
        later = START + 60 * SECOND
        assert executed(run(exchange, START, later - MS, 10 * SECOND)) == 0
        ask = exchange.quote(756733, later).ask
        assert [e.execution.price for e in only(Executed, exchange.advance(later))] == [ask]

    def test_what_was_before_does_not_trigger_a_later_stop(self, exchange: Exchange) -> None:
        low = min(last_price(venue(), START + n * SECOND) for n in range(60))
        after = last_price(venue(), START + 60 * SECOND)
        stop = low if low < after else after - D("0.01")
        fields: dict[str, Any] = {"order_type": "STP", "aux_price": stop, "goodAfterTime": "20261118-15:31:10"}
        exchange.place(order(1, "SELL", **fields), START)
        assert executed(exchange.advance(START + 60 * SECOND)) == 0

    def test_a_modification_moves_the_date(self, exchange: Exchange) -> None:
        fields: dict[str, Any] = {"order_type": "LMT", "limit_price": "1.00", "tif": "GTD"}
        request = order(1, **fields, goodTillDate="20261118-15:31:10")
        exchange.place(request, START)
        exchange.place(changed(request, echo={"goodTillDate": "20261118-15:32:10"}), START)
        assert exchange.advance(START + 119 * SECOND) == []
        assert statuses(exchange.advance(START + 120 * SECOND)) == ["Cancelled"]


class TestTheOpening:
    def test_an_order_for_the_opening_gets_its_price(self, sleeping: Exchange) -> None:
        events = sleeping.place(order(1, quantity=2000, tif="OPG"), NIGHT)
        assert (statuses(events), codes(events)) == (["PreSubmitted"], [399])
        assert executed(run(sleeping, NIGHT, OPEN - SECOND, timedelta(hours=1))) == 0
        events = sleeping.advance(OPEN)
        assert executed(events) == 2000
        assert [e.execution.price for e in only(Executed, events)] == [last_price(sleeping, OPEN)]

    def test_a_limit_beyond_the_opening_price_ends_there(self, sleeping: Exchange) -> None:
        sleeping.place(order(1, order_type="LMT", limit_price="1.00", tif="OPG"), NIGHT)
        events = sleeping.advance(OPEN)
        assert (executed(events), statuses(events), codes(events)) == (D(0), ["Cancelled"], [202])

    def test_during_the_session_it_waits_for_the_next_one(self, sleeping: Exchange) -> None:
        sleeping.advance(START)
        sleeping.place(order(1, tif="OPG"), START)
        assert executed(sleeping.advance(OPEN + timedelta(hours=23, minutes=59))) == 0
        assert executed(sleeping.advance(OPEN + timedelta(days=1))) == 100

    def test_just_before_it_the_exchange_takes_none(self, sleeping: Exchange) -> None:
        assert codes(sleeping.place(order(1, tif="OPG"), OPEN - timedelta(minutes=2))) == [201]

    @pytest.mark.parametrize(
        ("fields", "code"), [({"contract": EURUSD}, 321), ({"order_type": "STP", "aux_price": "1.00"}, 111)]
    )
    def test_it_is_for_market_and_limit_orders_of_stocks(
        self, exchange: Exchange, fields: dict[str, Any], code: int
    ) -> None:
        assert codes(exchange.place(order(1, tif="OPG", **fields), START)) == [code]


class TestNotices:
    def test_a_market_order_outside_regular_hours_is_told_that_the_wish_is_ignored(self, sleeping: Exchange) -> None:
        events = sleeping.place(order(1, outside_rth=True), NIGHT)
        assert codes(events) == [2109, 399]
        assert "ignored based on the order type" in only(OrderError, events)[0].text
        assert executed(sleeping.advance(OPEN - timedelta(hours=1))) == 0
        assert executed(sleeping.advance(OPEN)) == 100

    def test_a_limit_order_works_outside_regular_hours_without_a_word(self, sleeping: Exchange) -> None:
        early = OPEN - timedelta(hours=1)
        sleeping.advance(early)
        fields: dict[str, Any] = {"order_type": "LMT", "limit_price": "900.00"}
        events = sleeping.place(order(1, outside_rth=True, **fields), early)
        assert executed(events) == 100
        assert codes(events) == []
        assert codes(sleeping.place(order(2, **fields), early)) == [399]

    def test_the_preset_speaks_only_when_it_is_there_and_was_needed(self) -> None:
        for preset, tif, said in ((True, "", [10349]), (True, "DAY", []), (False, "", [])):
            events = venue(tif_preset=preset).place(order(1, tif=tif), START)
            assert codes(events) == said
            assert executed(events) == 100
