"""Routes of sweeps and walk-forwards: asking for one, what came of it. Stopping one is ``/backtest/cancel``.

Rule: as for backtests, looking needs a login, starting the right to run work.
"""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Field, Router, Schema, Status
from pydantic import ConfigDict

from strategies.schemas import Page, RowId, UtcTime
from trading import study_queries, work_services
from trading.backtest_api import BacktestIn, Text, may_run
from trading.data_api import JobOut
from trading.work_models import BacktestRun, JobKind

router = Router()


class SweepIn(Schema):
    """One strategy with many parameter sets; the same fields as «manage.py sweep».

    ``space`` gives each varied parameter as text (``5:20:5``, ``1d,5m``), as a list of values, or as an object with
    low, high and step. ``workers`` null is one process a core, 0 none but the job's own.
    """

    model_config = ConfigDict(extra="forbid")

    backtest: BacktestIn
    space: Annotated[dict[str, Any], Field(min_length=1)]
    search: Text = "grid"
    trials: int = 100
    objective: Text = "sharpe"
    min_trades: int = 0
    seed: int = 0
    workers: int | None = None


class WalkForwardIn(SweepIn):
    """A sweep in each window, its best set traded on the days after it. Units: calendar days."""

    in_sample_days: int
    out_of_sample_days: int
    anchored: bool = False


class StudyRowOut(Schema):
    """A study among others; its run has the best set's figures, or those out of sample."""

    id: int
    name: str
    state: str
    kind: str = Field(alias="study_kind")
    file: str = Field(alias="study_file")
    objective: str = Field(alias="study_objective")
    params: list[str] = Field(alias="study_params")
    expected: int = Field(alias="study_expected")
    done: int = Field(alias="study_done")
    failed: int = Field(alias="study_failed")
    refused: int = Field(alias="study_refused")
    overfitting: float | None = Field(alias="study_overfitting")
    symbols: list[str]
    interval: str
    start_at: UtcTime
    end_at: UtcTime
    created_by: str
    created_at: UtcTime


class StudyOut(Schema):
    """One study: table, heat map or windows, and how far it can be believed; fractions of 1, null is not known."""

    id: int
    name: str
    state: str
    study: dict[str, Any]
    warnings: list[str]
    error: str
    created_by: str
    created_at: UtcTime

    @staticmethod
    def resolve_study(row: BacktestRun) -> Any:
        """Return what stands beside the run's settings."""
        return row.settings[study_queries.STUDY]


@router.post("/sweep", response={202: JobOut})
def sweep(request: HttpRequest, payload: SweepIn) -> Status[Any]:
    """Queue a sweep for the worker; it appears among the studies when it has ended."""
    return _ask(request, JobKind.SWEEP, payload)


@router.post("/walk-forward", response={202: JobOut})
def walk_forward(request: HttpRequest, payload: WalkForwardIn) -> Status[Any]:
    """Queue a walk-forward for the worker; it appears among the studies when it has ended."""
    return _ask(request, JobKind.WALK_FORWARD, payload)


@router.get("/studies", response=Page[StudyRowOut])
def studies(request: HttpRequest) -> dict[str, Any]:
    """List the newest hundred sweeps and walk-forwards."""
    return {"items": study_queries.studies()}


@router.get("/study/{run_id}", response=StudyOut)
def study(request: HttpRequest, run_id: RowId) -> BacktestRun:
    """Show one study."""
    return study_queries.study(run_id)


def _ask(request: HttpRequest, kind: str, payload: SweepIn) -> Status[Any]:
    asked = may_run(request)
    job = work_services.ask_for(
        kind, payload.dict(exclude_defaults=True), actor=asked.user.get_username(), source=asked.source
    )
    return Status(202, job)
