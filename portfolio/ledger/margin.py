"""Whose margin the account's margin is: IB's figure divided among owners so that the parts add up to it. Pure.

Owns: the division. Leaves: what closing a position would release (IB's answers, ``trading.engine.margin_shares``).
Rule: a contract binds in proportion to what closing all of it would release by IB's own answer; one whose closing would
release nothing, or bind more, binds nothing. Within a contract those on the side of the account's net position
bind by quantity; whoever is on the other side only relieves. While one answer is missing nobody's part is known but of
those who hold nothing. See docs/adr/0013-margin-shares.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from portfolio.ledger.money import ZERO
from portfolio.ledger.shares import CENT, divide


@dataclass(frozen=True, slots=True)
class Held:
    """What one owner holds of a contract, signed."""

    owner: str
    con_id: int
    quantity: Decimal


def net_of(holdings: Iterable[Held]) -> dict[int, Decimal]:
    """Return what the account holds of each contract; those in which owners cancel out are left out."""
    net: dict[int, Decimal] = {}
    for held in holdings:
        net[held.con_id] = net.get(held.con_id, ZERO) + held.quantity
    return {con_id: quantity for con_id, quantity in sorted(net.items()) if quantity}


def divide_margin(
    total: Decimal | None,
    released: Mapping[int, Decimal | None],
    holdings: Iterable[Held],
    owners: Iterable[str],
    rest: str,
) -> dict[str, Decimal | None]:
    """Return each owner's part of ``total``; ``rest`` names who has what no position binds.

    ``released`` is what closing the account's whole position in each contract would release; None: not known. A part
    that cannot be known is None.

    >>> held = [Held("A", 1, Decimal(100)), Held("B", 1, Decimal(-40)), Held("B", 2, Decimal(10))]
    >>> divide_margin(Decimal("900.01"), {1: Decimal(600), 2: Decimal(300)}, held, ["A", "B", "C"], "D")
    {'A': Decimal('600.01'), 'B': Decimal('300.00'), 'C': Decimal('0'), 'D': Decimal('0')}
    """
    rows = [held for held in holdings if held.quantity]
    parts: dict[str, Decimal | None] = dict.fromkeys(sorted({*owners, rest}), ZERO)
    holders = {held.owner for held in rows}
    net = net_of(rows)
    unknown = total is None or any(released.get(con_id) is None for con_id in net)
    weights = {} if unknown else _weights(rows, net, released)
    if total is not None and not rows:
        parts[rest] = total  # no position binds it: the account's cash does
    elif total is not None and weights:
        parts |= divide(total, weights, CENT)
    elif unknown or total:
        parts |= dict.fromkeys([*holders, rest], None)
    return parts


def _weights(
    rows: Iterable[Held], net: Mapping[int, Decimal], released: Mapping[int, Decimal | None]
) -> dict[str, Decimal]:
    """Return what each owner's positions bind by IB's answers, those that bind nothing left out."""
    sides: dict[int, Decimal] = dict.fromkeys(net, ZERO)
    binding = [held for held in rows if held.con_id in net and held.quantity * net[held.con_id] > 0]
    for held in binding:
        sides[held.con_id] += held.quantity
    weights: dict[str, Decimal] = {}
    for held in binding:
        whole = max(ZERO, released.get(held.con_id) or ZERO)
        if whole:
            weights[held.owner] = weights.get(held.owner, ZERO) + whole * held.quantity / sides[held.con_id]
    return weights
