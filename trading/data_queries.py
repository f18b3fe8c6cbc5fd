"""What the data pages and routes show, without loading the research store until somebody looks.

Owns: the late imports. Leaves: figures (``market.catalog``), rows (``portfolio.arctic.browse``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trading.work_models import Job, JobKind

if TYPE_CHECKING:
    from trading.market.catalog import Detail, Series

SHOWN_JOBS = 20


def series(query: str = "") -> list[Series]:
    """Return the catalogue.

    Raises: ArcticUnavailableError.
    """
    from portfolio.arctic.client import get_ac
    from trading.market.catalog import list_series

    return list_series(get_ac(), query=query)


def series_rows(query: str = "") -> list[dict[str, Any]]:
    """Return the catalogue as plain values."""
    from trading.market.catalog_rows import series_row

    return [series_row(one) for one in series(query)]


def detail(library: str, symbol: str) -> Detail:
    """Return one series with its gaps.

    Raises: NotFoundError; ArcticUnavailableError.
    """
    from portfolio.arctic.client import get_ac
    from trading.market.catalog import look

    return look(get_ac(), library, symbol)


def series_detail(library: str, symbol: str) -> dict[str, Any]:
    """Return one series with its gaps as plain values."""
    from trading.market.catalog_rows import detail_row

    return detail_row(detail(library, symbol))


@dataclass(frozen=True, slots=True)
class Browsed:
    """What a series' page shows: figures, gaps, a line to draw, a page of rows."""

    detail: Any
    gaps: list[dict[str, Any]]
    chart: list[list[float]]
    page: Any


def browse(library: str, symbol: str, *, limit: int, offset: int) -> Browsed:
    """Return everything of one series' page, the newest rows first.

    Raises: NotFoundError; ArcticUnavailableError.
    """
    from portfolio.arctic.client import get_ac
    from portfolio.arctic_access import read_page
    from trading.market.catalog import closes_for_chart
    from trading.market.catalog_rows import gap_row

    found = detail(library, symbol)
    chart = closes_for_chart(get_ac(), found.series)
    page = read_page(library, symbol, limit=limit, offset=offset, sort="-index")
    return Browsed(found, [gap_row(gap) for gap in found.gaps], chart, page)


def ingest_jobs(job_id: int | None = None) -> list[Job]:
    """Return the newest ingests, or the one of an id."""
    rows = Job.objects.filter(kind=JobKind.INGEST)
    return list(rows.filter(pk=job_id) if job_id is not None else rows[:SHOWN_JOBS])


def importable_files() -> list[str]:
    """Return the files that a page may import."""
    from django.conf import settings

    from trading.market.ingest_args import importable

    return importable(settings.MATS.mats_home)


def timeframes() -> list[str]:
    """Return the names of timeframes, the usual ones first."""
    from strategies.timeframes import TIMEFRAMES

    usual = ["1_min", "5_min", "15_min", "1_hour", "1_day"]
    return [*usual, *(name for name in TIMEFRAMES if name not in usual)]
