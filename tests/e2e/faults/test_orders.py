"""Orders and executions whose reports come late, twice, disordered, corrected, beyond the order, or not at all."""

from __future__ import annotations

from decimal import Decimal
from itertools import product

import pytest

from portfolio.models import Execution
from strategies.exceptions import OrderDeniedError
from tests.e2e.engine.harness import DISCRETIONARY, Rig, position, until
from tests.e2e.faults.truth import assert_books_hold, assert_sent_once, fault, open_again, started, state_of
from trading.models import Alert, Order, OrderEvent

pytestmark = pytest.mark.e2e


DISORDERS = (
    ("swap execDetails with=commissionReport count=all",),
    ("commission_delay 300ms",),
    ("lose commissionReport count=2",),
    ("lose commissionReport client=1 count=all",),
    ("dup_status all", "exec_before_status all"),
    ("drop_status all",),
    ("lose openOrder count=all", "drop_status all"),
)


def test_commissions_and_statuses_in_any_order_or_none_leave_exact_books(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = started(rig)
    alpha = rig.start(engine, "ALPHA")
    for turn, lines in enumerate(DISORDERS, 1):
        fault(rig, *lines)
        ticket = rig.place(alpha, "SPY", turn, 1000.0)
        held = turn * (turn + 1) // 2
        until(lambda: position("ALPHA", "SPY") == held, what=f"the fill is booked in spite of {lines}")  # noqa: B023 - now
        if "lose commissionReport count=2" in lines:
            rig.result(rig.do("reconcile"))  # asks for the day again
        assert_books_hold(rig, engine)
        until(lambda: state_of(ticket.order_ref) == "filled", what=f"{lines}")  # noqa: B023 - now
        fault(rig, "clear")
    assert_sent_once(rig)


def test_a_correction_replaces_what_it_corrects_also_the_second_one(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = started(rig)
    rig.trade(rig.start(engine, "ALPHA"), "SPY", 10)
    rig.assert_books_equal_broker()
    fault(rig, "fix quantity=7 price=100.5", "dup 3 execDetails", "fix quantity=8")
    until(lambda: position("ALPHA", "SPY") == 8)
    assert_books_hold(rig, engine)
    assert Execution.objects.filter(superseded=False).count() == 1


def test_a_partial_fill_that_crosses_its_cancel_is_kept(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = started(rig)
    alpha = rig.start(engine, "ALPHA")
    gaps = product(("execDetails", "orderStatus"), ("0", "30ms", "150ms"))
    for turn, (late, gap) in enumerate(gaps, 1):
        ref = rig.place(alpha, "SPY", 10 + turn, 1.0).order_ref
        until(lambda: state_of(ref) == "accepted")  # noqa: B023 - now
        fault(rig, f"lag {gap} {late} count=all", f"fill 3 ref={ref} price=1")
        rig.on_loop(alpha, alpha.broker.cancel_order(ref))
        until(lambda: state_of(ref) == "cancelled", what=f"{late} late by {gap}")  # noqa: B023 - now
        until(lambda: Order.objects.get(order_ref=ref).filled == Decimal(3))  # noqa: B023 - now
        until(lambda: position("ALPHA", "SPY") == 3 * turn)  # noqa: B023 - now
        fault(rig, "clear")
    assert_books_hold(rig, engine)


def test_an_order_that_its_exchange_refuses_after_all_ends_once(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = started(rig)
    ticket = rig.place(rig.start(engine, "ALPHA"), "SPY", 10, 1.0)
    until(lambda: state_of(ticket.order_ref) == "accepted")
    fault(rig, "dup 2 error count=all", "dup 2 orderStatus count=all", "reject 201")
    until(lambda: state_of(ticket.order_ref) == "rejected")
    rig.result(rig.do("reconcile"))
    assert state_of(ticket.order_ref) == "rejected"
    ends = OrderEvent.objects.filter(order__order_ref=ticket.order_ref, state="rejected")
    assert ends.values_list("state", flat=True).distinct().count() == 1
    assert_books_hold(rig, engine)


def test_an_order_that_never_arrived_is_known_as_such_after_the_next_look_and_not_sent_again(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = started(rig)
    alpha = rig.start(engine, "ALPHA")
    fault(rig, "lose placeOrder")
    ticket = rig.place(alpha, "SPY", 2, 1000.0)
    until(lambda: rig.gateway.fired("lose placeOrder") == 1)
    fault(rig, "drop")
    until(lambda: alpha.is_connected and alpha.reconnects == 1)
    open_again(engine)
    until(lambda: state_of(ticket.order_ref) in ("sent", "unknown", "cancelled"))
    assert_books_hold(rig, engine)
    assert position("ALPHA", "SPY") == 0
    assert ticket.order_ref not in rig.gateway.call(lambda: dict(rig.gateway.venue.received_order_refs))


def test_an_order_whose_every_answer_was_lost_is_booked_from_the_next_look(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = started(rig)
    alpha = rig.start(engine, "ALPHA")
    fault(rig, *(f"lose {name} count=all" for name in ("openOrder", "orderStatus", "execDetails", "commissionReport")))
    ticket = rig.place(alpha, "SPY", 2, 1000.0)
    until(lambda: rig.gateway.fired("lose execDetails count=all") >= 2)
    assert state_of(ticket.order_ref) in ("intent", "sent")
    fault(rig, "clear")
    until(lambda: position("ALPHA", "SPY") == 2, what="the comparison asks for the executions")
    until(lambda: state_of(ticket.order_ref) == "filled")
    assert_books_hold(rig, engine)
    assert_sent_once(rig)


def test_an_overfill_is_booked_and_flagged_and_halts_its_strategy_alone(rig: Rig) -> None:
    rig.strategy("ALPHA")
    rig.strategy("BETA")
    engine = started(rig)
    alpha, beta = rig.start(engine, "ALPHA"), rig.start(engine, "BETA")
    ticket = rig.trade(alpha, "SPY", 100)
    fault(rig, f"fill 20 ref={ticket.order_ref}")
    until(lambda: position("ALPHA", "SPY") == 120)
    assert_books_hold(rig, engine)
    until(lambda: Order.objects.get(order_ref=ticket.order_ref).filled == 120)
    assert OrderEvent.objects.filter(order__order_ref=ticket.order_ref, message__startswith="Overfilled").exists()
    until(lambda: Alert.objects.filter(strategy="ALPHA", severity="critical", cleared_at=None).exists())
    until(lambda: "ALPHA" in engine.gate.halted)
    with pytest.raises(OrderDeniedError, match="overfilled"):
        rig.place(alpha, "SPY", 1, 1.0)
    rig.trade(beta, "TLT", 1)
    assert_books_hold(rig, engine)


def test_a_second_order_under_one_reference_is_booked_to_its_owner_beside_the_first(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = started(rig)
    ticket = rig.trade(rig.start(engine, "ALPHA"), "SPY", 5)
    rig.inject("SPY", 4, ticket.order_ref, 1)
    until(lambda: position("ALPHA", "SPY") == 9)
    assert_books_hold(rig, engine)
    assert Order.objects.get(order_ref=ticket.order_ref).filled == 5
    assert Order.objects.filter(owner="ALPHA").count() == 2


def test_trades_by_hand_and_of_unknown_references_are_discretionary(rig: Rig) -> None:
    engine = started(rig)
    fault(rig, "hand SPY 4", "offfill SPY 3 ref=SOMEBODY/1 client=44", "hand SPY -2")
    until(lambda: position(DISCRETIONARY, "SPY") == 5)
    assert_books_hold(rig, engine)


def test_a_day_that_the_gateway_forgot_is_told_and_nothing_is_taken_back(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = started(rig)
    rig.trade(rig.start(engine, "ALPHA"), "SPY", 5)
    rig.assert_books_equal_broker()
    fault(rig, "forget", "drop")
    until(lambda: Alert.objects.filter(key="executions:differ", cleared_at=None).exists())
    open_again(engine)
    assert position("ALPHA", "SPY") == 5
