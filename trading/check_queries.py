"""What pages and API show of the checks of strategies: those asked for, one with its answer, what can be checked.

Owns: reading, the arguments of a kept run's checks. Leaves: doing it (``backtest.honesty``, ``backtest.shadow_day``),
asking (``work_services``). Rule: no strategy file is loaded.
"""

from __future__ import annotations

from typing import Any

from strategies.exceptions import NotFoundError
from strategies.models import Strategy, StrategyKind
from trading.backtest.check_wish import wish_of_run
from trading.work_models import BacktestRun, Job, JobKind

KINDS = (JobKind.LOOKAHEAD, JobKind.WARM_UP, JobKind.SHADOW)
OF_BARS = (JobKind.LOOKAHEAD, JobKind.WARM_UP)
SHOWN = 100
_TONES = {"clean": "good", "enough": "good", "same": "good", "inconclusive": "warn"}


def checks() -> list[Job]:
    """Return the newest checks."""
    return list(Job.objects.filter(kind__in=KINDS)[:SHOWN])


def check(job_id: int) -> Job:
    """Return one check.

    Raises: NotFoundError.
    """
    found = Job.objects.filter(kind__in=KINDS, pk=job_id).first()
    if found is None:
        raise NotFoundError(f"There is no check {job_id}.", code="unknown_check", check=job_id)
    return found


def row_of(job: Job) -> dict[str, Any]:
    """Return a check as a line: what was checked, its verdict."""
    verdict = str(job.result.get("verdict") or "")
    return {"job": job, "subject": subject_of(job), "verdict": verdict, "tone": tone_of(verdict)}


def subject_of(job: Job) -> str:
    """Say what a check is of."""
    args = job.args
    if job.kind == JobKind.SHADOW:
        return f"{args.get('strategy', '')} on {args.get('day', '')}"
    asked = args.get("backtest", {})
    files = [str(one.get("file", "")) for one in asked.get("strategies", [])]
    period = f"{str(asked.get('start', ''))[:10]} to {str(asked.get('end', ''))[:10]}"
    return " ".join([*files, *asked.get("symbols", [])[:5], period])


def tone_of(verdict: str) -> str:
    """Return how a verdict is coloured."""
    return _TONES.get(verdict, "bad") if verdict else ""


def args_of_run(row: BacktestRun) -> dict[str, Any]:
    """Return the arguments of a check of a kept run."""
    return {
        "backtest": wish_of_run(
            row.strategies,
            row.symbols,
            row.source,
            row.settings,
            interval=row.interval,
            start=row.start_at.isoformat(),
            end=row.end_at.isoformat(),
        ),
        "run": row.pk,
    }


def reactive_strategies() -> list[str]:
    """Return the strategies whose days can be replayed."""
    return list(Strategy.objects.filter(kind=StrategyKind.REACTIVE).order_by("symbol").values_list("symbol", flat=True))
