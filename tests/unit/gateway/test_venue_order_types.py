"""Stops, trailing stops, if-touched and closing orders at the paper venue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.unit.gateway.venue_desk import (
    EURUSD,
    MS,
    SECOND,
    SPY_ID,
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
from trading.gateway.model import Contract, Executed, OrderChanged

D = Decimal
LATE = START + 600 * SECOND
CLOSE = START.replace(hour=21, minute=0, second=0)


@pytest.fixture
def exchange() -> Exchange:
    return venue()


def prices(events: list[Any]) -> list[Decimal]:
    """Prices of the executions."""
    return [event.execution.price for event in only(Executed, events)]


@pytest.mark.parametrize(
    ("kind", "side", "trigger", "limit"),
    [
        ("STP LMT", "SELL", "-0.10", "-0.60"),
        ("STP LMT", "BUY", "0.10", "0.60"),
        ("MIT", "BUY", "-0.10", None),
        ("MIT", "SELL", "0.10", None),
        ("LIT", "BUY", "-0.10", "-0.05"),
        ("LIT", "SELL", "0.10", "0.05"),
    ],
)
def test_a_conditional_order_waits_presubmitted_for_its_trigger(
    exchange: Exchange, kind: str, side: str, trigger: str, limit: str | None
) -> None:
    price = last_price(exchange)
    fields: dict[str, Any] = {} if limit is None else {"limit_price": price + D(limit)}
    events = exchange.place(order(1, side, order_type=kind, aux_price=price + D(trigger), **fields), START)
    assert statuses(events) == ["PreSubmitted"]
    events = run(exchange, START, LATE)
    (paid,) = set(prices(events))
    assert statuses(events)[-1] == "Filled"
    if kind == "STP LMT":
        assert paid <= price + D(trigger) if side == "SELL" else paid >= price + D(trigger)
    if limit is not None:
        assert paid <= price + D(limit) if side == "BUY" else paid >= price + D(limit)
    else:
        assert abs(paid - price - D(trigger)) <= D("0.05")


def test_a_triggered_stop_limit_that_its_limit_holds_back_is_submitted(exchange: Exchange) -> None:
    price = last_price(exchange)
    fields: dict[str, Any] = {"aux_price": price - D("0.05"), "limit_price": price + 50}
    exchange.place(order(1, "SELL", order_type="STP LMT", **fields), START)
    events = run(exchange, START, LATE)
    assert statuses(events) == ["Submitted"]
    assert executed(events) == 0


def test_a_trailing_stop_follows_the_price_up_and_sells_when_it_turns(exchange: Exchange) -> None:
    exchange.place(order(1, "SELL", order_type="TRAIL", aux_price="0.20", tif="GTC"), START)
    shown: list[Decimal] = []
    events: list[Any] = []
    moment = START
    while not executed(events) and moment < LATE:
        moment += 50 * MS
        events = exchange.advance(moment)
        shown += [D(o.request.echo["trailStopPrice"]) for o in exchange.open_orders()]
    assert shown[0] == last_price(venue()) - D("0.20")
    assert shown == sorted(shown)
    assert shown[-1] > shown[0]
    assert prices(events)[0] <= shown[-1]
    assert statuses(events)[-1] == "Filled"


@pytest.mark.parametrize(
    ("side", "fields", "stop"),
    [
        ("SELL", {"trailingPercent": "1"}, None),
        ("SELL", {"aux_price": "0.50", "trailStopPrice": "5.25"}, D("5.25")),
        ("BUY", {"trailingPercent": "2"}, None),
    ],
)
def test_where_a_trailing_stop_begins(
    exchange: Exchange, side: str, fields: dict[str, Any], stop: Decimal | None
) -> None:
    price = last_price(exchange)
    exchange.place(order(1, side, order_type="TRAIL", **fields), START)
    (working,) = exchange.open_orders()
    begun = D(working.request.echo["trailStopPrice"])
    if stop is None:
        percent = D(fields["trailingPercent"]) / 100
        wanted = price * (1 - percent if side == "SELL" else 1 + percent)
        assert abs(begun - wanted) < D("0.01")
        assert begun <= wanted if side == "SELL" else begun >= wanted
        assert begun % D("0.01") == 0
    else:
        # It stands higher at once: the first look already trails from the price.
        assert begun >= stop


def test_a_trailing_limit_order_gets_no_less_than_its_offset_below_the_stop(exchange: Exchange) -> None:
    fields: dict[str, Any] = {"aux_price": "0.20", "lmtPriceOffset": "0.05"}
    exchange.place(order(1, "SELL", order_type="TRAIL LIMIT", **fields), START)
    events, stop = [], D(0)
    for number in range(1, 12_000):
        events = exchange.advance(START + number * 50 * MS)
        if executed(events):
            break
        stop = max(stop, *(D(o.request.echo["trailStopPrice"]) for o in exchange.open_orders()))
    assert prices(events)[0] >= stop - D("0.05")


def test_a_changed_distance_trails_anew_and_an_unchanged_one_keeps_its_stop(exchange: Exchange) -> None:
    request = order(1, "SELL", order_type="TRAIL", aux_price="5.00")
    exchange.place(request, START)
    run(exchange, START, START + 30 * SECOND)

    def stop() -> Decimal:
        return D(exchange.open_orders()[0].request.echo["trailStopPrice"])

    reached, now = stop(), START + 30 * SECOND
    exchange.place(changed(request, quantity=D(50)), now)
    assert stop() >= reached
    stale = {"trailStopPrice": str(reached - 1)}
    exchange.place(changed(request, quantity=D(50), echo=stale), now)
    assert stop() >= reached
    better = {"trailStopPrice": str(reached + 1)}
    exchange.place(changed(request, quantity=D(50), echo=better), now)
    assert stop() >= reached + 1
    exchange.place(changed(request, quantity=D(50), aux_price=D(10)), now)
    assert stop() == last_price(exchange, now) - 10


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"order_type": "TRAIL"}, 321),
        ({"order_type": "TRAIL", "aux_price": "0.20", "trailingPercent": "1"}, 321),
        ({"order_type": "TRAIL", "trailingPercent": "100"}, 321),
        ({"order_type": "TRAIL", "aux_price": "0.201"}, 110),
        ({"order_type": "TRAIL", "aux_price": "0.20", "trailStopPrice": "100.001"}, 110),
        ({"order_type": "TRAIL LIMIT", "aux_price": "0.20"}, 321),
        ({"order_type": "TRAIL LIMIT", "aux_price": "0.20", "lmtPriceOffset": "0.001"}, 110),
        ({"order_type": "STP LMT", "aux_price": "100.00"}, 321),
        ({"order_type": "STP LMT", "aux_price": "100.00", "limit_price": "100.001"}, 110),
        ({"order_type": "MIT"}, 321),
        ({"order_type": "LIT", "aux_price": "100.001", "limit_price": "100.00"}, 110),
        ({"order_type": "LOC"}, 321),
        ({"order_type": "MOC", "tif": "GTC"}, 113),
        ({"order_type": "MOC", "contract": EURUSD}, 387),
        ({"order_type": "PEG MID"}, 387),
    ],
)
def test_what_a_type_lacks_is_refused(exchange: Exchange, fields: dict[str, Any], code: int) -> None:
    assert codes(exchange.place(order(1, **fields), START)) == [code]
    assert exchange.open_orders() == []


@pytest.mark.parametrize("spelling", ["STPLMT", "STP LMT"])
def test_a_type_may_be_spelled_without_its_blank(exchange: Exchange, spelling: str) -> None:
    exchange.place(order(1, "SELL", order_type=spelling, aux_price="5.00", limit_price="4.00"), START)
    assert [o.request.order_type for o in exchange.open_orders()] == ["STP LMT"]


def test_ticks_are_those_of_the_market_rule(exchange: Exchange) -> None:
    penny = Contract(con_id=SPY_ID, exchange="SMART")
    assert codes(exchange.place(order(1, "SELL", order_type="MIT", aux_price="900.005", contract=penny), START)) == [
        110
    ]
    assert codes(exchange.place(order(2, order_type="STP", aux_price="1.12345", contract=EURUSD), START)) == [399]
    assert codes(exchange.place(order(3, order_type="STP", aux_price="1.123456", contract=EURUSD), START)) == [110]


class TestTheClose:
    def test_a_closing_order_fills_whole_at_the_closing_price(self, exchange: Exchange) -> None:
        exchange.place(order(1, quantity=2000, order_type="MOC"), START)
        assert executed(run(exchange, START, CLOSE - MS, timedelta(minutes=10))) == 0
        assert status_of(exchange, 1) == "PreSubmitted"
        events = exchange.advance(CLOSE)
        assert executed(events) == 2000
        assert prices(events) == [last_price(exchange, CLOSE)]

    def test_it_fills_at_that_price_also_when_nobody_looked_in_time(self, exchange: Exchange) -> None:
        exchange.place(order(1, order_type="MOC"), START)
        expected = last_price(venue(), CLOSE)
        events = exchange.advance(CLOSE + timedelta(minutes=20))
        assert prices(events) == [expected]
        assert only(Executed, events)[0].execution.time == CLOSE

    @pytest.mark.parametrize(("away", "filled"), [("1.00", 100), ("-1.00", 0)])
    def test_a_limit_on_close_fills_within_its_limit_or_ends(self, exchange: Exchange, away: str, filled: int) -> None:
        limit = last_price(venue(), CLOSE) + D(away)
        exchange.place(order(1, order_type="LOC", limit_price=limit), START)
        events = exchange.advance(CLOSE)
        assert executed(events) == filled
        assert status_of(exchange, 1) == ("Filled" if filled else "Cancelled")
        assert codes(events) == ([] if filled else [202])

    def test_after_the_deadline_nothing_is_taken_changed_or_cancelled(self, exchange: Exchange) -> None:
        request = order(1, order_type="MOC")
        exchange.place(request, START)
        late = CLOSE - timedelta(minutes=10)
        assert codes(exchange.place(order(2, order_type="MOC"), late)) == [201]
        assert codes(exchange.place(changed(request, quantity=D(50)), late)) == [201]
        assert codes(exchange.cancel(1, 1, late)) == [161]
        assert codes(exchange.global_cancel(late)) == []
        assert executed(exchange.advance(CLOSE)) == 100

    def test_before_the_deadline_it_is_changed_and_cancelled(self, exchange: Exchange) -> None:
        request = order(1, order_type="MOC")
        exchange.place(request, START)
        exchange.place(changed(request, quantity=D(50)), START)
        exchange.place(order(2, order_type="MOC"), START)
        assert codes(exchange.cancel(1, 2, START)) == [202]
        assert executed(exchange.advance(CLOSE)) == 50

    def test_after_the_close_it_is_for_the_next_day(self, exchange: Exchange) -> None:
        evening = CLOSE + timedelta(minutes=1)
        exchange.advance(evening)
        exchange.place(order(1, order_type="MOC"), evening)
        assert executed(exchange.advance(CLOSE + timedelta(hours=20))) == 0
        assert executed(exchange.advance(CLOSE + timedelta(days=1))) == 100

    def test_round_the_clock_saturday_has_a_close_and_by_exchange_hours_it_has_none(self) -> None:
        saturday = datetime(2026, 11, 21, 15, 0, tzinfo=UTC)
        for hours, filled in (("always", 100), ("exchange", 0)):
            exchange = venue(hours=hours, speed=1)
            exchange.advance(saturday)
            exchange.place(order(1, order_type="MOC"), saturday)
            assert executed(exchange.advance(saturday.replace(hour=21))) == filled

    def test_a_short_day_closes_early(self) -> None:
        exchange = venue(hours="exchange", speed=1)
        friday = datetime(2026, 11, 27, 16, 0, tzinfo=UTC)  # the day after Thanksgiving, until 13:00 New York
        exchange.advance(friday)
        exchange.place(order(1, order_type="MOC"), friday)
        assert executed(exchange.advance(friday.replace(hour=17, minute=59))) == 0
        assert executed(exchange.advance(friday.replace(hour=18))) == 100


def test_contract_details_list_what_the_exchange_takes(exchange: Exchange) -> None:
    (spy,) = exchange.resolve(Contract(con_id=SPY_ID, exchange="SMART"))
    assert {"MKT", "LMT", "STPLMT", "TRAILLMT", "MIT", "LIT", "MOC", "LOC", "OPG"} <= set(spy.order_types)
    (euro,) = exchange.resolve(EURUSD)
    assert "MOC" not in euro.order_types


def test_a_trigger_is_announced_with_its_order(exchange: Exchange) -> None:
    price = last_price(exchange)
    exchange.place(order(1, "SELL", quantity=3000, order_type="STP", aux_price=price - D("0.05")), START)
    events = run(exchange, START, LATE)
    assert [e.order.status for e in only(OrderChanged, events)][-1] == "Filled"
    assert executed(events) == 3000
