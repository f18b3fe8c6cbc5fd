"""Derive lots, first in first out, from the journal of a position. Pure.

Owns: which units were closed, against which they were opened, and what each closed lot realised. Leaves: the position
itself, which is kept at average cost (``positions``). Rule: cash and cost are divided so that the parts add up to the
last digit, so the realised sums of both ways are equal whenever the position is flat; in between they differ by what
the open units cost in each. What becomes another contract leaves for what it costs at average, there as here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from portfolio.ledger.cash import fill_cash
from portfolio.ledger.journal import Entry, in_place, trace
from portfolio.ledger.money import ONE, ZERO, exact


@dataclass(slots=True)
class Lot:
    """Units that are open: signed quantity, and what they cost, signed like the quantity."""

    ref: str  # of the entry that opened them
    quantity: Decimal
    cost: Decimal


@dataclass(frozen=True, slots=True)
class ClosedLot:
    """Units that were closed; ``realized`` = proceeds − cost, before fees."""

    opened: str  # ref
    closed: str  # ref
    quantity: Decimal  # signed like the position that was closed
    cost: Decimal
    proceeds: Decimal

    @property
    def realized(self) -> Decimal:
        """Profit of these units, before fees."""
        return self.proceeds - self.cost


@dataclass(slots=True)
class Lots:
    """The lots of one position; fees and income belong to no lot."""

    open: list[Lot] = field(default_factory=list)
    closed: list[ClosedLot] = field(default_factory=list)
    fees: Decimal = ZERO
    income: Decimal = ZERO

    @property
    def realized(self) -> Decimal:
        """Profit of all closed lots with income and less fees."""
        return sum((one.realized for one in self.closed), ZERO) + self.income - self.fees


def lots_of_entries(entries: Iterable[Entry], multiplier: Decimal = ONE) -> Lots:
    """Return open and closed lots.

    >>> bought = [Entry(1, "quantity", Decimal(10), Decimal(40), ref="a"),
    ...           Entry(2, "quantity", Decimal(10), Decimal(60), ref="b")]
    >>> found = lots_of_entries([*bought, Entry(3, "quantity", Decimal(-15), Decimal(70), ref="c")])
    >>> [(one.opened, one.quantity == size, one.realized == gain)
    ...  for one, size, gain in zip(found.closed, (10, 5), (300, 50))]
    [('a', True, True), ('b', True, True)]
    >>> [(one.ref, one.quantity == 5, one.cost == 300) for one in found.open]
    [('b', True, True)]
    """
    rows = in_place(entries)
    effects = trace(rows, multiplier)[1]
    lots = Lots()
    queue: deque[Lot] = deque()
    for entry in rows:
        if entry.kind == "fee":
            lots.fees += entry.amount
        elif entry.kind == "income":
            lots.income += entry.amount
        elif entry.kind == "factor":
            _scale(queue, entry)
        elif entry.kind == "quantity":
            _trade(lots, queue, entry.ref, entry.amount, _cash_of(entry, multiplier))
        else:
            _trade(lots, queue, entry.ref, effects[entry.ref].quantity, effects[entry.ref].cash)
    lots.open = list(queue)
    return lots


def _cash_of(entry: Entry, multiplier: Decimal) -> Decimal:
    if entry.cash is not None:
        return entry.cash
    return fill_cash(entry.amount, entry.price or ZERO, multiplier)


def _scale(queue: deque[Lot], entry: Entry) -> None:
    """Multiply every lot; the last takes what rounding the whole position leaves."""
    held = sum((lot.quantity for lot in queue), ZERO)
    for lot in queue:
        lot.quantity = exact(lot.quantity * entry.amount / entry.denominator)
    if queue:
        now = sum((lot.quantity for lot in queue), ZERO)
        queue[-1].quantity += exact(held * entry.amount / entry.denominator) - now


def _trade(lots: Lots, queue: deque[Lot], ref: str, quantity: Decimal, cash: Decimal) -> None:
    """Close lots from the oldest on; what is left opens one."""
    if not quantity:
        lots.income += cash
        return
    left, paid = quantity, cash
    while left and queue and queue[0].quantity * left < 0:
        lot = queue[0]
        size = min(abs(left), abs(lot.quantity))
        part = size if lot.quantity > 0 else -size
        cost = lot.cost if part == lot.quantity else exact(lot.cost * part / lot.quantity)
        proceeds = paid if size == abs(left) else exact(cash * size / abs(quantity))
        lots.closed.append(ClosedLot(lot.ref, ref, part, cost, proceeds))
        lot.quantity, lot.cost = lot.quantity - part, lot.cost - cost
        left, paid = left + part, paid - proceeds
        if not lot.quantity:
            queue.popleft()
    if left:
        queue.append(Lot(ref, left, -paid))
