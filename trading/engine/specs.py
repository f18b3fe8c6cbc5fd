"""Which commands the engine knows, with the arguments of each. Pure.

Owns: ``SPECS`` and the check of arguments. Leaves: storing (``trading.services``) and doing (``commands``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from strategies.exceptions import ConfigError

_SYMBOL = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")
_ORDER_REF = re.compile(r"[A-Za-z0-9_./-]{1,64}")


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """One kind of command. ``expires_in_s`` is the default; ``priority`` higher goes first."""

    summary: str
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    expires_in_s: float = 60.0
    priority: int = 0


# Halting things overtakes starting them; what may wait for the next engine start lives longer.
SPECS: dict[str, CommandSpec] = {
    "start_strategy": CommandSpec("Start one strategy", ("symbol",)),
    "stop_strategy": CommandSpec("Stop one strategy", ("symbol",), priority=10),
    "start_all": CommandSpec("Start all active strategies"),
    "stop_all": CommandSpec("Stop all running strategies", priority=20),
    "cancel_order": CommandSpec("Cancel one order", ("order_ref",), priority=30),
    "cancel_all": CommandSpec("Cancel the open orders of one strategy or of all", (), ("strategy",), priority=50),
    "flatten_strategy": CommandSpec("Close the positions of one strategy", ("symbol",), priority=20),
    "update_params": CommandSpec("Hand the stored parameters to a running strategy", ("symbol",), expires_in_s=3600.0),
    "sync_strategies": CommandSpec("Write the strategy table to ArcticDB", expires_in_s=86_400.0),
    "disconnect_client": CommandSpec("Disconnect one IB client", ("client_id",), priority=10),
    "connect": CommandSpec("Connect the master to the gateway"),
    "reconcile": CommandSpec("Replay the day's executions and compare positions"),
}


def _check_text(name: str, value: Any, pattern: re.Pattern[str]) -> str | None:
    if isinstance(value, str) and pattern.fullmatch(value):
        return None
    return f"{name} is not a valid name."


def _check_value(name: str, value: Any) -> str | None:
    if name in ("symbol", "strategy"):
        return _check_text(name, value, _SYMBOL)
    if name == "order_ref":
        return _check_text(name, value, _ORDER_REF)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 99:
        return None
    return f"{name} must be a whole number from 0 to 99."


def check_args(kind: str, args: Mapping[str, Any]) -> CommandSpec:
    """Return the spec of a kind after checking its arguments.

    Raises: ConfigError (unknown_command, bad_arguments) with ``errors`` by argument name.
    """
    spec = SPECS.get(kind)
    if spec is None:
        raise ConfigError(f"There is no command {kind!r}.", code="unknown_command", kinds=sorted(SPECS))
    errors = {name: f"{name} is missing." for name in spec.required if name not in args}
    for name, value in args.items():
        if name not in spec.required + spec.optional:
            errors[name] = f"{kind} takes no {name}."
        elif problem := _check_value(name, value):
            errors[name] = problem
    if errors:
        raise ConfigError(" ".join(errors.values()), code="bad_arguments", errors=errors)
    return spec
