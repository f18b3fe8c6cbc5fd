"""Which commands the engine knows, with the arguments of each. Pure.

Owns: ``SPECS`` and the check of arguments. Leaves: storing (``trading.services``) and doing (``commands``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from portfolio.ledger.events import parse_details
from strategies.exceptions import ConfigError
from trading.engine.arguments import CHECKS
from trading.orders.wishes import check_wish

BY_OUTCOME, BY_SERVICE, UNTOLD = "outcome", "service", "untold"


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """One kind of command. ``expires_in_s`` is the default; ``priority`` higher goes first.

    ``trail`` says who writes its audit entry: the dispatcher together with the outcome; the service that does it, in
    the transaction of the deed, so that the dispatcher adds only refusals; or nobody, since it changes nothing.
    """

    summary: str
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    expires_in_s: float = 60.0
    priority: int = 0
    trail: str = BY_OUTCOME


# Halting things overtakes starting them; what may wait for the next engine start lives longer.
SPECS: dict[str, CommandSpec] = {
    "start_strategy": CommandSpec("Start one strategy", ("symbol",), ("accept_margin", "reason")),
    "stop_strategy": CommandSpec("Stop one strategy", ("symbol",), priority=10),
    "start_all": CommandSpec("Start all active strategies"),
    "stop_all": CommandSpec("Stop all running strategies", priority=20),
    "cancel_order": CommandSpec("Cancel one order", ("order_ref",), priority=30),
    "place_order": CommandSpec("Place one order", ("contract", "order"), ("strategy",), expires_in_s=15.0),
    "place_bracket": CommandSpec(
        "Place an entry with its exits",
        ("contract", "order"),
        ("strategy", "take_profit", "stop_loss"),
        expires_in_s=15.0,
    ),
    "modify_order": CommandSpec(
        "Change a working order",
        ("order_ref",),
        ("quantity", "limit", "stop", "trail", "trail_percent"),
        expires_in_s=15.0,
        priority=10,
    ),
    "roll_future": CommandSpec(
        "Move a position from one future to another",
        ("strategy", "contract", "new_contract"),
        ("quantity", "limit"),
        expires_in_s=15.0,
    ),
    "preview_order": CommandSpec(
        "Say what an order would be and do", ("contract", "order"), ("strategy",), expires_in_s=15.0, trail=UNTOLD
    ),
    "find_contracts": CommandSpec("Look instruments up by symbol", ("pattern",), expires_in_s=15.0, trail=UNTOLD),
    "settle_order": CommandSpec("End an order that nobody answers for", ("order_ref", "reason"), priority=20),
    "cancel_all": CommandSpec("Cancel the open orders of one strategy or of all", (), ("strategy",), priority=50),
    "flatten_strategy": CommandSpec("Close the positions of one strategy", ("symbol",), priority=20),
    "update_params": CommandSpec("Hand the stored parameters to a running strategy", ("symbol",), expires_in_s=3600.0),
    "sync_strategies": CommandSpec("Write the strategy table to ArcticDB", expires_in_s=86_400.0, trail=UNTOLD),
    "disconnect_client": CommandSpec("Disconnect one IB client", ("client_id",), priority=10),
    "connect": CommandSpec("Connect the master to the gateway"),
    "reconcile": CommandSpec("Replay the day's executions and compare positions"),
    "book_adjustment": CommandSpec(
        "Book, or propose, an event that is no fill",
        ("kind", "details", "reason"),
        ("key", "effective_at", "propose"),
        expires_in_s=120.0,
        trail=BY_SERVICE,
    ),
    "approve_adjustment": CommandSpec("Book a proposed event", ("adjustment",), ("reason",), trail=BY_SERVICE),
    "reject_adjustment": CommandSpec("Refuse a proposed event", ("adjustment", "reason"), trail=BY_SERVICE),
    "undo_adjustment": CommandSpec("Take a booked event back", ("adjustment", "reason"), trail=BY_SERVICE),
    "assign_execution": CommandSpec(
        "Give an execution, or a part of it, to an owner",
        ("exec_id", "owner", "reason"),
        ("quantity", "from_owner", "key"),
        trail=BY_SERVICE,
    ),
    "divide_execution": CommandSpec(
        "Give parts of an execution to several owners, all or none",
        ("exec_id", "owners", "reason"),
        ("from_owner", "key"),
        trail=BY_SERVICE,
    ),
    "rebalance": CommandSpec(
        "Move cash so that strategies come to their target weights",
        (),
        ("symbol", "force", "reason"),
        trail=BY_SERVICE,
    ),
    "import_flex": CommandSpec(
        "Read an uploaded Flex statement into the books", ("sha256",), expires_in_s=600.0, trail=BY_SERVICE
    ),
    "fetch_flex": CommandSpec("Download the Flex statement from IB and read it", expires_in_s=600.0, trail=BY_SERVICE),
    "resolve_finding": CommandSpec("Close a finding of a statement by hand", ("finding", "reason"), trail=BY_SERVICE),
    "settle_parked": CommandSpec(
        "Book a report that was set aside, or give it up", ("parked", "action", "reason"), trail=BY_SERVICE
    ),
    "acknowledge_break": CommandSpec("Note that a break was seen", ("break_id", "reason"), trail=BY_SERVICE),
    "acknowledge_alert": CommandSpec("Note that an alert was seen", ("alert",), trail=BY_SERVICE),
    "kill": CommandSpec(
        "Stop orders: 1 pause, 2 cancel, 3 halt, 4 global cancel, 5 flatten",
        ("level", "reason"),
        ("owner",),
        priority=100,
    ),
    "what_if": CommandSpec(
        "Ask IB what an order would do to the margin",
        ("con_id", "quantity"),
        ("order_type", "limit_price", "stop_price"),
        trail=UNTOLD,
    ),
    "margin_plan": CommandSpec(
        "Ask IB what a strategy could bind at a weight", ("symbol",), ("weight",), expires_in_s=15.0, trail=UNTOLD
    ),
    "read_margin": CommandSpec("Read whose margin the account's is", expires_in_s=15.0, trail=UNTOLD),
    "start_session": CommandSpec("Start a live session", ("session",)),
    "pause_session": CommandSpec("Have a session's strategies hear nothing", ("session",), priority=10),
    "resume_session": CommandSpec("Have a paused session's strategies hear of bars again", ("session",)),
    "stop_session": CommandSpec("End a live session", ("session",), priority=10),
    "promote_symbol": CommandSpec("Add a symbol to a running session", ("session", "ticker")),
    "run_scanner": CommandSpec("Scan once, now", ("scanner",), expires_in_s=120.0),
    "take_snapshot": CommandSpec("Keep the books of this hour now", trail=BY_SERVICE),
}


def check_args(kind: str, args: Mapping[str, Any]) -> CommandSpec:
    """Return the spec of a kind after checking its arguments.

    Raises: ConfigError (unknown_command, bad_arguments, bad_adjustment) with ``errors`` by name.
    """
    spec = SPECS.get(kind)
    if spec is None:
        raise ConfigError(f"There is no command {kind!r}.", code="unknown_command", kinds=sorted(SPECS))
    errors = {name: f"{name} is missing." for name in spec.required if name not in args}
    for name, value in args.items():
        if name not in spec.required + spec.optional:
            errors[name] = f"{kind} takes no {name}."
        elif problem := CHECKS[name](name, value):
            errors[name] = problem
    if not errors and kind == "book_adjustment":
        parse_details(args["kind"], args["details"])
    if not errors:
        check_wish(kind, args)
    if errors:
        raise ConfigError(" ".join(errors.values()), code="bad_arguments", errors=errors)
    return spec
