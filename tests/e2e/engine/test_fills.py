"""Fills end up with their owners, once, whatever happens to engine, gateway and connections meanwhile."""

from __future__ import annotations

import threading
from decimal import Decimal

import pytest

from portfolio.models import CashBalance, Execution, Movement, MovementKind
from tests.e2e.engine.harness import DISCRETIONARY, Rig, ledger_executions, position, until
from trading.models import EngineEvent, Order

pytestmark = pytest.mark.e2e


def test_two_strategies_in_one_instrument_own_their_own_fills(rig: Rig) -> None:
    rig.strategy("ALPHA", weight="0.3")
    rig.strategy("BETA", weight="0.2")
    engine = rig.engine()
    alpha, beta = rig.start(engine, "ALPHA"), rig.start(engine, "BETA")
    rig.trade(alpha, "SPY", 60)
    rig.trade(beta, "SPY", 40)
    rig.trade(alpha, "SPY", -10)
    rig.assert_books_equal_broker()
    assert [position(owner, "SPY") for owner in ("ALPHA", "BETA")] == [Decimal(50), Decimal(40)]
    for owner, start in (("ALPHA", Decimal(300_000)), ("BETA", Decimal(200_000))):
        flows = sum(
            (-row.quantity * row.price - (row.commission or 0) for row in Execution.objects.filter(owner=owner)),
            Decimal(0),
        )
        assert CashBalance.objects.get(owner=owner, currency="USD").amount == start + flows


def test_a_fill_is_told_to_the_pages_in_the_transaction_of_its_booking(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = rig.engine()
    ticket = rig.trade(rig.start(engine, "ALPHA"), "SPY", 5)
    rig.assert_books_equal_broker()
    kinds = {"fill", "commission", "order", "position", "cash"}
    events = list(EngineEvent.objects.filter(kind__in=kinds, strategy="ALPHA"))
    assert {event.kind for event in events} == kinds
    told = [event.payload for event in events if event.kind == "fill"]
    assert {row["order_ref"] for row in told} == {ticket.order_ref}
    assert sum(Decimal(row["quantity"]) for row in told) == 5
    assert told[-1]["position"] == "5"
    last_order = [event.payload for event in events if event.kind == "order"][-1]
    assert (last_order["state"], last_order["filled"]) == ("filled", "5")


def test_a_manual_trade_is_discretionary(rig: Rig) -> None:
    rig.engine()
    rig.inject("SPY", 3)
    until(lambda: position(DISCRETIONARY, "SPY") == 3)
    rig.assert_books_equal_broker()


def test_fills_while_the_engine_is_down_are_booked_at_the_next_start(rig: Rig) -> None:
    rig.strategy("ALPHA")
    first = rig.engine()
    ticket = rig.trade(rig.start(first, "ALPHA"), "SPY", 2)
    first.cleanup(1.0)
    rig.inject("SPY", 25, order_ref=ticket.order_ref, client_id=1)
    rig.engine()
    rig.assert_books_equal_broker()
    assert position("ALPHA", "SPY") == 27


def test_opening_balances_do_not_count_what_was_traded_before_the_first_start_twice(rig: Rig) -> None:
    rig.inject("SPY", 10)
    rig.engine()
    rig.assert_books_equal_broker()
    assert position(DISCRETIONARY, "SPY") == 10
    assert not Movement.objects.filter(kind=MovementKind.OPENING, instrument__isnull=False).exists()


def test_fills_while_the_gateway_is_away_are_replayed_and_orders_flow_again(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    ticket = rig.trade(alpha, "SPY", 1)
    rig.stop_server()
    until(lambda: not engine.gate.is_open)
    rig.inject("SPY", 12, order_ref=ticket.order_ref, client_id=1, publish=False)
    rig.start_server()
    assert engine.gate.wait_open(20.0)
    until(lambda: position("ALPHA", "SPY") == 13)
    until(lambda: alpha.is_connected and alpha.reconnects == 1)
    rig.trade(alpha, "SPY", -3)
    rig.assert_books_equal_broker()
    assert position("ALPHA", "SPY") == 10


def test_a_burst_of_fills_is_booked_completely_and_once(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = rig.engine()
    ticket = rig.trade(rig.start(engine, "ALPHA"), "SPY", 1)
    rig.inject("SPY", 3000, order_ref=ticket.order_ref, client_id=1)
    until(lambda: position("ALPHA", "SPY") == 3001, 30.0)
    rig.assert_books_equal_broker()
    assert Execution.objects.count() == len(ledger_executions())
    assert engine.session.copies_skipped >= 3000  # client 0 heard them as well


def test_fills_of_a_strategy_whose_loop_is_blocked_are_booked_through_the_drop_copy(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    ticket = rig.trade(alpha, "SPY", 1)
    unblock = threading.Event()
    alpha._loop.call_soon_threadsafe(unblock.wait, 20.0)
    try:
        rig.inject("SPY", 300, order_ref=ticket.order_ref, client_id=1)
        until(lambda: position("ALPHA", "SPY") == 301, 10.0)
        assert not Execution.objects.filter(owner=DISCRETIONARY).exists()
    finally:
        unblock.set()
    rig.assert_books_equal_broker()


def test_orders_of_an_unknown_end_are_never_sent_again(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    rig.trade(alpha, "SPY", 1)
    rig.stop_server()
    until(lambda: not engine.gate.is_open)
    rig.start_server()
    assert engine.gate.wait_open(20.0)
    refs = rig.gateway.call(lambda: dict(rig.gateway.venue.received_order_refs))
    assert set(refs.values()) == {1}
    assert set(Order.objects.values_list("order_ref", flat=True)) == set(refs)
