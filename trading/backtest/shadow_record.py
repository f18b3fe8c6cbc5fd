"""What the ledger has of one strategy's orders and positions, as it stood at any moment of a day.

Owns: asking it by moment. Leaves: reading rows (``shadow_day``), what follows (``shadow``).
Rule: a moment's position is what was booked by then, and an order works as it stood then: what the live executor saw.
Units: moments are epoch nanoseconds UTC; changes of positions signed, quantities of orders unsigned. Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple

ZERO = Decimal(0)


class Change(NamedTuple):
    """An order from a moment on."""

    at_ns: int
    is_working: bool
    left: Decimal  # still to be filled


class LiveOrder(NamedTuple):
    """One order as it was placed. ``parent_ref`` names the entry that it protects; ``changes`` by time."""

    ref: str
    symbol: str
    placed_ns: int
    side: str
    quantity: Decimal
    order_type: str
    limit: Decimal | None = None
    stop: Decimal | None = None
    trail: Decimal | None = None
    trail_percent: Decimal | None = None
    tif: str = "DAY"
    parent_ref: str = ""
    state: str = ""
    code_hash: str = ""
    params_revision: int = 0
    changes: Sequence[Change] = ()

    def left_at(self, at_ns: int) -> Decimal:
        """Return what it may still trade at a moment; 0 when it does not work then."""
        if at_ns < self.placed_ns:
            return ZERO
        place = bisect_right([one.at_ns for one in self.changes], at_ns)
        if not place:
            return self.quantity
        last = self.changes[place - 1]
        return last.left if last.is_working else ZERO


class Move(NamedTuple):
    """A change of the position, as it was booked."""

    at_ns: int
    symbol: str
    quantity: Decimal


class Record:
    """Orders, positions and equity of one strategy; ``equity`` are (moment, value) in their order."""

    def __init__(
        self,
        orders: Iterable[LiveOrder] = (),
        moves: Iterable[Move] = (),
        equity: Sequence[tuple[int, Decimal]] = (),
    ) -> None:
        self.orders = sorted(orders, key=lambda one: one.placed_ns)
        self._equity = equity
        self._moments: dict[str, list[int]] = defaultdict(list)
        self._held: dict[str, list[Decimal]] = defaultdict(list)
        for move in sorted(moves, key=lambda one: one.at_ns):
            held = self._held[move.symbol]
            held.append((held[-1] if held else ZERO) + move.quantity)
            self._moments[move.symbol].append(move.at_ns)

    def held(self, symbol: str, at_ns: int) -> Decimal:
        """Return the position at a moment."""
        place = bisect_right(self._moments.get(symbol, []), at_ns)
        return self._held[symbol][place - 1] if place else ZERO

    def symbols_held(self, at_ns: int) -> list[str]:
        """Return what is held at a moment."""
        return [symbol for symbol in self._held if self.held(symbol, at_ns)]

    def working(self, at_ns: int) -> list[tuple[LiveOrder, Decimal]]:
        """Return the orders that work at a moment with what they may still trade."""
        return [(one, left) for one in self.orders if (left := one.left_at(at_ns))]

    def equity_at(self, at_ns: int) -> Decimal | None:
        """Return the last equity that was on record by then."""
        place = bisect_right([at for at, _ in self._equity], at_ns)
        return self._equity[place - 1][1] if place else None

    def exits_of(self, ref: str) -> list[LiveOrder]:
        """Return the exits that protect what an order entered."""
        return [one for one in self.orders if one.parent_ref == ref]

    def decided(self, first_ns: int, last_ns: int) -> list[LiveOrder]:
        """Return the orders placed in [first, last], exits left out: they come with their entries."""
        return [one for one in self.orders if first_ns <= one.placed_ns <= last_ns and not one.parent_ref]
