"""Render the console: dashboard, one strategy, health, and the error pages in the same shell."""

from __future__ import annotations

import logging

from django.contrib.auth.decorators import login_required
from django.db import Error as DatabaseError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from strategies.models import Strategy
from trading import console, queries
from trading.live import tail
from trading.pages.shell import render_page

logger = logging.getLogger(__name__)


@never_cache
@login_required
@require_GET
def dashboard(request: HttpRequest) -> HttpResponse:
    """Show the whole account at a glance."""
    return render_page(request, "trading/dashboard.html", console.dashboard_state())


@never_cache
@login_required
@require_GET
def strategy_page(request: HttpRequest, symbol: str) -> HttpResponse:
    """Show one strategy."""
    strategy = Strategy.objects.filter(symbol=symbol).first()
    if strategy is None:
        raise Http404(f"There is no strategy «{symbol}».")
    state = console.strategy_state(strategy)
    return render_page(
        request,
        "trading/strategy.html",
        state,
        strategy=strategy,
        row=state["strategy"],
        parameters=console.parameter_rows(strategy.params),
        weights=console.weight_bar(strategy),
        reactive=console.reactive_figures(strategy, state["engine"]),
    )


@never_cache
@require_GET
def healthz(request: HttpRequest) -> JsonResponse:
    """Say ok (200) or degraded (503: database, engine or event tail); no figures, since nobody is logged in."""
    try:
        healthy = bool(queries.engine_state()["running"]) and tail.is_healthy
    except DatabaseError:
        logger.exception("health check cannot read the database")
        healthy = False
    return JsonResponse({"status": "ok" if healthy else "degraded"}, status=200 if healthy else 503)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 404 in the console's shell, with our own reason where we gave one."""
    reason = str(exception.args[0]) if isinstance(exception, Http404) and exception.args else ""
    # The resolver's own Http404 carries a structure for the debug page, not a sentence.
    reason = reason if reason.startswith("There is no") else ""
    return render(request, "404.html", {"reason": reason}, status=404)
