"""Close a finding of a statement by hand, when a person has settled what MATS could not.

Rule: the finding stays as it was found; who closed it, and why, stand in its resolution and in the audit trail.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from portfolio.models import Adjustment, AdjustmentState, FindingState, FlexFinding
from strategies import audit
from strategies.exceptions import ConflictError, LedgerError, NotFoundError


def resolve_finding(finding_id: int, *, actor: str, source: str, reason: str, now: datetime) -> FlexFinding:
    """Close an open finding with its audit entry; the books stay as they are.

    Raises: NotFoundError; ConflictError when it is closed already (finding_closed) or its proposal still waits for a
    decision (proposal_waits); LedgerError without a reason.
    """
    if not reason.strip():
        raise LedgerError("Say how this finding was settled.", code="reason_missing", finding=finding_id)
    with transaction.atomic():
        row = FlexFinding.objects.select_for_update().filter(pk=finding_id).first()
        if row is None:
            raise NotFoundError(f"There is no finding {finding_id}.", code="unknown_finding", finding=finding_id)
        if row.state != FindingState.OPEN:
            raise ConflictError(
                f"Finding {finding_id} is closed already: {row.resolution}", code="finding_closed", finding=finding_id
            )
        _refuse_undecided(row)
        before = {"state": str(row.state), "resolution": row.resolution}
        row.state, row.resolution = FindingState.RESOLVED, f"Closed by {actor}: {reason.strip()}"[:400]
        row.save(update_fields=["state", "resolution"])
        audit.record(
            "finding.resolved",
            f"finding:{row.pk}",
            actor=actor,
            source=source,
            reason=reason,
            before=before,
            after={"state": str(row.state), "kind": row.kind, "key": row.key, "text": row.text},
            now=now,
        )
    return row


def _refuse_undecided(row: FlexFinding) -> None:
    key = row.details.get("adjustment")
    waiting = key and Adjustment.objects.filter(key=key, state=AdjustmentState.PROPOSED).first()
    if waiting:
        raise ConflictError(
            f"Adjustment {waiting.pk} was proposed for this finding; approve or reject it, which settles both.",
            code="proposal_waits",
            finding=row.pk,
            adjustment=waiting.pk,
        )
