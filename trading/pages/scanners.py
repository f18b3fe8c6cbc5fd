"""The Scanners page: scanners to run by hand, what they found, what sessions' scanners found, promotion."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from trading import session_queries
from trading.pages.shell import frame_state, render_page
from trading.session_services import RUN_SESSION


@never_cache
@login_required
@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """Show every scanner and the latest scans."""
    chosen = str(request.GET.get("scanner", ""))[:120]
    return render_page(
        request,
        "trading/scanners.html",
        frame_state(),
        scanners=session_queries.scanner_rows(),
        scans=session_queries.scan_rows(scanner=chosen or None),
        chosen=chosen,
        figures=session_queries.scan_figures(),
        options=session_queries.scanner_options(),
        live_sessions=[run.name for run in session_queries.under_way() if run.mode == "live"],
        can_run=request.user.has_perm(RUN_SESSION),
    )
