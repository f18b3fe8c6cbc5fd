"""The only writer of strategy rows: every write is validated, counted, recorded in history and announced.

Owns: creation, change, activation, parameters, deletion with its guards.
Leaves: starting and stopping (``trading``), the mirror in ArcticDB (a receiver of ``strategy_saved``).
Rule: a bad value is refused; a file that cannot be loaded is recorded on the row, which stays editable.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import transaction

from strategies import audit
from strategies.exceptions import ConfigError, ConflictError, LoadError, MatsError
from strategies.loader import LoadedStrategy, load_strategy_class
from strategies.models import ConnectionKind, Strategy, StrategyKind
from strategies.params import ROW_FIELDS, validate_params
from strategies.queries import get_strategy
from strategies.signals import strategy_deleted, strategy_saved

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

logger = logging.getLogger(__name__)

EDITABLE = frozenset(field.name for field in Strategy._meta.fields if field.editable) - {"id"}

DeleteGuard = Callable[[str], str | None]
delete_guards: list[DeleteGuard] = []
"""Asked with the symbol before a deletion; a returned sentence forbids it. Higher apps append their own."""


@dataclass(frozen=True, slots=True)
class Growth:
    """A change that lets a strategy hold more: a higher target weight, or being activated.

    ``override`` is the reason of who lets it pass a limit, empty where nobody does.
    """

    symbol: str
    target_weight: Decimal
    activates: bool
    user: AbstractBaseUser | None
    source: str
    override: str = ""


GrowthGuard = Callable[[Growth], Sequence[str]]
growth_guards: list[GrowthGuard] = []
"""Asked before such a change is stored, outside of any transaction; each returns what the operator should know, and
raises MatsError to refuse. Higher apps append their own."""


def save_strategy(
    fields: Mapping[str, Any], user: AbstractBaseUser | None, *, source: str = "", override: str = ""
) -> Strategy:
    """Create the strategy ``fields["symbol"]``, or change the given fields of it; ``notices`` of it are for a person.

    ``override``: why it may pass a limit of the account.
    Raises: ConfigError with ``fields["errors"] = {field: sentence}``; what a guard of growth raises.
    """
    unknown = sorted(set(fields) - EDITABLE)
    if unknown:
        raise _invalid(dict.fromkeys(unknown, "This field does not exist or is not editable."))
    if not fields.get("symbol"):
        raise _invalid({"symbol": "A strategy needs a symbol."})
    notices = ask_guards(growth_of(fields, user, source=source, override=override))
    with transaction.atomic():
        strategy = Strategy.objects.select_for_update().filter(symbol=fields["symbol"]).first() or Strategy()
        for name, value in fields.items():
            setattr(strategy, name, Decimal(str(value)) if isinstance(value, float) else value)
        try:
            strategy.full_clean()
        except ValidationError as error:
            raise _invalid({name: " ".join(texts) for name, texts in error.message_dict.items()}) from error
        strategy.params = checked_params(strategy, validate_strategy(strategy))
        if "connection" not in fields:
            share_by_default(strategy)
        write(strategy, user, source=source)
    strategy.notices = notices
    return strategy


def share_by_default(strategy: Strategy) -> None:
    """Have a new reactive strategy share a connection where nobody chose: its code runs on no loop."""
    if strategy._state.adding and strategy.kind == StrategyKind.REACTIVE:
        strategy.connection = ConnectionKind.SHARED


def growth_of(
    fields: Mapping[str, Any], user: AbstractBaseUser | None, *, source: str = "", override: str = ""
) -> Growth | None:
    """Return how a change of a known strategy lets it hold more; None when it does not, or cannot be read.

    A strategy that is new holds nothing: it is asked about when it is started.
    """
    row = Strategy.objects.filter(symbol=fields.get("symbol", "")).first()
    if row is None:
        return None
    try:
        weight = Decimal(str(fields.get("target_weight", row.target_weight)))
    except ArithmeticError:
        return None  # what is no number is refused with its field
    activates = bool(fields.get("active", row.active)) and not row.active
    if not activates and not weight > row.target_weight:
        return None
    return Growth(row.symbol, max(weight, row.target_weight), activates, user, source, override)


def ask_guards(growth: Growth | None) -> tuple[str, ...]:
    """Return what every guard of growth says.

    Raises: what one of them raises: then nothing may be stored.
    """
    if growth is None:
        return ()
    return tuple(text for guard in growth_guards for text in guard(growth))


def set_active(
    symbol: str, active: bool, user: AbstractBaseUser | None, *, source: str = "", override: str = ""
) -> Strategy:
    """Mark whether the strategy is started by «start all» and with the engine; ``notices`` of it are for a person.

    Raises: NotFoundError; what a guard of growth raises.
    """
    wanted = {"symbol": symbol, "active": active}
    notices = ask_guards(growth_of(wanted, user, source=source, override=override))
    with transaction.atomic():
        strategy = get_strategy(symbol, hold=True)
        if strategy.active != active:
            strategy.active = active
            write(strategy, user, reason="activated" if active else "deactivated", source=source)
    strategy.notices = notices
    return strategy


def store_params(symbol: str, params: Mapping[str, Any], source: str) -> Strategy:
    """Store parameters that code decided (the file's defaults, an import); ``source`` goes into the history.

    Raises: NotFoundError; ConfigError when the file refuses them.
    """
    with transaction.atomic():
        strategy = get_strategy(symbol, hold=True)
        strategy.params = dict(params)
        strategy.params = checked_params(strategy, validate_strategy(strategy))
        write(strategy, None, reason=f"params from {source}")
    return strategy


def revalidate(symbol: str) -> Strategy:
    """Load the strategy's file again and record on the row what changed about it.

    Raises: NotFoundError.
    """
    with transaction.atomic():
        strategy = get_strategy(symbol, hold=True)
        before = (strategy.load_error, strategy.code_hash, strategy.kind)
        validate_strategy(strategy)
        if (strategy.load_error, strategy.code_hash, strategy.kind) != before:
            write(strategy, None, reason="file checked")
    return strategy


def delete_strategy(symbol: str, user: AbstractBaseUser | None, *, source: str = "") -> None:
    """Delete a strategy that owns nothing.

    Raises: NotFoundError; ConflictError with every reason that forbids it.
    """
    with transaction.atomic():
        strategy = get_strategy(symbol, hold=True)
        reasons = delete_obstacles(symbol)
        if reasons:
            raise ConflictError(f"{symbol} cannot be deleted: {' '.join(reasons)}", code="strategy_in_use")
        _sign(strategy, user, "")
        _record("strategy.deleted", symbol, user, source, "", before=_shown(strategy))
        strategy.delete()
        transaction.on_commit(partial(strategy_deleted.send_robust, sender=Strategy, symbol=symbol))
    logger.info("strategy=%s deleted user=%s", symbol, user)


def delete_obstacles(symbol: str) -> list[str]:
    """Return the sentences of every guard that forbids deleting the strategy; empty means it may go."""
    return [reason for reason in (guard(symbol) for guard in delete_guards) if reason]


def validate_strategy(strategy: Strategy) -> LoadedStrategy | None:
    """Load the row's file; set ``load_error``, ``code_hash`` and ``kind`` on the instance without saving it."""
    try:
        loaded = load_strategy_class(strategy.filename)
    except LoadError as error:
        strategy.load_error, strategy.code_hash = error.message, ""
        return None
    strategy.load_error, strategy.code_hash, strategy.kind = "", loaded.sha256, loaded.kind
    return loaded


def checked_params(strategy: Strategy, loaded: LoadedStrategy | None) -> dict[str, Any]:
    """Return the row's parameters, complete and checked; empty stays empty and means the file's PARAMS.

    The row's own weights and currency win over what the parameters say of them.

    Raises: ConfigError (bad_params) with a sentence per parameter.
    """
    _refuse_unstorable(strategy.params)
    if loaded is None:
        return dict(strategy.params)
    checked = effective_params(strategy, loaded)
    _refuse_unstorable(checked)
    return checked if strategy.params else {}


def row_params(strategy: Strategy, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters with the row's weights and currency in them.

    Raises: ConfigError (bad_params) when the row, edited past every form, holds no object.
    """
    if not isinstance(params, Mapping):
        raise ConfigError(
            f"The stored parameters are {json.dumps(params)[:40]}, not an object of names and values; save them again.",
            code="bad_params",
            errors={"params": "Not an object."},
        )
    mirrored = {name: getattr(strategy, name) for name in ROW_FIELDS}
    return {**params, **{name: value if isinstance(value, str) else float(value) for name, value in mirrored.items()}}


def effective_params(strategy: Strategy, loaded: LoadedStrategy) -> dict[str, Any]:
    """Return what the strategy runs with: the row's parameters, or the file's when the row has none.

    Raises: ConfigError (bad_params) with a sentence per parameter.
    """
    return validate_params(loaded, row_params(strategy, strategy.params or loaded.params))


def write(strategy: Strategy, user: AbstractBaseUser | None, *, reason: str = "", source: str = "") -> None:
    """Save a validated instance: count the revision, name the author, leave the audit entry, announce it after commit.

    Belongs to this module and to the admin, whose form has validated already.
    """
    created = strategy.pk is None
    before = Strategy.objects.filter(pk=strategy.pk).first()
    if before is not None:
        strategy.revision = before.revision
        strategy.params_revision = before.params_revision + (before.params != strategy.params)
    strategy.revision += 1
    _sign(strategy, user, reason)
    with transaction.atomic():
        strategy.save()
        _record_change(before, strategy, user, source, reason)
    logger.info("strategy=%s saved revision=%s user=%s reason=%s", strategy.symbol, strategy.revision, user, reason)
    transaction.on_commit(partial(strategy_saved.send_robust, sender=Strategy, strategy=strategy, created=created))


def _record_change(
    before: Strategy | None, after: Strategy, user: AbstractBaseUser | None, source: str, reason: str
) -> None:
    new = _shown(after)
    if before is None:
        _record("strategy.created", after.symbol, user, source, reason, after=new)
        return
    old = _shown(before)
    changed = [name for name in new if new[name] != old[name]]
    if changed:
        was, now = ({name: values[name] for name in changed} for values in (old, new))
        _record("strategy.changed", after.symbol, user, source, reason, before=was, after=now)


def _shown(strategy: Strategy) -> dict[str, Any]:
    return {name: getattr(strategy, name) for name in sorted(EDITABLE)}


def _record(
    action: str,
    symbol: str,
    user: AbstractBaseUser | None,
    source: str,
    reason: str,
    before: Any = None,
    after: Any = None,
) -> None:
    where = source or (audit.ENGINE if user is None else "page")
    actor = user.get_username() if user is not None else where
    audit.record(action, symbol, actor=actor, source=where, reason=reason, before=before, after=after)


def _sign(strategy: Any, user: AbstractBaseUser | None, reason: str) -> None:
    strategy._history_user = user  # where simple-history looks for author and reason
    strategy._change_reason = reason or None


def _refuse_unstorable(params: Mapping[str, Any]) -> None:
    """Refuse what JSON or a database cannot hold: NaN, infinity, lone surrogates, NUL characters."""
    try:
        text = json.dumps(params, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The parameters cannot be stored: {error}", code="bad_params", errors={"params": str(error)})
    if "\\u0000" in text:
        raise ConfigError("The parameters contain a NUL character.", code="bad_params", errors={"params": "NUL."})


def _invalid(errors: Mapping[str, str]) -> MatsError:
    listed = "; ".join(text if name == NON_FIELD_ERRORS else f"{name}: {text}" for name, text in errors.items())
    return ConfigError(f"The strategy cannot be saved: {listed}", code="invalid_strategy", errors=dict(errors))
