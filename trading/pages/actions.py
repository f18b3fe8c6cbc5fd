"""What the pages post: each form becomes commands for the engine; nothing here writes the books.

Owns: reading the forms and handing them on. Leaves: doing (``engine.commands``), waiting in the page
(``static/mats/commands.js``). Rule: an operator's right is asked first; success is said only after the engine
acknowledged, but for the halt of a kill level, which does not wait for an engine. Without scripts the answer is a page
with the outcome.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from portfolio import explain
from portfolio import queries as books
from portfolio.ledger.money import plain
from strategies.api_rules import IDEMPOTENCY_HEADER, OPERATE
from strategies.exceptions import ConfigError, ConflictError, MatsError, NotFoundError, TransientError
from strategies.models import DISCRETIONARY
from trading import risk_control, services
from trading.api_queries import find_order
from trading.engine.events import iso
from trading.engine.kill import GLOBAL_CANCEL
from trading.models import CommandState, EngineCommand, Order
from trading.pages import tickets, uploads
from trading.pages.forms import number, read_details, read_moment, read_reason
from trading.queries import engine_state
from trading.risk_control import may_release
from trading.session_services import RUN_SESSION

logger = logging.getLogger(__name__)

WAIT_S = 5.0
MAX_PARTS = 6
_KEY = re.compile(r"[A-Za-z0-9._:-]{1,56}")
_STATUS = {ConfigError: 422, NotFoundError: 404, ConflictError: 409, TransientError: 503}


@dataclass(frozen=True, slots=True)
class Ask:
    """One command to queue."""

    kind: str
    args: dict[str, Any]


def book(request: HttpRequest) -> list[Ask]:
    """Book an adjustment, or propose it."""
    posted = _texts(request)
    kind = posted.get("kind", "")
    args: dict[str, Any] = {"kind": kind, "details": read_details(kind, posted), "reason": read_reason(posted)}
    moment = read_moment(posted.get("effective_at", ""))
    if moment is not None:
        args["effective_at"] = iso(moment)
    if posted.get("propose"):
        args["propose"] = True
    return [Ask("book_adjustment", args)]


def approve(request: HttpRequest) -> list[Ask]:
    """Book a proposal."""
    return [Ask("approve_adjustment", {"adjustment": _row_id(request, "adjustment")})]


def reject(request: HttpRequest) -> list[Ask]:
    """Turn a proposal down."""
    return [Ask("reject_adjustment", {**_named(request, "adjustment"), "reason": read_reason(_texts(request))})]


def undo(request: HttpRequest) -> list[Ask]:
    """Take an adjustment back."""
    return [Ask("undo_adjustment", {**_named(request, "adjustment"), "reason": read_reason(_texts(request))})]


def assign(request: HttpRequest) -> list[Ask]:
    """Assign an execution: all that one owner has of it, or parts to several owners."""
    posted = _texts(request)
    account_id = books.account_id_or_none()
    if account_id is None:
        raise NotFoundError("No account is known yet; the engine has not connected.", code="account_unknown")
    execution = explain.find_execution(account_id, posted.get("exec_id", "").strip())
    giver = posted.get("from_owner", "").strip() or DISCRETIONARY
    held = next((abs(share.quantity) for share in execution.shares if share.owner == giver), Decimal(0))
    parts = _parts(request)
    given = sum((quantity for _, quantity in parts if quantity is not None), Decimal(0))
    if given > held:
        message = f"{giver} has {plain(held)} of this execution, {plain(given)} are given away."
        raise ConfigError(message, code="bad_arguments", errors={"quantity": message})
    if len(parts) > 1 and any(quantity is None for _, quantity in parts):
        message = "Say how much each owner gets; only a single owner can get all."
        raise ConfigError(message, code="bad_arguments", errors={"quantity": message})
    common = {"exec_id": execution.exec_id, "from_owner": giver, "reason": read_reason(posted)}
    if len(parts) == 1:
        ((owner, amount),) = parts
        return [
            Ask(
                "assign_execution", {**common, "owner": owner} | ({} if amount is None else {"quantity": f"{amount:f}"})
            )
        ]
    if len({owner for owner, _ in parts}) < len(parts):
        raise _bad("owner", "Name each owner once.")
    return [Ask("divide_execution", {**common, "owners": {owner: f"{amount:f}" for owner, amount in parts}})]


def _parts(request: HttpRequest) -> list[tuple[str, Decimal | None]]:
    owners, amounts = request.POST.getlist("owner"), request.POST.getlist("quantity")
    parts: list[tuple[str, Decimal | None]] = []
    for place, owner in enumerate(owners[:MAX_PARTS]):
        text = amounts[place].strip() if place < len(amounts) else ""
        if not owner.strip():
            if text:
                raise _bad("owner", f"Say who gets {text}.")
            continue
        try:
            amount = Decimal(number("Quantity", text)) if text else None
        except ValueError as error:
            raise _bad("quantity", str(error)) from None
        if amount is not None and amount <= 0:
            raise _bad("quantity", "A quantity is more than zero.")
        parts.append((owner.strip(), amount))
    if not parts:
        raise _bad("owner", "Choose who gets it.")
    return parts


def rebalance(request: HttpRequest) -> list[Ask]:
    """Move cash between strategies towards their target weights."""
    posted = _texts(request)
    args: dict[str, Any] = {name: posted[name] for name in ("symbol",) if posted.get(name)}
    if posted.get("force"):
        args["force"] = True
    return [Ask("rebalance", {**args, "reason": read_reason(posted)})]


def reconcile(request: HttpRequest) -> list[Ask]:
    """Compare the books with IB now."""
    return [Ask("reconcile", {})]


def acknowledge_break(request: HttpRequest) -> list[Ask]:
    """Note that somebody saw a break."""
    return [Ask("acknowledge_break", {**_named(request, "break_id"), "reason": read_reason(_texts(request))})]


def acknowledge_alert(request: HttpRequest) -> list[Ask]:
    """Note that somebody saw an alert."""
    return [Ask("acknowledge_alert", _named(request, "alert"))]


def settle_parked(request: HttpRequest) -> list[Ask]:
    """Try a parked report again, or discard it."""
    posted = _texts(request)
    action = posted.get("do", "")
    if action not in ("retry", "discard"):
        raise _bad("do", "A parked report is tried again or discarded.")
    reason = read_reason(posted) if action == "discard" else posted.get("reason", "").strip() or "tried again"
    return [Ask("settle_parked", {**_named(request, "parked"), "action": action, "reason": reason})]


def resolve_finding(request: HttpRequest) -> list[Ask]:
    """Close a finding that a person has settled."""
    return [Ask("resolve_finding", {**_named(request, "finding"), "reason": read_reason(_texts(request))})]


def flex_fetch(request: HttpRequest) -> list[Ask]:
    """Download the Flex statement now."""
    return [Ask("fetch_flex", {})]


def flex_upload(request: HttpRequest) -> list[Ask]:
    """Keep an uploaded statement and have it read."""
    return [Ask("import_flex", {"sha256": uploads.keep(request.FILES.get("statement"))})]


def place_order(request: HttpRequest) -> list[Ask]:
    """Place the ticket's order, with its exits if it has some."""
    kind, args = tickets.read_ticket(_texts(request))
    return [Ask(kind, args)]


def cancel_order(request: HttpRequest) -> list[Ask]:
    """Cancel one order."""
    return [Ask("cancel_order", {"order_ref": _order(request).order_ref})]


def cancel_all(request: HttpRequest) -> list[Ask]:
    """Cancel every working order."""
    return [Ask("cancel_all", {})]


def modify_order(request: HttpRequest) -> list[Ask]:
    """Change what the form changes of an order."""
    row = _order(request)
    return [Ask("modify_order", {"order_ref": row.order_ref, **tickets.read_change(_texts(request), row)})]


def settle_order(request: HttpRequest) -> list[Ask]:
    """Take an order that nobody answers for as ended."""
    return [Ask("settle_order", {"order_ref": _order(request).order_ref, "reason": read_reason(_texts(request))})]


def _order(request: HttpRequest) -> Order:
    return find_order(str(request.POST.get("order_ref", ""))[:64])


def _session_command(kind: str, *, confirmed: bool) -> Callable[[HttpRequest], list[Ask]]:
    def read(request: HttpRequest) -> list[Ask]:
        _require(request, RUN_SESSION)
        posted = _texts(request)
        if confirmed and posted.get("confirm") != "yes":
            raise _bad("confirm", "Tick what is meant.")
        return [Ask(kind, {"session": posted.get("session", "")})]

    return read


def promote_symbol(request: HttpRequest) -> list[Ask]:
    """Add a symbol to a running session."""
    _require(request, RUN_SESSION)
    posted = _texts(request)
    return [Ask("promote_symbol", {"session": posted.get("session", ""), "ticker": posted.get("ticker", "")})]


def run_scanner(request: HttpRequest) -> list[Ask]:
    """Scan once, now."""
    _require(request, RUN_SESSION)
    return [Ask("run_scanner", {"scanner": _texts(request).get("scanner", "")})]


def _require(request: HttpRequest, right: str) -> None:
    if not request.user.has_perm(right):
        raise PermissionDenied


def kill(request: HttpRequest) -> list[Ask]:
    """Do a kill level; the ones that reach manual orders or positions want a tick."""
    posted = _texts(request)
    level = _row_id(request, "level")
    if level >= GLOBAL_CANCEL and posted.get("confirm") != "yes":
        raise _bad("confirm", "Tick what is meant: it reaches manual orders or positions.")
    args: dict[str, Any] = {"level": level, "reason": posted.get("reason", "").strip() or "by a click on the Risk page"}
    if posted.get("owner"):
        args["owner"] = posted["owner"]
    return [Ask("kill", args)]


def start_over_limit(request: HttpRequest) -> list[Ask]:
    """Start a strategy although a limit of the account would be broken; an administrator's, with a reason."""
    if not may_release(request.user):
        raise PermissionDenied
    posted = _texts(request)
    args = {"symbol": posted.get("symbol", ""), "accept_margin": True, "reason": read_reason(posted)}
    return [Ask("start_strategy", args)]


def read_margin(request: HttpRequest) -> list[Ask]:
    """Read now whose margin the account's is."""
    return [Ask("read_margin", {})]


ACTIONS: dict[str, tuple[str, Callable[[HttpRequest], list[Ask]]]] = {
    "place-order": ("Place the order", place_order),
    "cancel-order": ("Cancel the order", cancel_order),
    "cancel-all": ("Cancel all", cancel_all),
    "modify-order": ("Change the order", modify_order),
    "settle-order": ("Settle the order", settle_order),
    "book": ("Book", book),
    "approve": ("Approve", approve),
    "reject": ("Reject", reject),
    "undo": ("Undo", undo),
    "assign": ("Assign", assign),
    "rebalance": ("Rebalance", rebalance),
    "reconcile": ("Compare with IB", reconcile),
    "acknowledge-break": ("Acknowledge", acknowledge_break),
    "acknowledge-alert": ("Acknowledge", acknowledge_alert),
    "settle-parked": ("Parked report", settle_parked),
    "resolve-finding": ("Close the finding", resolve_finding),
    "kill": ("Kill switch", kill),
    "read-margin": ("Read the margin", read_margin),
    "start-over-limit": ("Start", start_over_limit),
    "start-session": ("Start the session", _session_command("start_session", confirmed=True)),
    "pause-session": ("Pause the session", _session_command("pause_session", confirmed=False)),
    "resume-session": ("Resume the session", _session_command("resume_session", confirmed=True)),
    "stop-session": ("Stop the session", _session_command("stop_session", confirmed=True)),
    "promote-symbol": ("Promote", promote_symbol),
    "run-scanner": ("Scan", run_scanner),
    "flex-fetch": ("Download the statement", flex_fetch),
    "flex-upload": ("Import the statement", flex_upload),
}


def _bad(field: str, message: str) -> ConfigError:
    return ConfigError(message, code="bad_arguments", errors={field: message})


def _texts(request: HttpRequest) -> dict[str, str]:
    return {name: str(request.POST[name]) for name in request.POST}


def _row_id(request: HttpRequest, name: str) -> int:
    text = str(request.POST.get(name, ""))
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise _bad(name, f"{name} is not the number of a row.")
    return int(text)


def _named(request: HttpRequest, name: str) -> dict[str, Any]:
    return {name: _row_id(request, name)}


@never_cache
@login_required
@require_POST
def act(request: HttpRequest, action: str) -> HttpResponse:
    """Queue what a form asks; 202 with the commands for a script, else a page with their outcome."""
    if not request.user.has_perm(OPERATE):
        raise PermissionDenied
    if action not in ACTIONS:
        raise Http404(f"There is no action «{action}».")
    title, read = ACTIONS[action]
    wants_json = "application/json" in request.headers.get("Accept", "")
    try:
        is_running = engine_state()["running"]
        asks = read(request) if is_running or action == "kill" else []
        is_halted = _halt_at_once(request, asks)
        if not is_running:
            halted = " The account is halted all the same." if is_halted else ""
            raise TransientError(f"The engine is not running, so nothing was queued.{halted} Start it and try again.")
        commands = _queue(request, asks)
    except MatsError as error:
        return _refused(request, title, error, wants_json=wants_json)
    if wants_json:
        return JsonResponse({"commands": [_queued(command) for command in commands]}, status=202)
    finished = [services.wait_for(command.pk, WAIT_S) for command in commands]
    return _outcome(request, title, finished)


def _halt_at_once(request: HttpRequest, asks: list[Ask]) -> bool:
    """Halt without an engine what a kill level is to halt; tell whether that was asked and done."""
    is_halted, actor = False, request.user.get_username()
    for place, ask in enumerate(asks):
        if ask.kind == "kill":
            level, owner, reason = ask.args["level"], ask.args.get("owner", ""), ask.args["reason"]
            key = _command_key(request, place)
            is_halted |= risk_control.halt_at_once(level, owner, reason=reason, actor=actor, key=key)
    return is_halted


def _queue(request: HttpRequest, asks: list[Ask]) -> list[EngineCommand]:
    user = request.user if isinstance(request.user, User) else None
    return [
        services.enqueue(
            ask.kind,
            ask.args,
            user=user,
            source="page",
            idempotency_key=_command_key(request, place),
        )
        for place, ask in enumerate(asks)
    ]


def _command_key(request: HttpRequest, place: int) -> str | None:
    """Return the key of one of a form's commands; None when the form has none."""
    key = _request_key(request)
    return None if key is None else f"{request.user.pk}:{key}:{place}"


def _request_key(request: HttpRequest) -> str | None:
    """Return the key that makes a form that is sent twice one request: a script's header, else the form's own."""
    key = request.headers.get(IDEMPOTENCY_HEADER) or str(request.POST.get("request_key", ""))
    return key if _KEY.fullmatch(key) else None


def _queued(command: EngineCommand) -> dict[str, Any]:
    address = reverse("api:get_command", kwargs={"command_id": command.pk})
    return {"command_id": str(command.pk), "state": command.state, "status_url": address}


def _refused(request: HttpRequest, title: str, error: MatsError, *, wants_json: bool) -> HttpResponse:
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 400)
    errors = error.fields.get("errors", {})
    if wants_json:
        body = {"message": error.message, "code": error.code, "errors": errors if isinstance(errors, Mapping) else {}}
        return JsonResponse({"error": body}, status=status)
    return _result_page(request, {"title": title, "refusal": error.message}, status)


def _outcome(request: HttpRequest, title: str, commands: list[EngineCommand]) -> HttpResponse:
    done = all(command.state == CommandState.DONE for command in commands)
    return _result_page(request, {"title": title, "commands": commands, "done": done}, 200)


def _result_page(request: HttpRequest, context: dict[str, Any], status: int) -> HttpResponse:
    came_from = str(request.POST.get("back", ""))
    safe = url_has_allowed_host_and_scheme(came_from, allowed_hosts=None) and came_from.startswith("/")
    back = came_from if safe else "/"
    return render(request, "trading/outcome.html", {**context, "back": back}, status=status)
