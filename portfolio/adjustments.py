"""Book what is no fill: deposits, dividends, splits, transfers …, once, with who did it and why.

Owns: the life of an adjustment (proposed, booked, rejected, undone), its key, its audit entry. Leaves: what each kind
does to the books to ``effects`` and ``contract_effects``, its fields to ``ledger.events``.
Rule: the same key is booked once, whoever asks how often; the audit entry is in the same transaction; an undo reverses
every movement and restores what stood before, and is refused while a later booking stands on it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from decimal import InvalidOperation
from typing import Any

from django.db import transaction
from ulid import ULID

from portfolio.books import Books, Line
from portfolio.changes import books_changed
from portfolio.contract_effects import CONTRACT_EFFECTS, name_owner, rescale_mark
from portfolio.effects import CASH_EFFECTS, Act, check_owners
from portfolio.facts import Booking
from portfolio.in_kind import IN_KIND_EFFECTS
from portfolio.ledger.events import Event, Fee, Reassignment, as_details, parse_details, refused
from portfolio.models import Account, Adjustment, AdjustmentKind, AdjustmentState, Execution, Instrument
from portfolio.refolding import Refolder
from portfolio.undoing import check_independent, undo_movements
from strategies.audit import record
from strategies.crashpoints import reach
from strategies.exceptions import ConflictError, LedgerError, NotFoundError
from strategies.ordering import take_turn

logger = logging.getLogger(__name__)

KEY_LENGTH = 80  # the keys of its movements are made of it
REASON_LENGTH = 400
EFFECTS = {**CASH_EFFECTS, **IN_KIND_EFFECTS, **CONTRACT_EFFECTS}


def propose_adjustment(
    account_id: str,
    kind: str,
    details: Mapping[str, Any],
    *,
    actor: str,
    source: str,
    reason: str = "",
    key: str | None = None,
    effective_at: datetime | None = None,
    now: datetime,
) -> Booking:
    """Keep an adjustment for somebody to approve; nothing moves."""
    with transaction.atomic():
        take_turn()
        row, event, known = _row(account_id, kind, details, actor, source, reason, key, effective_at, now)
        if not known:
            row.state = AdjustmentState.PROPOSED
            row.save()
            _audit("proposed", row, actor, source, reason, now)
        return _booking(row, event)


def book_adjustment(
    account_id: str,
    kind: str,
    details: Mapping[str, Any],
    *,
    actor: str,
    source: str,
    reason: str = "",
    key: str | None = None,
    effective_at: datetime | None = None,
    now: datetime,
) -> Booking:
    """Book an adjustment; the same key again returns the first and moves nothing.

    Raises: ConfigError code bad_adjustment with ``errors`` by field; NotFoundError; ConflictError when the key says
    something else or the books stand against it; LedgerError.
    """
    with transaction.atomic():
        take_turn()
        row, event, known = _row(account_id, kind, details, actor, source, reason, key, effective_at, now)
        if known:
            return _booking(row, event)
        return _book(row, event, actor, source, reason, now)


def approve_adjustment(adjustment_id: int, *, actor: str, source: str, reason: str = "", now: datetime) -> Booking:
    """Book a proposed adjustment; one that is booked already stays as it is.

    Raises: NotFoundError; ConflictError when it was rejected or undone; as ``book_adjustment``.
    """
    with transaction.atomic():
        take_turn()
        row = _get(adjustment_id)
        event = parse_details(row.kind, row.details)
        if row.state == AdjustmentState.BOOKED:
            return _booking(row, event)
        _expect(row, AdjustmentState.PROPOSED, "approved")
        _check_moment(row.effective_at, now)
        check_owners(event)
        return _book(row, event, actor, source, reason, now)


def reject_adjustment(adjustment_id: int, *, actor: str, source: str, reason: str, now: datetime) -> Booking:
    """Turn a proposed adjustment down; nothing moves.

    Raises: NotFoundError; ConflictError when it is no longer proposed.
    """
    with transaction.atomic():
        take_turn()
        row = _get(adjustment_id)
        if row.state != AdjustmentState.REJECTED:
            _expect(row, AdjustmentState.PROPOSED, "rejected")
            row.state = AdjustmentState.REJECTED
            row.save(update_fields=["state"])
            _audit("rejected", row, actor, source, reason, now)
        return _booking(row, parse_details(row.kind, row.details))


def undo_adjustment(adjustment_id: int, *, actor: str, source: str, reason: str, now: datetime) -> Booking:
    """Reverse the movements of a booked adjustment; the books are then as if it had never been.

    Raises: NotFoundError; ConflictError when it is not booked, is an undo itself, or a later booking stands on it.
    """
    with transaction.atomic():
        take_turn()
        row = _get(adjustment_id)
        event = parse_details(row.kind, row.details)
        if row.state == AdjustmentState.UNDONE:
            return _booking(row, event)
        _expect(row, AdjustmentState.BOOKED, "undone")
        if row.undoes_id is not None:
            raise ConflictError(f"{row.key} is an undo itself; book the adjustment anew.", code="is_undo")
        check_independent(row)
        reverse = _reverse_of(row, actor, source, reason, now)
        books = Books(row.account_id, now)
        books.load(set(), set(), set())
        undo_movements(books, row, reverse)
        books.write()
        reach("adjustment")
        row.state = AdjustmentState.UNDONE
        row.save(update_fields=["state"])
        _after(row, event, undone=True)
        books_changed()
        _audit("undone", row, actor, source, reason, now)
        return _booking(row, event, books)


def preview_adjustment(
    account_id: str,
    kind: str,
    details: Mapping[str, Any],
    effective_at: datetime | None,
    now: datetime,
) -> list[Line]:
    """Return the movements that booking would make, in their order; writes nothing.

    Raises: as ``book_adjustment``.
    """
    row, event, _ = _row(account_id, kind, details, "preview", "page", "", None, effective_at, now)
    books = Books(account_id, now)
    return _take_effect(row, event, books).lines


def _row(
    account_id: str,
    kind: str,
    details: Mapping[str, Any],
    actor: str,
    source: str,
    reason: str,
    key: str | None,
    effective_at: datetime | None,
    now: datetime,
) -> tuple[Adjustment, Event, bool]:
    """Return the adjustment with this key, or a new one that is not saved; and whether it was known."""
    plain = as_details(details) if isinstance(details, Mapping) else {}
    event = parse_details(kind, plain)
    if key is not None:
        known = Adjustment.objects.select_for_update().filter(key=key).first()
        if known is not None:
            _check_same(known, account_id, kind, event, effective_at)
            return known, event, True
    if not Account.objects.filter(account_id=account_id).exists():
        raise NotFoundError(f"There is no account {account_id}.", account=account_id)
    check_owners(event)
    key = key or f"op:{ULID()}"
    _check_texts(key, reason)
    _check_moment(effective_at or now, now)
    row = Adjustment(
        account_id=account_id,
        kind=kind,
        state=AdjustmentState.BOOKED,
        key=key,
        instrument=_instrument(event),
        execution=_execution(account_id, event),
        details=plain,
        effective_at=effective_at or now,
        reason=reason,
        actor=actor,
        source=source,
        created_at=now,
    )
    return row, event, False


def _check_texts(key: str, reason: str) -> None:
    errors = {}
    if len(key) > KEY_LENGTH:
        errors["key"] = f"has at most {KEY_LENGTH} characters"
    if len(reason) > REASON_LENGTH:
        errors["reason"] = f"has at most {REASON_LENGTH} characters"
    if errors:
        raise refused(errors)


def _check_moment(effective_at: datetime, now: datetime) -> None:
    if effective_at.tzinfo is None:
        raise refused({"effective_at": "needs a time zone"})
    if effective_at > now:
        raise refused({"effective_at": "lies in the future"})


def _check_same(known: Adjustment, account_id: str, kind: str, event: Event, effective_at: datetime | None) -> None:
    """Without a moment the first one's stands: who asks again later means the same deed."""
    same = known.account_id == account_id and known.kind == kind and parse_details(known.kind, known.details) == event
    same = same and (kind == AdjustmentKind.REASSIGNMENT or effective_at in (None, known.effective_at))
    if not same or known.undoes_id is not None:
        raise ConflictError(f"{known.key} is booked already and says something else.", code="key_taken")


def _instrument(event: Event) -> Instrument | None:
    con_id = getattr(event, "con_id", None)
    if con_id is None:
        return None
    found = Instrument.objects.filter(con_id=con_id).first()
    if found is None:
        raise NotFoundError(f"The books know no contract {con_id}.", code="unknown_contract", con_id=con_id)
    return found


def _execution(account_id: str, event: Event) -> Execution | None:
    exec_id = event.exec_id if isinstance(event, Fee | Reassignment) else ""
    if not exec_id:
        return None
    found = Execution.objects.filter(account_id=account_id, exec_id=exec_id).first()
    if found is None:
        raise NotFoundError(f"There is no execution {exec_id}.", exec_id=exec_id)
    return found


def _get(adjustment_id: int) -> Adjustment:
    row = Adjustment.objects.select_for_update().filter(pk=adjustment_id).first()
    if row is None:
        raise NotFoundError(f"There is no adjustment {adjustment_id}.", adjustment=adjustment_id)
    return row


def _expect(row: Adjustment, state: AdjustmentState, deed: str) -> None:
    if row.state != state:
        raise ConflictError(f"{row.key} is {row.state} and cannot be {deed}.", code="wrong_state")


def _take_effect(row: Adjustment, event: Event, books: Books) -> Refolder:
    books.load(set(), set(), set())
    refolder = Refolder(books, f"adj:{row.key}")
    EFFECTS[AdjustmentKind(row.kind)](Act(row, event, books, refolder), event)
    return refolder


def _book(row: Adjustment, event: Event, actor: str, source: str, reason: str, now: datetime) -> Booking:
    row.state, row.booked_at = AdjustmentState.BOOKED, now
    row.save()
    books = Books(row.account_id, now)
    try:
        _take_effect(row, event, books)
        books.write()
    except InvalidOperation as error:  # more digits than a column of the books holds
        raise LedgerError(f"{row.key} makes amounts that are too large for the books.", code="too_large") from error
    reach("adjustment")
    _after(row, event, undone=False)
    books_changed()
    _audit("booked", row, actor, source, reason, now)
    logger.info("adjustment booked key=%s kind=%s actor=%s", row.key, row.kind, actor)
    return _booking(row, event, books)


def _after(row: Adjustment, event: Event, *, undone: bool) -> None:
    """What follows outside the journal: who an execution names as owner, and prices of another unit."""
    if isinstance(event, Reassignment):
        name_owner(event.exec_id)
    else:
        rescale_mark(event, row.effective_at, undone=undone)


def _reverse_of(row: Adjustment, actor: str, source: str, reason: str, now: datetime) -> Adjustment:
    return Adjustment.objects.create(
        account_id=row.account_id,
        kind=row.kind,
        state=AdjustmentState.BOOKED,
        key=f"undo:{row.key}",
        instrument_id=row.instrument_id,
        execution_id=row.execution_id,
        details=row.details,
        effective_at=row.effective_at,
        reason=reason[:REASON_LENGTH],
        actor=actor,
        source=source,
        created_at=now,
        booked_at=now,
        undoes=row,
    )


def _audit(deed: str, row: Adjustment, actor: str, source: str, reason: str, now: datetime) -> None:
    after = {"id": row.pk, "kind": row.kind, "details": row.details, "effective_at": row.effective_at.isoformat()}
    record(f"adjustment.{deed}", row.key, actor=actor, source=source, reason=reason, after=after, now=now)


def _booking(row: Adjustment, event: Event, books: Books | None = None) -> Booking:
    return Booking(
        adjustment_id=row.pk,
        kind=row.kind,
        state=row.state,
        text=_sentence(row, event),
        touched_positions=books.position_facts() if books else [],
        touched_cash=books.cash_facts() if books else [],
    )


def _sentence(row: Adjustment, event: Event) -> str:
    what = AdjustmentKind(row.kind).label
    about = [
        str(value)
        for name in ("exec_id", "amount", "quantity", "currency")
        if (value := row.details.get(name)) not in (None, "")
    ]
    parties = getattr(event, "giver", "") and f"from {row.details['from']} to {row.details['to']}"
    contract = f"of {row.instrument}" if row.instrument is not None else ""
    return " ".join(filter(None, [what, *about, contract, parties, f"is {row.state}."]))
