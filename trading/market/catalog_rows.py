"""The catalogue in words and JSON: the same figures for the command, the page and the API.

Owns: names and shapes. Leaves: the figures (``catalog``). Rule: what is not known is null, never 0.
"""

from __future__ import annotations

from typing import Any

from strategies.bar_series import moment_of
from trading.market.catalog import Detail, Series
from trading.market.coverage import Gap


def series_row(one: Series) -> dict[str, Any]:
    """Return a series for JSON."""
    whole = one.coverage
    return {
        "library": one.library,
        "symbol": one.name,
        "kind": one.kind,
        "rows": one.rows,
        "first": one.first,
        "last": one.last,
        "version": one.version,
        "source": one.source,
        "hours": one.hours,
        "calendar": one.calendar,
        "coverage": None if whole is None else whole.percent,
        "quality": None if whole is None else whole.quality,
        "missing": None if whole is None else whole.missing,
        "outside_hours": None if whole is None else whole.outside,
        "gaps": None if whole is None else len(whole.gaps),
    }


def detail_row(detail: Detail) -> dict[str, Any]:
    """Return a series and its gaps for JSON."""
    return {
        **series_row(detail.series),
        "size_bytes": detail.size_bytes,
        "columns": detail.columns,
        "first_gaps": [gap_row(gap) for gap in detail.gaps],
    }


def gap_row(gap: Gap) -> dict[str, Any]:
    """Return a gap for people and JSON."""
    return {"first": moment_of(gap.first_ns), "last": moment_of(gap.last_ns), "bars": gap.bars}
