"""The Sessions page: configurations with their buttons, what runs with its figures, what ran."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from strategies.exceptions import NotFoundError
from trading import session_queries
from trading.pages.shell import frame_state, render_page
from trading.session_services import RUN_SESSION

TONES = {
    "validating": "starting",
    "preparing": "starting",
    "loading": "starting",
    "streaming": "running",
    "paused": "stopping",
    "closing": "stopping",
    "failed": "halted",
    "ended": "stopped",
    "stopped": "stopped",
}


@never_cache
@login_required
@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """Show every session."""
    return render_page(
        request,
        "trading/sessions.html",
        frame_state(),
        sessions=[_toned(row) for row in session_queries.session_rows()],
        running=[_row(session_queries.run_row(run)) for run in session_queries.under_way()],
        runs=[_row(row) for row in session_queries.run_rows() if row["is_over"]],
        can_run=request.user.has_perm(RUN_SESSION),
    )


@never_cache
@login_required
@require_GET
def run_page(request: HttpRequest, run_id: int) -> HttpResponse:
    """Show one run with everything it said of itself, and its scans."""
    try:
        run = session_queries.find_run(run_id)
    except NotFoundError as error:
        raise Http404(error.message) from error
    return render_page(
        request,
        "trading/session.html",
        frame_state(),
        run=_row(session_queries.run_row(run)),
        scans=session_queries.scan_rows(session=run_id),
        can_run=request.user.has_perm(RUN_SESSION),
    )


def _toned(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "run": None if row["run"] is None else _row(row["run"])}


def _row(run: dict[str, Any]) -> dict[str, Any]:
    return {**run, "tone": "unknown" if run["is_silent"] else TONES.get(run["phase"], "")}
