"""A strategy's margin: its part of the account's, what IB says it could bind at a weight, and setting the weight.

Owns: what the page shows, its form, the preview, and the answer to a weight that is set.
Leaves: the plan (``engine.margin_plan``), storing (``strategies.services``, which asks IB first).
Rule: asking is an operator's; a limit is passed by an administrator with a reason, and by nobody unseen.
"""

from __future__ import annotations

from decimal import Decimal

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from strategies.api_rules import OPERATE
from strategies.exceptions import ConfigError, MatsError
from strategies.models import Strategy
from strategies.services import save_strategy
from trading import risk_queries
from trading.growth import WAIT_S
from trading.pages.forms import number
from trading.pages.shell import frame_state, render_page
from trading.queries import strategy_rows
from trading.risk_control import may_release
from trading.services import answer_of

CHANGE = "strategies.change_strategy"


@never_cache
@login_required
@require_GET
def page(request: HttpRequest, symbol: str) -> HttpResponse:
    """Show a strategy's part of the margin, and the form of its weight."""
    strategy, shares = _strategy(symbol), risk_queries.margin_shares()
    return render_page(
        request,
        "trading/margin.html",
        frame_state(),
        strategy=strategy,
        run=strategy_rows([strategy.symbol])[0],
        margin=shares,
        own=risk_queries.margin_of(strategy.symbol, shares),
        can_manage=may_release(request.user),
        can_change=request.user.has_perm(CHANGE),
    )


@never_cache
@login_required
@require_POST
def preview(request: HttpRequest, symbol: str) -> HttpResponse:
    """Show what IB says a strategy could bind at the posted weight; changes nothing."""
    if not request.user.has_perm(OPERATE):
        raise PermissionDenied
    strategy = _strategy(symbol)
    try:
        args = {"symbol": strategy.symbol, "weight": f"{_weight(request):f}"}
        plan = answer_of("margin_plan", args, user=request.user, source="page", wait_s=WAIT_S)
    except MatsError as error:
        plan = {"error": error.message}
    template = "trading/_margin_plan.html" if request.GET.get("part") else "trading/margin_plan.html"
    return render(request, template, {"plan": plan, "back": _address(strategy)})


@never_cache
@login_required
@require_POST
def set_weight(request: HttpRequest, symbol: str) -> HttpResponse:
    """Set a strategy's target weight; IB is asked first where it is raised, and a broken limit refuses it."""
    if not request.user.has_perm(CHANGE):
        raise PermissionDenied
    strategy = _strategy(symbol)
    override = str(request.POST.get("override", "")).strip()[:400]
    wants_json = "application/json" in request.headers.get("Accept", "")
    user = request.user if request.user.is_authenticated else None
    try:
        fields = {"symbol": strategy.symbol, "target_weight": _weight(request)}
        saved = save_strategy(fields, user, source="page", override=override)
    except MatsError as error:
        errors = error.fields.get("errors", {})
        if wants_json:
            body = {"message": error.message, "code": error.code, "errors": errors}
            return JsonResponse({"error": body}, status=422 if isinstance(error, ConfigError) else 409)
        context = {"title": "Weight", "refusal": error.message, "back": _address(strategy)}
        return render(request, "trading/outcome.html", context, status=422)
    if wants_json:
        return JsonResponse({"commands": [], "note": " ".join(saved.notices)}, status=202)
    return HttpResponseRedirect(_address(strategy))


def _address(strategy: Strategy) -> str:
    return reverse("margin", args=[strategy.symbol])


def _strategy(symbol: str) -> Strategy:
    strategy = Strategy.objects.filter(symbol=symbol).first()
    if strategy is None:
        raise Http404(f"There is no strategy «{symbol}».")
    return strategy


def _weight(request: HttpRequest) -> Decimal:
    try:
        weight = Decimal(number("Weight", str(request.POST.get("weight", ""))))
    except ValueError as error:
        raise _bad(str(error)) from None
    if not 0 <= weight <= 1:
        raise _bad("A weight is a fraction of the account: 0.25 means 25 %.")
    return weight


def _bad(message: str) -> ConfigError:
    return ConfigError(message, code="bad_arguments", errors={"target_weight": message})
