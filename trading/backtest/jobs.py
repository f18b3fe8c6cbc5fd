"""Backtests as jobs of the worker. Owns: from a job's arguments to a kept run. Leaves: each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from strategies.exceptions import MatsError
from trading.backtest import store
from trading.backtest.engine import run_backtest
from trading.backtest.launch import launch_of
from trading.backtest.metrics import all_metrics
from trading.backtest.report import render_report
from trading.backtest.wish import parse_wish
from trading.work_models import Job

Progress = Callable[[float, str], None]
ShouldStop = Callable[[], bool]


def run_backtest_job(
    args: Mapping[str, Any], progress: Progress, should_stop: ShouldStop, job_id: int
) -> dict[str, Any]:
    """Run one backtest and keep it; return its name."""
    progress(0.0, "Reading bars.")
    wish = parse_wish(args)
    launch = launch_of(wish)
    run = store.begin(wish, launch, actor=Job.objects.get(pk=job_id).created_by, job_id=job_id)
    try:
        result = run_backtest(launch.spec, progress=progress, should_stop=should_stop)
        progress(1.0, "Keeping the results.")
        figures = all_metrics(result)
        store.keep_report(run, render_report(run.name, wish, launch, result, figures))
        store.finish(run, result, figures)
    except MatsError as error:
        store.give_up(run, error.message)
        raise
    except BaseException as error:
        store.give_up(run, f"{type(error).__name__}: {error}")
        raise
    return {"run": run.name, "fills": len(result.fills), "cancelled": result.cancelled}
