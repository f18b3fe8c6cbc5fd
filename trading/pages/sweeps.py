"""The Sweeps pages: what was searched, asking for a sweep or a walk-forward, what one came to.

Owns: the pages and what they post. Leaves: reading (``study_queries``), jobs (``work_services``).
Rule: everybody signed in may look; starting and stopping needs the right to run work.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.contrib.auth.decorators import login_required, permission_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from strategies.exceptions import ConfigError, MatsError, NotFoundError
from trading import backtest_queries, study_queries, work_services
from trading.pages.shell import frame_state, render_page
from trading.work_models import JobKind, JobState

_REFUSED = 422


@never_cache
@login_required
@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """Show the studies, those under way and the form."""
    return _list(request)


def _list(
    request: HttpRequest, status: int = 200, refusal: str = "", errors: Mapping[str, str] | None = None
) -> HttpResponse:
    from trading.backtest.sweep_wish import OBJECTIVES

    jobs = study_queries.under_way()
    return render_page(
        request,
        "trading/sweeps.html",
        frame_state(),
        status,
        studies=study_queries.studies(),
        jobs=jobs,
        is_busy=any(job.state in (JobState.QUEUED, JobState.RUNNING) for job in jobs),
        files=backtest_queries.strategy_files(),
        objectives=OBJECTIVES,
        can_run=request.user.has_perm(work_services.RUN_WORK),
        refusal=refusal,
        errors=_by_field(errors or {}),
        asked=request.POST if request.method == "POST" else {},
    )


def _by_field(errors: Mapping[str, str]) -> dict[str, str]:
    """Return sentences by the form's fields; those of one field together."""
    found: dict[str, list[str]] = {}
    for place, text in errors.items():
        parts = [part for part in place.split(".") if part not in ("backtest", "strategies", "costs", "0")]
        name = parts[0] if parts else "period"
        found.setdefault(name, []).append(f"{parts[1]}: {text}" if name == "space" and len(parts) > 1 else text)
    return {name: " ".join(texts) for name, texts in found.items()}


@never_cache
@login_required
@permission_required(work_services.RUN_WORK, raise_exception=True)
@require_POST
def start(request: HttpRequest) -> HttpResponse:
    """Queue a sweep or a walk-forward."""
    kind = JobKind.WALK_FORWARD if request.POST.get("kind") == "walk_forward" else JobKind.SWEEP
    try:
        work_services.ask_for(kind, _wish_of(request, kind), actor=request.user.get_username(), source="page")
    except MatsError as error:
        return _list(request, _REFUSED, error.message, error.fields.get("errors", {}))
    return redirect(f"{reverse('sweeps')}#under-way")


def _wish_of(request: HttpRequest, kind: str) -> dict[str, Any]:
    text = {name: str(request.POST.get(name, "")).strip() for name in request.POST}
    backtest: dict[str, Any] = {
        "strategies": [
            {"file": text.get("file", ""), "params": _params(text), "cash": text.get("cash") or "100000"},
        ],
        "symbols": text.get("symbols", "").replace(",", " ").upper().split(),
        "start": text.get("start", ""),
        "end": text.get("end", ""),
        "source": text.get("source") or "market_data",
        "adjust": text.get("adjust") or "splits",
        "costs": {"fees": text.get("fees") or "fixed", "slippage_bps": text.get("slippage_bps") or "0"},
        "warm_up_days": text.get("warm_up_days") or 0,
        "description": text.get("description", ""),
    }
    if text.get("interval"):
        backtest["interval"] = text["interval"]
    wish: dict[str, Any] = {"backtest": backtest, "space": _space(text.get("space", ""))}
    names = ["search", "trials", "objective", "min_trades", "seed", "workers"]
    if kind == JobKind.WALK_FORWARD:
        names += ["in_sample_days", "out_of_sample_days"]
        wish["anchored"] = text.get("anchored") == "on"
    return wish | {name: text[name] for name in names if text.get(name)}


def _params(text: Mapping[str, str]) -> Any:
    try:
        return json.loads(text.get("params") or "{}")
    except ValueError as error:
        raise _bad("params", f"This is no JSON: {error}") from error


def _space(text: str) -> dict[str, str]:
    space: dict[str, str] = {}
    for line in text.splitlines():
        name, is_there, values = (part.strip() for part in line.partition("="))
        if not is_there and not name:
            continue
        if not is_there or not name:
            raise _bad("space", f"«{line.strip()}»: write a line as name = 5:20:5.")
        if name in space:
            raise _bad("space", f"{name} stands there twice.")
        space[name] = values
    return space


def _bad(field: str, sentence: str) -> ConfigError:
    return ConfigError(sentence, code="bad_sweep", errors={field: sentence})


@never_cache
@login_required
@permission_required(work_services.RUN_WORK, raise_exception=True)
@require_POST
def stop(request: HttpRequest, job_id: int) -> HttpResponse:
    """Ask a study to stop."""
    try:
        work_services.ask_to_stop(job_id, actor=request.user.get_username(), source="page")
    except NotFoundError:
        raise Http404 from None
    except MatsError as error:
        return _list(request, 409, error.message)
    return redirect(f"{reverse('sweeps')}#under-way")


@never_cache
@login_required
@require_GET
def study_page(request: HttpRequest, run_id: int) -> HttpResponse:
    """Show one study: its table, heat map or windows, and how far it can be believed."""
    try:
        row = study_queries.study(run_id)
    except NotFoundError:
        raise Http404 from None
    made = row.settings[study_queries.STUDY]
    sort = request.GET.get("sort", "")
    is_sweep = made["kind"] == "sweep"
    return render_page(
        request,
        "trading/study.html",
        {**frame_state(), "curves": row.curves, "line": study_queries.line(made), "objective": made["objective"]},
        run=row,
        study=made,
        is_sweep=is_sweep,
        columns=study_queries.COLUMNS if is_sweep else study_queries.WINDOW_COLUMNS,
        sort=sort,
        rows=study_queries.table(made, sort) if is_sweep else [],
        pieces=[] if is_sweep else study_queries.pieces(made),
        traded=None if is_sweep else study_queries.cells(made["traded"], study_queries.WINDOW_COLUMNS),
        heat=study_queries.heat_map(made),
        has_line=study_queries.line(made) is not None,
    )
