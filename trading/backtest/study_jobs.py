"""Sweeps and walk-forwards as jobs of the worker. Owns: from a job's arguments to a kept study. Leaves: each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from trading.backtest import study_store
from trading.backtest.sweep import prepare, run_sweep
from trading.backtest.sweep_wish import parse_sweep, parse_walk_forward
from trading.backtest.walk_forward import run_walk_forward
from trading.work_models import BacktestRun, Job

Progress = Callable[[float, str], None]
ShouldStop = Callable[[], bool]


def run_sweep_job(args: Mapping[str, Any], progress: Progress, should_stop: ShouldStop, job_id: int) -> dict[str, Any]:
    """Run a sweep and keep it; return its run."""
    progress(0.0, "Reading bars.")
    study = prepare(parse_sweep(args))
    result = run_sweep(study, progress=progress, should_stop=should_stop)
    progress(1.0, "Keeping the results.")
    run = study_store.keep_sweep(study, result, actor=_asker(job_id), job_id=job_id)
    return {**_told(run), "cancelled": result.cancelled}


def run_walk_forward_job(
    args: Mapping[str, Any], progress: Progress, should_stop: ShouldStop, job_id: int
) -> dict[str, Any]:
    """Run a walk-forward and keep it; return its run."""
    progress(0.0, "Reading bars.")
    wish = parse_walk_forward(args)
    study = prepare(wish)
    result = run_walk_forward(study, wish, progress=progress, should_stop=should_stop)
    progress(1.0, "Keeping the results.")
    run = study_store.keep_walk_forward(study, wish, result, actor=_asker(job_id), job_id=job_id)
    return {**_told(run), "cancelled": result.cancelled}


def _asker(job_id: int) -> str:
    return Job.objects.get(pk=job_id).created_by


def _told(run: BacktestRun) -> dict[str, Any]:
    study = run.settings[study_store.STUDY]
    return {"run": run.name, "run_id": run.pk, "reason": study["reason"], "done": study["done"]}
