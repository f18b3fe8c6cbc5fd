"""Breaks as people handle them: seen, by whom, in which words; and the list of all that ever were.

Leaves: opening, changing and clearing to ``reconcile``. Rule: to acknowledge clears nothing.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from portfolio.models import Break, BreakState
from strategies import audit
from strategies.exceptions import ConflictError, NotFoundError


def acknowledge_break(break_id: int, *, actor: str, source: str, reason: str, now: datetime) -> Break:
    """Note that an operator saw an open break and what was said about it, with its audit entry.

    Raises: NotFoundError; ConflictError (break_cleared) when it is over already.
    """
    with transaction.atomic():
        row = Break.objects.select_for_update().filter(pk=break_id).first()
        if row is None:
            raise NotFoundError(f"There is no break {break_id}.", code="unknown_break", break_id=break_id)
        if row.state != BreakState.OPEN:
            raise ConflictError(f"Break {break_id} is cleared already.", code="break_cleared", break_id=break_id)
        before = {"acknowledged_at": row.acknowledged_at, "acknowledged_by": row.acknowledged_by}
        row.acknowledged_at, row.acknowledged_by = now, f"{actor}: {reason}"[:150]
        row.save(update_fields=["acknowledged_at", "acknowledged_by"])
        audit.record(
            "break.acknowledged",
            f"break:{row.pk}",
            actor=actor,
            source=source,
            reason=reason,
            before=before,
            after={
                "acknowledged_at": now,
                "instrument": row.instrument_id,
                "currency": row.currency,
                "ib": row.ib_quantity,
                "ledger": row.ledger_quantity,
            },
            now=now,
        )
    return row
