"""Alerts and the audit trail, to read."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.crypto import get_random_string
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from strategies import audit as trail
from strategies.api_rules import OPERATE
from strategies.models import AuditEntry
from trading.models import Alert
from trading.pages.shell import frame_state, open_alerts, render_page

SHOWN = 200
AUDIT_RIGHT = "auth.view_user"  # only administrators have it


@never_cache
@login_required
@require_GET
def strip(request: HttpRequest) -> HttpResponse:
    """Render the strip of open alerts alone, for a page that follows them."""
    context = {
        "alerts": open_alerts(),
        "can_operate": request.user.has_perm(OPERATE),
        "request_key": get_random_string(32),
    }
    return render(request, "trading/_alerts.html", context)


@never_cache
@login_required
@require_GET
def alerts(request: HttpRequest) -> HttpResponse:
    """Show the alerts that are over; the open ones are in the strip of every page."""
    over = Alert.objects.exclude(cleared_at=None).order_by("-cleared_at", "-id")[:SHOWN]
    return render_page(request, "trading/alerts.html", frame_state(), standing=open_alerts(), over=list(over))


@never_cache
@login_required
@require_GET
def audit(request: HttpRequest) -> HttpResponse:
    """Show the audit trail, newest first, and whether its chain is whole; administrators only."""
    if not request.user.has_perm(AUDIT_RIGHT):
        raise PermissionDenied
    sought = request.GET.get("q", "").strip()[:100]
    entries = AuditEntry.objects.order_by("-id")
    if sought:
        entries = entries.filter(
            Q(actor__icontains=sought) | Q(action__icontains=sought) | Q(subject__icontains=sought)
        )
    return render_page(
        request,
        "trading/audit.html",
        frame_state(),
        entries=list(entries[:SHOWN]),
        sought=sought,
        problems=trail.verify_chain() if request.GET.get("verify") else None,
    )
