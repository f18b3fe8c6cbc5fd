"""Brackets and OCA groups at the paper venue."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.unit.gateway.venue_desk import (
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
from trading.gateway.model import Executed, ExecutionFilter, OrderChanged, OrderSnapshot

D = Decimal
FAR = {"order_type": "LMT", "limit_price": "1.00"}


@pytest.fixture
def exchange() -> Exchange:
    return venue()


def working(exchange: Exchange) -> dict[int, OrderSnapshot]:
    """Working orders of client 1 by order id."""
    return {o.request.order_id: o for o in exchange.open_orders(1)}


def bracket(exchange: Exchange, parent: dict[str, Any], *, size: int = 100, target: str, stop: str) -> list[Any]:
    """A purchase with a target and a stop, both as distances from the price."""
    price = last_price(exchange)
    exchange.place(order(1, quantity=size, transmit=False, **parent), START)
    exits: dict[str, Any] = {"quantity": size, "parent_id": 1}
    exchange.place(order(2, "SELL", transmit=False, order_type="LMT", limit_price=price + D(target), **exits), START)
    return exchange.place(order(3, "SELL", order_type="STP", aux_price=price + D(stop), **exits), START)


class TestBrackets:
    def test_children_form_a_group_named_by_their_parent(self, exchange: Exchange) -> None:
        bracket(exchange, FAR, target="5", stop="-5")
        orders = working(exchange)
        parent = str(orders[1].perm_id)
        assert [orders[n].request.oca_group for n in (1, 2, 3)] == ["", parent, parent]
        assert [orders[n].status for n in (2, 3)] == ["PreSubmitted", "PreSubmitted"]

    def test_the_stop_that_fills_ends_the_target(self, exchange: Exchange) -> None:
        bracket(exchange, {}, target="50", stop="-0.05")
        events = run(exchange, START, START + 600 * SECOND)
        assert [e.execution.order_id for e in only(Executed, events)] == [3]
        assert (status_of(exchange, 2), status_of(exchange, 3)) == ("Cancelled", "Filled")
        assert [p.quantity for p in exchange.positions(START + 600 * SECOND)] == [0]

    def test_when_one_look_reaches_both_the_stop_counts(self) -> None:
        exchange = venue()
        bracket(exchange, {}, target="0.03", stop="-0.03")
        events = exchange.advance(START + 600 * SECOND)
        assert [e.execution.order_id for e in only(Executed, events)] == [3]

    def test_a_partly_filled_child_shrinks_its_sibling(self, exchange: Exchange) -> None:
        bracket(exchange, {}, size=1000, target="50", stop="-50")
        run(exchange, START, START + 30 * SECOND)
        assert working(exchange)[3].request.quantity == 1000
        market = last_price(exchange, START + 30 * SECOND)
        target = working(exchange)[2].request
        now = START + 30 * SECOND
        events = exchange.place(changed(target, limit_price=market - 1), now)
        sold = executed(events)
        if sold < 1000:
            assert working(exchange)[3].remaining == 1000 - sold
        run(exchange, now, now + 60 * SECOND)
        assert (status_of(exchange, 2), status_of(exchange, 3)) == ("Filled", "Cancelled")
        assert [p.quantity for p in exchange.positions(now + 60 * SECOND)] == [0]

    def test_a_parent_cancelled_after_a_partial_fill_leaves_exits_for_what_it_bought(self, exchange: Exchange) -> None:
        bracket(exchange, {"order_type": "MKT", "tif": "IOC"}, size=4000, target="50", stop="-50")
        bought = working(exchange)[2].request.quantity
        assert 0 < bought < 4000
        assert bought == sum(e.quantity for e, _ in exchange.executions(ExecutionFilter()))
        assert {o.request.quantity for o in working(exchange).values()} == {bought}
        assert set(working(exchange)) == {2, 3}

    def test_children_of_a_partly_filled_parent_wait(self, exchange: Exchange) -> None:
        price = last_price(exchange)
        exchange.place(order(1, quantity=5000, transmit=False), START)
        child: dict[str, Any] = {"parent_id": 1, "order_type": "LMT", "limit_price": price - 50}
        events = exchange.place(order(2, "SELL", quantity=5000, **child), START)
        assert 0 < executed(events) < 5000
        assert {e.execution.order_id for e in only(Executed, events)} == {1}
        assert working(exchange)[2].status == "PreSubmitted"

    def test_a_child_on_close_whose_parent_filled_after_it_ends(self, exchange: Exchange) -> None:
        close = START.replace(hour=21, minute=0, second=0)
        price = last_price(venue(), close + SECOND)
        exchange.place(order(1, order_type="LMT", limit_price="1.00", transmit=False), START)
        exchange.place(order(2, "SELL", parent_id=1, order_type="MOC"), START)
        assert executed(exchange.advance(close + SECOND)) == 0
        request = order(1, order_type="LMT", limit_price=price + 50)
        assert executed(exchange.place(request, close + SECOND)) == 100
        assert codes(exchange.advance(close + 2 * SECOND)) == [202]
        assert status_of(exchange, 2) == "Cancelled"

    def test_an_expired_parent_takes_its_children_along(self, exchange: Exchange) -> None:
        bracket(exchange, {**FAR, "tif": "DAY"}, target="5", stop="-5")
        events = exchange.advance(START + timedelta(days=1))
        assert codes(events) == [202, 202, 202]

    def test_a_parent_refused_for_margin_takes_its_children_along(self, exchange: Exchange) -> None:
        events = bracket(exchange, {}, size=10_000, target="5", stop="-5")
        assert codes(events) == [201, 202, 202]
        assert exchange.open_orders() == []

    @pytest.mark.parametrize(("parent", "code"), [(77, 135), (1, 10006)])
    def test_a_child_without_a_living_parent_is_refused(self, exchange: Exchange, parent: int, code: int) -> None:
        exchange.place(order(1), START)
        assert codes(exchange.place(order(2, "SELL", parent_id=parent, **FAR), START)) == [code]

    def test_cancelling_one_child_leaves_the_other(self, exchange: Exchange) -> None:
        bracket(exchange, FAR, target="5", stop="-5")
        assert codes(exchange.cancel(1, 2, START)) == [202]
        assert set(working(exchange)) == {1, 3}

    def test_a_child_is_changed_with_or_without_its_group(self, exchange: Exchange) -> None:
        bracket(exchange, FAR, target="5", stop="-5")
        shown = working(exchange)[3].request
        for request in (shown, changed(shown, oca_group="")):
            assert codes(exchange.place(changed(request, aux_price=D("5.00")), START)) == []
        assert working(exchange)[3].request.oca_group == shown.oca_group
        assert codes(exchange.place(changed(shown, oca_group="mine"), START)) == [10326]
        assert codes(exchange.place(changed(shown, echo={"ocaType": "1"}), START)) == [10327]
        assert codes(exchange.place(changed(shown, parent_id=0), START)) == [10341]

    def test_untransmitted_orders_are_gone_when_cancelled_and_can_be_released_by_a_modification(
        self, exchange: Exchange
    ) -> None:
        held = order(1, transmit=False)
        assert exchange.place(held, START) == []
        assert executed(exchange.place(changed(held, transmit=True), START)) == 100
        exchange.place(order(2, transmit=False), START)
        assert codes(exchange.cancel(1, 2, START)) == [202]
        assert exchange.open_orders() == []


class TestGroups:
    @pytest.mark.parametrize("kind", [1, 2, 3])
    def test_a_fill_ends_the_others(self, exchange: Exchange, kind: int) -> None:
        group: dict[str, Any] = {"oca_group": "pair", "ocaType": kind}
        exchange.place(order(1, **FAR, **group), START)
        exchange.place(order(1, client_id=2, **FAR, **group), START)
        events = exchange.place(order(3, **group), START)
        assert executed(events) == 100
        assert codes(events) == [202, 202]
        assert exchange.open_orders() == []

    @pytest.mark.parametrize(("kind", "reduced"), [(1, False), (2, True), (3, True)])
    def test_a_partial_fill_cancels_or_reduces_in_proportion(
        self, exchange: Exchange, kind: int, reduced: bool
    ) -> None:
        group: dict[str, Any] = {"oca_group": "pair", "ocaType": kind}
        exchange.place(order(1, quantity=1000, **FAR, **group), START)
        events = exchange.place(order(2, quantity=5000, **group), START)
        filled = executed(events)
        assert 0 < filled < 5000
        if reduced:
            left = working(exchange)[1]
            assert left.remaining == 1000 * (5000 - filled) // 5000
            assert statuses([e for e in only(OrderChanged, events) if e.order.request.order_id == 1]) == ["Submitted"]
        else:
            assert status_of(exchange, 1) == "Cancelled"

    @pytest.mark.parametrize(("kind", "filled"), [(1, 100), (2, 100), (3, 200)])
    def test_only_a_group_without_block_overfills_in_one_look(self, exchange: Exchange, kind: int, filled: int) -> None:
        price = last_price(exchange)
        group: dict[str, Any] = {"oca_group": "both", "ocaType": kind}
        exchange.place(order(1, order_type="STP", aux_price=price + D("0.03"), **group), START)
        exchange.place(order(2, order_type="LMT", limit_price=price - D("0.03"), **group), START)
        assert executed(exchange.advance(START + 600 * SECOND)) == filled
        assert exchange.open_orders() == []

    def test_a_member_that_is_also_a_child_of_another_ends_once(self, exchange: Exchange) -> None:
        group: dict[str, Any] = {"oca_group": "a", "ocaType": 1}
        exchange.place(order(1, **FAR, **group), START)
        exchange.place(order(2, parent_id=1, **group), START)
        events = exchange.place(order(3, **group), START)
        assert codes(events) == [202, 202]

    def test_nobody_joins_a_group_that_is_filled(self, exchange: Exchange) -> None:
        exchange.place(order(1, oca_group="done"), START)
        assert codes(exchange.place(order(2, oca_group="done", **FAR), START)) == [201]

    def test_cancelling_a_member_leaves_the_others(self, exchange: Exchange) -> None:
        for order_id in (1, 2):
            exchange.place(order(order_id, oca_group="pair", **FAR), START)
        exchange.cancel(1, 1, START)
        assert set(working(exchange)) == {2}

    def test_a_type_that_is_none_is_refused(self, exchange: Exchange) -> None:
        assert codes(exchange.place(order(1, oca_group="x", ocaType=4, **FAR), START)) == [321]
