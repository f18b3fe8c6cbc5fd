"""Keep reports of the broker that cannot be booked, whole, until they can be or an operator lets go of them.

Owns: ParkedReport rows: what a report said, why it was refused, how often it came. Leaves: finding out that a report is
bad (``fold``), standing it alone (the engine's writer), telling people (the caller).
Rule: one row for each report, whatever number of times it comes; a report that comes with other content is told apart;
nothing is ever deleted. A retry is a fold like any other, in a savepoint of its own: a report that is still bad
disturbs nobody.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db import transaction

from portfolio.facts import FoldResult
from portfolio.fold import OwnerOf, fold_batch
from portfolio.instruments import UNDESCRIBED
from portfolio.models import ParkedReport, ParkedState
from strategies.crashpoints import reach
from strategies.events import CommissionSnapshot, ContractSnapshot, FillSnapshot, LegSnapshot
from strategies.exceptions import ConflictError, LedgerError, MatsError, NotFoundError

logger = logging.getLogger(__name__)

Report = FillSnapshot | CommissionSnapshot
_DECIMALS = frozenset({"quantity", "price", "cum_quantity", "average_price", "commission", "amount"})
_CONTRACT_DECIMALS = frozenset({"multiplier", "strike"})


@dataclass(frozen=True, slots=True)
class Retried:
    """What a retry did: reports that are in the books now, and those that still wait."""

    booked: list[ParkedReport] = field(default_factory=list)
    waiting: list[ParkedReport] = field(default_factory=list)
    results: list[FoldResult] = field(default_factory=list)


def park(report: Report, error: BaseException, now: datetime) -> ParkedReport:
    """Keep a report that could not be booked; the same report again is counted on its row.

    One that an operator discarded stays discarded; one that was booked since waits anew.
    """
    payload = encode(report)
    key = _key(report)
    is_fill = isinstance(report, FillSnapshot)
    values: dict[str, Any] = {
        "account_id": (report.account if isinstance(report, FillSnapshot) else "")[:32],
        "con_id": report.contract.con_id if isinstance(report, FillSnapshot) else 0,
        "payload": payload,
        "code": _code(error),
        "reason": _reason(error),
    }
    with transaction.atomic():
        row, is_new = ParkedReport.objects.get_or_create(
            key=key, defaults={**values, "parked_at": now, "last_at": now, "state": ParkedState.WAITING}
        )
        if not is_new and _content(row.payload) != _content(payload):
            key = f"{key[:80]}#{_content(payload)}"
            row, is_new = ParkedReport.objects.get_or_create(
                key=key, defaults={**values, "parked_at": now, "last_at": now, "state": ParkedState.WAITING}
            )
        if not is_new:
            row.times, row.last_at = row.times + 1, max(now, row.last_at)
            row.code, row.reason = values["code"], values["reason"]
            if row.state == ParkedState.BOOKED:
                row.state, row.settled_at, row.settled_by = ParkedState.WAITING, None, ""
            row.save()
        reach("park")
    if is_new:
        level = logging.INFO if row.code == UNDESCRIBED else logging.ERROR  # IB is being asked: no trouble yet
        kind = "fill" if is_fill else "commission"
        logger.log(level, "report parked key=%s kind=%s reason=%s", row.key, kind, row.reason)
    return row


def parked_waiting(con_id: int | None = None) -> list[ParkedReport]:
    """Return what waits, oldest first; with ``con_id`` only what concerns that contract."""
    rows = ParkedReport.objects.filter(state=ParkedState.WAITING).order_by("id")
    return list(rows if con_id is None else rows.filter(con_id=con_id))


def parked_contracts() -> list[ContractSnapshot]:
    """Return the contracts of reports that wait until IB has said how they are quoted."""
    rows = ParkedReport.objects.filter(state=ParkedState.WAITING, code=UNDESCRIBED).order_by("id")
    reports = [decode(row.payload) for row in rows]
    return [report.contract for report in reports if isinstance(report, FillSnapshot)]


def retry_parked(
    account_id: str, owner_of: OwnerOf, now: datetime, *, parked_id: int | None = None, actor: str = "MATS"
) -> Retried:
    """Try to book what waits, one report after the other; inside a transaction of the ledger's writer.

    Raises: NotFoundError when ``parked_id`` names no row; ConflictError when that one is settled.
    """
    rows = parked_waiting() if parked_id is None else [_waiting(parked_id)]
    outcome = Retried()
    for row in rows:
        result = _try(account_id, row, owner_of, now)
        if result is None:
            outcome.waiting.append(row)
            continue
        row.state, row.settled_at = ParkedState.BOOKED, now
        row.settled_by = f"{actor}: {'booked' if not result.duplicates else 'was in the books'}"[:150]
        row.save(update_fields=["state", "settled_at", "settled_by"])
        logger.info("parked report booked key=%s", row.key)
        outcome.booked.append(row)
        outcome.results.append(result)
    return outcome


def settle_known(exec_ids: Iterable[str], *, actor: str, now: datetime) -> list[ParkedReport]:
    """Settle the parked fills whose executions came into the books by another way, such as IB's statement."""
    keys = {f"fill:{exec_id}"[:96] for exec_id in exec_ids}
    rows = [row for row in parked_waiting() if row.key.partition("#")[0] in keys]
    for row in rows:
        row.state, row.settled_at, row.settled_by = ParkedState.BOOKED, now, f"{actor}: booked from there"[:150]
        row.save(update_fields=["state", "settled_at", "settled_by"])
        logger.info("parked report settled key=%s by=%s", row.key, actor)
    return rows


def discard_parked(parked_id: int, *, actor: str, reason: str, now: datetime) -> ParkedReport:
    """Let go of a report for good; the row stays with who decided it and why.

    Raises: NotFoundError; ConflictError when it is settled already; LedgerError without a reason.
    """
    if not reason.strip():
        raise LedgerError("Say why this report is to be discarded.", code="reason_missing", parked=parked_id)
    with transaction.atomic():
        row = _waiting(parked_id)
        row.state, row.settled_at, row.settled_by = ParkedState.DISCARDED, now, f"{actor}: {reason}"[:150]
        row.save(update_fields=["state", "settled_at", "settled_by"])
    logger.warning("parked report discarded key=%s by=%s", row.key, actor)
    return row


def encode(report: Report) -> dict[str, Any]:
    """Return a report as JSON values: decimals as text, times as ISO 8601."""
    values = asdict(report)
    values["type"] = "fill" if isinstance(report, FillSnapshot) else "commission"
    plain: dict[str, Any] = json.loads(json.dumps(values, default=_text))
    return plain


def decode(payload: Mapping[str, Any]) -> Report:
    """Return the report that ``encode`` wrote down.

    Raises: LedgerError when the row does not hold one.
    """
    try:
        if payload["type"] == "commission":
            return CommissionSnapshot(payload["exec_id"], Decimal(payload["amount"]), payload["currency"])
        values = {name: _read(name, payload[name], _DECIMALS) for name in _names(FillSnapshot) if name in payload}
        values["contract"] = _contract(payload["contract"])
        values["executed_at"] = datetime.fromisoformat(payload["executed_at"]).astimezone(UTC)
        values["is_replay"] = True
        return FillSnapshot(**values)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise LedgerError(f"A parked report cannot be read: {error!r}.", code="unreadable_report") from error


def _contract(parts: Mapping[str, Any]) -> ContractSnapshot:
    values = {name: _read(name, parts[name], _CONTRACT_DECIMALS) for name in _names(ContractSnapshot) if name in parts}
    values["legs"] = tuple(LegSnapshot(**leg) for leg in parts.get("legs", ()))
    return ContractSnapshot(**values)


def _try(account_id: str, row: ParkedReport, owner_of: OwnerOf, now: datetime) -> FoldResult | None:
    try:
        with transaction.atomic():
            result = fold_batch(account_id, [decode(row.payload)], owner_of, now)
    except (MatsError, ArithmeticError, ValueError) as error:
        row.code, row.reason = _code(error), _reason(error)
        row.save(update_fields=["code", "reason"])
        return None
    return None if result.contradictions or result.ignored else result  # of another account it is not booked


def _waiting(parked_id: int) -> ParkedReport:
    row = ParkedReport.objects.filter(pk=parked_id).first()
    if row is None:
        raise NotFoundError(f"There is no parked report {parked_id}.", code="unknown_parked", parked=parked_id)
    if row.state != ParkedState.WAITING:
        raise ConflictError(
            f"The report {row.key} is settled already: {row.state} ({row.settled_by}).",
            code="already_settled",
            parked=parked_id,
        )
    return row


def _key(report: Report) -> str:
    kind = "fill" if isinstance(report, FillSnapshot) else "commission"
    return f"{kind}:{report.exec_id}"[:96]


def _content(payload: Mapping[str, Any]) -> str:
    """Return what a report says, short; how and when it was heard does not count."""
    said = {key: value for key, value in payload.items() if key not in ("is_replay", "received_ns")}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]


def _code(error: BaseException) -> str:
    return str(getattr(error, "code", "") or type(error).__name__)[:40]


def _reason(error: BaseException) -> str:
    return str(getattr(error, "message", "") or error or type(error).__name__)[:400]


def _names(kind: type[FillSnapshot] | type[ContractSnapshot]) -> list[str]:
    return [one.name for one in fields(kind)]


def _read(name: str, value: Any, decimals: frozenset[str]) -> Any:
    return Decimal(value) if name in decimals and value is not None else value


def _text(value: object) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    raise TypeError(f"{value!r} has no place in a report")
