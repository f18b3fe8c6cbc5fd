"""Routes of the data catalogue: series, their gaps, and ingests.

Rule: looking needs a login; starting an ingest needs the right to run work, and queues a job for the worker.
"""

from __future__ import annotations

from typing import Annotated, Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from ninja import Field, Router, Schema, Status
from pydantic import ConfigDict

from strategies.api_rules import caller
from strategies.exceptions import NotFoundError
from strategies.schemas import Page, RowId, UtcTime
from trading import data_queries, work_services
from trading.work_models import JobKind

router = Router()

Text = Annotated[str, Field(max_length=120)]


class SeriesOut(Schema):
    """A series or table; per cent from 0 to 100, null where nothing tells."""

    library: str
    symbol: str
    kind: str
    rows: int
    first: UtcTime | None
    last: UtcTime | None
    version: int
    source: str
    hours: str
    calendar: str
    coverage: float | None
    quality: float | None
    missing: int | None
    outside_hours: int | None
    gaps: int | None


class GapOut(Schema):
    """Bars that are missing one after another: starts of the first and last."""

    first: UtcTime
    last: UtcTime
    bars: int


class SeriesDetailOut(SeriesOut):
    """A series with its first hundred gaps and its size."""

    size_bytes: int | None
    columns: list[str]
    first_gaps: list[GapOut]


class IngestIn(Schema):
    """What to bring in. ``source``: ib, file (of the folder import in MATS_HOME) or actions.

    ``fill_gaps``: only what stored series lack, of all of them where no symbol is named.
    """

    model_config = ConfigDict(extra="forbid")

    source: Text = "ib"
    symbols: Annotated[list[Text], Field(max_length=2000)] = []
    timeframe: Text = ""
    start: Text = ""
    end: Text = ""
    use_rth: bool = True
    sec_type: Text = "STK"
    exchange: Text = "SMART"
    currency: Text = "USD"
    con_id: RowId = 0
    calendar: Text = ""
    file: Text = ""
    symbol: Text = ""
    zone: Text = ""
    prices: Text = ""
    on_conflict: Text = "refuse"
    splits: dict[str, str] = {}
    dividends: dict[str, str] = {}
    fill_gaps: bool = False
    ask_again: bool = False


class JobOut(Schema):
    """A job: ``progress`` is the fraction done."""

    id: int
    kind: str
    state: str
    progress: float
    message: str
    args: dict[str, Any]
    result: dict[str, Any]
    error: str
    created_by: str
    created_at: UtcTime
    ended_at: UtcTime | None


@router.get("/series", response=Page[SeriesOut])
def list_series(request: HttpRequest, q: Text = "") -> dict[str, Any]:
    """List every series and table with how whole it is; ``q`` is a part of the name."""
    return {"items": data_queries.series_rows(q)}


@router.get("/series/{library}/{path:symbol}", response=SeriesDetailOut)
def series(request: HttpRequest, library: str, symbol: str) -> dict[str, Any]:
    """Show one series with its first hundred gaps."""
    return data_queries.series_detail(library, symbol)


@router.post("/ingest", response={202: JobOut})
def ingest(request: HttpRequest, payload: IngestIn) -> Status[Any]:
    """Queue an ingest for the worker (manage.py run_jobs); read its progress at /data/ingest/{id}."""
    asked = caller(request)
    if not asked.user.has_perm(work_services.RUN_WORK):
        raise PermissionDenied("Starting an ingest needs the right to run work.")
    given = payload.dict(exclude_unset=True)
    job = work_services.ask_for(JobKind.INGEST, given, actor=asked.user.get_username(), source=asked.source)
    return Status(202, job)


@router.get("/ingest", response=Page[JobOut])
def ingests(request: HttpRequest) -> dict[str, Any]:
    """List the newest ingests."""
    return {"items": data_queries.ingest_jobs()}


@router.get("/ingest/{int:job_id}", response=JobOut)
def ingest_job(request: HttpRequest, job_id: int) -> Any:
    """Show one ingest."""
    found = data_queries.ingest_jobs(job_id)
    if not found:
        raise NotFoundError(f"There is no ingest {job_id}.", code="unknown_job")
    return found[0]


@router.post("/ingest/{int:job_id}/cancel", response=JobOut)
def cancel_ingest(request: HttpRequest, job_id: int) -> Any:
    """Ask an ingest to stop; what it stored stays."""
    asked = caller(request)
    if not asked.user.has_perm(work_services.RUN_WORK):
        raise PermissionDenied("Stopping an ingest needs the right to run work.")
    if not data_queries.ingest_jobs(job_id):
        raise NotFoundError(f"There is no ingest {job_id}.", code="unknown_job")
    return work_services.ask_to_stop(job_id, actor=asked.user.get_username(), source=asked.source)
