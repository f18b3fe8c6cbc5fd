"""The Flex page: statements that were read, what they found, and how to bring in another."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from portfolio.flex import is_configured
from portfolio.models import FindingState, FlexFinding, FlexStatement
from trading.models import CommandState, EngineCommand
from trading.pages.shell import frame_state, render_page

SHOWN = 100
KINDS = ("import_flex", "fetch_flex")


@never_cache
@login_required
@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """Show statements and findings, the open ones or all."""
    findings = FlexFinding.objects.select_related("statement").order_by("-id")
    chosen = request.GET.get("findings", FindingState.OPEN)
    if chosen in FindingState.values:
        findings = findings.filter(state=chosen)
    return render_page(
        request,
        "trading/flex.html",
        frame_state(),
        running=running_imports(),
        statements=list(FlexStatement.objects.order_by("-id")[:SHOWN]),
        findings=list(findings[:SHOWN]),
        chosen=chosen,
        states=FindingState.choices,
        can_download=is_configured(),
    )


def running_imports() -> list[dict[str, Any]]:
    """Return the imports that wait or run, the oldest first, each with what it said last of how far it is."""
    rows = EngineCommand.objects.filter(kind__in=KINDS, state__in=[CommandState.QUEUED, CommandState.ACCEPTED])
    return [
        {
            "what": "Download" if row.kind == "fetch_flex" else "Import",
            "by": row.user.get_username() if row.user else row.source,
            "at": row.created_at,
            "said": row.result if isinstance(row.result, dict) else {"text": f"The import is {row.state}."},
        }
        for row in rows.select_related("user").order_by("created_at")
    ]
