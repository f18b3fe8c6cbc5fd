"""Assign executions, or parts of them, to the owners they belong to.

Owns: finding the giver, and the shares of an execution. Leaves: the booking to ``adjustments``. Rule: afterwards both
owners stand as if the fill had been divided so from the start; corrections and late commissions follow the shares.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import transaction

from portfolio.adjustments import book_adjustment
from portfolio.facts import Booking
from portfolio.models import Execution
from portfolio.shares import by_quantity, holdings_of
from strategies.exceptions import NotFoundError
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
