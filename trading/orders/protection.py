"""Protective orders never open a position: what to do when theirs is closed or smaller than they are. Pure.

A bracket's exits are sized by their entry. When the owner closes the position otherwise (by another order, a flatten, a
trade given to another owner), an exit that stays would open the opposite position.
Rule: over all families of an owner in a contract, what exits may still trade is at most what is held; the oldest
families give way first. A family whose position is gone is cancelled, an entry that still works included.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Exit:
    """One working protective order. Units: unsigned quantities."""

    order_ref: str
    quantity: Decimal
    filled: Decimal

    @property
    def remaining(self) -> Decimal:
        """Return what it may still trade."""
        return max(ZERO, self.quantity - self.filled)


@dataclass(frozen=True, slots=True)
class Family:
    """An entry and its working exits, of one owner and contract. ``entered`` is what the entry has filled."""

    parent_ref: str
    side: str  # of the entry: BUY or SELL
    entered: Decimal
    entry_works: bool
    exited: Decimal  # filled by its exits, ended ones included
    exits: tuple[Exit, ...]

    @property
    def open_quantity(self) -> Decimal:
        """Return what its exits protect at most: exits cancel each other, so the largest counts."""
        largest = max((order.remaining for order in self.exits), default=ZERO)
        return min(largest, max(ZERO, self.entered - self.exited)) if self.entry_works else largest


@dataclass(frozen=True, slots=True)
class Step:
    """Have an order trade no more than ``keep`` from now on; None cancels it."""

    order_ref: str
    quantity: Decimal | None
    is_surplus: bool  # its own sibling has done the job: IB cancels it, unless something went wrong


def steps(position: Decimal, families: Sequence[Family]) -> list[Step]:
    """Return what keeps the exits of these families (oldest first) from trading more than the position.

    ``position`` is the owner's signed quantity now. Families whose entry has filled nothing protect nothing yet.
    """
    found: list[Step] = []
    for side, held in (("BUY", max(ZERO, position)), ("SELL", max(ZERO, -position))):
        active = [family for family in families if family.side == side and family.entered > 0]
        surplus = sum((family.open_quantity for family in active), ZERO) - held
        for family in active:
            if surplus <= 0:
                break
            give = min(surplus, family.open_quantity)
            surplus -= give
            found += _shrink(family, family.open_quantity - give)
    return found


def _shrink(family: Family, keep: Decimal) -> Iterable[Step]:
    is_surplus = family.exited > 0
    if keep <= 0 and family.entry_works:
        yield Step(family.parent_ref, None, is_surplus)
    for order in family.exits:
        if order.remaining > keep:
            yield Step(order.order_ref, order.filled + keep if keep > 0 else None, is_surplus)
