"""Value the books at the latest marks.

Owns: what an owner's cash and positions are worth, and the order in which an equity is resolved:
cash + marked positions with fresh marks, else the last snapshot of less than a day, else target weight × net
liquidation, else an error: nothing is sized on a number that nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import cast

from django.db.models import F

from portfolio.accounts import initial_allocation, rates_within
from portfolio.freshness import MARK_FRESH, stands
from portfolio.ledger.fx import Rates
from portfolio.ledger.money import ZERO
from portfolio.ledger.pnl import market_value, unrealized_pnl
from portfolio.models import Account, CashBalance, EquitySnapshot, Mark, Position
from portfolio.returns import flows_of
from strategies.exceptions import LedgerError, NotFoundError
from strategies.models import DISCRETIONARY, Strategy

SNAPSHOT_FRESH = timedelta(hours=24)

__all__ = [
    "MARK_FRESH",
    "SNAPSHOT_FRESH",
    "Figures",
    "Value",
    "all_figures",
    "currency_of",
    "figures_of",
    "owners_of",
    "strategy_equity",
    "the_account",
    "value_of",
]


@dataclass(frozen=True, slots=True)
class Value:
    """An owner's figures in one currency; ``oldest_mark`` is None when nothing is held."""

    currency: str
    equity: Decimal
    cash: Decimal
    realized_pnl: Decimal
    unrealized_pnl: Decimal
    oldest_mark: datetime | None


@dataclass(frozen=True, slots=True)
class Figures:
    """What is known of an owner's figures in one currency; each is None while a price or a rate in it is missing.

    ``gross`` is the absolute value of all positions. ``fresh`` says that every mark in it still stands.
    """

    currency: str
    equity: Decimal | None
    cash: Decimal | None
    realized_pnl: Decimal | None
    unrealized_pnl: Decimal | None
    gross: Decimal | None
    oldest_mark: datetime | None
    fresh: bool
    error: LedgerError | None  # the first thing that is missing
    stale_rates: bool = False  # an exchange rate in them is old or delayed


class _Tally:
    """Sums in one currency, each lost for good when a part of it is unknown."""

    def __init__(self, rates: Rates, currency: str) -> None:
        self._rates, self._currency = rates, currency
        self._sums: dict[str, Decimal] = {}
        self._lost: set[str] = set()
        self._converted: set[str] = set()
        self.error: LedgerError | None = None

    @property
    def stale_rates(self) -> bool:
        return bool(self._converted) and self._rates.is_stale({*self._converted, self._currency})

    def add(self, name: str, amount: Decimal, source: str) -> None:
        if amount and source != self._currency:
            self._converted.add(source)
        try:
            worth = self._rates.convert(amount, source, self._currency) if amount else ZERO
        except LedgerError as error:
            self.lose(error, name)
        else:
            self._sums[name] = self._sums.get(name, ZERO) + worth

    def lose(self, error: LedgerError, *names: str) -> None:
        self._lost.update(names)
        self.error = self.error or error

    def get(self, name: str) -> Decimal | None:
        return None if name in self._lost else self._sums.get(name, ZERO)


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


def value_of(owner: str, found: Figures) -> Value:
    """Return an owner's figures as a whole, whatever the age of the marks in them.

    Raises: LedgerError when a held instrument has no mark or a currency no rate.
    """
    known = (found.equity, found.cash, found.realized_pnl, found.unrealized_pnl)
    if found.error is not None or None in known:
        raise found.error or LedgerError(f"{owner} cannot be valued.", code="equity_unknown")
    equity, cash, realized, unrealized = cast(tuple[Decimal, Decimal, Decimal, Decimal], known)
    return Value(found.currency, equity, cash, realized, unrealized, found.oldest_mark)


def figures_of(account_id: str, owner: str, currency: str, rates: Rates, now: datetime) -> Figures:
    """Return what is known of an owner's cash and positions at the latest marks; what is missing is None."""
    balances = list(CashBalance.objects.filter(account_id=account_id, owner=owner))
    rows = list(Position.objects.filter(account_id=account_id, owner=owner).select_related("instrument"))
    marks = Mark.objects.in_bulk([row.instrument_id for row in rows if row.quantity])
    return _figures(owner, currency, balances, rows, marks, rates, now)


def all_figures(account_id: str, owners: Sequence[str], rates: Rates, now: datetime) -> dict[str, Figures]:
    """Return the figures of owners, each in its own currency: as many queries for a hundred of them as for one."""
    own = dict(Strategy.objects.filter(symbol__in=owners).values_list("symbol", "currency"))
    balances: dict[str, list[CashBalance]] = {owner: [] for owner in owners}
    rows: dict[str, list[Position]] = {owner: [] for owner in owners}
    for balance in CashBalance.objects.filter(account_id=account_id, owner__in=owners):
        balances[balance.owner].append(balance)
    for row in Position.objects.filter(account_id=account_id, owner__in=owners).select_related("instrument"):
        rows[row.owner].append(row)
    marks = Mark.objects.in_bulk({row.instrument_id for held in rows.values() for row in held if row.quantity})
    return {
        owner: _figures(owner, own.get(owner) or rates.base, balances[owner], rows[owner], marks, rates, now)
        for owner in owners
    }


def _figures(
    owner: str,
    currency: str,
    balances: Iterable[CashBalance],
    rows: Sequence[Position],
    marks: Mapping[int, Mark],
    rates: Rates,
    now: datetime,
) -> Figures:
    tally = _Tally(rates, currency)
    for balance in balances:
        tally.add("cash", balance.amount, balance.currency)
        tally.add("realized", balance.realized_apart, balance.currency)
    fresh, stamps = True, []
    for row in rows:
        tally.add("realized", row.realized_pnl, row.instrument.currency)
        if row.quantity:
            mark = marks.get(row.instrument_id)
            _add_position(tally, owner, row, mark)
            stamps += [] if mark is None else [mark.marked_at]
            fresh = fresh and stands(mark, row.instrument, now)
    cash, worth = tally.get("cash"), tally.get("worth")
    return Figures(
        currency=currency,
        equity=None if cash is None or worth is None else cash + worth,
        cash=cash,
        realized_pnl=tally.get("realized"),
        unrealized_pnl=tally.get("unrealized"),
        gross=tally.get("gross"),
        oldest_mark=min(stamps, default=None),
        fresh=fresh,
        error=tally.error,
        stale_rates=tally.stale_rates,
    )


def _add_position(tally: _Tally, owner: str, row: Position, mark: Mark | None) -> None:
    instrument = row.instrument
    if mark is None:
        text = f"{instrument.symbol} has no price yet, so {owner} cannot be valued."
        error = LedgerError(text, code="mark_unknown", con_id=instrument.con_id)
        tally.lose(error, "worth", "gross", "unrealized")
        return
    value = market_value(row.quantity, mark.price, instrument.multiplier)
    tally.add("worth", value, instrument.currency)
    tally.add("gross", abs(value), instrument.currency)
    profit = unrealized_pnl(row.quantity, row.cost_basis, mark.price, instrument.multiplier)
    tally.add("unrealized", profit, instrument.currency)


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
        rates = rates_within(account_id, now)
        found = figures_of(account_id, symbol, currency_of(symbol, rates.base), rates, now)
    except LedgerError:
        return None
    return found.equity if found.fresh else None


def _snapshot_equity(account_id: str, symbol: str, now: datetime) -> Decimal | None:
    """Return the newest equity of less than a day that was taken while the marks in it stood.

    Snapshots go on at the last prices there were: one that is newer than its prices says nothing new. What came to or
    left the strategy since counts: money that was handed on must not size another order.
    """
    held = [
        row.instrument
        for row in Position.objects.filter(account_id=account_id, owner=symbol).select_related("instrument")
        if row.quantity
    ]
    known = Mark.objects.in_bulk([instrument.con_id for instrument in held])
    marks = [(instrument, known[instrument.con_id]) for instrument in held if instrument.con_id in known]
    rows = EquitySnapshot.objects.filter(
        account_id=account_id, owner=symbol, taken_at__gt=now - SNAPSHOT_FRESH, taken_at__lte=now
    )
    for taken_at, equity in rows.order_by("-taken_at").values_list("taken_at", "equity"):
        if all(stands(mark, instrument, taken_at) for instrument, mark in marks):
            return _with_flows(account_id, symbol, taken_at, equity, now)
    return None


def _with_flows(account_id: str, symbol: str, taken_at: datetime, equity: Decimal, now: datetime) -> Decimal | None:
    try:
        rates = rates_within(account_id, now)
        flows = flows_of(account_id, symbol, taken_at, now, currency_of(symbol, rates.base), rates)
    except LedgerError:
        return None
    return equity + sum((flow.amount for flow in flows), ZERO)


def _weighted_equity(account_id: str, symbol: str, now: datetime) -> Decimal | None:
    try:
        return initial_allocation(account_id, symbol, now)[0]
    except (LedgerError, NotFoundError):
        return None
