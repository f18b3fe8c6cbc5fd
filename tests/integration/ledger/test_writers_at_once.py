"""Two connections want the same thing at once: exactly one gets it, on either database."""

# Whole Decimals are compared with ints to stay readable.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from django.db import connection, transaction

from portfolio.adjustments import approve_adjustment, book_adjustment, propose_adjustment, undo_adjustment
from portfolio.models import Adjustment, CashBalance, Execution, Movement, Position
from portfolio.services import allocate_strategy, ensure_account, fold_batch
from portfolio.verification import verify_ledger
from strategies.audit import record, verify_chain
from strategies.exceptions import ConflictError, StaleEpochError
from strategies.models import AuditEntry, Strategy
from strategies.services import save_strategy, set_active
from tests.integration.ledger.crowd import at_once, errors_of
from tests.unit.portfolio.builders import ACCOUNT, NOW, fee, fill, owner_of
from trading.engine import events
from trading.engine.dispatch import claim, expire
from trading.engine.events import Event, EventKind
from trading.engine.lease import EngineHeldError, Lease
from trading.models import CommandState, EngineCommand, EngineEvent, EngineLease
from trading.services import enqueue

pytestmark = pytest.mark.django_db(transaction=True)

WHO: dict[str, Any] = {"actor": "ann", "source": "page", "reason": "as agreed", "now": NOW + timedelta(hours=1)}


@pytest.fixture
def books() -> None:
    ensure_account(ACCOUNT, "USD")
    for symbol in ("ALPHA", "BETA"):
        Strategy.objects.create(symbol=symbol, filename="alpha.py")


def deposit(amount: str, key: str | None = None) -> Any:
    details = {"owner": "ALPHA", "currency": "USD", "amount": amount}
    return book_adjustment(ACCOUNT, "deposit", details, key=key, **WHO)


def cash(owner: str = "ALPHA") -> Decimal:
    return sum((row.amount for row in CashBalance.objects.filter(owner=owner)), Decimal(0))


def assert_sound() -> None:
    assert verify_ledger().findings == []
    assert verify_chain() == []


def test_the_same_key_at_once_is_booked_once_and_answered_alike(books: None) -> None:
    outcomes = at_once(*[partial(deposit, "100.10", "k-1")] * 6)
    assert errors_of(outcomes) == []
    assert len({outcome.adjustment_id for outcome in outcomes}) == 1
    assert (Adjustment.objects.count(), cash()) == (1, Decimal("100.10"))
    assert_sound()


def test_one_key_for_two_contents_at_once_books_one_and_refuses_the_other(books: None) -> None:
    outcomes = at_once(partial(deposit, "1", "k-1"), partial(deposit, "2", "k-1"))
    (error,) = errors_of(outcomes)
    assert isinstance(error, ConflictError)
    assert cash() in {1, 2}
    assert Movement.objects.count() == 1


def test_bookings_at_once_lose_no_balance(books: None) -> None:
    outcomes = at_once(*[partial(deposit, "0.0000000001", f"k-{number}") for number in range(8)])
    assert errors_of(outcomes) == []
    assert cash() == Decimal("0.0000000008")
    assert_sound()


def test_fills_and_bookings_at_once_lose_no_position_and_no_cash(books: None) -> None:
    def _fold(number: int) -> None:
        fold_batch(ACCOUNT, [fill(number, 10, 5), fee(number)], owner_of, NOW)

    works = [partial(_fold, number) for number in range(1, 5)] + [partial(deposit, "7", f"k-{n}") for n in range(4)]
    assert errors_of(at_once(*works)) == []
    assert Position.objects.get(owner="ALPHA").quantity == 40
    assert cash() == 4 * 7 - 4 * 50 - 4
    assert_sound()


def test_the_same_execution_from_two_connections_is_booked_once(books: None) -> None:
    works = [lambda: fold_batch(ACCOUNT, [fill(1, 10, 5), fee(1)], owner_of, NOW)] * 5
    assert errors_of(at_once(*works)) == []
    assert (Execution.objects.count(), Position.objects.get(owner="ALPHA").quantity) == (1, 10)
    assert cash() == -51
    assert_sound()


def test_an_adjustment_approved_twice_at_once_moves_once(books: None) -> None:
    details = {"owner": "ALPHA", "currency": "USD", "amount": "5"}
    row = propose_adjustment(ACCOUNT, "deposit", details, **WHO)
    assert errors_of(at_once(*[partial(approve_adjustment, row.adjustment_id, **WHO)] * 4)) == []
    assert cash() == 5
    assert AuditEntry.objects.filter(action__contains="booked").count() <= 1
    assert_sound()


def test_an_adjustment_undone_twice_at_once_goes_back_once(books: None) -> None:
    booked = deposit("5")
    outcomes = at_once(*[partial(undo_adjustment, booked.adjustment_id, **WHO)] * 4)
    assert errors_of(outcomes) == []
    assert cash() == 0
    assert Movement.objects.count() == 2
    assert_sound()


def test_a_strategy_is_allocated_its_cash_once(books: None) -> None:
    works = [partial(allocate_strategy, ACCOUNT, "ALPHA", Decimal(100), "USD", NOW)] * 5
    outcomes = at_once(*works)
    assert errors_of(outcomes) == []
    assert sum(outcome is not None for outcome in outcomes) == 1
    assert (cash(), cash("Discretionary")) == (100, -100)


def test_the_audit_chain_and_the_events_keep_their_order_among_many_writers() -> None:
    def _write(who: int) -> None:
        for number in range(10):
            with transaction.atomic():
                record("test", f"{who}-{number}", actor="ann", source="cli")
                events.write([Event(EventKind.LOG, events.log_payload("info", "", "x", "t"))])

    assert errors_of(at_once(*[partial(_write, who) for who in range(5)])) == []
    assert (AuditEntry.objects.count(), EngineEvent.objects.count()) == (50, 50)
    assert verify_chain() == []


def test_a_reader_behind_a_cursor_misses_no_event_of_a_slower_writer() -> None:
    """Ids become visible in their order: else a tail that saw 2 would never look for 1 again."""
    first_wrote, go_on = threading.Event(), threading.Event()

    def _slow() -> None:
        with transaction.atomic():
            events.write([Event(EventKind.LOG, events.log_payload("info", "", "slow", "t"))])
            first_wrote.set()
            assert go_on.wait(30)

    def _fast() -> None:
        assert first_wrote.wait(30)
        threading.Timer(0.2, go_on.set).start()
        events.write([Event(EventKind.LOG, events.log_payload("info", "", "fast", "t"))])
        seen = list(EngineEvent.objects.order_by("id").values_list("payload__text", flat=True))
        assert seen == ["slow", "fast"]

    assert errors_of(at_once(_slow, _fast)) == []


def test_two_transactions_of_the_engine_commit_in_the_order_of_their_ids() -> None:
    """The projection reads on behind an id: a lower one that appears later would be missing from it for ever."""
    lease = Lease(30.0)
    lease.acquire()
    inside = threading.Event()
    order: list[str] = []

    def _slow() -> None:
        with transaction.atomic():
            lease.assert_epoch()
            inside.set()
            assert not overtaken.wait(0.5), "a later transaction went first"
            order.append("slow")

    def _fast() -> None:
        assert inside.wait(30)
        with transaction.atomic():
            lease.assert_epoch()
            overtaken.set()
            order.append("fast")

    overtaken = threading.Event()
    assert errors_of(at_once(_slow, _fast)) == []
    assert order == ["slow", "fast"]


def test_a_command_wanted_by_many_is_claimed_once() -> None:
    lease = Lease(30.0)
    lease.acquire()
    for number in range(20):
        enqueue("cancel_all" if number % 2 else "reconcile", {}, source="cli")
    outcomes = at_once(*[partial(claim, lease, 3)] * 6)
    assert errors_of(outcomes) == []
    claimed = [command.id for outcome in outcomes for command in outcome]
    assert len(claimed) == len(set(claimed)) == 18
    assert EngineCommand.objects.filter(state=CommandState.ACCEPTED).count() == 18


def test_a_command_expires_once() -> None:
    EngineCommand.objects.create(
        kind="reconcile", args={}, source="cli", created_at=NOW, expires_at=NOW + timedelta(seconds=1)
    )

    def _expire() -> int:
        with transaction.atomic():
            return len(expire())

    outcomes = at_once(*[_expire] * 5)
    assert errors_of(outcomes) == []
    assert sum(outcomes) == 1
    assert AuditEntry.objects.filter(subject__contains="reconcile").count() <= 1


def test_a_request_repeated_at_once_is_one_command() -> None:
    outcomes = at_once(*[lambda: enqueue("reconcile", {}, source="api", idempotency_key="once").id] * 6)
    assert errors_of(outcomes) == []
    assert len(set(outcomes)) == EngineCommand.objects.count() == 1


def test_of_many_engines_one_gets_the_lease() -> None:
    leases = [Lease(30.0) for _ in range(6)]
    outcomes = at_once(*[lease.acquire for lease in leases])
    assert [type(error) for error in errors_of(outcomes)] == [EngineHeldError] * 5
    assert EngineLease.objects.get().epoch == 1
    assert [lease.epoch for lease in leases].count(1) == 1


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


def test_a_takeover_waits_for_the_writer_inside_its_transaction_and_fences_the_next_one() -> None:
    clock = Clock()
    old, new = Lease(10.0, clock), Lease(10.0, clock)
    old.holder = "elsewhere:1:1.0:abc"
    old.acquire()
    clock.now += timedelta(seconds=11)
    inside, taken = threading.Event(), threading.Event()
    order: list[str] = []

    def _writer() -> None:
        with transaction.atomic():
            old.assert_epoch()
            inside.set()
            assert not taken.wait(0.5), "the lease was taken under a writer that had been let in"
            order.append("written")
        assert taken.wait(30)
        with transaction.atomic():
            old.assert_epoch()

    def _takeover() -> None:
        assert inside.wait(30)
        new.acquire()
        order.append("taken")
        taken.set()

    fenced, took = at_once(_writer, _takeover)
    assert isinstance(fenced, StaleEpochError)
    assert took is None
    assert order == ["written", "taken"]


def test_the_heartbeat_does_not_wait_for_a_long_batch() -> None:
    """On PostgreSQL; SQLite has one writer at a time and its batches are short for that reason."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    lease = Lease(10.0)
    lease.acquire()
    inside, renewed = threading.Event(), threading.Event()

    def _batch() -> None:
        with transaction.atomic():
            lease.assert_epoch()
            inside.set()
            assert renewed.wait(10), "the heartbeat waited for the batch"

    def _beat() -> None:
        assert inside.wait(10)
        lease.renew({"state": "running"})
        renewed.set()

    assert errors_of(at_once(_batch, _beat)) == []


def test_two_edits_of_a_strategy_at_once_keep_both() -> None:
    save_strategy({"symbol": "ALPHA", "filename": "alpha.py"}, None)
    for turn in range(5):
        outcomes = at_once(
            partial(save_strategy, {"symbol": "ALPHA", "target_weight": f"0.{turn + 1}"}, None),
            partial(set_active, "ALPHA", turn % 2 == 0, None),
        )
        assert errors_of(outcomes) == []
        row = Strategy.objects.get()
        assert (row.target_weight, row.active) == (Decimal(f"0.{turn + 1}"), turn % 2 == 0)
