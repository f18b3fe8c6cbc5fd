"""After a reconnect: absence proves something only in complete answers."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from tests.unit.orders.evidence import NOW, draft, fact, trade
from trading.models import Order
from trading.orders import services
from trading.orders.inflight import in_flight
from trading.orders.intents import IntentWriter
from trading.orders.recovery import GONE, NEVER_REACHED

pytestmark = pytest.mark.django_db


@pytest.fixture
def ref() -> str:
    """An intent of a process that is gone."""
    made = IntentWriter(lambda: None, lambda: NOW).commit(draft())
    in_flight._members.clear()
    return made


def row(ref: str) -> Order:
    return Order.objects.get(order_ref=ref)


def test_intent_absent_from_all_complete_answers_never_reached_the_broker(ref: str) -> None:
    services.resolve_unconfirmed([], [], set(), NOW)
    assert (row(ref).state, row(ref).reason) == ("cancelled", NEVER_REACHED)


@pytest.mark.parametrize(("completed", "executed"), [(None, set()), ([], None)])
def test_missing_answer_concludes_nothing_from_absence(
    ref: str, completed: list[object] | None, executed: set[str] | None
) -> None:
    services.resolve_unconfirmed([], completed, executed, NOW)  # type: ignore[arg-type]  # empty lists of any type
    assert row(ref).state == "unknown"


def test_intent_that_the_broker_works_is_accepted(ref: str) -> None:
    services.resolve_unconfirmed([trade(ref, "Submitted")], [], set(), NOW)
    assert (row(ref).state, row(ref).perm_id) == ("accepted", 900)


def test_order_completed_meanwhile_ends_as_the_broker_says(ref: str) -> None:
    services.record_executions([fact(ref, 40)], NOW)
    services.resolve_unconfirmed([], [trade(ref, "Cancelled", filled=40, order_id=0)], {ref}, NOW)
    assert (row(ref).state, row(ref).filled) == ("cancelled", Decimal(40))


def test_executed_intent_is_not_taken_for_lost(ref: str) -> None:
    services.resolve_unconfirmed([], [], {ref}, NOW)
    assert row(ref).state == "unknown"


def test_accepted_order_that_vanished_is_unknown_today_and_gone_tomorrow(ref: str) -> None:
    services.record_order(trade(ref), NOW)
    services.resolve_unconfirmed([], [], set(), NOW)
    assert row(ref).state == "unknown"
    services.resolve_unconfirmed([], [], set(), NOW + timedelta(days=1))
    assert (row(ref).state, row(ref).reason) == ("cancelled", GONE)


def test_order_that_is_just_being_sent_is_left_alone() -> None:
    fresh = IntentWriter(lambda: None, lambda: NOW).commit(draft())
    services.resolve_unconfirmed([], [], set(), NOW)
    assert row(fresh).state == "intent"


def test_second_run_changes_nothing(ref: str) -> None:
    assert services.resolve_unconfirmed([], [], set(), NOW)
    assert services.resolve_unconfirmed([], [], set(), NOW) == []
