"""Read the books for pages, API and strategies.

Owns: the views. Leaves: writes (``services``), valuation rules (``valuation``). Rule: unknown is None; nothing here
writes.
Units: Decimal, money in the row's own ``currency`` unless a name says base; aware UTC times.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from typing import Any

from django.utils import timezone

from portfolio.accounts import net_liquidation, rates_of
from portfolio.daily import DailyPnl
from portfolio.fill_queries import FillView as FillView
from portfolio.fill_queries import count_fills
from portfolio.fill_queries import fills as fills
from portfolio.freshness import stands
from portfolio.fx_rates import to_decimal
from portfolio.ledger.fx import Rates
from portfolio.ledger.money import ZERO
from portfolio.ledger.pnl import market_value, unrealized_pnl
from portfolio.models import (
    Account,
    AccountValue,
    Break,
    BreakKind,
    BreakState,
    CashBalance,
    EquitySnapshot,
    Mark,
    Position,
)
from portfolio.snapshots import GRIDS
from portfolio.valuation import Figures, all_figures, currency_of, figures_of, owners_of, the_account
from strategies.exceptions import LedgerError, NotFoundError
from strategies.models import DISCRETIONARY, Strategy


@dataclass(frozen=True, slots=True)
class PositionView:
    """One owner's position at the latest mark."""

    account_id: str
    owner: str
    con_id: int
    symbol: str
    sec_type: str
    currency: str
    multiplier: Decimal
    quantity: Decimal
    average_cost: Decimal
    realized_pnl: Decimal
    commissions: Decimal
    mark: Decimal | None
    marked_at: datetime | None
    stale: bool  # no mark, or one that no longer stands
    market_value: Decimal | None
    unrealized_pnl: Decimal | None
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class CashView:
    """One owner's cash in one currency."""

    account_id: str
    owner: str
    currency: str
    amount: Decimal
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class EquityView:
    """One point of an equity series."""

    owner: str
    taken_at: datetime
    currency: str
    equity: Decimal
    cash: Decimal | None
    realized_pnl: Decimal | None
    unrealized_pnl: Decimal | None


@dataclass(frozen=True, slots=True)
class OwnerSummary:
    """An owner's figures in its own currency; each is None while something in it is unknown."""

    owner: str
    currency: str
    equity: Decimal | None
    cash: Decimal | None
    realized_pnl: Decimal | None
    unrealized_pnl: Decimal | None
    positions: int
    reason: str = ""  # why unknown


@dataclass(frozen=True, slots=True)
class BreakView:
    """An open difference between IB's books and ours; of cash ``con_id`` is 0 and the quantities are money."""

    con_id: int
    symbol: str
    ib_quantity: Decimal
    ledger_quantity: Decimal
    opened_at: datetime
    kind: str = "position"
    currency: str = ""  # of a difference in cash


@dataclass(frozen=True, slots=True)
class Summary:
    """The account at a glance, in its base currency."""

    account_id: str
    currency: str
    opened_at: datetime | None
    net_liquidation: Decimal | None
    cash: Decimal | None
    realized_pnl: Decimal | None
    unrealized_pnl: Decimal | None
    total_pnl: Decimal | None
    updated_at: datetime | None  # of IB's figures
    owners: list[OwnerSummary] = field(default_factory=list)
    breaks: list[BreakView] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StrategySummary:
    """One strategy's books."""

    symbol: str
    currency: str
    figures: OwnerSummary
    daily_realized_pnl: Decimal | None
    positions: list[PositionView]
    cash: list[CashView]
    fills: int


def account_id_or_none(account_id: str | None = None) -> str | None:
    """Return the given account, or the one the books are kept for, or None while none is known."""
    if account_id:
        return account_id
    try:
        return the_account().account_id
    except LedgerError:
        return None


def positions(
    account_id: str | None = None, owner: str | None = None, *, include_flat: bool = False
) -> list[PositionView]:
    """Return positions by owner and symbol; flat ones only on request (they keep their realised P&L)."""
    rows = Position.objects.select_related("instrument").order_by("owner", "instrument__symbol", "instrument_id")
    if account_id:
        rows = rows.filter(account_id=account_id)
    if owner is not None:
        rows = rows.filter(owner=owner)
    kept = [row for row in rows if include_flat or row.quantity]
    marks = Mark.objects.in_bulk({row.instrument_id for row in kept})
    now = timezone.now()
    return [_position_view(row, marks.get(row.instrument_id), now) for row in kept]


def cash(account_id: str | None = None, owner: str | None = None) -> list[CashView]:
    """Return cash balances by owner and currency."""
    rows = CashBalance.objects.order_by("owner", "currency")
    if account_id:
        rows = rows.filter(account_id=account_id)
    if owner is not None:
        rows = rows.filter(owner=owner)
    return [CashView(row.account_id, row.owner, row.currency, row.amount, row.updated_at) for row in rows]


def open_breaks(account_id: str | None = None) -> list[BreakView]:
    """Return the open breaks of positions and cash, oldest first."""
    rows = Break.objects.filter(state=BreakState.OPEN).select_related("instrument").order_by("id")
    if account_id:
        rows = rows.filter(account_id=account_id)
    return [
        BreakView(
            con_id=0 if row.instrument is None else row.instrument.con_id,
            symbol="" if row.instrument is None else row.instrument.symbol,
            ib_quantity=row.ib_quantity,
            ledger_quantity=row.ledger_quantity,
            opened_at=row.opened_at,
            kind=str(row.kind),
            currency=row.currency if row.kind == BreakKind.CASH else "",
        )
        for row in rows
    ]


def equity_series(
    owner: str = "", since: datetime | None = None, until: datetime | None = None, *, max_points: int = 2000
) -> list[EquityView]:
    """Return an owner's equity over time, oldest first, thinned evenly to ``max_points``; owner "" is the account.

    Oldest and newest are always among them. However long the series, only a few thousand rows are looked at: the
    finest grid of snapshots that has no more than twice the points asked for is read.
    """
    every = EquitySnapshot.objects.filter(account_id=account_id_or_none(), owner=owner)
    if since is not None:
        every = every.filter(taken_at__gte=since)
    if until is not None:
        every = every.filter(taken_at__lte=until)
    limit, rows = 2 * max_points, every
    for number in range(len(GRIDS) + 1):
        rows = every.filter(grain__in=GRIDS[number - 1 :]) if number else every
        if rows[: limit + 1].count() <= limit:
            break
    columns = ("owner", "taken_at", "currency", "equity", "cash", "realized_pnl", "unrealized_pnl")
    # Sorted here: asked for an order, SQLite walks every snapshot of the time instead of those of the grid.
    kept = sorted((EquityView(*row) for row in rows.values_list(*columns)), key=attrgetter("taken_at"))
    newest = [EquityView(*row) for row in every.order_by("-taken_at").values_list(*columns)[:1]]
    if newest != kept[-1:]:
        kept += newest
    if len(kept) > max_points:
        step = (len(kept) - 1) / max(1, max_points - 1)
        kept = [kept[round(index * step)] for index in range(max_points)]
    return kept


def summary(account_id: str | None = None) -> Summary | None:
    """Return the account at a glance; None while no account is known."""
    key = account_id_or_none(account_id)
    account = Account.objects.filter(pk=key).first()
    if account is None:
        return None
    base = account.base_currency
    rates = _rates(account.account_id)
    owners = _owner_summaries(account.account_id, owners_of(account.account_id), rates)
    realized, unrealized = _in_base(owners, "realized_pnl", rates), _in_base(owners, "unrealized_pnl", rates)
    reported = AccountValue.objects.filter(account_id=account.account_id, currency=base)
    stamp = reported.filter(tag="NetLiquidation").values_list("updated_at", flat=True).first()
    paid = reported.filter(tag="TotalCashValue").values_list("value", flat=True).first()
    return Summary(
        account_id=account.account_id,
        currency=base,
        opened_at=account.opened_at,
        net_liquidation=_or_none(net_liquidation, account.account_id, base),
        cash=to_decimal(paid) if paid else _in_base(owners, "cash", rates),
        realized_pnl=realized,
        unrealized_pnl=unrealized,
        total_pnl=None if realized is None or unrealized is None else realized + unrealized,
        updated_at=stamp,
        owners=owners,
        breaks=open_breaks(account.account_id),
    )


def owner_summary(account_id: str, owner: str) -> OwnerSummary:
    """Return an owner's figures in its own currency: what is known, and why the rest is not."""
    held = sum(1 for row in Position.objects.filter(account_id=account_id, owner=owner) if row.quantity)
    try:
        rates = rates_of(account_id)
    except LedgerError as error:
        base = Account.objects.filter(pk=account_id).values_list("base_currency", flat=True).first() or ""
        return OwnerSummary(owner, currency_of(owner, base), None, None, None, None, held, error.message)
    found = figures_of(account_id, owner, currency_of(owner, rates.base), rates, timezone.now())
    return _owner_summary(owner, found, held)


def _owner_summaries(account_id: str, owners: list[str], rates: Rates | None) -> list[OwnerSummary]:
    """Return what ``owner_summary`` says of each, by a few queries for all of them."""
    if rates is None:
        return [owner_summary(account_id, owner) for owner in owners]
    held: Counter[str] = Counter()
    for owner, quantity in Position.objects.filter(account_id=account_id).values_list("owner", "quantity"):
        held[owner] += bool(quantity)
    found = all_figures(account_id, owners, rates, timezone.now())
    return [_owner_summary(owner, found[owner], held[owner]) for owner in owners]


def _owner_summary(owner: str, found: Figures, held: int) -> OwnerSummary:
    figures = (found.equity, found.cash, found.realized_pnl, found.unrealized_pnl)
    return OwnerSummary(owner, found.currency, *figures, held, found.error.message if found.error else "")


def strategy_summary(symbol: str) -> StrategySummary:
    """Return one strategy's books.

    Raises: NotFoundError for an unknown strategy.
    """
    strategy = Strategy.objects.filter(symbol=symbol).first()
    if strategy is None and symbol != DISCRETIONARY:
        raise NotFoundError(f"There is no strategy {symbol}.", strategy=symbol)
    account_id = account_id_or_none() or ""
    figures = owner_summary(account_id, symbol)
    return StrategySummary(
        symbol=symbol,
        currency=figures.currency,
        figures=figures,
        daily_realized_pnl=_or_none(DailyPnl().realized, account_id, symbol, timezone.now()),
        positions=positions(account_id, symbol, include_flat=True),
        cash=cash(account_id, symbol),
        fills=count_fills(account_id, symbol),
    )


def _position_view(row: Position, mark: Mark | None, now: datetime) -> PositionView:
    instrument = row.instrument
    value = gain = None
    if mark is not None:
        value = market_value(row.quantity, mark.price, instrument.multiplier)
        gain = unrealized_pnl(row.quantity, row.cost_basis, mark.price, instrument.multiplier)
    return PositionView(
        account_id=row.account_id,
        owner=row.owner,
        con_id=instrument.con_id,
        symbol=instrument.symbol,
        sec_type=instrument.sec_type,
        currency=instrument.currency,
        multiplier=instrument.multiplier,
        quantity=row.quantity,
        average_cost=row.average_cost,
        realized_pnl=row.realized_pnl,
        commissions=row.commissions,
        mark=None if mark is None else mark.price,
        marked_at=None if mark is None else mark.marked_at,
        stale=not stands(mark, instrument, now),
        market_value=value,
        unrealized_pnl=gain,
        updated_at=row.updated_at,
    )


def _rates(account_id: str) -> Rates | None:
    try:
        return rates_of(account_id)
    except LedgerError:
        return None


def _in_base(owners: list[OwnerSummary], name: str, rates: Rates | None) -> Decimal | None:
    """Sum one figure of all owners in the base currency; None when any part is unknown."""
    total = ZERO
    for owner in owners:
        amount = getattr(owner, name)
        if amount is None or rates is None:
            return None
        try:
            total += rates.convert(amount, owner.currency, rates.base)
        except LedgerError:
            return None
    return total


def _or_none(function: Any, *args: Any) -> Any:
    try:
        return function(*args)
    except LedgerError:
        return None
