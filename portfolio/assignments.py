"""Assign executions, or parts of them, to the owners they belong to.

Owns: finding the giver, the shares of an execution, and what was divided in one deed. Leaves: the booking to
``adjustments``. Rule: afterwards all owners stand as if the fill had been divided so from the start; corrections and
late commissions follow the shares. What is divided among several owners in one deed is one transaction, and undone in
one: half a division is a wrong number. Its adjustments have the deed's key and their number behind a slash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import transaction

from portfolio.adjustments import book_adjustment, undo_adjustment
from portfolio.facts import Booking
from portfolio.ledger.events import refused
from portfolio.models import Adjustment, AdjustmentKind, AdjustmentState, Execution
from portfolio.shares import by_quantity, holdings_of
from strategies.exceptions import ConflictError, NotFoundError
from strategies.models import DISCRETIONARY
from strategies.ordering import take_turn


@dataclass(frozen=True, slots=True)
class Share:
    """What one owner has of an execution, signed like it."""

    owner: str
    quantity: Decimal


def shares_of(exec_id: str) -> list[Share]:
    """Return who has how much; the sum is the live quantity, nothing when a correction replaced it.

    Raises: NotFoundError.
    """
    if not Execution.objects.filter(exec_id=exec_id).exists():
        raise NotFoundError(f"There is no execution {exec_id}.", exec_id=exec_id)
    shares = by_quantity(holdings_of(exec_id)[0])
    return [Share(owner, quantity) for owner, quantity in sorted(shares.items())]


def assign_execution(
    account_id: str,
    exec_id: str,
    to_owner: str,
    *,
    quantity: Decimal | None = None,
    from_owner: str | None = None,
    actor: str,
    source: str,
    reason: str,
    key: str | None = None,
    now: datetime,
) -> Booking:
    """Give what ``from_owner`` (default Discretionary) has of an execution, or a part of it, to another owner.

    Units: quantity unsigned. Raises: ConfigError, NotFoundError, ConflictError as ``book_adjustment``.
    """
    details: dict[str, Any] = {
        "exec_id": exec_id,
        "from": from_owner or DISCRETIONARY,
        "to": to_owner,
        "quantity": quantity,
    }
    with transaction.atomic():
        take_turn()
        execution = Execution.objects.filter(account_id=account_id, exec_id=exec_id).first()
        if execution is None:
            raise NotFoundError(f"There is no execution {exec_id}.", exec_id=exec_id)
        return book_adjustment(
            account_id,
            "reassignment",
            details,
            actor=actor,
            source=source,
            reason=reason,
            key=key,
            effective_at=min(execution.executed_at, now),
            now=now,
        )


def divide_execution(
    account_id: str,
    exec_id: str,
    parts: Mapping[str, Decimal],
    *,
    from_owner: str | None = None,
    actor: str,
    source: str,
    reason: str,
    key: str,
    now: datetime,
) -> list[Booking]:
    """Give parts of what ``from_owner`` (default Discretionary) has of an execution to several owners, all or none.

    The same key again returns the first bookings and moves nothing.
    Units: quantities unsigned. Raises: ConfigError, NotFoundError, ConflictError as ``book_adjustment``.
    """
    wrong = {f"owners.{owner}": "is more than zero" for owner, part in parts.items() if not part > 0}
    if wrong or not parts:
        raise refused(wrong or {"owners": "names nobody"})
    with transaction.atomic():
        take_turn()
        count = Adjustment.objects.filter(key__startswith=f"{key}/").count()
        if count not in (0, len(parts)):
            raise ConflictError(f"{key} is booked already and says something else.", code="key_taken")
        return [
            assign_execution(
                account_id,
                exec_id,
                owner,
                quantity=part,
                from_owner=from_owner,
                actor=actor,
                source=source,
                reason=reason,
                key=f"{key}/{number}",
                now=now,
            )
            for number, (owner, part) in enumerate(sorted(parts.items()), 1)
        ]


def undo(adjustment_id: int, *, actor: str, source: str, reason: str, now: datetime) -> list[Booking]:
    """Take an adjustment back, and with a part of a division all of it, the last part first.

    Raises: NotFoundError; ConflictError as ``undo_adjustment``; nothing is undone then.
    """
    with transaction.atomic():
        take_turn()
        return [
            undo_adjustment(number, actor=actor, source=source, reason=reason, now=now)
            for number in _deed_of(adjustment_id)
        ]


def _deed_of(adjustment_id: int) -> list[int]:
    row = Adjustment.objects.filter(pk=adjustment_id, kind=AdjustmentKind.REASSIGNMENT, undoes=None).first()
    deed, slash, _ = row.key.rpartition("/") if row is not None else ("", "", "")
    if row is None or not slash:
        return [adjustment_id]
    parts = Adjustment.objects.filter(
        key__startswith=f"{deed}/", kind=row.kind, execution=row.execution_id, state=AdjustmentState.BOOKED, undoes=None
    )
    return list(parts.order_by("-id").values_list("id", flat=True)) or [adjustment_id]
