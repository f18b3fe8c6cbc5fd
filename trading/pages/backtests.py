"""The Backtests pages: what was run, asking for a run, one run, several beside each other.

Owns: the pages and what they post. Leaves: reading (``backtest_queries``), jobs (``work_services``).
Rule: everybody signed in may look; starting, stopping and deleting needs the right to run work.
"""

from __future__ import annotations

import json
from typing import Any

from django.contrib.auth.decorators import login_required, permission_required
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from strategies.exceptions import MatsError, NotFoundError
from trading import backtest_queries, work_services
from trading.pages.shell import frame_state, render_page
from trading.work_models import BacktestRun, JobKind, JobState

_REFUSED = 422
_OFFSETS = 10**9


@never_cache
@login_required
@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """Show the runs, those under way and the form."""
    return _list(request)


def _list(
    request: HttpRequest, status: int = 200, refusal: str = "", errors: dict[str, str] | None = None
) -> HttpResponse:
    runs = backtest_queries.runs()
    jobs = backtest_queries.under_way()
    return render_page(
        request,
        "trading/backtests.html",
        frame_state(),
        status,
        runs=runs,
        jobs=jobs,
        is_busy=any(job.state in (JobState.QUEUED, JobState.RUNNING) for job in jobs),
        files=backtest_queries.strategy_files(),
        can_run=request.user.has_perm(work_services.RUN_WORK),
        refusal=refusal,
        errors=errors or {},
        asked=request.POST if request.method == "POST" else {},
    )


@never_cache
@login_required
@permission_required(work_services.RUN_WORK, raise_exception=True)
@require_POST
def start(request: HttpRequest) -> HttpResponse:
    """Queue a backtest."""
    try:
        wish = _wish_of(request)
        work_services.ask_for(JobKind.BACKTEST, wish, actor=request.user.get_username(), source="page")
    except ValueError as error:
        return _list(request, _REFUSED, "", {"params": f"This is no JSON: {error}"})
    except MatsError as error:
        return _list(request, _REFUSED, error.message, dict(error.fields.get("errors", {})))
    return redirect(f"{reverse('backtests')}#under-way")


def _wish_of(request: HttpRequest) -> dict[str, Any]:
    text = {name: str(request.POST.get(name, "")).strip() for name in request.POST}
    params = json.loads(text.get("params") or "{}")
    strategies = [
        {"file": name, "params": params, "cash": text.get("cash") or "100000"} for name in request.POST.getlist("files")
    ]
    wish: dict[str, Any] = {
        "strategies": strategies,
        "symbols": text.get("symbols", "").replace(",", " ").upper().split(),
        "start": text.get("start", ""),
        "end": text.get("end", ""),
        "source": text.get("source") or "market_data",
        "adjust": text.get("adjust") or "splits",
        "costs": {"fees": text.get("fees") or "fixed", "slippage_bps": text.get("slippage_bps") or "0"},
        "description": text.get("description", ""),
    }
    if text.get("interval"):
        wish["interval"] = text["interval"]
    return wish


@never_cache
@login_required
@permission_required(work_services.RUN_WORK, raise_exception=True)
@require_POST
def stop(request: HttpRequest, job_id: int) -> HttpResponse:
    """Ask a backtest to stop."""
    try:
        work_services.ask_to_stop(job_id, actor=request.user.get_username(), source="page")
    except NotFoundError:
        raise Http404 from None
    except MatsError as error:
        return _list(request, 409, error.message)
    return redirect(f"{reverse('backtests')}#under-way")


@never_cache
@login_required
@require_GET
def run_page(request: HttpRequest, run_id: int) -> HttpResponse:
    """Show one run: figures, curves, trades."""
    from trading.backtest.figures import figure_rows

    row = _run(run_id)
    offset = _whole(request.GET.get("offset"))
    trouble = ""
    try:
        trades, total = backtest_queries.trades(row, offset)
    except MatsError as error:
        trades, total, trouble = [], 0, error.message
    return render_page(
        request,
        "trading/backtest.html",
        {**frame_state(), "curves": row.curves},
        run=row,
        figures=figure_rows(row.metrics),
        names=list(row.metrics),
        trades=trades,
        trouble=trouble,
        offset=offset,
        earlier=max(0, offset - backtest_queries.TRADES) if offset else None,
        later=offset + backtest_queries.TRADES if offset + backtest_queries.TRADES < total else None,
        total=total,
        has_report=backtest_queries.has_report(row),
        can_run=request.user.has_perm(work_services.RUN_WORK),
        made=json.dumps(row.strategies, indent=2),
        is_study="study" in row.settings,
        settings_text=json.dumps({**backtest_queries.settings_of(row), "data": row.data_versions}, indent=2),
    )


@never_cache
@login_required
@require_GET
def compare(request: HttpRequest) -> HttpResponse:
    """Show several runs beside each other."""
    from trading.backtest.figures import figure_rows

    ids = [int(text) for text in request.GET.getlist("run") if text.isascii() and text.isdigit() and len(text) < 12]
    rows = backtest_queries.several(ids)
    figures, curves = backtest_queries.beside(rows)
    return render_page(
        request,
        "trading/backtest_compare.html",
        {**frame_state(), "compared": curves},
        runs=rows,
        names=list(figures),
        figures=figure_rows(figures),
    )


@never_cache
@login_required
@require_GET
def report(request: HttpRequest, run_id: int) -> HttpResponse | FileResponse:
    """Hand the report over as a file: it has scripts of its own, which must not run as a page of ours."""
    from trading.backtest.store import report_path

    path = report_path(_run(run_id))
    if not path.is_file():
        raise Http404
    return FileResponse(path.open("rb"), as_attachment=True, filename=path.name, content_type="text/html")


@never_cache
@login_required
@permission_required(work_services.RUN_WORK, raise_exception=True)
@require_POST
def delete(request: HttpRequest, run_id: int) -> HttpResponse:
    """Delete a run with its series."""
    row = _run(run_id)
    if row.state in (JobState.QUEUED, JobState.RUNNING):
        return _list(request, 409, f"{row.name} is under way; stop it first.")
    work_services.forget_run(row, actor=request.user.get_username(), source="page")
    return redirect("backtests")


def _run(run_id: int) -> BacktestRun:
    try:
        return backtest_queries.run(run_id)
    except NotFoundError:
        raise Http404 from None


def _whole(text: str | None) -> int:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 9:
        return 0
    return min(int(text), _OFFSETS)
