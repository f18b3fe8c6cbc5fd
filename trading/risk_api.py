"""Routes under /risk: trading states, limits, overrides, locks, exposure, kill levels, margin.

Rule: making trading stricter is the operator's; limits, overrides, releases and whatever makes it looser are the
administrator's. A halt is written at once, with or without an engine; what only the engine can do is queued.
"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from ninja import Path, Router, Status

from strategies.api_rules import caller, idempotency_key
from strategies.exceptions import ConfigError
from strategies.schemas import Limit, RowId
from trading import risk_control, risk_queries, risk_services
from trading import risk_schemas as schemas
from trading.api_queue import queue
from trading.books_schemas import WhyIn
from trading.engine.kill import GLOBAL_CANCEL
from trading.orders.trading_state import TradingState
from trading.schemas import QueuedOut

router = Router()
QUEUED = {202: QueuedOut}
Queued = Status[dict[str, Any]]


def _actor(request: HttpRequest, *, manages: bool) -> dict[str, str]:
    """Return who asks and from where, after asking for the right.

    Raises: PermissionDenied.
    """
    asked = caller(request)
    if manages and not risk_control.may_release(asked.user):
        raise PermissionDenied("This needs the administrator role.")
    return {"actor": asked.user.get_username(), "source": asked.source}


# -- reading


@router.get("/states", response=schemas.StatesOut)
def states(request: HttpRequest) -> dict[str, Any]:
    """Tell the trading state of the account and of every strategy."""
    return risk_queries.trading_states()


@router.get("/usage", response=list[schemas.UsageOut])
def usage(request: HttpRequest) -> list[dict[str, Any]]:
    """List the account's limits with their source and what is used of them."""
    return risk_queries.account_limits(risk_queries.exposures())


@router.get("/exposure", response=schemas.ExposureOut)
def exposure(request: HttpRequest) -> dict[str, Any]:
    """Tell gross and net exposure of the account and of every owner."""
    return risk_queries.exposures()


@router.get("/limits", response=list[schemas.LimitOut])
def limits(request: HttpRequest) -> list[dict[str, Any]]:
    """List the limits that were set; where none is set the default holds."""
    return risk_queries.limit_rows()


@router.get("/overrides", response=schemas.RowsOut)
def overrides(request: HttpRequest) -> dict[str, Any]:
    """List the overrides that hold."""
    return {"items": risk_queries.override_rows()}


@router.get("/locks", response=schemas.RowsOut)
def locks(request: HttpRequest) -> dict[str, Any]:
    """List the locks that hold."""
    return {"items": risk_queries.lock_rows()}


@router.get("/denials", response=schemas.RowsOut)
def denials(request: HttpRequest, limit: Limit = 30) -> dict[str, Any]:
    """List the latest orders that MATS did not send, with the check that refused."""
    return {"items": risk_queries.denials(limit)}


@router.get("/margin", response=schemas.MarginOut)
def margin(request: HttpRequest) -> dict[str, Any]:
    """Tell whose margin the account's is, as IB's answers were last read."""
    return risk_queries.margin_shares()


@router.post("/margin/read", response=QUEUED)
def read_margin(request: HttpRequest, response: HttpResponse) -> Queued:
    """Have the engine read it now."""
    return Status(202, queue(request, response, "read_margin"))


@router.get("/dead-man", response=schemas.RowsOut)
def dead_man(request: HttpRequest) -> dict[str, Any]:
    """List when the dead-man switch acted or practised."""
    return {"items": risk_queries.dead_man_rows()}


# -- states and kill levels


@router.post("/state", response=schemas.DoneOut)
def set_state(request: HttpRequest, payload: schemas.StateIn) -> dict[str, Any]:
    """Set a trading state; works without an engine, which follows at once."""
    owner, state = payload.owner or "", TradingState(payload.state)
    who = _actor(request, manages=risk_control.is_looser(owner, state))
    row = risk_control.set_trading_state(owner, state, reason=payload.reason, **who)
    return {"text": str(row)}


@router.post("/kill", response=QUEUED)
def kill(request: HttpRequest, response: HttpResponse, payload: schemas.KillIn) -> Queued:
    """Have the engine do a kill level: 1 pause, 2 cancel, 3 halt, 4 global cancel, 5 flatten.

    What halts the account halts it at once and without an engine too: the file HALT is written first.
    """
    if payload.level >= GLOBAL_CANCEL and not payload.confirm:
        message = "Level 4 cancels manual orders too, level 5 closes positions: send confirm true."
        raise ConfigError(message, code="not_confirmed", errors={"confirm": message})
    args = payload.dict(exclude_none=True, exclude={"confirm"})
    actor = caller(request).user.get_username()
    risk_control.halt_at_once(
        payload.level, payload.owner or "", reason=payload.reason, actor=actor, key=idempotency_key(request)
    )
    return Status(202, queue(request, response, "kill", **args))


@router.post("/what-if", response=QUEUED)
def what_if(request: HttpRequest, response: HttpResponse, payload: schemas.WhatIfIn) -> Queued:
    """Have IB say what an order would do to the margin; nothing is placed."""
    return Status(202, queue(request, response, "what_if", **payload.dict(exclude_none=True)))


# -- limits, overrides, locks


@router.post("/limits", response=schemas.DoneOut)
def set_limit(request: HttpRequest, payload: schemas.LimitIn) -> dict[str, Any]:
    """Set a limit, in place of the one of the same scope."""
    who = _actor(request, manages=True)
    row = risk_services.set_limit(
        payload.name,
        payload.value,
        strategy=payload.strategy or "",
        con_id=payload.con_id,
        reason=payload.reason,
        **who,
    )
    return {"id": row.pk, "text": str(row)}


@router.post("/limits/{limit_id}/remove", response=schemas.DoneOut)
def remove_limit(request: HttpRequest, limit_id: Path[RowId], payload: WhyIn) -> dict[str, Any]:
    """Take a limit away."""
    risk_services.remove_limit(limit_id, reason=payload.reason, **_actor(request, manages=True))
    return {"text": "removed"}


@router.post("/overrides", response=schemas.DoneOut)
def set_override(request: HttpRequest, payload: schemas.OverrideIn) -> dict[str, Any]:
    """Set an override, in place of the one of the same scope."""
    who = _actor(request, manages=True)
    row = risk_services.set_override(
        payload.action,
        multiplier=payload.multiplier,
        strategy=payload.strategy or "",
        con_id=payload.con_id,
        reason=payload.reason,
        **who,
    )
    return {"id": row.pk, "text": str(row)}


@router.post("/overrides/{override_id}/remove", response=schemas.DoneOut)
def remove_override(request: HttpRequest, override_id: Path[RowId], payload: WhyIn) -> dict[str, Any]:
    """Take an override away."""
    risk_services.remove_override(override_id, reason=payload.reason, **_actor(request, manages=True))
    return {"text": "removed"}


@router.post("/locks", response=schemas.DoneOut)
def set_lock(request: HttpRequest, payload: schemas.LockIn) -> dict[str, Any]:
    """Lock a strategy, a contract or both against openings."""
    who = _actor(request, manages=False)
    row = risk_services.set_lock(
        strategy=payload.strategy or "", con_id=payload.con_id, until=payload.until, reason=payload.reason, **who
    )
    return {"id": row.pk, "text": str(row)}


@router.post("/locks/{lock_id}/release", response=schemas.DoneOut)
def release_lock(request: HttpRequest, lock_id: Path[RowId], payload: WhyIn) -> dict[str, Any]:
    """Release a lock."""
    row = risk_services.release_lock(lock_id, reason=payload.reason, **_actor(request, manages=True))
    return {"id": row.pk, "text": "released"}
