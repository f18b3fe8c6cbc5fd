"""Before a strategy gets a larger weight or is activated: the engine asks IB what it could bind.

Owns: asking the engine from a web process and waiting, who may pass a limit. Leaves: the plan (``engine.margin_plan``),
when it is asked (``strategies.services``).
Rule: a limit that would be broken refuses the change unless somebody with the right lets it pass and says why, which is
audited. Where IB cannot be asked, that is said; the strategy is asked about again when it starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import transaction

from strategies import audit
from strategies.exceptions import ConflictError, TransientError
from strategies.services import Growth
from trading.orders.checking import written
from trading.risk_control import may_release
from trading.services import answer_of

WAIT_S = 15.0


def ask_margin(growth: Growth) -> Sequence[str]:
    """Return what IB says of a change that lets a strategy hold more. Blocks its thread for some round trips.

    Raises: ConflictError named by the limit that it would break; PermissionDenied where who lets it pass may not.
    """
    if growth.override and not may_release(growth.user):
        raise PermissionDenied("Letting a strategy pass a limit needs the administrator role.")
    if transaction.get_connection().in_atomic_block:  # what is asked in here the engine could not see
        return ["IB was not asked for the margin of it: the change is part of a larger one."]
    try:
        plan = _plan(growth)
    except TransientError as error:
        return [f"IB was not asked for the margin of it, but is when the strategy starts: {error.message}"]
    refused = plan.get("refused")
    if refused and not growth.override:
        fields = {name: refused.get(name) for name in ("limit", "value", "source")}
        raise ConflictError(refused["message"], code=refused["name"], **fields, margin=plan)
    if refused:
        _record(growth, refused)
    return [str(plan["text"])]


def _plan(growth: Growth) -> dict[str, Any]:
    args = {"symbol": growth.symbol, "weight": written(growth.target_weight)}
    return answer_of("margin_plan", args, user=growth.user, source=growth.source or "page", wait_s=WAIT_S)


def _record(growth: Growth, refused: dict[str, Any]) -> None:
    actor = growth.user.get_username() if growth.user is not None else growth.source
    audit.record(
        "risk.margin_overridden",
        growth.symbol,
        actor=actor,
        source=growth.source or "page",
        reason=growth.override,
        after={"target_weight": growth.target_weight, "activates": growth.activates, **refused},
    )
