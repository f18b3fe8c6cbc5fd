"""What pages and API show of backtests: runs, what is under way, one run, several beside each other.

Owns: reading. Leaves: running (``backtest.jobs``), asking (``work_services``). Rule: no strategy file is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings

from strategies.bar_series import moment_of
from strategies.exceptions import NotFoundError
from strategies.loader import list_strategy_files
from trading.work_models import BacktestRun, Job, JobKind, JobState

SHOWN = 100
TRADES = 200
MOST_COMPARED = 8


def runs() -> list[BacktestRun]:
    """Return the newest runs."""
    return list(BacktestRun.objects.select_related("job").defer("curves", "settings")[:SHOWN])


def under_way() -> list[Job]:
    """Return the backtests that wait or run, and the last that failed before they had a row."""
    jobs = Job.objects.filter(kind=JobKind.BACKTEST, run__isnull=True).exclude(state=JobState.DONE)
    running = Job.objects.filter(kind=JobKind.BACKTEST, state=JobState.RUNNING)
    found = {job.pk: job for job in [*jobs[:20], *running[:20]]}
    return [found[key] for key in sorted(found, reverse=True)]


def run(run_id: int) -> BacktestRun:
    """Return one run.

    Raises: NotFoundError.
    """
    found = BacktestRun.objects.select_related("job").filter(pk=run_id).first()
    if found is None:
        raise NotFoundError(f"There is no backtest {run_id}.", code="unknown_run", run=run_id)
    return found


def several(ids: Sequence[int]) -> list[BacktestRun]:
    """Return the runs of these ids that there are, in their order."""
    rows = BacktestRun.objects.in_bulk(list(ids)[:MOST_COMPARED])
    return [rows[one] for one in ids if one in rows]


def trades(row: BacktestRun, offset: int, limit: int = TRADES) -> tuple[list[dict[str, Any]], int]:
    """Return fills of a run from the first on, and how many there are; none while ArcticDB has not got them.

    Raises: ArcticUnavailableError.
    """
    from portfolio.arctic.client import get_ac  # costs seconds: pages without trades do not need it

    client, symbol = get_ac(), f"{row.name}_trades"
    if not client.has_symbol("backtests", symbol):
        return [], 0
    total = row.fills
    frame = client.read("backtests", symbol, row_range=(offset, min(offset + limit, total))).data
    return [{**one, "at": _written(one["time_ns"])} for one in frame.to_dict("records")], total


def _written(nanos: int) -> str:
    return f"{moment_of(int(nanos)):%Y-%m-%d %H:%M:%S}"


def strategy_files() -> list[str]:
    """Return the files that a backtest can be asked of."""
    return [path.name for path in list_strategy_files()]


def settings_of(row: BacktestRun) -> dict[str, Any]:
    """Return a run's settings, without the study that may stand beside them and has a page of its own."""
    return {name: value for name, value in row.settings.items() if name != "study"}


def has_report(row: BacktestRun) -> bool:
    """Tell whether a report lies there."""
    return (settings.MATS.mats_home / "reports" / f"{row.name}.html").is_file()


def beside(rows: Sequence[BacktestRun]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Return figures and curves of several runs, by «run · strategy», their equity as a multiple of its start."""
    figures: dict[str, dict[str, Any]] = {}
    at: set[int] = set()
    lines: dict[str, dict[int, float]] = {}
    for row in rows:
        curves = row.curves or {"at": [], "equity": [], "names": []}
        for name, found in row.metrics.items():
            figures[f"{row.name} · {name}"] = found
        for name, values in zip(curves["names"], curves["equity"], strict=True):
            start = float(row.metrics.get(name, {}).get("start_cash") or 0)
            points = {
                moment: value / start - 1
                for moment, value in zip(curves["at"], values, strict=True)
                if value is not None and start
            }
            lines[f"{row.name} · {name}"] = points
            at |= points.keys()
    axis = sorted(at)
    return figures, {"at": axis, "lines": {name: [line.get(one) for one in axis] for name, line in lines.items()}}
