"""Routes behind the books: what explains them, what differs, what was booked by hand. They only read.

Leaves: positions, fills, equity to ``portfolio.api``; everything that changes the books to ``trading.books_api``.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any

from django.http import HttpRequest
from django.utils import timezone
from ninja import Path, Router
from pydantic import Field

from portfolio import analytics, explain
from portfolio import books_queries as books
from portfolio import books_schemas as schemas
from portfolio.fx_cache import FXCache
from portfolio.lots import position_lots
from portfolio.models import Adjustment, AdjustmentKind, AdjustmentState, FindingState, ParkedState
from strategies.audit import storable
from strategies.schemas import MAX_PAGE, AwareTime, Limit, Owner, Page, RowId

router = Router()

HOURLY_DAYS = 7
Benchmark = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,64}$")]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


@router.get("/consolidated", response=Page[schemas.ConsolidatedOut])
def consolidated(request: HttpRequest) -> dict[str, Any]:
    """List what all owners hold together, by contract."""
    return {"items": books.consolidated()}


@router.get("/pnl", response=Page[schemas.PnlOut])
def pnl(request: HttpRequest, owner: Owner | None = None) -> dict[str, Any]:
    """List the profit of every owner, or of one."""
    return {"items": books.pnl(owner)}


@router.get("/performance", response=dict[str, Any])
def performance(
    request: HttpRequest,
    owner: Owner | None = None,
    since: AwareTime | None = None,
    until: AwareTime | None = None,
    benchmark: Benchmark | None = None,
) -> Any:
    """Show an owner's record (without one: the account's) against a benchmark; figures as text, null with a reason."""
    account = books.known_account()
    found = analytics.performance(owner or "", since, until, benchmark, account_id=account)
    return storable(asdict(found))


@router.get("/explain", response=Page[schemas.ContractOut])
def explain_positions(request: HttpRequest) -> dict[str, Any]:
    """List every contract: IB's quantity, each owner's, Discretionary's, the difference."""
    return {"items": explain.explain_positions(books.known_account())}


@router.get("/explain/{int:con_id}", response=schemas.ExplainedOut)
def explain_contract(request: HttpRequest, con_id: Path[RowId], owner: Owner | None = None) -> dict[str, Any]:
    """Open one contract to the executions and adjustments that made it."""
    account = books.known_account()
    return {
        "contract": explain.explain_contract(account, con_id),
        "holdings": explain.explain_holdings(account, con_id),
        "executions": explain.executions_of(account, con_id, owner, limit=MAX_PAGE),
    }


@router.get("/lots", response=dict[str, Any])
def list_lots(request: HttpRequest, owner: Owner, con_id: RowId) -> Any:
    """Show one owner's position as lots, first in first out; decimals as text."""
    return storable(asdict(position_lots(books.known_account(), owner, con_id)))


@router.get("/breaks", response=Page[schemas.BreakRowOut])
def list_breaks(
    request: HttpRequest, history: bool = False, limit: Limit = 100, cursor: RowId | None = None
) -> dict[str, Any]:
    """List open breaks, or with ``history`` all that ever were, newest first."""
    return books.page(books.breaks(history=history), cursor, limit)


@router.get("/adjustments", response=Page[schemas.AdjustmentOut])
def list_adjustments(
    request: HttpRequest,
    state: AdjustmentState | None = None,
    kind: AdjustmentKind | None = None,
    limit: Limit = 100,
    cursor: RowId | None = None,
) -> dict[str, Any]:
    """List events that are no fills, newest first."""
    return books.page(books.narrowed(books.adjustments(), state=state, kind=kind), cursor, limit)


@router.get("/adjustments/{int:adjustment_id}", response=schemas.AdjustmentOut)
def get_adjustment(request: HttpRequest, adjustment_id: Path[RowId]) -> Adjustment:
    """Read one adjustment."""
    return books.find_adjustment(adjustment_id)


@router.get("/parked", response=Page[schemas.ParkedOut])
def list_parked(
    request: HttpRequest, state: ParkedState | None = None, limit: Limit = 100, cursor: RowId | None = None
) -> dict[str, Any]:
    """List reports that could not be booked as they came, newest first."""
    return books.page(books.narrowed(books.parked(), state=state), cursor, limit)


@router.get("/flex", response=Page[schemas.FlexOut])
def list_statements(request: HttpRequest, limit: Limit = 100, cursor: RowId | None = None) -> dict[str, Any]:
    """List Flex statements that were read, newest first."""
    return books.page(books.statements(), cursor, limit)


@router.get("/flex/{int:statement_id}/findings", response=Page[schemas.FindingOut])
def list_findings(
    request: HttpRequest,
    statement_id: Path[RowId],
    state: FindingState | None = None,
    limit: Limit = 100,
    cursor: RowId | None = None,
) -> dict[str, Any]:
    """List what a statement had and the books had not, newest first."""
    return books.page(books.narrowed(books.findings(statement_id), state=state), cursor, limit)


@router.get("/fx-rates", response=Page[schemas.QuoteOut])
def fx_rates(request: HttpRequest) -> dict[str, Any]:
    """List the exchange rates that are used now, each with its age and source."""
    account = books.known_account()
    return {"items": FXCache(lambda: account).quotes()}


@router.get("/fx-rates/history", response=Page[schemas.FxRateOut])
def fx_history(
    request: HttpRequest, currency: Currency | None = None, limit: Limit = 100, cursor: RowId | None = None
) -> dict[str, Any]:
    """List recorded exchange rates, newest first."""
    return books.page(books.narrowed(books.fx_rates(), currency=currency), cursor, limit)


@router.get("/hourly", response=Page[schemas.HourlyOut])
def list_hours(
    request: HttpRequest,
    owner: Owner | None = None,
    since: AwareTime | None = None,
    limit: Limit = 100,
    cursor: RowId | None = None,
) -> dict[str, Any]:
    """List the books at the top of each hour, newest first; without an owner those of the account."""
    start = since or timezone.now() - timedelta(days=HOURLY_DAYS)
    return books.page(books.hourly(start).filter(owner=owner or ""), cursor, limit)
