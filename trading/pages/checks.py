"""The Checks pages: does a strategy know the future, is its warm-up enough, did it trade as its code says.

Owns: the pages and what they post. Leaves: reading (``check_queries``), jobs (``work_services``).
Rule: everybody signed in may look; starting and stopping needs the right to run work.
"""

from __future__ import annotations

import json
from typing import Any

from django.contrib.auth.decorators import login_required, permission_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from strategies.exceptions import MatsError, NotFoundError
from trading import backtest_queries, check_queries, work_services
from trading.backtest.check_wish import LENGTHS
from trading.pages.shell import frame_state, render_page
from trading.work_models import Job, JobKind, JobState

_REFUSED = 422
_BUSY = (JobState.QUEUED, JobState.RUNNING)


@never_cache
@login_required
@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """Show the checks and the forms."""
    return _list(request)


def _list(
    request: HttpRequest, status: int = 200, refusal: str = "", errors: dict[str, str] | None = None
) -> HttpResponse:
    rows = [check_queries.row_of(job) for job in check_queries.checks()]
    return render_page(
        request,
        "trading/checks.html",
        frame_state(),
        status,
        rows=rows,
        is_busy=any(row["job"].state in _BUSY for row in rows),
        files=backtest_queries.strategy_files(),
        strategies=check_queries.reactive_strategies(),
        lengths=", ".join(map(str, LENGTHS)),
        can_run=request.user.has_perm(work_services.RUN_WORK),
        refusal=refusal,
        errors={place.removeprefix("backtest.").partition(".")[0]: text for place, text in (errors or {}).items()},
        asked=request.POST if request.method == "POST" else {},
    )


def _ask(request: HttpRequest, kind: str, args: dict[str, Any]) -> HttpResponse:
    try:
        job = work_services.ask_for(kind, args, actor=request.user.get_username(), source="page")
    except MatsError as error:
        return _list(request, _REFUSED, error.message, dict(error.fields.get("errors", {})))
    return redirect("check", job.pk)


@never_cache
@login_required
@permission_required(work_services.RUN_WORK, raise_exception=True)
@require_POST
def start(request: HttpRequest) -> HttpResponse:
    """Queue a check over bars."""
    kind = _kind(request)
    try:
        args = {"backtest": _backtest_of(request), **_depth_of(request, kind)}
    except ValueError as error:
        return _list(request, _REFUSED, "", {"params": f"This is no JSON: {error}"})
    return _ask(request, kind, args)


@never_cache
@login_required
@permission_required(work_services.RUN_WORK, raise_exception=True)
@require_POST
def start_of_run(request: HttpRequest, run_id: int) -> HttpResponse:
    """Queue a check of a kept backtest: its files, parameters, bars and period."""
    try:
        row = backtest_queries.run(run_id)
    except NotFoundError:
        raise Http404 from None
    return _ask(request, _kind(request), check_queries.args_of_run(row))


@never_cache
@login_required
@permission_required(work_services.RUN_WORK, raise_exception=True)
@require_POST
def start_shadow(request: HttpRequest) -> HttpResponse:
    """Queue the replay of a live day."""
    return _ask(request, JobKind.SHADOW, {name: str(request.POST.get(name, "")) for name in ("strategy", "day")})


def _kind(request: HttpRequest) -> str:
    kind = str(request.POST.get("kind", ""))
    if kind not in check_queries.OF_BARS:
        raise Http404
    return kind


def _backtest_of(request: HttpRequest) -> dict[str, Any]:
    """Return the bars and files that the form names.

    Raises: ValueError for parameters that are no JSON.
    """
    text = {name: str(request.POST.get(name, "")).strip() for name in request.POST}
    params = json.loads(text.get("params") or "{}")
    return {
        "strategies": [{"file": name, "params": params} for name in request.POST.getlist("files")],
        "symbols": text.get("symbols", "").replace(",", " ").upper().split(),
        "start": text.get("start", ""),
        "end": text.get("end", ""),
        "source": text.get("source") or "market_data",
        "interval": text.get("interval", ""),
    }


def _depth_of(request: HttpRequest, kind: str) -> dict[str, Any]:
    """Return how deep to look; an empty field is left to the check."""
    names = ("trades", "minimum", "quiet") if kind == JobKind.LOOKAHEAD else ("tolerance", "watch")
    given = {name: str(request.POST.get(name, "")).strip() for name in names}
    found: dict[str, Any] = {name: text for name, text in given.items() if text}
    lengths = str(request.POST.get("lengths", "")).replace(",", " ").split()
    return found | ({"lengths": lengths} if lengths and kind == JobKind.WARM_UP else {})


@never_cache
@login_required
@require_GET
def check_page(request: HttpRequest, job_id: int) -> HttpResponse:
    """Show one check: its verdict, what was looked at, what was found."""
    job = _check(job_id)
    return render_page(
        request,
        "trading/check.html",
        frame_state(),
        **check_queries.row_of(job),
        title=JobKind(job.kind).label,
        is_busy=job.state in _BUSY,
        can_run=request.user.has_perm(work_services.RUN_WORK),
        made=json.dumps({name: job.result.get(name) for name in ("files", "data_versions", "lives")}, indent=2),
        args_text=json.dumps(job.args, indent=2),
    )


@never_cache
@login_required
@permission_required(work_services.RUN_WORK, raise_exception=True)
@require_POST
def stop(request: HttpRequest, job_id: int) -> HttpResponse:
    """Ask a check to stop."""
    _check(job_id)
    try:
        work_services.ask_to_stop(job_id, actor=request.user.get_username(), source="page")
    except MatsError as error:
        return _list(request, 409, error.message)
    return redirect(reverse("check", args=[job_id]))


def _check(job_id: int) -> Job:
    try:
        return check_queries.check(job_id)
    except NotFoundError:
        raise Http404 from None
