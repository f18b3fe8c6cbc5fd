"""Routes of the books: positions, summary, fills, equity. They only read."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from ninja import Path, Router

from portfolio import queries
from portfolio.schemas import EquityPoint, FillOut, PositionOut, StrategySummaryOut, SummaryOut
from strategies.exceptions import NotFoundError
from strategies.schemas import MAX_PAGE, AwareTime, Limit, Owner, Page, RowId

router = Router()

EQUITY_DAYS = 90


@router.get("/positions", response=Page[PositionOut])
def list_positions(request: HttpRequest, strategy: Owner | None = None) -> dict[str, Any]:
    """List what every owner holds, with marks; unknown marks are null."""
    return {"items": queries.positions(owner=strategy)}


@router.get("/summary", response=SummaryOut)
def summary(request: HttpRequest) -> Any:
    """Show the whole account and its parts."""
    found = queries.summary()
    if found is None:
        raise NotFoundError("No account is known yet; the engine has not connected to one.", code="account_unknown")
    return found


@router.get("/strategy/{strategy}", response=StrategySummaryOut)
def strategy_summary(request: HttpRequest, strategy: Path[Owner]) -> Any:
    """Show one owner: equity, cash, profit."""
    return queries.strategy_summary(strategy)


@router.get("/fills", response=Page[FillOut])
def list_fills(
    request: HttpRequest,
    strategy: Owner | None = None,
    limit: Limit = 100,
    cursor: RowId | None = None,
) -> dict[str, Any]:
    """List fills, newest first."""
    rows = queries.fills(owner=strategy, limit=limit + 1, before_id=cursor)
    kept = rows[:limit]
    return {"items": kept, "next": str(kept[-1].id) if len(rows) > limit else None}


@router.get("/equity", response=Page[EquityPoint])
def equity(
    request: HttpRequest,
    owner: Owner | None = None,
    since: AwareTime | None = None,
) -> dict[str, Any]:
    """List the equity of an owner (without one: of the account), oldest first, thinned; by default 90 days."""
    start: datetime = since or timezone.now() - timedelta(days=EQUITY_DAYS)
    return {"items": queries.equity_series(owner or "", start, max_points=MAX_PAGE)}
