"""What pages and API show of sweeps and walk-forwards: those under way, those kept, one with its table and heat map.

Owns: reading, the order of a table, the shades of a heat map. Leaves: searching and keeping (``trading.backtest``),
asking (``work_services``). Rule: no strategy file is loaded; a figure that is not known stands behind all that are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import F

from strategies.exceptions import NotFoundError
from trading.work_models import BacktestRun, Job, JobKind, JobState

SHOWN = 100
KINDS = (JobKind.SWEEP, JobKind.WALK_FORWARD)
STUDY = "study"
COLUMNS = (
    ("total_return", "Return", "percent"),
    ("cagr", "A year", "percent"),
    ("sharpe", "Sharpe", "ratio"),
    ("sortino", "Sortino", "ratio"),
    ("calmar", "Calmar", "ratio"),
    ("max_drawdown", "Drawdown", "percent"),
    ("profit", "Profit", "money"),
    ("trades", "Trades", "count"),
    ("win_rate", "Win rate", "percent"),
    ("profit_factor", "Profit factor", "ratio"),
    ("fees", "Fees", "money"),
)
WINDOW_COLUMNS = tuple(one for one in COLUMNS if one[0] in ("total_return", "cagr", "sharpe", "max_drawdown", "trades"))
_SHADES = 10
_FIELDS = ("kind", "file", "objective", "expected", "done", "failed", "refused", "params")


def studies() -> list[BacktestRun]:
    """Return the newest studies, each with what a list shows of it, its table left where it is."""
    found = {f"study_{name}": F(f"settings__{STUDY}__{name}") for name in _FIELDS}
    found["study_overfitting"] = F(f"settings__{STUDY}__overfitting__value")
    rows = BacktestRun.objects.filter(settings__has_key=STUDY).defer("settings", "curves")
    return list(rows.annotate(**found)[:SHOWN])


def under_way() -> list[Job]:
    """Return the studies that wait or run, and the last that ended without a row."""
    jobs = Job.objects.filter(kind__in=KINDS, run__isnull=True).exclude(state=JobState.DONE)
    running = Job.objects.filter(kind__in=KINDS, state=JobState.RUNNING)
    found = {job.pk: job for job in [*jobs[:20], *running[:20]]}
    return [found[key] for key in sorted(found, reverse=True)]


def study(run_id: int) -> BacktestRun:
    """Return a study's run.

    Raises: NotFoundError.
    """
    found = BacktestRun.objects.select_related("job").filter(pk=run_id, settings__has_key=STUDY).first()
    if found is None:
        raise NotFoundError(f"There is no study {run_id}.", code="unknown_study", run=run_id)
    return found


def table(made: Mapping[str, Any], sort: str) -> list[dict[str, Any]]:
    """Return a sweep's rows with their cells, the highest first by the figure ``sort``, else by the objective."""
    rows = list(made.get("rows", ()))
    if sort in {name for name, *_ in COLUMNS}:
        rows.sort(key=lambda row: _behind(row["metrics"].get(sort)))
    return [
        {
            "number": row["number"],
            "is_best": made["best"] is not None and row["number"] == made["best"]["number"],
            "params": [row["params"].get(name) for name in made["params"]],
            "cells": cells(row["metrics"]),
        }
        for row in rows
    ]


def _behind(value: Any) -> tuple[bool, float]:
    return value is None, -float(value or 0)


def cells(metrics: Mapping[str, Any] | None, columns: Sequence[tuple[str, str, str]] = COLUMNS) -> list[dict[str, Any]]:
    """Return the figures of a set in the order of the columns."""
    known = metrics or {}
    reasons = known.get("reasons", {})
    return [
        {"value": known.get(name), "kind": kind, "reason": reasons.get(name, "") if known else ""}
        for name, _, kind in columns
    ]


def heat_map(made: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the objective over two parameters with a shade of 0–10 for each cell, empty where it is not known."""
    surface = made.get("surface")
    if not surface or not surface["y"]:
        return None
    known = [value for row in surface["values"] for value in row if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    rows = [
        {"y": y, "cells": [{"value": value, "shade": _shade(value, low, high)} for value in row]}
        for y, row in zip(surface["ys"], surface["values"], strict=True)
    ]
    return {"x": surface["x"], "y": surface["y"], "xs": surface["xs"], "rows": rows, "low": low, "high": high}


def _shade(value: float | None, low: float, high: float) -> int | None:
    if value is None:
        return None
    return round((value - low) / (high - low) * _SHADES) if high > low else _SHADES


def line(made: Mapping[str, Any]) -> list[Sequence[float | None]] | None:
    """Return the objective over one parameter of numbers, as a chart's columns."""
    surface = made.get("surface")
    if not surface or surface["y"] or not all(isinstance(x, (int, float)) for x in surface["xs"]):
        return None
    return [surface["xs"], surface["values"][0]]


def pieces(made: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a walk-forward's windows: each figure in sample beside that out of sample."""
    return [
        {
            **piece,
            "params": piece["chosen"]["params"] if piece["chosen"] else None,
            "pairs": _pairs(piece["chosen"]["metrics"] if piece["chosen"] else None, piece["traded"]),
        }
        for piece in made["pieces"]
    ]


def _pairs(chosen: Mapping[str, Any] | None, traded: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    both = zip(cells(chosen, WINDOW_COLUMNS), cells(traded, WINDOW_COLUMNS), strict=True)
    return [{**inside, "out": outside} for inside, outside in both]
