"""Orders typed into TWS: nobody's until client 0 binds them, then client 0's under negative ids."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.unit.gateway.venue_desk import (
    SECOND,
    SPY_ID,
    START,
    changed,
    codes,
    commissions,
    executed,
    last_price,
    only,
    order,
    statuses,
    venue,
)
from trading.gateway.exchange import Exchange
from trading.gateway.model import Executed, ExecutionFilter, OrderBound, OrderChanged, OrderRequest, RequestError

D = Decimal


@pytest.fixture
def exchange() -> Exchange:
    return venue()


def typed(quantity: int = 100, **fields: Any) -> OrderRequest:
    """An order for SPY far from the market; client and id are the venue's business."""
    far: dict[str, Any] = {"order_type": "LMT", "limit_price": "1.00", "tif": "GTC"}
    return order(99, quantity=quantity, client_id=7, **{**far, **fields})


def test_a_typed_order_is_client_zeros_without_an_id(exchange: Exchange) -> None:
    events = exchange.place_manual(typed(), START)
    assert statuses(events) == ["PreSubmitted", "Submitted"]
    (shown,) = exchange.open_orders()
    assert (shown.request.client_id, shown.request.order_id, shown.manual) == (0, 0, True)
    assert shown.perm_id > 0
    assert exchange.open_orders(0) == [shown]
    assert (exchange.next_order_id(0), exchange.next_order_id(7)) == (1, 1)
    assert exchange.received_order_refs.total() == 0


def test_several_of_them_are_told_apart_by_their_perm_id(exchange: Exchange) -> None:
    for quantity in (1, 2, 3):
        exchange.place_manual(typed(quantity), START)
    shown = exchange.open_orders()
    assert [o.request.quantity for o in shown] == [1, 2, 3]
    assert len({o.perm_id for o in shown}) == 3


def test_it_executes_with_order_id_zero_and_a_commission(exchange: Exchange) -> None:
    events = exchange.place_manual(typed(order_type="MKT"), START)
    (execution,) = (e.execution for e in only(Executed, events))
    assert (execution.client_id, execution.order_id, execution.order_ref) == (0, 0, "")
    (told,) = commissions(exchange.advance(START + SECOND))
    assert told.commission.client_id == 0


def test_unbound_it_cannot_be_cancelled_or_modified(exchange: Exchange) -> None:
    exchange.place_manual(typed(), START)
    assert codes(exchange.cancel(0, 0, START)) == [136]
    assert codes(exchange.place(typed(50), START)) == []  # client 7's own order 99
    assert [o.request.quantity for o in exchange.open_orders(0)] == [100]


def test_binding_gives_negative_ids_once(exchange: Exchange) -> None:
    perm_ids = []
    for _ in range(2):
        exchange.place_manual(typed(), START)
        perm_ids.append(exchange.open_orders()[-1].perm_id)
    events = exchange.bind_manual(START)
    assert [(e.perm_id, e.client_id, e.order_id) for e in only(OrderBound, events)] == [
        (perm_ids[0], 0, -1),
        (perm_ids[1], 0, -2),
    ]
    assert [e.order.request.order_id for e in only(OrderChanged, events)] == [-1, -2]
    assert exchange.bind_manual(START) == []


def test_bound_it_is_changed_and_cancelled_like_any_other(exchange: Exchange) -> None:
    exchange.place_manual(typed(), START)
    exchange.bind_manual(START)
    request = exchange.open_orders()[0].request
    assert codes(exchange.place(changed(request, quantity=D(50)), START)) == []
    assert exchange.open_orders()[0].request.quantity == 50
    events = exchange.place(changed(request, quantity=D(50), limit_price=last_price(exchange) + 1), START)
    assert [e.execution.order_id for e in only(Executed, events)] == [-1]
    exchange.place_manual(typed(), START)
    exchange.bind_manual(START)
    assert codes(exchange.cancel(0, -2, START)) == [202]
    assert codes(exchange.cancel(1, -2, START)) == [10147]


def test_with_auto_binding_it_is_bound_before_it_works(exchange: Exchange) -> None:
    exchange.auto_bind(True)
    events = exchange.place_manual(typed(order_type="MKT"), START)
    assert isinstance(events[0], OrderBound)
    assert [e.execution.order_id for e in only(Executed, events)] == [-1]
    exchange.auto_bind(False)
    exchange.place_manual(typed(), START)
    assert exchange.open_orders()[0].request.order_id == 0


def test_what_ib_refuses_the_person_in_tws_hears_of(exchange: Exchange) -> None:
    with pytest.raises(RequestError) as refused:
        exchange.place_manual(typed(limit_price="1.001"), START)
    assert refused.value.code == 110
    assert exchange.open_orders() == []


def test_a_person_cancels_anybodys_order(exchange: Exchange) -> None:
    exchange.place(typed(), START)
    exchange.place_manual(typed(), START)
    for shown, said in zip(exchange.open_orders(), ([202], []), strict=True):
        events = exchange.cancel_by_hand(shown.perm_id, START)
        assert statuses(events) == ["Cancelled"]
        assert codes(events) == said  # of an order without an id nothing can be said
    with pytest.raises(RequestError):
        exchange.cancel_by_hand(1, START)


def test_completed_orders_of_the_api_leave_it_out(exchange: Exchange) -> None:
    exchange.place_manual(typed(order_type="MKT"), START)
    exchange.place(typed(order_type="MKT"), START)
    assert [o.manual for o in exchange.completed_orders(api_only=False)] == [True, False]
    assert [o.manual for o in exchange.completed_orders(api_only=True)] == [False]


def test_a_global_cancel_ends_it_too(exchange: Exchange) -> None:
    exchange.place_manual(typed(), START)
    assert statuses(exchange.global_cancel(START)) == ["Cancelled"]
    assert exchange.open_orders() == []


def test_ids_bindings_and_perm_ids_survive_restarts(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    first = venue(state_file=path)
    first.place_manual(typed(1), START)
    first.bind_manual(START)
    first.place_manual(typed(2), START)
    shown = first.open_orders()
    again = venue(state_file=path)
    assert again.open_orders() == shown
    again.save()
    third = venue(state_file=path)
    assert third.open_orders() == shown
    assert [e.order_id for e in only(OrderBound, third.bind_manual(START))] == [-2]
    third.cancel(0, -1, START)
    third.cancel(0, -2, START)
    tomorrow = START + timedelta(days=1)
    third.advance(tomorrow)
    third.place_manual(typed(3), tomorrow)
    assert [e.order_id for e in only(OrderBound, third.bind_manual(tomorrow))] == [-3]


def test_a_trade_by_hand_has_the_next_negative_id(exchange: Exchange) -> None:
    exchange.place_manual(typed(), START)
    exchange.bind_manual(START)
    events = exchange.trade_by_hand(SPY_ID, D(5))
    assert [e.execution.order_id for e in only(Executed, events)] == [-2]
    assert exchange.executions(ExecutionFilter())[-1][0].quantity == 5


def test_a_typed_bracket_is_no_bracket(exchange: Exchange) -> None:
    exchange.place(order(1, order_type="LMT", limit_price="1.00"), START)
    events = exchange.place_manual(typed(order_type="MKT", parent_id=1, transmit=False), START)
    assert executed(events) == 100
