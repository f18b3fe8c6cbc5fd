"""Routes of the checks of strategies: asking for one, its answer.

Rule: looking needs a login; starting needs the right to run work, and goes through the worker's queue. A check is
stopped as every job is.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from ninja import Field, Router, Schema, Status
from pydantic import ConfigDict

from strategies.api_rules import caller
from strategies.schemas import Page, RowId
from trading import backtest_queries, check_queries, work_services
from trading.backtest_api import BacktestIn
from trading.data_api import JobOut
from trading.work_models import Job, JobKind

router = Router()

Text = Annotated[str, Field(max_length=200)]


class _CheckIn(Schema):
    """What is checked: the fields of a backtest, or the id of a kept run."""

    model_config = ConfigDict(extra="forbid")

    backtest: BacktestIn | None = None
    run: RowId | None = None


class LookaheadIn(_CheckIn):
    """A check for lookahead. ``trades`` are looked at (0: all), with fewer than ``minimum`` it is inconclusive."""

    trades: int = 20
    minimum: int = 10
    quiet: int = 10


class WarmUpIn(_CheckIn):
    """A check of the warm-up. ``tolerance`` is the drift that is still right, a fraction."""

    lengths: Annotated[list[int], Field(max_length=20)] = []
    tolerance: float = 0.001
    watch: int = 20


class ShadowIn(Schema):
    """The replay of a live day of a strategy; a day in New York."""

    model_config = ConfigDict(extra="forbid")

    strategy: Text
    day: date


@router.post("/checks/lookahead", response={202: JobOut})
def start_lookahead(request: HttpRequest, payload: LookaheadIn) -> Status[Any]:
    """Queue a check for lookahead; read its verdict at /backtest/checks/{id}."""
    return _ask(request, JobKind.LOOKAHEAD, _args_of(payload))


@router.post("/checks/warm-up", response={202: JobOut})
def start_warm_up(request: HttpRequest, payload: WarmUpIn) -> Status[Any]:
    """Queue a check of the warm-up; read its verdict at /backtest/checks/{id}."""
    return _ask(request, JobKind.WARM_UP, _args_of(payload))


@router.post("/checks/shadow", response={202: JobOut})
def start_shadow(request: HttpRequest, payload: ShadowIn) -> Status[Any]:
    """Queue the replay of a live day; a day that differs raises an alert."""
    return _ask(request, JobKind.SHADOW, {"strategy": payload.strategy, "day": payload.day.isoformat()})


@router.get("/checks", response=Page[JobOut])
def checks(request: HttpRequest) -> dict[str, Any]:
    """List the newest hundred checks."""
    return {"items": check_queries.checks()}


@router.get("/checks/{job_id}", response=JobOut)
def check(request: HttpRequest, job_id: RowId) -> Job:
    """Show one check; ``result`` has its verdict and what it rests on."""
    return check_queries.check(job_id)


def _args_of(payload: _CheckIn) -> dict[str, Any]:
    """Return the job's arguments; a kept run says by itself what it was made of.

    Raises: NotFoundError.
    """
    given = payload.dict(exclude_unset=True, exclude={"backtest", "run"})
    if payload.run is not None:
        return {**given, **check_queries.args_of_run(backtest_queries.run(payload.run))}
    asked = None if payload.backtest is None else payload.backtest.dict(exclude_defaults=True)
    return {**given, "backtest": asked}


def _ask(request: HttpRequest, kind: str, args: dict[str, Any]) -> Status[Any]:
    asked = caller(request)
    if not asked.user.has_perm(work_services.RUN_WORK):
        raise PermissionDenied("This needs the right to run work.")
    return Status(202, work_services.ask_for(kind, args, actor=asked.user.get_username(), source=asked.source))
