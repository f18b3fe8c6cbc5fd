"""Routes under /strategies that need the engine or the books: list with state, details, start, stop, delete.

They live here because trading extends strategies; strategies knows nothing of it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Body, Path, Router, Schema, Status

from portfolio import queries as books
from strategies import queries as strategy_queries
from strategies import services as strategy_services
from strategies.api_rules import caller
from strategies.schemas import MAX_PAGE, Limit, Page, Symbol
from trading import queries, schemas
from trading.api_queue import queue
from trading.orders.checking import written
from trading.risk_control import may_release
from trading.risk_schemas import PlanIn, StartIn

router = Router()

QUEUED = {202: schemas.QueuedOut}
EQUITY_DAYS = 90


class DeletedOut(Schema):
    """The symbol that is gone."""

    deleted: str


@router.get("", response=Page[schemas.StrategyRowOut])
def list_strategies(
    request: HttpRequest,
    active_only: bool = False,
    limit: Limit = 1000,
    cursor: Symbol | None = None,
) -> dict[str, Any]:
    """List strategies by symbol, each with its state and result; the cursor is the last symbol seen."""
    rows = [row for row in queries.strategy_rows() if row["active"] or not active_only]
    rows = sorted((row for row in rows if cursor is None or row["symbol"] > cursor), key=lambda row: row["symbol"])
    kept = rows[:limit]
    return {"items": kept, "next": kept[-1]["symbol"] if len(rows) > limit else None}


@router.get("/{symbol}/details", response=schemas.DetailsOut)
def strategy_details(request: HttpRequest, symbol: Path[Symbol]) -> dict[str, Any]:
    """Show one strategy: configuration, life, statistics, positions, equity of the last 90 days."""
    strategy = strategy_queries.get_strategy(symbol)
    since = timezone.now() - timedelta(days=EQUITY_DAYS)
    return {
        "strategy": strategy,
        "run": queries.strategy_rows([strategy.symbol])[0],
        "stats": books.strategy_summary(strategy.symbol),
        "positions": books.positions(owner=strategy.symbol),
        "equity": books.equity_series(strategy.symbol, since, max_points=MAX_PAGE),
    }


@router.post("/start-all", response=QUEUED)
def start_all(request: HttpRequest, response: HttpResponse) -> Status[dict[str, Any]]:
    """Start every active strategy."""
    return Status(202, queue(request, response, "start_all"))


@router.post("/stop-all", response=QUEUED)
def stop_all(request: HttpRequest, response: HttpResponse) -> Status[dict[str, Any]]:
    """Stop every running strategy."""
    return Status(202, queue(request, response, "stop_all"))


@router.post("/{symbol}/start", response=QUEUED)
def start_strategy(
    request: HttpRequest,
    response: HttpResponse,
    symbol: Path[Symbol],
    payload: Body[StartIn | None] = None,
) -> Status[dict[str, Any]]:
    """Start one strategy, unless IB's answer about its margin says that the account would not bear it."""
    strategy = strategy_queries.get_strategy(symbol)
    args: dict[str, Any] = {}
    if payload is not None and payload.accept_margin:
        if not may_release(caller(request).user):
            raise PermissionDenied("Letting a strategy pass a limit needs the administrator role.")
        args = {"accept_margin": True, "reason": payload.reason}
    return Status(202, queue(request, response, "start_strategy", symbol=strategy.symbol, **args))


@router.post("/{symbol}/margin", response=QUEUED)
def plan_margin(
    request: HttpRequest, response: HttpResponse, symbol: Path[Symbol], payload: Body[PlanIn | None] = None
) -> Status[dict[str, Any]]:
    """Have IB say what a strategy could bind at a weight; nothing changes."""
    strategy = strategy_queries.get_strategy(symbol)
    weight = payload.weight if payload is not None else None
    args = {} if weight is None else {"weight": written(weight)}
    return Status(202, queue(request, response, "margin_plan", symbol=strategy.symbol, **args))


@router.post("/{symbol}/stop", response=QUEUED)
def stop_strategy(request: HttpRequest, response: HttpResponse, symbol: Path[Symbol]) -> Status[dict[str, Any]]:
    """Stop one strategy; it gets its time to finish open orders."""
    strategy = strategy_queries.get_strategy(symbol)
    return Status(202, queue(request, response, "stop_strategy", symbol=strategy.symbol))


@router.post("/{symbol}/delete", response=DeletedOut)
def delete_strategy(request: HttpRequest, symbol: Path[Symbol]) -> dict[str, Any]:
    """Delete a strategy that is not running and owns nothing."""
    asked = caller(request)
    strategy_services.delete_strategy(symbol, asked.user, source=asked.source)
    return {"deleted": symbol}
