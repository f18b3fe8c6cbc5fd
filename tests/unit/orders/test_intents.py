"""An order is on record before anything could send it."""

from __future__ import annotations

from datetime import timedelta
from typing import NoReturn

import pytest

from strategies.exceptions import StaleEpochError
from tests.unit.orders.evidence import NOW, draft
from trading.models import EngineEvent, Order, OrderEvent
from trading.orders.inflight import ANSWERED_AFTER_S, InFlight, in_flight
from trading.orders.intents import IntentWriter
from trading.orders.refs import is_ours, owner_named, row_ref

pytestmark = pytest.mark.django_db


def stale() -> NoReturn:
    raise StaleEpochError("another engine took over")


def writer() -> IntentWriter:
    return IntentWriter(lambda: None, lambda: NOW)


def test_intent_row_carries_owner_code_and_parameters() -> None:
    ref = writer().commit(draft(code_hash="abc", params_revision=4, client_id=7))
    row = Order.objects.get(order_ref=ref)
    assert (row.state, row.owner, row.code_hash, row.params_revision, row.sent_at) == ("intent", "T", "abc", 4, None)
    assert OrderEvent.objects.get(order=row).state == "intent"
    assert EngineEvent.objects.get(kind="order").payload["order_ref"] == ref


def test_stale_engine_writes_no_intent() -> None:
    with pytest.raises(StaleEpochError):
        IntentWriter(stale).commit(draft())
    assert not Order.objects.exists()


def test_denied_order_is_on_record_with_its_reason() -> None:
    ref, _ = writer().deny(draft(), "The size is 0.", "size_zero")
    row = Order.objects.get(order_ref=ref)
    assert (row.state, row.reason) == ("denied", "size_zero: The size is 0.")


def test_intent_given_up_is_denied_and_one_that_was_sent_is_not() -> None:
    intents = writer()
    ref = intents.commit(draft())
    intents.give_up(ref, "connection lost", "not_connected")
    assert Order.objects.get(order_ref=ref).state == "denied"
    other = intents.commit(draft())
    intents.mark_sent(other, 7, 3)
    intents.give_up(other, "too late", "x")
    row = Order.objects.get(order_ref=other)
    assert (row.state, row.client_id, row.order_id) == ("sent", 7, 3)


def test_references_are_unique_and_name_their_owner() -> None:
    refs = {writer().commit(draft()) for _ in range(20)}
    assert len(refs) == 20
    assert {owner_named(ref) for ref in refs} == {"T"}
    assert all(is_ours(ref) and len(ref) <= 64 for ref in refs)


@pytest.mark.parametrize("ref", ["", "T", "hand made", "T/short", "1T/01ARZ3NDEKTSV4RRFFQ69G5FAV"])
def test_other_peoples_references_are_kept_by_perm_id(ref: str) -> None:
    assert row_ref(ref, 55) == "perm/55"
    assert row_ref(ref, 0) is None


def test_reference_is_in_flight_from_commit_until_ib_must_know_it() -> None:
    ref = writer().commit(draft())
    assert in_flight.has(ref)
    clock = [0.0]
    flight = InFlight(lambda: clock[0])
    flight.add("T/a")
    clock[0] = timedelta(days=1).total_seconds()
    assert flight.has("T/a")
    flight.settle("T/a")
    assert flight.has("T/a")
    clock[0] += ANSWERED_AFTER_S + 1
    assert not flight.has("T/a")
