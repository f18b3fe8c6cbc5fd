"""Every change of limits, overrides, locks and trading states: checked, audited, and noticed by the engine.

Owns: the rows of ``risk_models``. Leaves: who may (pages, API and commands ask for the right), what the engine does
with it (``engine.risk_desk``). Rule: each is one transaction with its audit entry and a new revision; making trading
stricter is anybody's with the right to operate, making it looser needs the right to manage risk and a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F, Model

from strategies import audit
from strategies.exceptions import ConfigError, NotFoundError
from strategies.models import DISCRETIONARY, Strategy
from trading.engine import doorbell, events
from trading.engine.events import EventKind
from trading.orders.trading_state import OverrideAction, TradingState
from trading.risk_models import RiskLimit, RiskLock, RiskOverride, RiskRevision, TradingControl

MANAGE_RISK = "trading.manage_risk"
MAX_REASON = 400
ACCOUNT = ""
_STRICT = [TradingState.ACTIVE, TradingState.REDUCING, TradingState.HALTED]


def _now() -> datetime:
    return datetime.now(UTC)


def bump() -> None:
    """Have the engine read everything anew; inside the transaction of the change."""
    RiskRevision.objects.get_or_create(name="risk")
    RiskRevision.objects.filter(name="risk").update(revision=F("revision") + 1)


def _told(owner: str, what: str) -> None:
    bump()
    events.emit(EventKind.RISK, {"owner": owner, "what": what[:200]}, owner)
    transaction.on_commit(doorbell.ring)


def _reason(text: str) -> str:
    reason = " ".join(text.split())[:MAX_REASON]
    if not reason:
        message = "Say why; the audit trail keeps it."
        raise ConfigError(message, code="bad_arguments", errors={"reason": message})
    return reason


def _strategy(symbol: str) -> str:
    if symbol in (ACCOUNT, DISCRETIONARY):
        return symbol
    found = Strategy.objects.filter(symbol__iexact=symbol).values_list("symbol", flat=True).first()
    if found is None:
        raise NotFoundError(f"There is no strategy {symbol!r}.", code="unknown_strategy", symbol=symbol)
    return found


def _checked(row: Model) -> None:
    try:
        row.full_clean()
    except ValidationError as error:
        errors = {name: " ".join(texts) for name, texts in error.message_dict.items()}
        raise ConfigError(" ".join(errors.values()), code="bad_limit", errors=errors) from error


def facts_of(row: Model | None) -> dict[str, Any] | None:
    """Return a row for the audit trail."""
    if row is None:
        return None
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


# limits


def set_limit(
    name: str,
    value: Decimal,
    *,
    strategy: str = "",
    con_id: int = 0,
    reason: str,
    actor: str,
    source: str,
) -> RiskLimit:
    """Set a limit for its scope, in place of one that stood there.

    Raises: ConfigError (bad_limit, bad_arguments) with ``errors`` by field; NotFoundError.
    """
    strategy = _strategy(strategy)
    with transaction.atomic():
        row = RiskLimit.objects.select_for_update().filter(name=name, strategy=strategy, con_id=con_id).first()
        before = facts_of(row)
        row = row or RiskLimit(name=name, strategy=strategy, con_id=con_id)
        row.value, row.reason, row.set_by, row.since = value, _reason(reason), actor, _now()
        _checked(row)
        row.save()
        _record("risk.limit_set", row, before, reason=row.reason, actor=actor, source=source)
    return row


def remove_limit(pk: int, *, reason: str, actor: str, source: str) -> None:
    """Take a limit away; the default or a wider one holds then.

    Raises: NotFoundError.
    """
    with transaction.atomic():
        row = RiskLimit.objects.select_for_update().filter(pk=pk).first()
        if row is None:
            raise NotFoundError(f"There is no limit {pk}.", code="unknown_limit")
        _remove("risk.limit_removed", row, reason, actor, source)


def _remove(action: str, row: Any, reason: str, actor: str, source: str) -> None:
    before, words, subject = facts_of(row), _reason(reason), str(row)
    row.delete()
    audit.record(action, subject, actor=actor, source=source, reason=words, before=before)
    _told(row.strategy, f"{action}: {subject}")


def _record(action: str, row: Any, before: Mapping[str, Any] | None, *, reason: str, actor: str, source: str) -> None:
    audit.record(action, str(row), actor=actor, source=source, reason=reason, before=before, after=facts_of(row))
    _told(row.strategy, f"{action}: {row}")


# overrides and locks


def set_override(
    action: str,
    *,
    multiplier: Decimal = Decimal(1),
    strategy: str = "",
    con_id: int = 0,
    reason: str,
    actor: str,
    source: str,
) -> RiskOverride:
    """Set an override for its scope, in place of one that stood there.

    Raises: ConfigError (bad_limit, bad_arguments) with ``errors`` by field; NotFoundError.
    """
    strategy = _strategy(strategy)
    with transaction.atomic():
        row = RiskOverride.objects.select_for_update().filter(strategy=strategy, con_id=con_id).first()
        before = facts_of(row)
        row = row or RiskOverride(strategy=strategy, con_id=con_id)
        row.action, row.reason, row.set_by, row.since = action, _reason(reason), actor, _now()
        row.multiplier = multiplier if action == OverrideAction.MULTIPLIER else Decimal(1)
        _checked(row)
        row.save()
        _record("risk.override_set", row, before, reason=row.reason, actor=actor, source=source)
    return row


def remove_override(pk: int, *, reason: str, actor: str, source: str) -> None:
    """Take an override away.

    Raises: NotFoundError.
    """
    with transaction.atomic():
        row = RiskOverride.objects.select_for_update().filter(pk=pk).first()
        if row is None:
            raise NotFoundError(f"There is no override {pk}.", code="unknown_override")
        _remove("risk.override_removed", row, reason, actor, source)


def set_lock(
    *, strategy: str = "", con_id: int = 0, until: datetime | None = None, reason: str, actor: str, source: str
) -> RiskLock:
    """Lock a strategy, a contract or both against openings, until a moment or until released.

    Raises: ConfigError (bad_arguments) for a time that is over, or when neither is named; NotFoundError.
    """
    now = _now()
    if not strategy and not con_id:  # a form left empty must not stop everyone
        message = "Name a strategy, a contract or both; what stops the whole account is a halt."
        raise ConfigError(message, code="bad_arguments", errors={"strategy": message})
    if until is not None and until <= now:
        message = "The lock would be over already."
        raise ConfigError(message, code="bad_arguments", errors={"until": message})
    with transaction.atomic():
        row = RiskLock(
            strategy=_strategy(strategy), con_id=con_id, until=until, reason=_reason(reason), set_by=actor, since=now
        )
        _checked(row)
        row.save()
        _record("risk.lock_set", row, None, reason=row.reason, actor=actor, source=source)
    return row


def release_lock(pk: int, *, reason: str, actor: str, source: str) -> RiskLock:
    """Release a lock; a second time changes nothing.

    Raises: NotFoundError.
    """
    with transaction.atomic():
        row = RiskLock.objects.select_for_update().filter(pk=pk).first()
        if row is None:
            raise NotFoundError(f"There is no lock {pk}.", code="unknown_lock")
        if row.released_at is None:
            before = facts_of(row)
            row.released_at, row.released_by = _now(), actor
            row.save(update_fields=["released_at", "released_by"])
            _record("risk.lock_released", row, before, reason=_reason(reason), actor=actor, source=source)
    return row


# states


def set_state(owner: str, state: TradingState, *, reason: str, actor: str, source: str) -> TradingControl:
    """Set the trading state of the account (owner empty) or of a strategy; the same again changes nothing.

    Whether the caller may make it looser is his to ask.
    Raises: ConfigError (bad_arguments) without a reason; NotFoundError.
    """
    owner, words, now = _strategy(owner), _reason(reason), _now()
    with transaction.atomic():
        row = TradingControl.objects.select_for_update().filter(owner=owner).first()
        before = facts_of(row)
        is_release = state is TradingState.ACTIVE and row is not None  # also of a halt that is not stored yet
        if (TradingState(row.state) if row else TradingState.ACTIVE) is state and not is_release:
            return row or TradingControl(owner=owner, state=state, since=now)
        is_looser = before is not None and _STRICT.index(state) <= _STRICT.index(TradingState(before["state"]))
        row = row or TradingControl(owner=owner)
        row.state, row.reason, row.set_by, row.since = state, words, actor, now
        if is_looser:
            row.enabled_at = now
        row.save()
        audit.record(
            f"risk.{state}",
            owner or "account",
            actor=actor,
            source=source,
            reason=words,
            before=before,
            after=facts_of(row),
        )
        _told(owner, f"{owner or 'account'} {state}: {words}")
    return row
