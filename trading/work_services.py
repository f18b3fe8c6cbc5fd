"""Ask for long work: jobs that the worker process takes.

Owns: making a job out of checked arguments, asking it to stop. Leaves: doing it (the worker), what a kind's arguments
mean. Rule: arguments are checked before a row is made, so that nobody waits for a job that cannot be done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import transaction

from strategies import audit
from strategies.exceptions import ConfigError, ConflictError, NotFoundError
from trading.work_models import BacktestRun, Job, JobKind, JobState

logger = logging.getLogger(__name__)

RUN_WORK = "trading.run_work"
Check = Callable[[Mapping[str, Any]], object]


def _check_ingest(args: Mapping[str, Any]) -> None:
    from trading.market.ingest_args import read_args  # brings ib_async, which a web process starts without

    if "path" in args:
        raise ConfigError("A path comes from the command line alone; name a file.", code="bad_arguments")
    read_args(args, settings.MATS.mats_home)


def _check_backtest(args: Mapping[str, Any]) -> None:
    from trading.backtest.wish import parse_wish

    _check_source(parse_wish(args).source)


def _check_source(source: str) -> None:
    from trading.backtest.wish import MARKET_DATA, SAMPLE

    if source not in (MARKET_DATA, SAMPLE):
        raise ConfigError(
            "The source is market_data or sample; files come from the command line alone.",
            code="bad_backtest",
            errors={"source": "Choose market_data or sample."},
        )


def _check_sweep(args: Mapping[str, Any]) -> None:
    from trading.backtest.sweep_wish import parse_sweep

    _check_source(parse_sweep(args).backtest.source)


def _check_walk_forward(args: Mapping[str, Any]) -> None:
    from trading.backtest.sweep_wish import parse_walk_forward

    _check_source(parse_walk_forward(args).backtest.source)


def _check_lookahead(args: Mapping[str, Any]) -> None:
    from trading.backtest.check_wish import LookaheadWish, parse_check

    _check_source(parse_check(LookaheadWish, args).backtest.source)


def _check_warm_up(args: Mapping[str, Any]) -> None:
    from trading.backtest.check_wish import WarmUpWish, parse_check

    _check_source(parse_check(WarmUpWish, args).backtest.source)


def _check_shadow(args: Mapping[str, Any]) -> None:
    from trading.backtest.check_wish import ShadowWish, parse_check

    parse_check(ShadowWish, args)


CHECKS: dict[str, Check] = {
    JobKind.INGEST: _check_ingest,
    JobKind.BACKTEST: _check_backtest,
    JobKind.SWEEP: _check_sweep,
    JobKind.WALK_FORWARD: _check_walk_forward,
    JobKind.LOOKAHEAD: _check_lookahead,
    JobKind.WARM_UP: _check_warm_up,
    JobKind.SHADOW: _check_shadow,
}


def ask_for(kind: str, args: Mapping[str, Any], *, actor: str, source: str, now: datetime | None = None) -> Job:
    """Queue a job.

    Raises: ConfigError when its arguments cannot be.
    """
    check = CHECKS.get(kind)
    if check is not None:
        check(args)
    moment = now or datetime.now(UTC)
    with transaction.atomic():
        job = Job.objects.create(kind=kind, args=dict(args), created_by=actor[:150], created_at=moment)
        audit.record(
            "job.asked",
            f"{kind} {job.pk}",
            actor=actor,
            source=source,
            after={"kind": kind, "args": dict(args)},
            now=moment,
        )
    logger.info("job queued id=%s kind=%s by=%s", job.pk, kind, actor)
    return job


def ask_to_stop(job_id: int, *, actor: str, source: str, now: datetime | None = None) -> Job:
    """Ask a job to stop; one that still waits is cancelled at once.

    Raises: NotFoundError; ConflictError when it ended already.
    """
    moment = now or datetime.now(UTC)
    with transaction.atomic():
        job = Job.objects.select_for_update().filter(pk=job_id).first()
        if job is None:
            raise NotFoundError(f"There is no job {job_id}.", code="unknown_job", job=job_id)
        if job.state not in (JobState.QUEUED, JobState.RUNNING):
            raise ConflictError(f"Job {job_id} is {job.state}.", code="job_ended", job=job_id, state=job.state)
        job.cancel_wanted = True
        if job.state == JobState.QUEUED:
            job.state, job.ended_at = JobState.CANCELLED, moment
        job.save(update_fields=["cancel_wanted", "state", "ended_at"])
        audit.record("job.stop", f"{job.kind} {job.pk}", actor=actor, source=source, now=moment)
    return job


def forget_run(row: BacktestRun, *, actor: str, source: str) -> None:
    """Delete a backtest with its report and series, and write down who did."""
    from trading.backtest.store import forget  # brings pandas, which a web process starts without

    audit.record(
        "backtest.deleted", row.name, actor=actor, source=source, before={"metrics": row.metrics}, now=datetime.now(UTC)
    )
    forget(row)
