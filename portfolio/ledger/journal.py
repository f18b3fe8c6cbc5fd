"""Fold a position's journal again, with corrections standing where their predecessors stood.

Owns: the order of the fold. Rule: all revisions of an execution share one slot, that of the first booked; only the live
revision counts. The cost basis depends on the order of fills, so a late correction must not move its fill to the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from portfolio.ledger.money import ONE
from portfolio.ledger.positions import FLAT, PositionState, apply_commission, apply_fill


@dataclass(frozen=True, slots=True)
class Entry:
    """One live line of a position's journal: a quantity at a price, or a fee in the instrument's currency."""

    slot: int
    kind: Literal["quantity", "fee"]
    amount: Decimal  # signed quantity, or the fee
    price: Decimal | None = None


def refold(entries: Iterable[Entry], multiplier: Decimal = ONE) -> PositionState:
    """Return the position that the entries make, in the order of their slots.

    >>> buy, sell = Entry(1, "quantity", Decimal(100), Decimal(50)), Entry(2, "quantity", Decimal(-50), Decimal(56))
    >>> folded = refold([sell, Entry(3, "fee", Decimal(2)), buy])
    >>> folded.quantity == 50, folded.cost_basis == 2500, folded.realized_pnl == 298
    (True, True, True)

    Raises: ValueError when a quantity comes without a price.
    """
    position = FLAT
    for entry in sorted(entries, key=lambda one: one.slot):
        if entry.kind == "fee":
            position = apply_commission(position, entry.amount)
            continue
        if entry.price is None:
            raise ValueError(f"journal entry {entry.slot} has a quantity and no price")
        position = apply_fill(position, entry.amount, entry.price, None, multiplier).position
    return position
