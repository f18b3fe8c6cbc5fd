"""Opening balances: what an account held before the executions of the day that the broker still reports.

Owns: the arithmetic of walking back. Rule: opening + today's executions = the broker's present, per contract and
currency. The broker's average cost carries fees and the multiplier; the multiplier is divided out, the fees of the
executions that are walked back are taken out, older ones cannot be known and stay in the average.
Source: IB's averageCost of stocks includes commission, that of options and futures the multiplier as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from portfolio.ledger.money import ONE, ZERO, exact


@dataclass(frozen=True, slots=True)
class Holding:
    """A quantity at an average price without multiplier."""

    quantity: Decimal
    average_cost: Decimal


@dataclass(frozen=True, slots=True)
class DayFill:
    """A signed fill of the day with its fee in the instrument's currency, zero when unknown or in another one."""

    quantity: Decimal
    price: Decimal
    fee: Decimal = ZERO


def opening_holding(
    quantity: Decimal, broker_average: Decimal, fills: Sequence[DayFill], multiplier: Decimal = ONE
) -> Holding:
    """Walk the day's fills back from the broker's present holding; fills in the order of time.

    A fill that added leaves the average it was mixed into; one that reduced leaves the average as it is. Where a fill
    closed the position, the broker has forgotten its average: the price of that fill stands in, so that closing what
    was opened before MATS knew the account realises nothing.

    >>> opening_holding(Decimal(100), Decimal("50.01"), [])
    Holding(quantity=Decimal('100.0000000000'), average_cost=Decimal('50.0100000000'))
    >>> opening_holding(Decimal(100), Decimal("55"), [DayFill(Decimal(50), Decimal(60))])
    Holding(quantity=Decimal('50.0000000000'), average_cost=Decimal('50.0000000000'))
    >>> opening_holding(Decimal(0), Decimal(0), [DayFill(Decimal(-10), Decimal(9))])
    Holding(quantity=Decimal('10.0000000000'), average_cost=Decimal('9.0000000000'))
    """
    held, average = quantity, broker_average / multiplier
    for fill in reversed(fills):
        before = held - fill.quantity
        if not before:
            average = ZERO
        elif held and (held > 0) is (fill.quantity > 0) and (before > 0) is (held > 0):
            average = (held * average - fill.quantity * fill.price - fill.fee / multiplier) / before
        elif not held or (before > 0) is not (held > 0):
            average = fill.price
        held = before
    return Holding(exact(held), exact(average))


def opening_cash(present: Decimal, flows: Sequence[Decimal]) -> Decimal:
    """Return cash before the day's flows.

    >>> opening_cash(Decimal(1000), [Decimal(-250), Decimal("-1")]) == 1251
    True
    """
    return exact(present - sum(flows, ZERO))
