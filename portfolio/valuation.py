"""Value the books at the latest marks.

Owns: what an owner's cash and positions are worth, and the order in which an equity is resolved:
cash + marked positions with fresh marks, else the last snapshot of less than a day, else target weight × net
liquidation, else an error: nothing is sized on a number that nobody knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import F, Min

from portfolio.accounts import initial_allocation, rates_of
from portfolio.ledger.fx import Rates
from portfolio.ledger.money import ZERO
from portfolio.ledger.pnl import market_value, unrealized_pnl
from portfolio.models import Account, CashBalance, EquitySnapshot, Mark, Position
from strategies.exceptions import LedgerError, NotFoundError
from strategies.models import DISCRETIONARY, Strategy

MARK_FRESH = timedelta(minutes=15)
SNAPSHOT_FRESH = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Value:
    """An owner's figures in one currency; ``oldest_mark`` is None when nothing is held."""

    currency: str
    equity: Decimal
    cash: Decimal
    realized_pnl: Decimal
    unrealized_pnl: Decimal
    oldest_mark: datetime | None


def the_account() -> Account:
    """Return the account that the books are kept for.

    Raises: LedgerError while no account is known.
    """
    account = Account.objects.order_by(F("opened_at").asc(nulls_last=True), "account_id").first()
    if account is None:
        raise LedgerError("No account is known yet; the engine has not connected.", code="account_unknown")
    return account


def owners_of(account_id: str) -> list[str]:
    """Return every owner with cash or positions, Discretionary always among them."""
    cash = CashBalance.objects.filter(account_id=account_id).values_list("owner", flat=True).distinct()
    held = Position.objects.filter(account_id=account_id).values_list("owner", flat=True).distinct()
    return sorted({DISCRETIONARY, *cash, *held})


def currency_of(owner: str, base_currency: str) -> str:
    """Return the currency an owner is measured in: a strategy's own, else the account's."""
    own = Strategy.objects.filter(symbol=owner).values_list("currency", flat=True).first()
    return own or base_currency


def value_of(account_id: str, owner: str, currency: str, rates: Rates) -> Value:
    """Value an owner's cash and positions at the latest marks, whatever their age.

    Raises: LedgerError when a held instrument has no mark or a currency no rate.
    """
    balances = list(CashBalance.objects.filter(account_id=account_id, owner=owner))
    cash = sum((rates.convert(row.amount, row.currency, currency) for row in balances), ZERO)
    realized = sum((rates.convert(row.realized_apart, row.currency, currency) for row in balances), ZERO)
    positions = Position.objects.filter(account_id=account_id, owner=owner).select_related("instrument")
    rows = list(positions)
    marks = Mark.objects.in_bulk([row.instrument_id for row in rows if row.quantity])
    worth, gain, oldest = ZERO, ZERO, None
    for row in rows:
        instrument = row.instrument
        realized += rates.convert(row.realized_pnl, instrument.currency, currency)
        if not row.quantity:
            continue
        mark = marks.get(row.instrument_id)
        if mark is None:
            raise LedgerError(
                f"{instrument.symbol} has no price yet, so {owner} cannot be valued.",
                code="mark_unknown",
                con_id=instrument.con_id,
            )
        value = market_value(row.quantity, mark.price, instrument.multiplier)
        worth += rates.convert(value, instrument.currency, currency)
        profit = unrealized_pnl(row.quantity, row.cost_basis, mark.price, instrument.multiplier)
        gain += rates.convert(profit, instrument.currency, currency)
        oldest = mark.marked_at if oldest is None else min(oldest, mark.marked_at)
    return Value(currency, cash + worth, cash, realized, gain, oldest)


def strategy_equity(account_id: str, symbol: str, now: datetime) -> Decimal:
    """Return a strategy's equity in its own currency.

    Raises: LedgerError code equity_unknown when no rule gives a number.
    """
    for rule in (_marked_equity, _snapshot_equity, _weighted_equity):
        equity = rule(account_id, symbol, now)
        if equity is not None:
            return equity
    raise LedgerError(
        f"The equity of {symbol} is not known: no cash, no recent snapshot and no net liquidation.",
        code="equity_unknown",
        strategy=symbol,
    )


def _marked_equity(account_id: str, symbol: str, now: datetime) -> Decimal | None:
    if not CashBalance.objects.filter(account_id=account_id, owner=symbol).exists():
        return None
    try:
        rates = rates_of(account_id)
        value = value_of(account_id, symbol, currency_of(symbol, rates.base), rates)
    except LedgerError:
        return None
    if value.oldest_mark is not None and now - value.oldest_mark > MARK_FRESH:
        return None
    return value.equity


def _snapshot_equity(account_id: str, symbol: str, now: datetime) -> Decimal | None:
    held = Position.objects.filter(account_id=account_id, owner=symbol).exclude(quantity=0).values("instrument_id")
    oldest = Mark.objects.filter(instrument_id__in=held).aggregate(oldest=Min("marked_at"))["oldest"]
    if oldest is not None and now - oldest > SNAPSHOT_FRESH:
        return None  # snapshots go on at the last prices there were; they are no newer than these
    rows = EquitySnapshot.objects.filter(account_id=account_id, owner=symbol, taken_at__gt=now - SNAPSHOT_FRESH)
    return rows.order_by("-taken_at").values_list("equity", flat=True).first()


def _weighted_equity(account_id: str, symbol: str, now: datetime) -> Decimal | None:
    try:
        return initial_allocation(account_id, symbol)[0]
    except (LedgerError, NotFoundError):
        return None
