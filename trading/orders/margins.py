"""What an order and everything that works beside it would do to the account's margin together, by IB's answers. Pure.

Owns: which questions IB has to be asked, and adding its answers up. Leaves: asking (``engine.margin_desk``), the
limit (``exposure_checks``).
Rule: IB answers for one order as if it stood alone. So of each contract the worse side of all its working orders
counts, answers count for the position for which they were given, and what was traded since IB was asked counts again
until it is asked anew. A side that would free margin counts as nothing.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from trading.orders.drafts import OrderDraft
from trading.orders.facts import Holding, OpenOrder, once_per_family

ZERO = Decimal(0)
Held = Mapping[int, Decimal]


@dataclass(frozen=True, slots=True)
class Move:
    """A change of what the account holds that IB is asked about: of one contract, or of the legs of a combination.

    Units: ``units`` signed; ``legs`` are contract ids with signed ratios; ``held`` is what the account holds of each.
    ``limit`` is the price to ask with, None for at market; it does not tell two moves apart.
    """

    legs: tuple[tuple[int, int], ...]
    units: Decimal
    held: tuple[Decimal, ...]
    limit: Decimal | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class MarginBase:
    """What is bound as it stands: IB's initial margin and equity with loan value in base currency.

    ``held`` is what the books gave the account when IB was asked.
    """

    initial: Decimal
    equity: Decimal
    held: Held


@dataclass(frozen=True, slots=True)
class MarginView:
    """IB's answers that are young enough: changes of initial margin by move. ``base`` None: it has to be asked."""

    base: MarginBase | None = None
    changes: Mapping[Move, Decimal] = field(default_factory=dict)


class MarginWanted(Exception):  # noqa: N818 - a signal to whoever can ask, not an error
    """The check needs IB's answers about these moves; it is run again once they are known."""

    def __init__(self, moves: Sequence[Move], draft: OrderDraft) -> None:
        super().__init__(f"margin of {len(moves)} moves")
        self.moves = tuple(moves)
        self.draft = draft


def held_of(holdings: Iterable[Holding]) -> dict[int, Decimal]:
    """Return what the account holds of each contract, all owners together."""
    held: dict[int, Decimal] = defaultdict(lambda: ZERO)
    for one in holdings:
        held[one.con_id] += one.quantity
    return {con_id: quantity for con_id, quantity in held.items() if quantity}


def single(con_id: int, units: Decimal, held: Held, limit: Decimal | None = None) -> Move:
    """Return the move of one contract."""
    return Move(((con_id, 1),), units, (held.get(con_id, ZERO),), limit)


def binding(draft: OrderDraft, orders: Sequence[OpenOrder], view: MarginView, now: Held) -> tuple[Decimal, Decimal]:
    """Return the initial margin that may come of everything that works and the draft, and the equity beside it.

    ``now`` is what the account holds. Raises: MarginWanted when IB has to be asked for a part of it.
    """
    base = view.base
    if base is not None:
        groups = _groups(draft, orders, base.held, now)
        if all(move in view.changes for group in groups for move in group):
            changes = (max([ZERO, *(view.changes[move] for move in group)]) for group in groups)
            return base.initial + sum(changes, ZERO), base.equity
    fresh = [move for group in _groups(draft, orders, now, now) for move in group]
    # The base is as old as the newest answer: with nothing else to ask, the order's own question renews it.
    raise MarginWanted([move for move in fresh if move not in view.changes] or fresh[:1], draft)


def _groups(draft: OrderDraft, orders: Sequence[OpenOrder], base: Held, now: Held) -> list[list[Move]]:
    """Return the alternatives of each contract and of each combination, the draft's first."""
    plain, combined = _parted(once_per_family(orders))
    lines = _lines(plain, base, now)
    groups: list[list[Move]] = []
    if draft.contract.legs:
        legs = [(leg.con_id, leg.ratio) for leg in draft.contract.legs]
        groups.append([_combination(legs, draft.signed_quantity, base)])
    else:
        up, down = lines.pop(draft.contract.con_id, (ZERO, ZERO))
        quantity = draft.signed_quantity
        ends = (up + quantity, down) if quantity > 0 else (up, down + quantity)
        limit = draft.limit_price if draft.order_type == "LMT" else None
        groups.append([replace(move, limit=limit) for move in _ends(draft.contract.con_id, ends, base)])
    groups += [found for con_id, ends in sorted(lines.items()) if (found := _ends(con_id, ends, base))]
    groups += [[_combination(legs, units, base)] for legs, units in combined]
    return groups


def _lines(orders: Iterable[OpenOrder], base: Held, now: Held) -> dict[int, tuple[Decimal, Decimal]]:
    """Return how far each contract may go up and down from what the base had of it."""
    lines: dict[int, tuple[Decimal, Decimal]] = {}
    for con_id in {*base, *now}:
        drift = now.get(con_id, ZERO) - base.get(con_id, ZERO)
        if drift:
            lines[con_id] = (drift, drift)
    for order in orders:
        up, down = lines.get(order.con_id, (ZERO, ZERO))
        change = order.signed_quantity
        lines[order.con_id] = (up + change, down) if change > 0 else (up, down + change)
    return lines


def _ends(con_id: int, ends: tuple[Decimal, Decimal], held: Held) -> list[Move]:
    return [single(con_id, units, held) for units in dict.fromkeys(ends) if units]


def _parted(orders: Iterable[OpenOrder]) -> tuple[list[OpenOrder], list[tuple[list[tuple[int, int]], Decimal]]]:
    """Part orders of one contract from combinations, whose legs come as orders of one reference."""
    by_ref: dict[str, list[OpenOrder]] = defaultdict(list)
    plain: list[OpenOrder] = []
    for order in orders:
        (by_ref[order.order_ref] if order.order_ref else plain).append(order)
    combined = []
    for legs in by_ref.values():
        units = math.gcd(*(int(leg.quantity) for leg in legs)) if len(legs) > 1 else 0
        if units and all(leg.quantity == int(leg.quantity) for leg in legs):
            combined.append(([(leg.con_id, int(leg.signed_quantity) // units) for leg in legs], Decimal(units)))
        else:
            plain += legs
    return plain, combined


def _combination(legs: Iterable[tuple[int, int]], units: Decimal, held: Held) -> Move:
    ordered = tuple(sorted(legs))
    if units < 0:  # sold is the same as its mirror bought, and has the same answer
        ordered, units = tuple((con_id, -ratio) for con_id, ratio in ordered), -units
    return Move(ordered, units, tuple(held.get(con_id, ZERO) for con_id, _ in ordered))
