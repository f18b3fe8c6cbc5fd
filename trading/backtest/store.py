"""Keep what a backtest came to: a BacktestRun row, and its series in ArcticDB ``backtests/<name>_…``.

Owns: names, the shapes of the series. Leaves: writing them beside an engine (``portfolio.arctic.parcels``).
Rule: everything that is needed to run it again is in the row. Shapes: ``_equity`` index ``ts`` UTC, a float64 column
a strategy, NaN before it has one; the others a plain index and the moment as ``time_ns`` (epoch, UTC): ``_trades`` one
row a fill, ``_positions`` one a position open at the end, ``_metrics`` one a figure, its value as text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from django.conf import settings

from portfolio.arctic.lock import ArcticBusyError
from portfolio.arctic.parcels import drain_if_free, submit
from strategies.bar_series import nanos_of
from strategies.exceptions import ConfigError, ConflictError
from trading.backtest.contracts import BacktestResult
from trading.backtest.curves import curves_of
from trading.backtest.launch import Launch
from trading.backtest.wish import BacktestWish
from trading.work_models import BacktestRun, JobState

LIBRARY = "backtests"
PAGE_POINTS = 600
PARTS = ("equity", "trades", "positions", "metrics", "trials")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,119}", re.ASCII)
_MOST_NAMES = 1_000


def run_name(strategies: list[str], description: str, now: datetime) -> str:
    """Return a free name ``{strategy}_{date}_{description}``; a number tells equal ones apart."""
    first = strategies[0] + (f"_and_{len(strategies) - 1}" if len(strategies) > 1 else "")
    parts = [first, f"{now:%Y%m%d}", *([description] if description else [])]
    stem = "_".join(parts)
    taken = set(BacktestRun.objects.filter(name__startswith=stem).values_list("name", flat=True))
    for number in range(1, _MOST_NAMES):
        name = stem if number == 1 else f"{stem}_{number}"
        if name not in taken:
            return name
    raise ConflictError(f"There are {_MOST_NAMES} runs named {stem}; describe this one.", code="too_many_runs")


def begin(wish: BacktestWish, launch: Launch, *, actor: str, job_id: int | None = None) -> BacktestRun:
    """Make the row of a run that is about to start."""
    now = datetime.now(UTC)
    costs = wish.costs.model_dump(mode="json")
    return BacktestRun.objects.create(
        name=run_name([one["name"] for one in launch.strategies], wish.description, now),
        job_id=job_id,
        strategies=launch.strategies,
        symbols=launch.symbols,
        interval=launch.interval,
        source=wish.source[:80],
        data_versions=launch.data_versions,
        start_at=wish.start,
        end_at=wish.end,
        settings={**costs, "adjust": wish.adjust, "warm_up_days": wish.warm_up_days, "seed": wish.seed},
        state=JobState.RUNNING,
        warnings=launch.notes,
        created_by=actor[:150],
        created_at=now,
    )


def finish(run: BacktestRun, result: BacktestResult, metrics: Mapping[str, Any]) -> None:
    """Hand the series over and write what came of the run."""
    for part, frame in frames_of(result, metrics).items():
        if len(frame):
            submit(
                LIBRARY,
                f"{run.name}_{part}",
                frame,
                mode="write",
                metadata={"run": run.name, "part": part},
                source=f"backtest:{run.pk}",
            )
    failed = {name: outcome.errors[0] for name, outcome in result.strategies.items() if outcome.errors}
    run.state = JobState.CANCELLED if result.cancelled else JobState.FAILED if failed else JobState.DONE
    run.error = "\n".join(f"{name}: {text}" for name, text in failed.items())
    run.bars, run.fills, run.seconds = result.bars, len(result.fills), round(result.seconds, 4)
    run.curves = curves_of(result.strategies, PAGE_POINTS)
    run.metrics, run.warnings = dict(metrics), list(dict.fromkeys([*run.warnings, *result.warnings]))
    run.save()
    with suppress(ArcticBusyError):  # an engine writes there: it takes the parcels soon
        drain_if_free()


def keep_report(run: BacktestRun, text: str) -> None:
    """Write the report where the page finds it."""
    path = report_path(run)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def report_path(run: BacktestRun) -> Path:
    """Return where a run's report lies; the name is one of ours, and no other makes a path."""
    if not NAME.fullmatch(run.name):
        raise ConfigError(f"«{run.name}» is no name of a run.", code="bad_name")
    return Path(settings.MATS.mats_home) / "reports" / f"{run.name}.html"


def forget(run: BacktestRun) -> None:
    """Delete a run, its report and its series."""
    report_path(run).unlink(missing_ok=True)
    for part in PARTS:
        submit(LIBRARY, f"{run.name}_{part}", None, mode="delete", source=f"backtest:{run.pk}")
    run.delete()
    with suppress(ArcticBusyError):
        drain_if_free()


def give_up(run: BacktestRun, error: str) -> None:
    """Write that a run failed before it had a result."""
    run.state, run.error = JobState.FAILED, error
    run.save(update_fields=["state", "error"])


def frames_of(result: BacktestResult, metrics: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Return the series of a result by part; one without rows is an empty frame."""
    return {
        "equity": _equity(result),
        "trades": _trades(result),
        "positions": _positions(result),
        "metrics": _metrics(result, metrics),
    }


def _equity(result: BacktestResult) -> pd.DataFrame:
    curves = {
        name: pd.Series(outcome.equity_curve, index=pd.DatetimeIndex(outcome.equity_ns, tz="UTC"), dtype="float64")
        for name, outcome in result.strategies.items()
    }
    return pd.DataFrame(curves).rename_axis("ts")


def _trades(result: BacktestResult) -> pd.DataFrame:
    fills = result.fills
    return pd.DataFrame(
        {
            "time_ns": pd.Series([fill.time_ns for fill in fills], dtype="int64"),
            "strategy": [fill.strategy for fill in fills],
            "symbol": [fill.symbol for fill in fills],
            "quantity": [float(fill.quantity) for fill in fills],
            "price": [float(fill.price) for fill in fills],
            "fee": [float(fill.fee) for fill in fills],
            "realized": [float(fill.realized) for fill in fills],
            "order_id": pd.Series([fill.order_id for fill in fills], dtype="int64"),
            "order_type": [fill.order_type for fill in fills],
            "reason": [fill.reason for fill in fills],
        }
    )


def _positions(result: BacktestResult) -> pd.DataFrame:
    rows = [one for outcome in result.strategies.values() for one in outcome.positions]
    return pd.DataFrame(
        {
            "time_ns": pd.Series([nanos_of(result.ended)] * len(rows), dtype="int64"),
            "strategy": [one.strategy for one in rows],
            "symbol": [one.symbol for one in rows],
            "quantity": [float(one.quantity) for one in rows],
            "average_cost": [float(one.average_cost) for one in rows],
            "mark": [float(one.mark) for one in rows],
            "unrealized": [float(one.unrealized) for one in rows],
        }
    )


def _metrics(result: BacktestResult, metrics: Mapping[str, Any]) -> pd.DataFrame:
    rows = [
        (strategy, figure, "" if value is None else str(value))
        for strategy, figures in metrics.items()
        for figure, value in figures.items()
        if figure != "reasons"
    ]
    frame = pd.DataFrame(rows, columns=["strategy", "figure", "value"])
    frame.insert(0, "time_ns", nanos_of(result.ended))
    return frame
