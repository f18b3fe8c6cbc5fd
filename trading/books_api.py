"""Routes that change the books, and those of alerts and the audit trail.

Rule: a POST queues a command and answers 202 with where to read its outcome; what can be told to be wrong without the
engine is refused at once. Leaves: what the books hold to ``portfolio.api`` and ``portfolio.books_api``.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Body, File, Path, Router, Status
from ninja.files import UploadedFile
from pydantic import Field

from portfolio import adjustments
from portfolio import books_queries as books
from portfolio.books_api import router as portfolio_router  # an address answers all its methods at one place
from portfolio.books_queries import known_account
from strategies import queries as strategy_queries
from strategies.api_rules import idempotency_key
from strategies.audit import storable
from strategies.models import AuditEntry
from strategies.schemas import Limit, Page, RowId, Symbol
from trading import books_schemas as schemas
from trading.api_queue import queue, require_engine
from trading.engine.specs import check_args
from trading.models import Alert
from trading.schemas import QueuedOut
from trading.uploads import keep_statement

strategy_router = Router()
alert_router = Router()
audit_router = Router()

QUEUED = {202: QueuedOut}
Word = Annotated[str, Field(max_length=160, pattern=r"^[^\x00]*$")]
Queued = Status[dict[str, Any]]


def _given(payload: Any) -> dict[str, Any]:
    """Return the arguments that were sent, times as text."""
    if payload is None:
        return {}
    found: dict[str, Any] = payload.dict(exclude_none=True)
    if "effective_at" in found:
        found["effective_at"] = found["effective_at"].isoformat()
    return found


# -- adjustments


@portfolio_router.post("/adjustments", response=QUEUED)
def book_adjustment(request: HttpRequest, response: HttpResponse, payload: schemas.AdjustmentIn) -> Queued:
    """Book an event that is no fill, or propose it."""
    return Status(202, queue(request, response, "book_adjustment", **_given(payload)))


@portfolio_router.post("/adjustments/preview", response=schemas.PreviewOut)
def preview_adjustment(request: HttpRequest, payload: schemas.EventIn) -> dict[str, Any]:
    """Show what booking an event would do; writes nothing."""
    given = _given(payload)
    check_args("book_adjustment", {**given, "reason": "preview"})
    now = timezone.now()
    when = payload.effective_at or now
    lines = adjustments.preview_adjustment(known_account(), payload.kind, payload.details, when, now)
    return {"lines": [storable(asdict(line)) for line in lines]}


@portfolio_router.post("/adjustments/{int:adjustment_id}/approve", response=QUEUED)
def approve_adjustment(
    request: HttpRequest,
    response: HttpResponse,
    adjustment_id: Path[schemas.Id],
    payload: Body[schemas.MaybeWhyIn | None] = None,
) -> Queued:
    """Book a proposed event."""
    books.find_adjustment(adjustment_id)
    return Status(202, queue(request, response, "approve_adjustment", adjustment=adjustment_id, **_given(payload)))


@portfolio_router.post("/adjustments/{int:adjustment_id}/reject", response=QUEUED)
def reject_adjustment(
    request: HttpRequest, response: HttpResponse, adjustment_id: Path[schemas.Id], payload: schemas.WhyIn
) -> Queued:
    """Refuse a proposed event."""
    books.find_adjustment(adjustment_id)
    return Status(202, queue(request, response, "reject_adjustment", adjustment=adjustment_id, **_given(payload)))


@portfolio_router.post("/adjustments/{int:adjustment_id}/undo", response=QUEUED)
def undo_adjustment(
    request: HttpRequest, response: HttpResponse, adjustment_id: Path[schemas.Id], payload: schemas.WhyIn
) -> Queued:
    """Take a booked event back, line by line."""
    books.find_adjustment(adjustment_id)
    return Status(202, queue(request, response, "undo_adjustment", adjustment=adjustment_id, **_given(payload)))


@portfolio_router.post("/assign", response=QUEUED)
def assign_execution(request: HttpRequest, response: HttpResponse, payload: schemas.AssignIn) -> Queued:
    """Give an execution, or a part of it, to an owner."""
    return Status(202, queue(request, response, "assign_execution", **_given(payload)))


@portfolio_router.post("/divide", response=QUEUED)
def divide_execution(request: HttpRequest, response: HttpResponse, payload: schemas.DivideIn) -> Queued:
    """Give parts of an execution to several owners, all or none."""
    return Status(202, queue(request, response, "divide_execution", **_given(payload)))


# -- the account


@portfolio_router.post("/refresh-positions", response=QUEUED)
def refresh_positions(request: HttpRequest, response: HttpResponse) -> Queued:
    """Ask IB for the day's executions and its positions now, and compare."""
    return Status(202, queue(request, response, "reconcile"))


@portfolio_router.post("/rebalance", response=QUEUED)
def rebalance_all(
    request: HttpRequest,
    response: HttpResponse,
    payload: Body[schemas.RebalanceIn | None] = None,
) -> Queued:
    """Bring every active strategy to its target weight."""
    return Status(202, queue(request, response, "rebalance", **_given(payload)))


@strategy_router.post("/{symbol}/rebalance", response=QUEUED)
def rebalance(
    request: HttpRequest,
    response: HttpResponse,
    symbol: Path[Symbol],
    payload: Body[schemas.RebalanceIn | None] = None,
) -> Queued:
    """Bring one strategy to its target weight."""
    row = strategy_queries.get_strategy(symbol)
    return Status(202, queue(request, response, "rebalance", symbol=row.symbol, **_given(payload)))


@portfolio_router.post("/snapshot", response=QUEUED)
def take_snapshot(request: HttpRequest, response: HttpResponse) -> Queued:
    """Keep the books of this hour now, unless they are kept already."""
    return Status(202, queue(request, response, "take_snapshot"))


# -- statements, reports set aside, breaks


@portfolio_router.post("/flex", response=QUEUED)
def upload_statement(request: HttpRequest, response: HttpResponse, file: File[UploadedFile]) -> Queued:
    """Hand in a Flex statement (XML, at most 20 MB) to be compared with the books."""
    require_engine(idempotency_key(request))
    sha256 = keep_statement(file.chunks())
    return Status(202, queue(request, response, "import_flex", sha256=sha256))


@portfolio_router.post("/flex/fetch", response=QUEUED)
def fetch_statement(request: HttpRequest, response: HttpResponse) -> Queued:
    """Download the Flex statement from IB and compare it with the books."""
    return Status(202, queue(request, response, "fetch_flex"))


@portfolio_router.post("/findings/{int:finding_id}/resolve", response=QUEUED)
def resolve_finding(
    request: HttpRequest, response: HttpResponse, finding_id: Path[schemas.Id], payload: schemas.WhyIn
) -> Queued:
    """Close a finding of a statement that a person has settled."""
    return Status(202, queue(request, response, "resolve_finding", finding=finding_id, **_given(payload)))


@portfolio_router.post("/parked/{int:parked_id}/settle", response=QUEUED)
def settle_parked(
    request: HttpRequest, response: HttpResponse, parked_id: Path[schemas.Id], payload: schemas.SettleIn
) -> Queued:
    """Try again to book a report that was set aside, or give it up."""
    return Status(202, queue(request, response, "settle_parked", parked=parked_id, **_given(payload)))


@portfolio_router.post("/breaks/{int:break_id}/acknowledge", response=QUEUED)
def acknowledge_break(
    request: HttpRequest, response: HttpResponse, break_id: Path[schemas.Id], payload: schemas.WhyIn
) -> Queued:
    """Note that a break was seen; it stays open until the books agree."""
    return Status(202, queue(request, response, "acknowledge_break", break_id=break_id, **_given(payload)))


# -- alerts and the trail


@alert_router.get("", response=Page[schemas.AlertOut])
def list_alerts(
    request: HttpRequest,
    open_only: bool = True,
    strategy: Symbol | None = None,
    limit: Limit = 100,
    cursor: RowId | None = None,
) -> dict[str, Any]:
    """List alerts, newest first; those that are over only on request."""
    rows = Alert.objects.filter(cleared_at=None) if open_only else Alert.objects.all()
    return books.page(books.narrowed(rows, strategy=strategy), cursor, limit)


@alert_router.post("/{int:alert_id}/acknowledge", response=QUEUED)
def acknowledge_alert(request: HttpRequest, response: HttpResponse, alert_id: Path[schemas.Id]) -> Queued:
    """Note that an alert was seen; it stays open until it is over."""
    return Status(202, queue(request, response, "acknowledge_alert", alert=alert_id))


@audit_router.get("", response=Page[schemas.AuditOut])
def list_audit(
    request: HttpRequest,
    actor: Word | None = None,
    action: Word | None = None,
    subject: Word | None = None,
    limit: Limit = 100,
    cursor: RowId | None = None,
) -> dict[str, Any]:
    """List who did what, newest first."""
    rows = books.narrowed(AuditEntry.objects.all(), actor=actor, action=action, subject=subject)
    return books.page(rows, cursor, limit)
