"""One table of everything in the account: IB's positions, divided among the strategies, the rest to Discretionary.

Owns: the merge. Leaves: comparing and breaks (``reconcile``), the executions behind a row (``explain``), storing it
(``portfolio.arctic``).
Rule: what IB last confirmed as a whole stands; strategies keep what the books say, Discretionary takes what is left, so
that a contract's rows always add up to IB. A difference between the books and IB shows in ``difference`` and is never
given to a strategy. Before IB has confirmed anything the books alone are shown, with ``ib_quantity`` None.
The table is a function of the books: computed twice it is the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.utils import timezone

from portfolio.accounts import net_liquidation, rates_of
from portfolio.freshness import stands
from portfolio.ledger.fx import Rates
from portfolio.ledger.money import ONE, ZERO, exact
from portfolio.ledger.pnl import market_value
from portfolio.models import Account, BrokerHolding, Instrument, Mark, Position
from strategies.exceptions import LedgerError
from strategies.models import DISCRETIONARY


@dataclass(frozen=True, slots=True)
class ConsolidatedRow:
    """What one owner holds of one contract.

    Units: prices and ``market_value`` in ``currency``; ``weight`` is the fraction of net liquidation; ``pnl_pct`` a
    fraction of the average cost, positive when it is a gain, also of a short. ``worth_in_base``: base units for one
    unit of the currency, to multiply with. Unknown is None.
    """

    account_id: str
    confirmed_at: datetime | None  # of IB's answer; None: IB has confirmed nothing
    con_id: int
    symbol: str
    sec_type: str
    exchange: str
    currency: str
    multiplier: Decimal
    owner: str
    quantity: Decimal
    average_cost: Decimal | None
    ib_quantity: Decimal | None  # of the contract, all owners
    difference: Decimal | None  # IB less the books; not zero is a break
    mark: Decimal | None
    marked_at: datetime | None
    stale: bool
    market_value: Decimal | None
    market_value_base: Decimal | None
    weight: Decimal | None
    pnl_pct: Decimal | None
    worth_in_base: Decimal | None


def consolidated(account_id: str, now: datetime | None = None) -> list[ConsolidatedRow]:
    """Return the table by contract and owner, Discretionary last of each; flat rows are left out."""
    moment = now or timezone.now()
    confirmed_at = Account.objects.filter(pk=account_id).values_list("positions_at", flat=True).first()
    holdings = BrokerHolding.objects.filter(account_id=account_id).select_related("instrument")
    held = {row.instrument_id: row for row in holdings} if confirmed_at is not None else {}
    booked: dict[int, dict[str, Position]] = {}
    for row in Position.objects.filter(account_id=account_id).select_related("instrument"):
        booked.setdefault(row.instrument_id, {})[row.owner] = row
    merge = _Merge(account_id, confirmed_at, moment, {*held, *booked})
    rows: list[ConsolidatedRow] = []
    for con_id in sorted({*held, *booked}):
        rows.extend(merge.contract(held.get(con_id), booked.get(con_id, {})))
    return rows


class _Merge:
    """What all rows of one table share."""

    def __init__(self, account_id: str, confirmed_at: datetime | None, now: datetime, con_ids: Iterable[int]) -> None:
        self.account_id, self.confirmed_at, self.now = account_id, confirmed_at, now
        self.marks = Mark.objects.in_bulk(list(con_ids))
        self.rates: Rates | None = None
        self.net: Decimal | None = None
        try:
            self.rates = rates_of(account_id)
            self.net = net_liquidation(account_id, self.rates.base)
        except LedgerError:
            pass  # base values and weights are unknown then, and shown so

    def contract(self, holding: BrokerHolding | None, owners: dict[str, Position]) -> Iterable[ConsolidatedRow]:
        """Yield a contract's rows."""
        ours = sum((row.quantity for row in owners.values()), ZERO)
        theirs = None if self.confirmed_at is None else (holding.quantity if holding else ZERO)
        instrument = holding.instrument if holding else next(iter(owners.values())).instrument
        given = ZERO
        for owner in sorted(owners):
            row = owners[owner]
            if owner != DISCRETIONARY and row.quantity:
                given += row.quantity
                yield self.row(instrument, owner, row.quantity, row.average_cost, theirs, ours)
        mine = owners.get(DISCRETIONARY)
        booked = mine.quantity if mine else ZERO
        rest = booked if theirs is None else theirs - given
        if rest:
            average = mine.average_cost if mine and rest == booked else _rest_average(holding, owners, rest)
            yield self.row(instrument, DISCRETIONARY, rest, average, theirs, ours)

    def row(
        self,
        instrument: Instrument,
        owner: str,
        quantity: Decimal,
        average: Decimal | None,
        theirs: Decimal | None,
        ours: Decimal,
    ) -> ConsolidatedRow:
        """Return one row, valued as far as it can be."""
        mark = self.marks.get(instrument.con_id)
        value = None if mark is None else market_value(quantity, mark.price, instrument.multiplier)
        base = self._in_base(value, instrument.currency)
        return ConsolidatedRow(
            account_id=self.account_id,
            confirmed_at=self.confirmed_at,
            con_id=instrument.con_id,
            symbol=instrument.symbol,
            sec_type=instrument.sec_type,
            exchange=instrument.primary_exchange or instrument.exchange,
            currency=instrument.currency,
            multiplier=instrument.multiplier,
            owner=owner,
            quantity=quantity,
            average_cost=average,
            ib_quantity=theirs,
            difference=None if theirs is None else theirs - ours,
            mark=None if mark is None else mark.price,
            marked_at=None if mark is None else mark.marked_at,
            stale=not stands(mark, instrument, self.now),
            market_value=value,
            market_value_base=base,
            weight=None if base is None or not self.net else exact(base / self.net),
            pnl_pct=_gain(quantity, average, mark),
            worth_in_base=self._in_base(ONE, instrument.currency),
        )

    def _in_base(self, amount: Decimal | None, currency: str) -> Decimal | None:
        if amount is None or self.rates is None:
            return None
        try:
            return self.rates.convert(amount, currency, self.rates.base)
        except LedgerError:
            return None


def _gain(quantity: Decimal, average: Decimal | None, mark: Mark | None) -> Decimal | None:
    if mark is None or not average:
        return None
    gain = exact(mark.price / average - ONE)
    return gain if quantity > 0 else -gain


def _rest_average(holding: BrokerHolding | None, owners: dict[str, Position], rest: Decimal) -> Decimal | None:
    """Return the average of what IB holds beyond the strategies; None where the weights give no price.

    IB's average is multiplied and carries fees; strategies' averages carry none, so this is an estimate.
    """
    if holding is None:
        return None
    cost = holding.average_cost / holding.instrument.multiplier * holding.quantity
    cost -= sum((row.average_cost * row.quantity for owner, row in owners.items() if owner != DISCRETIONARY), ZERO)
    average = exact(cost / rest)
    return average if average >= 0 else None
