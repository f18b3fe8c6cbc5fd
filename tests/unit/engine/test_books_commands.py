"""Commands that move the books: a real queue, message thread and dispatcher around real services."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError

from portfolio.models import (
    Adjustment,
    Break,
    CashBalance,
    Execution,
    FlexFinding,
    FlexStatement,
    ParkedReport,
    Position,
)
from portfolio.services import ensure_account, ensure_instruments, fold_batch
from strategies import audit
from strategies.exceptions import ConfigError, ConflictError, TransientError
from strategies.models import AuditEntry, Strategy
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fill
from trading.alerts import raise_alert
from trading.engine.commands import bind
from trading.engine.dispatch import Dispatcher, fail_orphans
from trading.engine.handlers import Folding
from trading.engine.lease import Lease
from trading.engine.message_queue import MessageQueue
from trading.engine.requests import Request, in_books
from trading.engine.specs import check_args
from trading.engine.writer import LedgerWriter
from trading.models import EngineCommand, EngineEvent
from trading.services import enqueue, wait_for

pytestmark = pytest.mark.django_db(transaction=True)
DEPOSIT = {"owner": "ALPHA", "currency": "USD", "amount": "1000.50"}


class Engine:
    """What the handlers use of the engine."""

    def __init__(self) -> None:
        self.account_id = ACCOUNT
        self.message_queue = MessageQueue()
        self.checked = threading.Event()
        self.portfolio_manager = SimpleNamespace(clear_cache=lambda: None)
        self.session = SimpleNamespace(request_check=self._check)
        self.lease = Lease(60.0)
        self.lease.acquire()

    def _check(self) -> None:
        self.checked.set()


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine of message thread and dispatcher over opened books."""
    ensure_account(ACCOUNT, "USD")
    for symbol in ("ALPHA", "BETA"):
        Strategy.objects.create(symbol=symbol, filename="alpha.py")
    made = Engine()
    writer = LedgerWriter(
        made.message_queue,
        Folding(lambda: ACCOUNT, made.message_queue),
        made.lease.assert_epoch,
        on_stale=lambda: None,
        on_trouble=lambda text: None,
        on_parked=lambda slot, error: None,
    )
    dispatcher = Dispatcher(made.lease, bind(made), lambda: None)  # type: ignore[arg-type]  # a part of an engine
    writer.start()
    dispatcher.start()
    try:
        yield made
    finally:
        dispatcher.stop(10.0)
        writer.stop(10.0)


@pytest.fixture
def ask(engine: Engine) -> Callable[..., EngineCommand]:
    """Ask as user ann and wait for the outcome."""
    ann = User.objects.create_user("ann")

    def _ask(kind: str, /, **args: Any) -> EngineCommand:
        return wait_for(enqueue(kind, args, user=ann, source="api").id, 20.0)

    return _ask


def result(outcome: EngineCommand) -> dict[str, Any]:
    """Return the result of a command that was done."""
    assert outcome.state == "done", outcome.error
    found: dict[str, Any] = outcome.result or {}
    return found


def cash(owner: str) -> Decimal:
    """Return an owner's dollars."""
    row = CashBalance.objects.filter(owner=owner, currency="USD").first()
    return row.amount if row else Decimal(0)


def entries(action: str) -> list[AuditEntry]:
    """Return the audit entries of an action."""
    return list(AuditEntry.objects.filter(action=action).order_by("id"))


def deposit(ask: Callable[..., EngineCommand], **more: Any) -> EngineCommand:
    """Ask for a deposit."""
    return ask("book_adjustment", kind="deposit", details=DEPOSIT, reason="from savings", **more)


def test_a_deposit_is_booked_told_and_recorded_in_the_callers_name(ask: Any, engine: Engine) -> None:
    outcome = deposit(ask)
    assert (outcome.state, outcome.error) == ("done", "")
    assert cash("ALPHA") == Decimal("1000.50")
    (entry,) = [row for row in AuditEntry.objects.all() if "adjustment" in row.action]
    assert (entry.actor, entry.source, entry.reason) == ("ann", "api", "from savings")
    kinds = set(EngineEvent.objects.values_list("kind", flat=True))
    assert {"cash", "adjustment", "command"} <= kinds
    assert engine.checked.wait(10)
    assert audit.verify_chain() == []


def test_the_same_key_books_once_whatever_the_command(ask: Any) -> None:
    first, again = deposit(ask, key="k-1"), deposit(ask, key="k-1")
    assert first.id != again.id
    assert result(again)["adjustment"] == result(first)["adjustment"]
    assert cash("ALPHA") == Decimal("1000.50")


def test_an_undo_restores_the_cash_and_a_second_one_moves_nothing(ask: Any) -> None:
    booked = result(deposit(ask))["adjustment"]
    assert ask("undo_adjustment", adjustment=booked, reason="wrong owner").state == "done"
    assert cash("ALPHA") == 0
    ask("undo_adjustment", adjustment=booked, reason="wrong owner")
    assert cash("ALPHA") == 0


def test_a_refusal_of_the_books_is_the_commands_failure_and_is_recorded(ask: Any) -> None:
    outcome = ask("undo_adjustment", adjustment=77, reason="wrong owner")
    assert outcome.state == "failed"
    (refusal,) = entries("command.undo_adjustment")
    assert (refusal.subject, refusal.reason) == ("adjustment:77", "wrong owner")
    assert refusal.after is not None
    assert refusal.after["error_code"] == outcome.error_code


def test_a_proposal_moves_nothing_until_it_is_approved(ask: Any) -> None:
    proposed = deposit(ask, propose=True)
    assert result(proposed)["state"] == "proposed"
    assert cash("ALPHA") == 0
    assert ask("approve_adjustment", adjustment=result(proposed)["adjustment"]).result["state"] == "booked"
    assert cash("ALPHA") == Decimal("1000.50")


def test_an_assigned_execution_moves_to_its_new_owner(ask: Any) -> None:
    fold_batch(ACCOUNT, [fill(1)], lambda _: "Discretionary", NOW)
    exec_id = Execution.objects.get().exec_id
    outcome = ask("assign_execution", exec_id=exec_id, owner="BETA", quantity="40", reason="it was BETA's")
    assert (outcome.state, outcome.error) == ("done", "")
    held = {fact["strategy"]: fact["quantity"] for fact in outcome.result["positions"]}
    assert held == {"BETA": "40", "Discretionary": "60"}


def test_an_execution_is_divided_and_taken_back_by_one_command_each(ask: Any) -> None:
    fold_batch(ACCOUNT, [fill(1)], lambda _: "Discretionary", NOW)
    exec_id = Execution.objects.get().exec_id
    done = ask("divide_execution", exec_id=exec_id, owners={"ALPHA": "60", "BETA": "30"}, reason="one order for both")
    assert (done.state, len(done.result["adjustments"])) == ("done", 2)
    held = dict(Position.objects.values_list("owner", "quantity"))
    assert held == {"ALPHA": 60, "BETA": 30, "Discretionary": 10}
    ask("undo_adjustment", adjustment=done.result["adjustments"][0], reason="a mistake")
    assert dict(Position.objects.exclude(quantity=0).values_list("owner", "quantity")) == {"Discretionary": 100}


def test_a_division_that_asks_too_much_divides_nothing(ask: Any) -> None:
    fold_batch(ACCOUNT, [fill(1)], lambda _: "Discretionary", NOW)
    exec_id = Execution.objects.get().exec_id
    failed = ask("divide_execution", exec_id=exec_id, owners={"ALPHA": "60", "BETA": "50"}, reason="one order for both")
    assert (failed.state, failed.error_code) == ("failed", "not_held")
    assert dict(Position.objects.values_list("owner", "quantity")) == {"Discretionary": 100}


def test_an_engine_that_died_after_the_commit_did_the_command(engine: Engine) -> None:
    command = EngineCommand.objects.create(kind="take_snapshot", state="accepted", epoch=0, created_at=NOW)
    request = Request(command.pk, "take_snapshot", {}, "ann", "api")
    in_books(engine, request, lambda now: {"done": 1})  # type: ignore[arg-type]  # a part of an engine
    assert fail_orphans(engine.lease) == 0
    command.refresh_from_db()
    assert (command.state, command.result) == ("done", {"done": 1})


def test_a_refused_deed_leaves_nothing_of_itself(engine: Engine) -> None:
    command = EngineCommand.objects.create(kind="x", state="accepted", epoch=engine.lease.epoch, created_at=NOW)

    def _work(now: datetime) -> dict[str, Any]:
        raise_alert("half", "info", "half done", now=now)
        raise ConflictError("No.", code="no")

    with pytest.raises(ConflictError):
        in_books(engine, Request(command.pk, "x", {}, "ann", "api"), _work)  # type: ignore[arg-type]
    command.refresh_from_db()
    assert command.state == "accepted"
    assert not EngineEvent.objects.filter(kind="alert").exists()


def test_a_deed_that_did_not_begin_in_time_is_never_done() -> None:
    queue = MessageQueue()
    engine = SimpleNamespace(message_queue=queue)
    done = threading.Event()

    def _work(now: datetime) -> dict[str, Any]:
        done.set()
        return {}

    with pytest.raises(TransientError) as caught:
        in_books(engine, Request(uuid4(), "x", {}, "a", "api"), _work, 0.01)  # type: ignore[arg-type]
    assert caught.value.code == "books_busy"
    (slot,) = queue.take(10)
    assert slot.item is not None
    slot.item.work()  # type: ignore[union-attr]  # the message thread comes to it late
    assert not done.is_set()


def test_acknowledging_a_break_is_recorded_and_clears_nothing(ask: Any) -> None:
    ensure_instruments([contract()])
    row = Break.objects.create(
        account_id=ACCOUNT, instrument_id=265598, ib_quantity=Decimal(7), ledger_quantity=Decimal(0), opened_at=NOW
    )
    alert = raise_alert("break:265598", "critical", "AAPL differs", now=NOW)
    outcome = ask("acknowledge_break", break_id=row.pk, reason="bought by phone")
    assert (outcome.state, outcome.error) == ("done", "")
    row.refresh_from_db()
    alert.refresh_from_db()
    assert (row.state, row.acknowledged_by, alert.acknowledged_by) == ("open", "ann: bought by phone", "ann")
    (entry,) = entries("break.acknowledged")
    assert entry.reason == "bought by phone"


def test_a_parked_report_can_be_given_up_with_a_reason(ask: Any) -> None:
    row = ParkedReport.objects.create(
        key="fill:x", payload={"a": 1}, code="unknown_contract", reason="?", parked_at=NOW, last_at=NOW
    )
    outcome = ask("settle_parked", parked=row.pk, action="discard", reason="not ours")
    assert (outcome.state, outcome.result["state"]) == ("done", "discarded")
    assert len(entries("parked.discarded")) == 1


def test_a_finding_is_closed_once_and_with_a_reason(ask: Any) -> None:
    statement = FlexStatement.objects.create(
        account_id=ACCOUNT, sha256="0" * 64, from_date=NOW.date(), to_date=NOW.date(), imported_at=NOW, actor="ann"
    )
    row = FlexFinding.objects.create(statement=statement, kind="quantity", key="e.01", text="IB has 5, the books 4.")
    outcome = ask("resolve_finding", finding=row.pk, reason="IB corrected it")
    assert (outcome.state, outcome.result["state"]) == ("done", "resolved")
    row.refresh_from_db()
    assert (row.state, row.resolution) == ("resolved", "Closed by ann: IB corrected it")
    (entry,) = entries("finding.resolved")
    assert (entry.subject, entry.reason) == (f"finding:{row.pk}", "IB corrected it")
    assert ask("resolve_finding", finding=row.pk, reason="again").error_code == "finding_closed"
    assert ask("resolve_finding", finding=row.pk + 1, reason="which").error_code == "unknown_finding"
    assert ask("resolve_finding", finding=row.pk, reason="once more").error_code == "finding_closed"
    assert len(entries("finding.resolved")) == 1


def test_a_finding_waits_for_the_decision_on_its_proposal(ask: Any) -> None:
    proposal = result(
        ask("book_adjustment", kind="deposit", details=DEPOSIT, reason="from savings", key="p-1", propose=True)
    )
    statement = FlexStatement.objects.create(
        account_id=ACCOUNT, sha256="0" * 64, from_date=NOW.date(), to_date=NOW.date(), imported_at=NOW, actor="ann"
    )
    row = FlexFinding.objects.create(
        statement=statement, kind="cash", key="2", text="A deposit.", details={"adjustment": "op:p-1"}
    )
    assert ask("resolve_finding", finding=row.pk, reason="seen").error_code == "proposal_waits"
    assert ask("reject_adjustment", adjustment=proposal["adjustment"], reason="not ours").state == "done"
    assert ask("resolve_finding", finding=row.pk, reason="seen").state == "done"


def test_ordinary_commands_leave_one_entry_with_what_stood_before(ask: Any) -> None:
    outcome = ask("cancel_order", order_ref="ALPHA/none")
    assert outcome.error_code == "unknown_order"
    (entry,) = entries("command.cancel_order")
    assert (entry.actor, entry.subject, entry.before) == ("ann", "ALPHA/none", None)
    assert entry.after is not None
    assert entry.after["error_code"] == "unknown_order"
    assert Adjustment.objects.count() == 0


BAD: list[tuple[str, Any]] = [
    ("details", {**DEPOSIT, "surprise": 1}),
    ("details", {**DEPOSIT, "amount": 1000.5}),
    ("details", {**DEPOSIT, "amount": "NaN"}),
    ("details", {**DEPOSIT, "amount": "1e5"}),
    ("details", {**DEPOSIT, "amount": "9" * 19}),
    ("details", {**DEPOSIT, "amount": "0"}),
    ("details", {**DEPOSIT, "owner": "../x"}),
    ("details", {**DEPOSIT, "currency": "usd"}),
    ("details", {"amount": {"amount": {}}}),
    ("details", []),
    ("details", {}),
    ("reason", ""),
    ("reason", "x" * 401),
    ("reason", "a\x00b"),
    ("reason", 5),
    ("kind", "rebalance"),
    ("kind", "gift"),
    ("key", "two words"),
    ("effective_at", "2026-03-02T15:00:00"),
    ("effective_at", "yesterday"),
    ("propose", 1),
    ("surprise", 1),
]


@pytest.mark.parametrize(("name", "value"), BAD, ids=[f"{name}={value!r}"[:50] for name, value in BAD])
def test_nonsense_is_refused_before_it_is_stored(name: str, value: Any) -> None:
    good = {"kind": "deposit", "details": DEPOSIT, "reason": "a test", "effective_at": datetime.now(UTC).isoformat()}
    check_args("book_adjustment", good)
    with pytest.raises(ConfigError):
        check_args("book_adjustment", {**good, name: value})


def run_book(*words: str) -> str:
    """Run ``manage.py book`` and return what it prints."""
    out = StringIO()
    call_command("book", *words, stdout=out)
    return out.getvalue()


def test_the_command_line_books_and_tells(engine: Engine) -> None:
    where = ("--owner", "ALPHA", "--currency", "USD", "--amount", "10.5")
    text = run_book("deposit", *where, "--reason", "from savings", "--key", "k")
    assert text.startswith("booked: ")
    assert cash("ALPHA") == Decimal("10.5")
    (entry,) = [row for row in AuditEntry.objects.all() if "adjustment" in row.action]
    assert (entry.actor, entry.source) == ("cli", "cli")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("deposit", "--owner", "ALPHA", "--currency", "USD", "--amount", "-5", "--reason", "x"), "amount"),
        (("deposit", "--owner", "NOBODY", "--currency", "USD", "--amount", "5", "--reason", "x"), "NOBODY"),
        (("deposit", "--con-id", "5", "--reason", "x"), "--con-id"),
        (("undo", "--adjustment", "77", "--reason", "x"), "77"),
        (("undo", "--adjustment", "77"), "reason"),
    ],
)
def test_the_command_line_says_what_is_wrong(engine: Engine, words: tuple[str, ...], says: str) -> None:
    with pytest.raises(CommandError, match=says):
        run_book(*words)
    assert cash("ALPHA") == 0


def test_the_command_line_says_that_no_engine_runs() -> None:
    with pytest.raises(CommandError, match="No engine runs"):
        run_book("rebalance")
    assert not EngineCommand.objects.exists()
