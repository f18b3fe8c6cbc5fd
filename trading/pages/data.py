"""The Data pages: what data there are, how whole, one series as a chart and rows, and asking for more.

Owns: the pages and what they post. Leaves: figures (``data_queries``), jobs (``work_services``), deleting
(``portfolio.arctic_access``). Rule: everybody signed in may look; asking for an ingest needs the right to run work,
deleting a superuser who types the name.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required, permission_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from portfolio.arctic_access import delete_from_store
from strategies.exceptions import MatsError, NotFoundError
from trading import data_queries, work_services
from trading.pages.shell import frame_state, render_page
from trading.work_models import JobKind

MOST_ROWS = 10_000
ROWS = 100
_REFUSED = 422


@never_cache
@login_required
@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """Show the catalogue, and the ingests."""
    return _catalogue(request)


def _catalogue(
    request: HttpRequest, status: int = 200, refusal: str = "", errors: dict[str, str] | None = None
) -> HttpResponse:
    query = request.GET.get("q", "")[:120]
    try:
        series, trouble = data_queries.series(query), ""
    except MatsError as error:
        series, trouble = [], error.message
    return render_page(
        request,
        "trading/data.html",
        frame_state(),
        status,
        series=series,
        trouble=trouble,
        query=query,
        jobs=data_queries.ingest_jobs(),
        files=data_queries.importable_files(),
        timeframes=data_queries.timeframes(),
        can_ingest=request.user.has_perm(work_services.RUN_WORK),
        refusal=refusal,
        errors=errors or {},
        asked=request.POST if request.method == "POST" else {},
    )


@never_cache
@login_required
@permission_required(work_services.RUN_WORK, raise_exception=True)
@require_POST
def ingest(request: HttpRequest) -> HttpResponse:
    """Queue an ingest."""
    try:
        work_services.ask_for(JobKind.INGEST, _asked(request), actor=request.user.get_username(), source="page")
    except MatsError as error:
        return _catalogue(request, _REFUSED, error.message, dict(error.fields.get("errors", {})))
    return redirect(f"{reverse('data')}#ingests")


def _asked(request: HttpRequest) -> dict[str, Any]:
    """Return the arguments of a posted form; an empty field is left to its default."""
    texts = {
        name: str(request.POST.get(name, "")).strip()
        for name in ("timeframe", "start", "end", "file", "zone", "symbol")
    }
    given = {name: text for name, text in texts.items() if text}
    if request.POST.get("source") == "file":
        return {
            "source": "file",
            **{name: given[name] for name in ("file", "zone", "symbol", "timeframe") if name in given},
        }
    symbols = str(request.POST.get("symbols", "")).replace(",", " ").split()
    if request.POST.get("fill_gaps"):
        frame = {"timeframe": given["timeframe"]} if "timeframe" in given else {}
        return {"source": "ib", "fill_gaps": True, "symbols": symbols, **frame}
    wanted: dict[str, Any] = {name: given[name] for name in ("timeframe", "start", "end") if name in given}
    kind = {"sec_type": "CASH"} if request.POST.get("sec_type") == "CASH" else {}
    hours = {"use_rth": False} if request.POST.get("all_hours") else {}
    return {"source": "ib", "symbols": symbols, **wanted, **kind, **hours}


@never_cache
@login_required
@permission_required(work_services.RUN_WORK, raise_exception=True)
@require_POST
def stop(request: HttpRequest, job_id: int) -> HttpResponse:
    """Ask an ingest to stop."""
    try:
        work_services.ask_to_stop(job_id, actor=request.user.get_username(), source="page")
    except NotFoundError:
        raise Http404 from None
    except MatsError as error:
        return _catalogue(request, 409, error.message)
    return redirect(f"{reverse('data')}#ingests")


@never_cache
@login_required
@require_GET
def series_page(request: HttpRequest, library: str, symbol: str) -> HttpResponse:
    """Show one series: figures, gaps, a chart, its rows."""
    return _series(request, library, symbol)


def _series(request: HttpRequest, library: str, symbol: str, status: int = 200, refusal: str = "") -> HttpResponse:
    limit = _whole(request.GET.get("limit"), ROWS, 1, MOST_ROWS)
    offset = _whole(request.GET.get("offset"), 0, 0, 10**12)
    try:
        found = data_queries.browse(library, symbol, limit=limit, offset=offset)
    except NotFoundError:
        raise Http404 from None
    except MatsError as error:
        return _catalogue(request, 503, error.message)
    one = found.detail.series
    return render_page(
        request,
        "trading/data_series.html",
        {**frame_state(), "closes": found.chart},
        status,
        one=one,
        detail=found.detail,
        gaps=found.gaps,
        page=found.page,
        limit=limit,
        newer=max(0, offset - limit) if offset else None,
        older=offset + limit if offset + limit < found.page.total else None,
        shown_to=offset + len(found.page.rows),
        has_chart=bool(found.chart[0]),
        can_delete=request.user.is_superuser,
        can_ingest=request.user.has_perm(work_services.RUN_WORK),
        full_name=f"{library}/{symbol}",
        refusal=refusal,
    )


def _whole(text: str | None, default: int, least: int, most: int) -> int:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 12:
        return default
    return min(most, max(least, int(text)))


@never_cache
@login_required
@require_POST
def delete(request: HttpRequest, library: str, symbol: str) -> HttpResponse:
    """Delete a series, once its name was typed."""
    user: Any = request.user
    if not user.is_superuser:
        raise PermissionDenied
    try:
        delete_from_store(library, symbol, str(request.POST.get("confirm", "")).strip(), user, source="page")
    except NotFoundError:
        raise Http404 from None
    except MatsError as error:
        return _series(request, library, symbol, _REFUSED, error.message)
    return redirect("data")
