"""The Risk page: trading states with their buttons, limits with what is used of them, overrides, locks, denials.

Owns: reading the forms of what needs no engine (states, limits, overrides, locks) and handing them to the services.
Leaves: what only an engine can do (kill levels, margin: ``pages.actions``). Rule: each right is asked before anything
is read; halting takes one click, releasing a reason and an administrator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from portfolio.models import Instrument
from strategies.api_rules import OPERATE
from strategies.exceptions import ConfigError, MatsError
from trading import risk_control, risk_queries, risk_services
from trading.orders.limits import SPECS
from trading.orders.trading_state import OverrideAction, TradingState
from trading.pages.forms import number, read_moment
from trading.pages.shell import frame_state, owners, render_page

Posted = Mapping[str, str]
Who = dict[str, Any]
BY_CLICK = "by a click on the Risk page"


@never_cache
@login_required
@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """Show everything about risk."""
    exposure = risk_queries.exposures()
    return render_page(
        request,
        "trading/risk.html",
        frame_state(),
        limits=risk_queries.account_limits(exposure),
        limit_rows=risk_queries.limit_rows(),
        overrides=risk_queries.override_rows(),
        locks=risk_queries.lock_rows(),
        denials=risk_queries.denials(),
        exposure=exposure,
        margin=risk_queries.margin_shares(),
        dead_man=risk_queries.dead_man_rows(),
        specs=SPECS.values(),
        override_actions=[action.value for action in OverrideAction],
        owners=[*owners()],
        instruments=list(Instrument.objects.order_by("symbol")[:500]),
        can_manage=risk_control.may_release(request.user),
    )


@never_cache
@login_required
@require_GET
def banner(request: HttpRequest) -> HttpResponse:
    """Render the banner of the trading states alone, for a page that follows them."""
    return render(request, "trading/_risk_banner.html", {"risk": risk_queries.trading_states()})


@never_cache
@login_required
@require_POST
def act(request: HttpRequest, action: str) -> HttpResponse:
    """Do what a form asks and go back; a refusal is a page that says why."""
    if action not in ACTIONS:
        raise Http404(f"There is no action «{action}».")
    if not request.user.has_perm(OPERATE):
        raise PermissionDenied
    posted = {name: str(request.POST[name]) for name in request.POST}
    who: Who = {"actor": request.user.get_username(), "source": "page"}
    try:
        ACTIONS[action](request, posted, who)
    except (MatsError, DatabaseError, OSError) as error:
        text = error.message if isinstance(error, MatsError) else f"It was not stored: {error}"
        context = {"title": "Risk", "refusal": text, "back": reverse("risk")}
        return render(request, "trading/outcome.html", context, status=422 if isinstance(error, MatsError) else 503)
    return HttpResponseRedirect(reverse("risk"))


def _manages(request: HttpRequest) -> None:
    if not risk_control.may_release(request.user):
        raise PermissionDenied


def _state(request: HttpRequest, posted: Posted, who: Who) -> None:
    owner = posted.get("owner", "")
    try:
        state = TradingState(posted.get("state", ""))
    except ValueError:
        raise _bad("state", "A trading state is active, reducing or halted.") from None
    reason = posted.get("reason", "").strip()
    if risk_control.is_looser(owner, state):
        _manages(request)
    elif not reason:
        reason = BY_CLICK  # stopping must not wait for words
    risk_control.set_trading_state(owner, state, reason=reason, **who)


def _scope(posted: Posted) -> dict[str, Any]:
    text = posted.get("con_id", "").strip()
    if text and not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise _bad("con_id", "The contract is not one of IB's contract ids.")
    return {
        "strategy": posted.get("strategy", "").strip(),
        "con_id": int(text or 0),
        "reason": posted.get("reason", ""),
    }


def _set_limit(request: HttpRequest, posted: Posted, who: Who) -> None:
    _manages(request)
    value = _decimal("value", posted.get("value", ""))
    risk_services.set_limit(posted.get("name", ""), value, **_scope(posted), **who)


def _set_override(request: HttpRequest, posted: Posted, who: Who) -> None:
    _manages(request)
    text = posted.get("multiplier", "").strip()
    multiplier = _decimal("multiplier", text) if text else Decimal(1)
    risk_services.set_override(posted.get("action", ""), multiplier=multiplier, **_scope(posted), **who)


def _set_lock(request: HttpRequest, posted: Posted, who: Who) -> None:
    until: datetime | None = read_moment(posted.get("until", ""), "Until")
    risk_services.set_lock(until=until, **_scope(posted), **who)


def _removal(remove: Callable[..., Any]) -> Callable[[HttpRequest, Posted, Who], None]:
    def _remove(request: HttpRequest, posted: Posted, who: Who) -> None:
        _manages(request)
        text = posted.get("id", "")
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise _bad("id", "That is not the number of a row.")
        remove(int(text), reason=posted.get("reason", ""), **who)

    return _remove


def _decimal(field: str, text: str) -> Decimal:
    try:
        return Decimal(number("Value", text))
    except ValueError as error:
        raise _bad(field, str(error)) from None


def _bad(field: str, message: str) -> ConfigError:
    return ConfigError(message, code="bad_arguments", errors={field: message})


ACTIONS: dict[str, Callable[[HttpRequest, Posted, Who], None]] = {
    "state": _state,
    "set-limit": _set_limit,
    "remove-limit": _removal(risk_services.remove_limit),
    "set-override": _set_override,
    "remove-override": _removal(risk_services.remove_override),
    "set-lock": _set_lock,
    "release-lock": _removal(risk_services.release_lock),
}
