"""The frame of every page: engine, account, alerts and breaks, and who may act."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.crypto import get_random_string

from strategies.api_rules import OPERATE
from strategies.models import DISCRETIONARY, Strategy
from trading import console, queries, risk_queries
from trading.models import Alert, Severity

_RANK = {Severity.CRITICAL: 0, Severity.WARNING: 1, Severity.INFO: 2}


def open_alerts() -> list[Alert]:
    """Return the alerts that stand: those nobody saw first, the gravest first, then the newest."""
    rows = Alert.objects.filter(cleared_at=None).order_by("-id")
    return sorted(rows, key=lambda alert: (alert.acknowledged_at is not None, _RANK[Severity(alert.severity)]))


def frame_state() -> dict[str, Any]:
    """Return what every page needs; the event cursor is read first, see ``console``."""
    last = queries.last_event_id()
    return {
        "last": last,
        "engine": queries.engine_state(),
        "account": console.account_row(),
        "breaks": console.open_breaks(),
        "colors": console.colors(),
    }


def render_page(
    request: HttpRequest, template: str, state: dict[str, Any], status: int = 200, **extra: Any
) -> HttpResponse:
    """Render server-side first; the same state goes along as JSON for the live part."""
    can_operate = request.user.has_perm(OPERATE)
    live = {**state, "can_operate": can_operate}
    context = {
        "state": state,
        "live_state": live,
        "can_operate": can_operate,
        "alerts": open_alerts(),
        "risk": risk_queries.trading_states(),
        "request_key": get_random_string(32),
        **extra,
    }
    return render(request, template, context, status=status)


def owners() -> list[str]:
    """Return every possible owner: strategies by symbol, then Discretionary."""
    return [*Strategy.objects.order_by("symbol").values_list("symbol", flat=True), DISCRETIONARY]
