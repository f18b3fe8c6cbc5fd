"""Fold a position's journal again, with everything standing where it belongs in time. Pure.

Owns: the order of the fold and what events that are no fill do to a position. Rule: all revisions of an execution share
one slot, that of the first booked, also with an owner it was assigned to later; only the live revision counts. The cost
basis depends on the order of fills, so a late correction must not move its fill to the end; and a split, an expiry or
a change of contract acts on what is held at its place, so that a correction before it is carried through it.
Between a fill and such an event their times decide and not the order in which they were booked: a fill from before a
split is one of old units however late it is reported.

Kinds of entries:

* quantity: a signed quantity for a price and, where known to the last digit, for the cash that it moved;
* fee, income: money in the instrument's currency that lowers or raises what was realised;
* factor: quantity × numerator / denominator, the basis stays (a split);
* leave: a signed quantity, or all, goes at its cost; nothing is realised (it becomes another contract);
* close: all goes at a price (expiry, settlement).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

from portfolio.ledger.money import ONE, ZERO, exact
from portfolio.ledger.positions import FLAT, PositionState, apply_commission, apply_fill

Kind = Literal["quantity", "fee", "income", "factor", "leave", "close"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One live line of a position's journal."""

    slot: int
    kind: Kind
    amount: Decimal = ZERO  # signed quantity, money, numerator, or what leaves (zero: all)
    price: Decimal | None = None
    cash: Decimal | None = None  # of a quantity; None: what its price says
    denominator: Decimal = ONE
    ref: str = ""  # names the event to whom wants its effect
    at: datetime | None = None  # when it happened, of fills and events; None: only its slot says where it stands


@dataclass(frozen=True, slots=True)
class Effect:
    """What an event did to a position: signed quantity, and the cash that stands against it."""

    quantity: Decimal = ZERO
    cash: Decimal = ZERO


NOTHING = Effect()
_EVENTS = frozenset({"factor", "leave", "close"})
_NO_TIME = datetime.max.replace(tzinfo=UTC)


def refold(entries: Iterable[Entry], multiplier: Decimal = ONE) -> PositionState:
    """Return the position that the entries make, in the order of their slots.

    >>> buy, sell = Entry(1, "quantity", Decimal(100), Decimal(50)), Entry(2, "quantity", Decimal(-50), Decimal(56))
    >>> folded = refold([sell, Entry(3, "fee", Decimal(2)), buy])
    >>> folded.quantity == 50, folded.cost_basis == 2500, folded.realized_pnl == 298
    (True, True, True)

    A 4:1 split leaves the basis, and with it the value:

    >>> split = refold([buy, Entry(2, "factor", Decimal(4))])
    >>> split.quantity == 400, split.cost_basis == 5000, split.realized_pnl == 0
    (True, True, True)

    Raises: ValueError when a quantity comes with neither price nor cash.
    """
    return trace(entries, multiplier)[0]


def trace(entries: Iterable[Entry], multiplier: Decimal = ONE) -> tuple[PositionState, dict[str, Effect]]:
    """Return the position, and what each event did by its ``ref``.

    >>> bought = Entry(1, "quantity", Decimal(2), Decimal(3))
    >>> _, done = trace([bought, Entry(2, "close", price=Decimal(0), ref="expiry")], Decimal(100))
    >>> done["expiry"].quantity == -2, done["expiry"].cash == 0
    (True, True)
    """
    position = FLAT
    effects: dict[str, Effect] = {}
    for entry in in_place(entries):
        if entry.kind in _EVENTS:
            position, effects[entry.ref] = _event(position, entry, multiplier)
        else:
            position = add_entry(position, entry, multiplier)
    return position, effects


def add_entry(position: PositionState, entry: Entry, multiplier: Decimal = ONE) -> PositionState:
    """Return the position after one entry that is no event."""
    if entry.kind == "quantity":
        return _quantity(position, entry, multiplier)
    if entry.kind == "fee":
        return apply_commission(position, entry.amount)
    return _moved(position, ZERO, ZERO, entry.amount)


def in_place(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries in the order of the fold.

    Events stand by slot and time and cut the rest into stretches; in its stretch everything stands by slot, of one slot
    by time. What has a time belongs to the stretch of its time, anything else to that of its slot; an event that has
    the slot of the first fill after it stands before that fill.

    >>> from dataclasses import replace
    >>> nine, ten = datetime(2026, 3, 2, 9, tzinfo=UTC), datetime(2026, 3, 2, 10, tzinfo=UTC)
    >>> split, late = Entry(1, "factor", Decimal(2), at=ten), Entry(2, "quantity", Decimal(5), Decimal(8), at=nine)
    >>> refold([split, late]).quantity == 10, refold([split, replace(late, at=ten)]).quantity == 5
    (True, True)
    """
    rows = list(entries)
    events = sorted((row for row in rows if row.kind in _EVENTS), key=_own_place)
    if not events:
        return sorted(rows, key=_own_place)
    placed = [((number, 1, 0, _NO_TIME), event) for number, event in enumerate(events)]
    placed += [
        ((sum(_is_before(event, row) for event in events), 0, *_own_place(row)), row)
        for row in rows
        if row.kind not in _EVENTS
    ]
    return [row for _, row in sorted(placed, key=lambda pair: pair[0])]


def _own_place(entry: Entry) -> tuple[int, datetime]:
    return entry.slot, _NO_TIME if entry.at is None else entry.at


def _is_before(event: Entry, entry: Entry) -> bool:
    if event.at is not None and entry.at is not None:
        return event.at <= entry.at
    return event.slot <= entry.slot


def _quantity(position: PositionState, entry: Entry, multiplier: Decimal) -> PositionState:
    if not entry.amount:
        return position if not entry.cash else _moved(position, ZERO, ZERO, entry.cash)
    price = entry.price
    if price is None:
        if entry.cash is None:
            raise ValueError(f"journal entry {entry.slot} has a quantity and no price")
        price = unit_price(entry.amount, entry.cash, multiplier)
    return apply_fill(position, entry.amount, price, None, multiplier, entry.cash).position


def unit_price(quantity: Decimal, cash: Decimal, multiplier: Decimal) -> Decimal:
    """Return the price per unit at which a quantity moved an amount of cash.

    >>> unit_price(Decimal(2), Decimal(-600), Decimal(100)) == 3
    True
    """
    return exact(-cash / (quantity * multiplier))


def _event(position: PositionState, entry: Entry, multiplier: Decimal) -> tuple[PositionState, Effect]:
    held = position.quantity
    if entry.kind == "factor":
        change = exact(held * entry.amount / entry.denominator) - held
        lost = position.cost_basis if held and not held + change else ZERO  # too small to be held: its cost is lost
        return _moved(position, change, -lost, -lost), Effect(change)
    if entry.kind == "close":
        if not held:
            return position, NOTHING
        result = apply_fill(position, -held, entry.price or ZERO, None, multiplier)
        return result.position, Effect(-held, result.cash)
    change = entry.amount or -held
    part = cost_of_part(position, change)
    return _moved(position, change, -part, ZERO), Effect(change, part)


def _moved(position: PositionState, quantity: Decimal, basis: Decimal, realized: Decimal) -> PositionState:
    return PositionState(
        position.quantity + quantity,
        position.cost_basis + basis,
        position.realized_pnl + realized,
        position.commissions,
    )


def cost_of_part(position: PositionState, change: Decimal) -> Decimal:
    """Return the part of the basis that goes with a signed quantity; what was never held costs nothing.

    >>> state = PositionState(Decimal(3), Decimal(100))
    >>> cost_of_part(state, Decimal(-1)), cost_of_part(state, Decimal(-3)) == 100, cost_of_part(state, Decimal(1)) == 0
    (Decimal('33.3333333333'), True, True)
    """
    held, after = position.quantity, position.quantity + change
    if not held or held * change >= 0:
        return ZERO
    if after and held * after > 0:
        return position.cost_basis - exact(position.cost_basis * after / held)
    return position.cost_basis
