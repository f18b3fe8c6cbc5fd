"""Halting and releasing from any process, with or without an engine: the halt file first, then the books.

Owns: the order of file and row. Leaves: the rows (``risk_services``), what the engine does (``engine.risk_desk``).
Rule: a halt works when nothing else does, so its file comes before the database; a release is on record before its
file goes, or it does not happen.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.db import DatabaseError, transaction

from strategies.exceptions import ConfigError
from trading.alerts import clear_alert
from trading.engine.halt_file import HaltFile
from trading.engine.kill import is_of_account
from trading.engine.risk_alerts import alert_key, tell_state
from trading.models import EngineCommand
from trading.orders.trading_state import TradingState
from trading.risk_models import TradingControl
from trading.risk_services import ACCOUNT, MANAGE_RISK, set_state

logger = logging.getLogger(__name__)

_ORDER = [TradingState.ACTIVE, TradingState.REDUCING, TradingState.HALTED]


def halt_file() -> HaltFile:
    """Return the halt file of this MATS_HOME."""
    return HaltFile(settings.MATS.mats_home)


def may_release(user: AbstractBaseUser | AnonymousUser | None) -> bool:
    """Tell whether a user may make trading looser."""
    return isinstance(user, User) and user.is_active and user.has_perm(MANAGE_RISK)


def halt(owner: str, *, reason: str, actor: str, source: str) -> TradingControl:
    """Halt the account (owner empty) or a strategy.

    Raises: ConfigError without a reason; NotFoundError; OSError when the file cannot be made; DatabaseError when only
    the file could be made.
    """
    return set_trading_state(owner, TradingState.HALTED, reason=reason, actor=actor, source=source)


def halt_at_once(level: int, owner: str, *, reason: str, actor: str, key: str | None) -> bool:
    """Write the halt file for a kill level of the account before the engine is asked; tell whether it is there.

    A request that is repeated under its ``key`` halts nothing anew: somebody may have released since.
    """
    if not is_of_account(level, owner):
        return False
    try:
        if key is not None and EngineCommand.objects.filter(idempotency_key=key).exists():
            return halt_file().exists()
    except DatabaseError as error:
        logger.warning("earlier requests not read reason=%s; halting", error)
    try:
        halt_file().write(reason, actor)
    except OSError as error:  # the engine halts in memory when it is asked
        logger.error("halt file not written reason=%s", error)  # noqa: TRY400 - one clear line
        return False
    return True


def release(owner: str, *, reason: str, actor: str, source: str) -> TradingControl:
    """Let the account or a strategy trade again. Whether the caller may is his to ask (``may_release``).

    Raises: ConfigError without a reason; NotFoundError; OSError when the file cannot go: then nothing is released.
    """
    file = halt_file()
    note = file.note() if owner == ACCOUNT else None
    try:
        with transaction.atomic():
            if not TradingControl.objects.filter(owner=owner).exists():
                TradingControl.objects.create(
                    owner=owner,
                    state=TradingState.HALTED,
                    reason=note.text[:400] if note else "",
                    set_by="",
                    since=datetime.now(UTC),
                )
            row = set_state(owner, TradingState.ACTIVE, reason=reason, actor=actor, source=source)
            clear_alert(alert_key(owner))
            if owner == ACCOUNT:
                file.remove()
    except BaseException:
        if note is not None:
            file.write(note.reason, note.by)
        raise
    return row


def set_trading_state(owner: str, state: TradingState, *, reason: str, actor: str, source: str) -> TradingControl:
    """Set a trading state: the halt file comes before its row, and goes with the row of a release.

    Raises: as ``halt`` and ``release``.
    """
    if not reason.strip():
        message = "Say why; the audit trail keeps it."
        raise ConfigError(message, code="bad_arguments", errors={"reason": message})
    if state is TradingState.ACTIVE:
        return release(owner, reason=reason, actor=actor, source=source)
    if owner == ACCOUNT and state is TradingState.HALTED:
        halt_file().write(reason, actor)
    with transaction.atomic():
        row = set_state(owner, state, reason=reason, actor=actor, source=source)
        tell_state(owner, state, row.reason)
        if owner == ACCOUNT and state is TradingState.REDUCING:
            halt_file().remove()
    return row


def is_looser(owner: str, state: TradingState) -> bool:
    """Tell whether a state lets more through than the one that stands; the halt file counts."""
    row = TradingControl.objects.filter(owner=owner).first()
    now = TradingState(row.state) if row is not None else TradingState.ACTIVE
    if owner == ACCOUNT and halt_file().exists():
        now = TradingState.HALTED
    return _ORDER.index(state) < _ORDER.index(now)
