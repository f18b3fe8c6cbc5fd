"""What each kind of job does: a check of its arguments and the function that does it, by import path.

Owns: the table. Leaves: queueing (``work_services``), processes (``worker``), the work itself.
Rule: functions are named, not imported: a web process must not load what only the worker needs. Each takes
``(args, progress, should_stop, job_id)``; what it returns is small and JSON-able, with ``cancelled`` where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from strategies.exceptions import ConfigError
from trading.work_models import JobKind

Progress = Callable[[float, str], None]
ShouldStop = Callable[[], bool]
Work = Callable[[Mapping[str, Any], Progress, ShouldStop, int], dict[str, Any]]

WORK: dict[str, str] = {
    JobKind.BACKTEST: "trading.backtest.jobs:run_backtest_job",
    JobKind.SWEEP: "trading.backtest.study_jobs:run_sweep_job",
    JobKind.WALK_FORWARD: "trading.backtest.study_jobs:run_walk_forward_job",
    JobKind.LOOKAHEAD: "trading.backtest.honesty:run_lookahead_job",
    JobKind.WARM_UP: "trading.backtest.honesty:run_warm_up_job",
    JobKind.SHADOW: "trading.backtest.shadow_day:run_shadow_job",
    JobKind.INGEST: "trading.market.ingest_job:run_ingest_job",
}


def work_of(kind: str) -> Work:
    """Return the function that does a kind of job.

    Raises: ConfigError (unknown_job) when this installation has none.
    """
    path = WORK.get(kind)
    if path is None:
        raise ConfigError(f"There is nothing here that does «{kind}».", code="unknown_job", kind=kind)
    module, _, name = path.partition(":")
    try:
        found: Work = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"«{kind}» cannot be done by this installation: {error}", code="unknown_job") from error
    return found
