"""Fold fills into a position of one owner in one instrument, at weighted average cost.

Owns: average cost and realised profit. Leaves: storage (``portfolio.fold``), conversion (``fx``).
Rule, with position q at average a, signed fill d at price p, multiplier m and fee c:

* from flat or in the same direction, the average is quantity-weighted;
* a partial close keeps it; a full close forgets it; a reversal opens the remainder at p;
* realised = min(|d|, |q|) · (p − a) · sign(q) · m on the closed part only, minus c on every fill;
* cash = −(d · p · m) − c.

Futures are booked at notional as well: cash moves by d · p · m and the signed position value q · mark · m stands
against it, so that cash + value is right although a broker settles only the daily difference.
Units: quantities signed, prices per unit without multiplier, money in the instrument's currency.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from portfolio.ledger.money import ONE, ZERO, exact


@dataclass(frozen=True, slots=True)
class PositionState:
    """A position between two fills; ``average_cost`` is 0 while flat."""

    quantity: Decimal = ZERO
    average_cost: Decimal = ZERO
    realized_pnl: Decimal = ZERO  # cumulative, net of ``commissions``
    commissions: Decimal = ZERO  # cumulative, instrument currency


FLAT = PositionState()


@dataclass(frozen=True, slots=True)
class FillResult:
    """What one fill did: the position after it, the profit it realised and the cash it moved."""

    position: PositionState
    realized_pnl: Decimal
    cash: Decimal
    closed: Decimal  # unsigned quantity that the fill closed


def apply_fill(
    position: PositionState,
    quantity: Decimal,
    price: Decimal,
    commission: Decimal | None = None,
    multiplier: Decimal = ONE,
) -> FillResult:
    """Apply one signed fill; ``commission`` None means that it is not known yet and is applied later.

    A sale through zero realises on the closed part only and opens the rest at its own price:

    >>> long = apply_fill(FLAT, Decimal(100), Decimal(50))
    >>> sold = apply_fill(long.position, Decimal(-150), Decimal(55), Decimal("1.5"))
    >>> sold.realized_pnl == Decimal("498.5"), sold.cash == Decimal("8248.5")
    (True, True)
    >>> sold.position.quantity == -50, sold.position.average_cost == 55
    (True, True)

    Covering a short earns when the price fell:

    >>> short = apply_fill(FLAT, Decimal(-100), Decimal(20))
    >>> apply_fill(short.position, Decimal(100), Decimal(18), Decimal(1)).realized_pnl == 199
    True

    An option's multiplier counts in cash:

    >>> apply_fill(FLAT, Decimal(2), Decimal("3.00"), Decimal("1.4"), Decimal(100)).cash == Decimal("-601.4")
    True

    Units: signed quantity; price per unit; fee positive when paid.
    Raises: ValueError when the quantity or the multiplier is zero.
    """
    if not quantity or not multiplier:
        raise ValueError("a fill needs a quantity and a multiplier other than zero")
    held, average = position.quantity, position.average_cost
    after = exact(held + quantity)
    closed, realized = ZERO, ZERO
    if held and (held > 0) is not (quantity > 0):
        closed = min(abs(quantity), abs(held))
        gain = price - average if held > 0 else average - price
        realized = exact(closed * gain * multiplier)
        if not after:
            average = ZERO
        elif abs(quantity) > abs(held):
            average = exact(price)
    else:
        average = exact((held * average + quantity * price) / (held + quantity))
    fee = ZERO if commission is None else commission
    realized -= fee
    return FillResult(
        position=PositionState(after, average, position.realized_pnl + realized, position.commissions + fee),
        realized_pnl=realized,
        cash=exact(-quantity * price * multiplier) - fee,
        closed=closed,
    )


def apply_commission(position: PositionState, amount: Decimal) -> PositionState:
    """Apply a fee in the instrument's currency that came apart from its fill.

    A fee in another currency never comes here: it lowers cash in that currency and is realised there.

    >>> apply_commission(FLAT, Decimal("1.25")).realized_pnl
    Decimal('-1.25')
    """
    return PositionState(
        position.quantity,
        position.average_cost,
        position.realized_pnl - amount,
        position.commissions + amount,
    )
