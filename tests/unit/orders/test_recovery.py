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


def test_intent_of_an_earlier_day_is_not_said_to_have_never_reached_the_broker(ref: str) -> None:
    # Executions and completed orders are answered for the day in New York: they prove nothing of the day before.
    services.resolve_unconfirmed([], [], set(), NOW + timedelta(days=1))
    assert (row(ref).state, row(ref).reason) == ("cancelled", GONE)


def test_intent_of_the_evening_before_utc_midnight_is_of_the_same_day_in_new_york(ref: str) -> None:
    Order.objects.update(created_at=NOW.replace(hour=23, minute=50))
    services.resolve_unconfirmed([], [], set(), NOW.replace(hour=0, minute=10) + timedelta(days=1))
    assert (row(ref).state, row(ref).reason) == ("cancelled", NEVER_REACHED)


def test_accepted_order_that_vanished_is_not_gone_while_its_day_in_new_york_lasts(ref: str) -> None:
    services.record_order(trade(ref), NOW)
    Order.objects.update(created_at=NOW.replace(hour=23, minute=50))
    services.resolve_unconfirmed([], [], set(), NOW.replace(hour=0, minute=10) + timedelta(days=1))
    assert row(ref).state == "unknown"


def test_good_till_cancelled_intent_of_an_earlier_day_stays_unknown() -> None:
    ref = IntentWriter(lambda: None, lambda: NOW).commit(draft(tif="GTC"))
    in_flight._members.clear()
    services.resolve_unconfirmed([], [], set(), NOW + timedelta(days=1))
    assert row(ref).state == "unknown"
