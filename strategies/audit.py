"""The audit trail: who did what to money, strategies or the engine, why, and what stood before and after.

Owns: writing an entry and checking the chain. Leaves: which actions there are to their services.
Rule: an entry is written in the transaction of the deed, so that neither exists without the other. Each entry's hash
covers all of its columns and the hash before it: what was altered, taken out or put between shows. Entries cut off at
the end leave a sound chain; the hash of the newest entry, which the log has too, tells them.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from django.db import transaction

from strategies.crashpoints import reach
from strategies.models import AuditEntry
from strategies.ordering import take_turn

logger = logging.getLogger(__name__)

GENESIS = hashlib.sha256(b"MATS audit trail").hexdigest()
ENGINE, SCHEDULE = "engine", "schedule"
SOURCES = frozenset({"page", "api", "admin", "cli", ENGINE, "flex", SCHEDULE})
_HASHED = ("at", "actor", "source", "action", "subject", "reason", "before", "after", "previous_hash")


def record(
    action: str,
    subject: str,
    *,
    actor: str,
    source: str,
    reason: str = "",
    before: Any = None,
    after: Any = None,
    now: datetime | None = None,
) -> AuditEntry:
    """Append one entry inside the caller's transaction (else in one of its own); texts are cut to their columns.

    Raises: ValueError for an unknown source or a naive time.
    """
    if source not in SOURCES:
        raise ValueError(f"{source!r} is no source of actions: {', '.join(sorted(SOURCES))}")
    moment = now or datetime.now(UTC)
    if moment.tzinfo is None:
        raise ValueError("the time of an audit entry needs its zone")
    entry = AuditEntry(
        at=moment.astimezone(UTC),
        actor=_text(actor)[:150],
        source=source,
        action=_text(action)[:40],
        subject=_text(subject)[:160],
        reason=_text(reason)[:400],
        before=storable(before),
        after=storable(after),
    )
    with transaction.atomic():
        take_turn()
        entry.previous_hash = head()
        entry.hash = digest(entry)
        entry.save(force_insert=True)
        reach("audit")
    logger.info("audit action=%s subject=%s actor=%s hash=%s", entry.action, entry.subject, entry.actor, entry.hash)
    return entry


def head() -> str:
    """Return the newest entry's hash, of an empty trail the one that the first entry follows."""
    newest = AuditEntry.objects.order_by("-id").values_list("hash", flat=True).first()
    return newest or GENESIS


def digest(entry: AuditEntry) -> str:
    """Return the SHA-256 of an entry's canonical JSON."""
    values = {name: getattr(entry, name) for name in _HASHED}
    values["at"] = entry.at.astimezone(UTC).isoformat(timespec="microseconds")
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def verify_chain() -> list[str]:
    """Return one sentence for each entry that is not as it was written; empty means that the trail is sound."""
    problems: list[str] = []
    previous = GENESIS
    for entry in AuditEntry.objects.order_by("id").iterator(chunk_size=2_000):
        if entry.previous_hash != previous:
            problems.append(f"Audit entry {entry.pk} does not follow the one before it: something was taken out.")
        if entry.hash != digest(entry):
            problems.append(f"Audit entry {entry.pk} ({entry}) was altered after it was written.")
        previous = entry.hash
    return problems


def storable(value: Any) -> Any:
    """Return a value as JSON that every database gives back the same: decimals and floats as text, times in UTC."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Mapping):
        return {_text(str(name)): storable(part) for name, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [storable(part) for part in (sorted(value) if isinstance(value, set | frozenset) else value)]
    return _text(_spelled(value))


def _spelled(value: Any) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, Decimal):
        return _plain(value)
    if isinstance(value, float):  # JSONB spells numbers its own way; text stays as it is
        return _plain(Decimal(repr(value)))
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, str | UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in an audit entry")


def _plain(value: Decimal) -> str:
    if not value.is_finite():
        return str(value)
    text = f"{value:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


def _text(value: str) -> str:
    """Replace what no database holds: NUL and halves of surrogate pairs."""
    return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
