"""Routes of backtests: asking for one, what came of it, its fills, stopping it; and the worker's jobs.

Rule: looking needs a login; starting and stopping needs the right to run work, and goes through the worker's queue.
"""

from __future__ import annotations

from typing import Annotated, Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from ninja import Field, Router, Schema, Status
from pydantic import ConfigDict

from strategies.api_rules import caller
from strategies.loader import inspect_file
from strategies.schemas import FileFactsOut, Page, RowId, UtcTime
from trading import backtest_queries, work_services
from trading.data_api import JobOut
from trading.work_models import BacktestRun, Job, JobKind

router = Router()

Text = Annotated[str, Field(max_length=200)]


class StrategyIn(Schema):
    """One strategy of a run; ``cash`` as text."""

    model_config = ConfigDict(extra="forbid")

    file: Text
    name: Text = ""
    params: dict[str, Any] = {}
    cash: Text = "100000"


class BacktestIn(Schema):
    """What to run; the same fields as «manage.py backtest». Times are days or moments with a zone."""

    model_config = ConfigDict(extra="forbid")

    strategies: Annotated[list[StrategyIn], Field(min_length=1, max_length=98)]
    symbols: Annotated[list[Text], Field(max_length=5000)] = []
    interval: Text = ""
    start: Text
    end: Text
    source: Text = "market_data"
    adjust: Text = "splits"
    costs: dict[str, Any] = {}
    warm_up_days: int = 0
    seed: int = 0
    description: Text = ""


class RunOut(Schema):
    """A run: money as text, fractions of 1, null where a figure is not defined."""

    id: int
    name: str
    state: str
    strategies: list[dict[str, Any]]
    symbols: list[str]
    interval: str
    source: str
    data_versions: dict[str, str]
    start_at: UtcTime
    end_at: UtcTime
    bars: int
    fills: int
    seconds: float | None
    metrics: dict[str, dict[str, Any]]
    warnings: list[str]
    error: str
    created_by: str
    created_at: UtcTime


class ResultOut(RunOut):
    """A run with its thinned curves."""

    settings: dict[str, Any]
    curves: dict[str, Any]

    @staticmethod
    def resolve_settings(row: BacktestRun) -> dict[str, Any]:
        """Return them without a study."""
        return backtest_queries.settings_of(row)


class TradeOut(Schema):
    """One fill; ``at`` UTC to the second."""

    at: str
    strategy: str
    symbol: str
    quantity: float
    price: float
    fee: float
    realized: float
    order_type: str
    reason: str


class TradesOut(Schema):
    """A page of fills, in order."""

    items: list[TradeOut]
    total: int


@router.post("/run", response={202: JobOut})
def start(request: HttpRequest, payload: BacktestIn) -> Status[Any]:
    """Queue a backtest for the worker; its run appears among the runs once it has started."""
    asked = may_run(request)
    wish = payload.dict(exclude_defaults=True)
    job = work_services.ask_for(JobKind.BACKTEST, wish, actor=asked.user.get_username(), source=asked.source)
    return Status(202, job)


@router.get("/runs", response=Page[RunOut])
def runs(request: HttpRequest) -> dict[str, Any]:
    """List the newest hundred runs."""
    return {"items": backtest_queries.runs()}


@router.get("/result/{run_id}", response=ResultOut)
def result(request: HttpRequest, run_id: RowId) -> BacktestRun:
    """Show one run."""
    return backtest_queries.run(run_id)


@router.get("/trades/{run_id}", response=TradesOut)
def trades(
    request: HttpRequest,
    run_id: RowId,
    offset: Annotated[int, Field(ge=0, le=10**9)] = 0,
    limit: Annotated[int, Field(ge=1, le=10_000)] = 1000,
) -> dict[str, Any]:
    """Page through a run's fills."""
    rows, total = backtest_queries.trades(backtest_queries.run(run_id), offset, limit)
    return {"items": rows, "total": total}


@router.get("/jobs", response=Page[JobOut])
def jobs(request: HttpRequest) -> dict[str, Any]:
    """List the newest hundred jobs of every kind."""
    return {"items": list(Job.objects.all()[: backtest_queries.SHOWN])}


@router.post("/cancel/{job_id}", response={202: JobOut})
def cancel(request: HttpRequest, job_id: RowId) -> Status[Any]:
    """Ask a job to stop; what it had come to is kept."""
    asked = may_run(request)
    return Status(202, work_services.ask_to_stop(job_id, actor=asked.user.get_username(), source=asked.source))


@router.get("/strategy-params/{filename}", response=FileFactsOut)
def strategy_params(request: HttpRequest, filename: str) -> Any:
    """Tell a file's class and parameters by reading it; its code does not run."""
    return inspect_file(filename)


def may_run(request: HttpRequest) -> Any:
    """Return the caller, who may run work.

    Raises: PermissionDenied.
    """
    asked = caller(request)
    if not asked.user.has_perm(work_services.RUN_WORK):
        raise PermissionDenied("This needs the right to run work.")
    return asked
