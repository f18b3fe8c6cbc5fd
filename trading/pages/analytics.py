"""The analytics page: an owner's equity, returns and drawdown, its figures beside a benchmark, and the weights.

Owns: which figures are shown, in which words. Leaves: the figures (``portfolio.analytics``), the plan
(``portfolio.rebalance``). Rule: an unknown figure is a dash with its reason, never zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from portfolio import analytics, rebalance
from portfolio import queries as books
from portfolio.analytics import DayPoint, Performance
from strategies.exceptions import MatsError
from strategies.models import DISCRETIONARY
from trading.pages.shell import frame_state, owners, render_page

PERIODS = {"1w": 7, "1m": 30, "3m": 91, "1y": 365, "all": 0}
POINTS = 1000
_FIGURES = (
    ("Return", "cumulative", "percent"),
    ("A year (CAGR)", "cagr", "percent"),
    ("Volatility, yearly", "volatility", "percent"),
    ("Sharpe", "sharpe", "ratio"),
    ("Sortino", "sortino", "ratio"),
    ("Deepest drawdown", "max_drawdown", "percent"),
    ("Calmar", "calmar", "ratio"),
    ("Return of the benchmark", "benchmark_return", "percent"),
    ("Alpha, yearly", "alpha", "percent"),
    ("Beta", "beta", "ratio"),
    ("Information ratio", "information_ratio", "ratio"),
    ("Profit", "profit", "money"),
    ("Deposits less withdrawals", "net_flows", "money"),
    ("Gross exposure, average", "gross_exposure", "percent"),
    ("Net exposure, average", "net_exposure", "percent"),
    ("Turnover", "turnover", "ratio"),
    ("Traded", "traded_value", "money"),
    ("Commissions", "commissions", "money"),
    ("Cost of what was traded", "cost_per_traded", "percent"),
    ("Cost of the equity", "cost_per_equity", "percent"),
    ("Closing trades", "trades", "count"),
    ("Win rate", "win_rate", "percent"),
    ("Profit factor", "profit_factor", "ratio"),
    ("Average win", "average_win", "money"),
    ("Average loss", "average_loss", "money"),
)
_OF_BENCHMARK = frozenset({"benchmark_return", "alpha", "beta", "information_ratio"})


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure in words; ``reason`` says why it is unknown."""

    label: str
    value: Any
    form: str  # percent, ratio, money or count
    reason: str


@never_cache
@login_required
@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """Show one owner, or the account."""
    owner = request.GET.get("owner", "")
    if owner and owner not in owners():
        raise Http404(f"There is no owner «{owner}».")
    period = request.GET.get("period", "3m")
    period = period if period in PERIODS else "3m"
    now = timezone.now()
    since = None if not PERIODS[period] else now - timedelta(days=PERIODS[period])
    record, refusal = record_of(owner, since, now)
    lines, weights_refusal = plan(owner if owner != DISCRETIONARY else "", now)
    live = {"owner": owner, "equity": curve(owner, since), "record": curves(record)}
    return render_page(
        request,
        "trading/analytics.html",
        {**frame_state(), **live},
        owner=owner,
        owners=owners(),
        period=period,
        periods=list(PERIODS),
        record=record,
        refusal=refusal,
        figures=figures(record) if record else [],
        months=months(record.daily) if record else [],
        lines=lines,
        weights_refusal=weights_refusal,
    )


def record_of(owner: str, since: datetime | None, now: datetime) -> tuple[Performance | None, str]:
    """Return an owner's record, or None and why there is none."""
    try:
        return analytics.performance(owner, since, now), ""
    except MatsError as error:
        return None, error.message


def plan(symbol: str, now: datetime) -> tuple[list[rebalance.RebalanceLine], str]:
    """Return what rebalancing one strategy, or all, would do now, or why nobody can tell."""
    account_id = books.account_id_or_none()
    if account_id is None:
        return [], "No account is known yet; the engine has not connected."
    try:
        return rebalance.plan_rebalance(account_id, symbol or None, now=now), ""
    except MatsError as error:
        return [], error.message


def figures(record: Performance) -> list[Figure]:
    """Return the figures of a record by row."""
    return [Figure(label, getattr(record, name), form, _reason(record, name)) for label, name, form in _FIGURES]


def _reason(record: Performance, name: str) -> str:
    if getattr(record, name) is not None:
        return ""
    if name in _OF_BENCHMARK and name not in record.reasons:
        return record.reasons.get("benchmark", "")
    return record.reasons.get(name, "")


def months(daily: list[DayPoint]) -> list[tuple[int, list[float | None], float]]:
    """Return a row a year, the newest first: the return of each month, None without days in it, and of the year."""
    if not daily:
        return []
    from portfolio.metrics import by_month  # brings pandas, which a web process starts without

    return by_month({point.day: point.value for point in daily})


def curve(owner: str, since: datetime | None) -> dict[str, object]:
    """Return an owner's equity for drawing: numbers, aligned on epoch seconds."""
    points = books.equity_series(owner, since, max_points=POINTS)
    return {
        "at": [point.taken_at.timestamp() for point in points],
        "owners": {owner: [float(point.equity) for point in points]},
    }


def curves(record: Performance | None) -> dict[str, list[list[float]]]:
    """Return return and drawdown by day, and exposure by hour, for drawing: epoch seconds, then fractions."""
    if record is None:
        return {"returns": [[], []], "drawdown": [[], []], "exposure": [[], [], []]}
    days = [datetime.combine(point.day, time(), UTC).timestamp() for point in record.daily]
    return {
        "returns": [days, [point.cumulative for point in record.daily]],
        "drawdown": [days, [point.drawdown for point in record.daily]],
        "exposure": [
            [point.at.timestamp() for point in record.exposure],
            [point.gross for point in record.exposure],
            [point.net for point in record.exposure],
        ],
    }
