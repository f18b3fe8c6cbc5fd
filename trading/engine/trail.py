"""The audit entry of a command: one for each, with what stood before and what came of it.

Leaves: entries of deeds in the books to the services that do them.
"""

from __future__ import annotations

from typing import Any

from strategies import audit
from trading.engine.requests import request_of
from trading.engine.specs import BY_SERVICE, SPECS, UNTOLD
from trading.models import CommandState, EngineCommand, Order, StrategyRun

_SUBJECTS = (
    "symbol",
    "order_ref",
    "strategy",
    "exec_id",
    "adjustment",
    "parked",
    "finding",
    "break_id",
    "alert",
    "client_id",
    "sha256",
    "session",
    "scanner",
)


def state_before(command: EngineCommand) -> dict[str, Any] | None:
    """Return what a command is about to change: a strategy's life or an order's; None when it names neither."""
    symbol, order_ref = command.args.get("symbol"), command.args.get("order_ref")
    if order_ref:
        order = Order.objects.filter(order_ref=order_ref).first()
        return {"state": order.state, "filled": order.filled, "quantity": order.quantity} if order else None
    if symbol:
        run = StrategyRun.objects.filter(symbol=symbol).first()
        return {"state": run.state, "client_id": run.client_id, "connected": run.connected} if run else None
    return None


def record_outcome(command: EngineCommand, before: dict[str, Any] | None = None) -> None:
    """Write the entry of a finished command inside the transaction of its outcome."""
    spec = SPECS.get(command.kind)
    trail = spec.trail if spec is not None else ""
    if trail == UNTOLD or (trail == BY_SERVICE and command.state == CommandState.DONE):
        return
    request = request_of(command)
    outcome = {"state": command.state, "command": str(command.pk), "args": command.args}
    if command.state == CommandState.DONE:
        outcome["result"] = command.result
    else:
        outcome |= {"error": command.error, "error_code": command.error_code}
    audit.record(
        f"command.{command.kind}",
        subject_of(command),
        actor=request.actor,
        source=request.source,
        reason=request.reason,
        before=before,
        after=outcome,
    )


def subject_of(command: EngineCommand) -> str:
    """Name what a command is about."""
    for name in _SUBJECTS:
        if name in command.args:
            value = command.args[name]
            return str(value) if name in ("symbol", "order_ref", "strategy") else f"{name}:{value}"
    return "engine"
