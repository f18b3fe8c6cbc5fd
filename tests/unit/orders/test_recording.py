"""Order rows move by evidence; repeating it writes nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from portfolio import services as books
from strategies.events import FillSnapshot
from strategies.models import Strategy
from tests.unit.orders.evidence import NOW, draft, fact, fill, status, trade
from tests.unit.portfolio import builders as portfolio_builders
from trading.engine import proofs
from trading.models import Order, OrderEvent
from trading.orders import services
from trading.orders.intents import IntentWriter
from trading.orders.refs import new_ref

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _forget_owners() -> None:
    services.owners.forget()


@pytest.fixture
def ref() -> str:
    return IntentWriter(lambda: None, lambda: NOW).commit(draft())


def row(ref: str) -> Order:
    return Order.objects.get(order_ref=ref)


def test_placement_makes_the_intent_sent(ref: str) -> None:
    [changed] = services.record_order(trade(ref, "PendingSubmit", perm_id=0), NOW)
    assert (changed.state, changed.client_id, changed.order_id, changed.perm_id) == ("sent", 7, 3, None)
    assert row(ref).sent_at == NOW


def test_executions_fill_the_order_and_give_its_average_price(ref: str) -> None:
    services.record_executions([fact(ref, 40, "10"), fact(ref, 20, "13")], NOW)
    assert (row(ref).state, row(ref).filled, row(ref).average_price) == ("partial", Decimal(60), Decimal(11))
    services.record_executions([fact(ref, 40, "16")], NOW)
    assert (row(ref).state, row(ref).average_price) == ("filled", Decimal(13))


def test_repeated_status_writes_no_event(ref: str) -> None:
    for _ in range(5):
        services.record_status(trade(ref), status("Submitted"), NOW)
    assert OrderEvent.objects.filter(order=row(ref)).count() == 2  # intent, accepted
    assert services.record_status(trade(ref), status("Submitted"), NOW) == []


def test_cancel_waits_for_the_executions_that_it_counts(ref: str) -> None:
    services.record_status(trade(ref), status("Cancelled", 40), NOW)
    assert row(ref).state == "unknown"
    services.record_executions([fact(ref, 30)], NOW)
    assert row(ref).state == "unknown"
    services.record_executions([fact(ref, 10)], NOW)
    assert (row(ref).state, row(ref).filled) == ("cancelled", Decimal(40))


def test_late_fill_of_a_cancelled_order_is_added(ref: str) -> None:
    services.record_status(trade(ref), status("Cancelled"), NOW)
    services.record_executions([fact(ref, 100)], NOW)
    assert (row(ref).state, row(ref).filled) == ("filled", Decimal(100))


def test_cancelled_word_in_a_description_is_not_believed(ref: str) -> None:
    services.record_order(trade(ref, "Cancelled"), NOW)
    assert row(ref).state == "intent"


def test_overfill_is_booked_and_flagged(ref: str) -> None:
    services.record_executions([fact(ref, 120)], NOW)
    assert (row(ref).state, row(ref).filled, row(ref).reason) == ("filled", Decimal(120), "Overfilled: 120 of 100.")


def test_notice_leaves_state_and_reason_alone_but_is_on_record(ref: str) -> None:
    services.record_status(trade(ref), status("Submitted"), NOW)
    services.record_status(trade(ref), status(code=10349, text="TIF was set to DAY"), NOW)
    assert (row(ref).state, row(ref).reason) == ("accepted", "")


def test_rejection_carries_ibs_text(ref: str) -> None:
    services.record_order(trade(ref, "PendingSubmit"), NOW)
    services.record_status(trade(ref), status(code=201, text="no margin"), NOW)
    assert (row(ref).state, row(ref).reason) == ("rejected", "201 no margin")


def test_order_of_somebody_else_gets_a_row_of_discretionary() -> None:
    services.record_order(trade("by hand", perm_id=55), NOW)
    found = row("perm/55")
    assert (found.owner, found.state, found.quantity) == ("Discretionary", "accepted", Decimal(100))


def test_foreign_order_without_a_number_waits_for_its_next_message() -> None:
    assert services.record_order(trade("", perm_id=0), NOW) == []
    assert not Order.objects.exists()


def test_execution_of_an_unknown_order_makes_a_row_that_a_description_completes() -> None:
    services.record_executions([fact("", 30, perm_id=77, strategy="Discretionary")], NOW)
    assert (row("perm/77").filled, row("perm/77").owner) == (Decimal(30), "Discretionary")
    services.record_order(trade("", perm_id=77), NOW)
    assert (row("perm/77").quantity, row("perm/77").order_type, row("perm/77").state) == (
        Decimal(100),
        "MKT",
        "partial",
    )


def test_second_perm_id_under_one_reference_keeps_the_first(ref: str) -> None:
    services.record_order(trade(ref, perm_id=900), NOW)
    services.record_order(trade(ref, perm_id=901), NOW)
    assert row(ref).perm_id == 900


def test_changed_limit_is_taken_over(ref: str) -> None:
    services.record_order(trade(ref, limit="10.5"), NOW)
    assert (row(ref).limit_price, row(ref).order_type) == (Decimal("10.5"), "LMT")


@pytest.mark.parametrize("size", [1, 200])
def test_queries_do_not_grow_with_the_executions(ref: str, size: int) -> None:
    facts = [fact(ref, 1) for _ in range(size)]
    with CaptureQueriesContext(connection) as queries:
        services.record_executions(facts, NOW)
    assert len(queries) <= 8
    assert OrderEvent.objects.filter(order=row(ref)).count() == 2


def _strategy(**values: Any) -> Strategy:
    return Strategy.objects.create(symbol="T", filename="t.py", **values)


def test_owner_is_the_row_then_the_strategy_named_then_discretionary(ref: str) -> None:
    _strategy()
    assert services.owner_of(fill(ref, 1)) == "T"
    assert services.owner_of(fill("T", 1)) == "T"
    assert services.owner_of(fill("T/01ARZ3NDEKTSV4RRFFQ69G5FAV", 1)) == "T"
    assert services.owner_of(fill("X/01ARZ3NDEKTSV4RRFFQ69G5FAV", 1)) == "Discretionary"
    assert services.owner_of(fill("", 1, perm_id=1)) == "Discretionary"


def test_owner_is_found_by_perm_id_when_the_reference_is_missing(ref: str) -> None:
    services.record_order(trade(ref, perm_id=900), NOW)
    assert services.owner_of(fill("", 1, perm_id=900)) == "T"


def test_perm_id_that_returns_after_a_gateway_reset_does_not_name_the_old_order(ref: str) -> None:
    services.record_order(trade(ref, perm_id=900), NOW)
    services.record_executions([fact(ref, 100)], NOW)  # filled: it is over
    soon, later = NOW + timedelta(minutes=1), NOW + timedelta(days=3)
    assert services.owner_of(replace(fill("", 1, perm_id=900), executed_at=soon)) == "T"
    assert services.owner_of(replace(fill("", 1, perm_id=900), executed_at=later)) == "Discretionary"
    assert services.owner_of(replace(fill("", 1, perm_id=900), executed_at=soon)) == "T"  # nothing was remembered


@pytest.mark.parametrize("other", [{"side": "SLD"}, {"account": "DU2"}, {"client_id": 0}])
def test_perm_id_names_an_order_only_in_its_account_client_and_direction(ref: str, other: dict[str, Any]) -> None:
    services.record_order(trade(ref, "Submitted", perm_id=900), NOW)
    assert services.owner_of(fill("", 1, perm_id=900)) == "T"
    assert services.owner_of(replace(fill("", 1, perm_id=900), **other)) == "Discretionary"


def test_perm_id_of_a_working_order_names_it_however_old_it_is(ref: str) -> None:
    services.record_order(trade(ref, "Submitted", perm_id=900), NOW)
    late = replace(fill("", 1, perm_id=900), executed_at=NOW + timedelta(days=40))
    assert services.owner_of(late) == "T"


def test_fills_of_an_order_just_recorded_need_no_query_for_their_owner(ref: str) -> None:
    services.record_order(trade(ref, "Submitted", perm_id=77), NOW)
    with CaptureQueriesContext(connection) as queries:
        assert services.owner_of(fill(ref, 1)) == "T"
    assert len(queries) == 0


def test_a_recorded_order_reads_back_as_it_was_written() -> None:
    services.record_order(trade("", "Submitted", perm_id=77), NOW)
    services.record_order(trade("", "PreSubmitted", perm_id=77), NOW)  # from the table this time
    [found] = Order.objects.all()
    assert (found.order_ref, found.owner, found.created_at, found.sent_at) == ("perm/77", "Discretionary", NOW, NOW)
    assert found.quantity == trade("", "Submitted").quantity


def test_end_of_a_second_order_under_one_reference_does_not_end_the_first(ref: str) -> None:
    services.record_order(trade(ref, perm_id=900), NOW)
    services.record_status(trade(ref, perm_id=901), status("Cancelled"), NOW)
    assert (row(ref).state, row(ref).perm_id) == ("accepted", 900)
    second = row("perm/901")
    assert (second.state, second.owner) == ("cancelled", "T")  # its fills are booked by the reference
    services.record_status(trade(ref, perm_id=901), status("Cancelled"), NOW)  # found again by the next batch
    assert Order.objects.count() == 2


def test_executions_of_a_second_order_under_one_reference_do_not_fill_the_first(ref: str) -> None:
    services.record_order(trade(ref, perm_id=900), NOW)
    services.record_executions([fact(ref, 100, perm_id=901), fact(ref, 10)], NOW)
    assert (row(ref).state, row(ref).filled) == ("partial", Decimal(10))
    assert row("perm/901").filled == Decimal(100)


STEPS: dict[str, tuple[str, str, int]] = {  # words of the order, of its status, and how much is executed meanwhile
    "filled": ("PreSubmitted", "Filled", 100),
    "cancelled": ("Submitted", "Cancelled", 40),
    "cancelled before its executions": ("Submitted", "Cancelled", 0),
}


@pytest.mark.parametrize("known", [True, False], ids=["intent", "new"])
@pytest.mark.parametrize("case", STEPS)
def test_steps_that_share_one_batch_leave_what_separate_ones_do(case: str, known: bool) -> None:
    said, ended, executed = STEPS[case]

    def live(shared: bool) -> list[Any]:
        ref = IntentWriter(lambda: None, lambda: NOW).commit(draft()) if known else new_ref("T")
        counted = 40 if ended == "Cancelled" else 100
        last = trade(ref, ended, filled=counted), status(ended, counted)
        opened = services.open_batch([trade(ref)], [], NOW) if shared else None
        services.record_orders([trade(ref, said)], NOW, opened)
        services.record_executions([fact(ref, executed)] if executed else [], NOW, opened)
        services.record_statuses([last], NOW, opened)
        if opened is not None:
            opened.write()
        services.record_executions([fact(ref, 40)] if not executed else [], NOW)
        left = row(ref)
        events = OrderEvent.objects.filter(order=left).order_by("id")
        told = events.values_list("state", "ib_status", "filled", "remaining", "quantity", "average_price", "perm_id")
        return [left.state, left.filled, left.average_price, left.owner, *told]

    assert live(shared=True) == live(shared=False)


def test_owner_by_perm_id_is_found_though_its_order_stands_in_the_same_batch(ref: str) -> None:
    opened = services.open_batch([trade(ref)], [], NOW)
    services.record_orders([trade(ref, perm_id=955)], NOW, opened)
    owner_of = services.owners_of_batch(opened.write)
    assert owner_of(fill("", 10, perm_id=955)) == "T"


def test_order_of_a_batch_is_read_once_and_written_once(ref: str) -> None:
    with CaptureQueriesContext(connection) as queries:
        opened = services.open_batch([trade(ref)], [], NOW)
        services.record_orders([trade(ref)], NOW, opened)
        services.record_executions([fact(ref, 100)], NOW, opened)
        services.record_statuses([(trade(ref, "Filled"), status("Filled", 100))], NOW, opened)
        opened.write()
    assert len(queries) == 3


@pytest.mark.parametrize("corrected", [False, True])
def test_execution_that_nobody_names_is_an_order_of_its_own_also_when_corrected(corrected: bool) -> None:
    books.ensure_account("DU1", "USD")
    booked = [snapshot(1, 10, "400"), snapshot(2, 7, "410")]  # as a statement tells: no reference, no number
    if corrected:
        booked.append(replace(snapshot(1, 10, "401"), exec_id="0000e0d5.00000001.01.02"))
    for one in booked:
        result = books.fold_batch("DU1", [one], lambda _: "Discretionary", NOW)
        services.record_executions(result.new_executions, NOW)
    rows = {row.order_ref: (row.filled, row.average_price) for row in Order.objects.filter(order_type="")}
    price = Decimal(401) if corrected else Decimal(400)
    assert rows == {
        "exec/0000e0d5.00000001.01": (Decimal(10), price),
        "exec/0000e0d5.00000002.01": (Decimal(7), Decimal(410)),
    }
    check = proofs.fills_make_the_orders(None)
    assert (check.found, check.findings) == (0, [])


def snapshot(number: int, quantity: int, price: str) -> FillSnapshot:
    """An execution of which IB says neither reference nor number."""
    made: FillSnapshot = replace(
        portfolio_builders.fill(number, quantity, 1, of=portfolio_builders.contract(756733, "SPY"), at=NOW),
        price=Decimal(price), order_ref="", perm_id=0, order_id=0, account="DU1",
    )  # fmt: skip
    return made
