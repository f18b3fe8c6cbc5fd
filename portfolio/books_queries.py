"""Lists behind the books, newest first and by cursor: breaks, adjustments, parked reports, statements, rates, hours.

Leaves: positions, fills and figures to ``queries``, the way from a position to its executions to ``explain``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

from django.db import models
from django.db.models import QuerySet

from portfolio import queries
from portfolio.ledger.positions import average_cost
from portfolio.models import (
    Adjustment,
    Break,
    BreakState,
    FlexFinding,
    FlexStatement,
    FxRate,
    HourlySnapshot,
    ParkedReport,
    Position,
)
from portfolio.queries import PositionView
from strategies.exceptions import NotFoundError

M = TypeVar("M", bound=models.Model)


@dataclass(frozen=True, slots=True)
class Consolidated:
    """One contract over all owners; money in its own currency, None when a part is unknown.

    Where owners hold both sides there is no average cost: what is left of two costs is no price.
    """

    con_id: int
    symbol: str
    sec_type: str
    currency: str
    multiplier: Decimal
    quantity: Decimal
    average_cost: Decimal | None
    mark: Decimal | None
    stale: bool
    market_value: Decimal | None
    unrealized_pnl: Decimal | None
    realized_pnl: Decimal
    owners: list[str]


@dataclass(frozen=True, slots=True)
class Pnl:
    """One owner's profit in its own currency."""

    owner: str
    currency: str
    realized_pnl: Decimal | None
    unrealized_pnl: Decimal | None
    total_pnl: Decimal | None
    daily_realized_pnl: Decimal | None
    reason: str


def known_account() -> str:
    """Return the account whose books are kept.

    Raises: NotFoundError (account_unknown) before the engine met one.
    """
    found = queries.account_id_or_none()
    if found is None:
        raise NotFoundError("No account is known yet; the engine has not connected to one.", code="account_unknown")
    return found


def page(rows: QuerySet[M], before: int | None, limit: int) -> dict[str, Any]:
    """Return a page of rows, newest first, below the cursor."""
    found = rows.order_by("-id")
    if before is not None:
        found = found.filter(id__lt=before)
    items = list(found[: limit + 1])
    return {"items": items[:limit], "next": str(items[limit - 1].pk) if len(items) > limit else None}


def narrowed(rows: QuerySet[M], **wanted: Any) -> QuerySet[M]:
    """Filter by what was asked for; None asks for nothing."""
    return rows.filter(**{name: value for name, value in wanted.items() if value is not None})


def breaks(*, history: bool) -> QuerySet[Break]:
    """Return breaks: the open ones, or with ``history`` all that ever were."""
    rows = Break.objects.select_related("instrument")
    return rows if history else rows.filter(state=BreakState.OPEN)


def adjustments() -> QuerySet[Adjustment]:
    """Return adjustments with what they concern."""
    return Adjustment.objects.select_related("instrument", "execution", "undone_by")


def find_adjustment(adjustment_id: int) -> Adjustment:
    """Return one adjustment.

    Raises: NotFoundError.
    """
    row = adjustments().filter(pk=adjustment_id).first()
    if row is None:
        raise NotFoundError(f"There is no adjustment {adjustment_id}.", code="unknown_adjustment")
    return row


def parked() -> QuerySet[ParkedReport]:
    """Return reports that were set aside."""
    return ParkedReport.objects.all()


def statements() -> QuerySet[FlexStatement]:
    """Return Flex statements."""
    return FlexStatement.objects.all()


def findings(statement_id: int) -> QuerySet[FlexFinding]:
    """Return the findings of a statement.

    Raises: NotFoundError.
    """
    if not FlexStatement.objects.filter(pk=statement_id).exists():
        raise NotFoundError(f"There is no statement {statement_id}.", code="unknown_statement")
    return FlexFinding.objects.filter(statement_id=statement_id)


def fx_rates() -> QuerySet[FxRate]:
    """Return rates as they were recorded."""
    return FxRate.objects.all()


def hourly(since: datetime | None = None) -> QuerySet[HourlySnapshot]:
    """Return hourly snapshots, of all owners and of the account."""
    rows = HourlySnapshot.objects.all()
    return rows if since is None else rows.filter(hour__gte=since)


def consolidated() -> list[Consolidated]:
    """Return what all owners hold together, by contract; flat contracts are left out."""
    by_contract: dict[int, list[PositionView]] = {}
    for view in queries.positions():
        by_contract.setdefault(view.con_id, []).append(view)
    basis = _bases()
    rows = [_together(views, basis) for views in by_contract.values() if any(view.quantity for view in views)]
    return sorted(rows, key=lambda row: (row.symbol, row.con_id))


def pnl(owner: str | None = None) -> list[Pnl]:
    """Return the profit of every owner, or of one.

    Raises: NotFoundError for an owner that is none, or before an account is known.
    """
    known = queries.summary(known_account())
    owners = [owner] if owner is not None else [part.owner for part in known.owners] if known else []
    return [_pnl(name) for name in owners]


def _pnl(owner: str) -> Pnl:
    summary = queries.strategy_summary(owner)
    figures = summary.figures
    realized, unrealized = figures.realized_pnl, figures.unrealized_pnl
    total = realized + unrealized if realized is not None and unrealized is not None else None
    return Pnl(owner, figures.currency, realized, unrealized, total, summary.daily_realized_pnl, figures.reason)


def _bases() -> dict[int, Decimal]:
    found: dict[int, Decimal] = {}
    for con_id, basis in Position.objects.values_list("instrument_id", "cost_basis"):
        found[con_id] = found.get(con_id, Decimal(0)) + basis
    return found


def _together(views: list[PositionView], basis: dict[int, Decimal]) -> Consolidated:
    first, quantity = views[0], sum((view.quantity for view in views), Decimal(0))
    sides = {view.quantity > 0 for view in views if view.quantity}
    return Consolidated(
        con_id=first.con_id,
        symbol=first.symbol,
        sec_type=first.sec_type,
        currency=first.currency,
        multiplier=first.multiplier,
        quantity=quantity,
        average_cost=average_cost(quantity, basis.get(first.con_id, Decimal(0)), first.multiplier)
        if len(sides) == 1
        else None,
        mark=first.mark,
        stale=any(view.stale for view in views),
        market_value=_sum(view.market_value for view in views if view.quantity),
        unrealized_pnl=_sum(view.unrealized_pnl for view in views if view.quantity),
        realized_pnl=sum((view.realized_pnl for view in views), Decimal(0)),
        owners=sorted(view.owner for view in views if view.quantity),
    )


def _sum(amounts: Iterable[Decimal | None]) -> Decimal | None:
    total = Decimal(0)
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total
