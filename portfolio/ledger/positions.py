"""Fold fills into a position of one owner in one instrument, at weighted average cost.

Owns: cost basis, average cost and realised profit. Leaves: storage (``portfolio.fold``), conversion (``fx``).
Rule, with position q of basis b, signed fill d at price p, multiplier m and fee c:

* the basis is what the held quantity cost, signed, in money: q · average · m; the average is derived from it;
* from flat or in the same direction, the basis grows by d · p · m, so that the average is quantity-weighted;
* a partial close keeps the share (q + d) / q of it, so that the average stays; a full close ends it with all that is
  left; a reversal opens the remainder at p;
* cash = −(d · p · m) − c;
* realised = cash + the change of the basis, which is min(|d|, |q|) · (p − average) · sign(q) · m − c.

Every term is rounded once, where it is made, and the basis is carried instead of the average: what rounding leaves of
a partial close stays in the basis and is realised with the last unit. Hence, with no tolerance: realised = Σ cash +
basis after every fill, and realised = Σ cash when flat.

Futures are booked at notional as well: cash moves by d · p · m and the signed position value q · mark · m stands
against it, so that cash + value is right although a broker settles only the daily difference.
Units: quantities signed, prices per unit without multiplier, money in the instrument's currency.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from portfolio.ledger.cash import fill_cash
from portfolio.ledger.money import ONE, ZERO, exact


@dataclass(frozen=True, slots=True)
class PositionState:
    """A position between two fills; ``cost_basis`` is signed like the quantity, 0 while flat."""

    quantity: Decimal = ZERO
    cost_basis: Decimal = ZERO  # quantity · average · multiplier, no commission
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


def average_cost(quantity: Decimal, cost_basis: Decimal, multiplier: Decimal = ONE) -> Decimal:
    """Return the price per unit that a basis stands for, 0 while flat.

    >>> average_cost(Decimal(3), Decimal(1000), Decimal(100))
    Decimal('3.3333333333')
    >>> average_cost(Decimal(0), Decimal(0)) == 0
    True
    """
    return exact(cost_basis / (quantity * multiplier)) if quantity else ZERO


def _moved(
    position: PositionState, quantity: Decimal, price: Decimal, multiplier: Decimal, flow: Decimal
) -> tuple[Decimal, Decimal, Decimal]:
    """Return quantity and basis after a fill, and how much of the position it closed."""
    held = position.quantity
    after = exact(held + quantity)
    if not held or (held > 0) is (quantity > 0):
        return after, position.cost_basis - flow, ZERO
    closed = min(abs(quantity), abs(held))
    if not after:
        return after, ZERO, closed
    if (after > 0) is (held > 0):
        return after, exact(position.cost_basis * after / held), closed
    return after, -fill_cash(after, price, multiplier), closed


def apply_fill(
    position: PositionState,
    quantity: Decimal,
    price: Decimal,
    commission: Decimal | None = None,
    multiplier: Decimal = ONE,
    flow: Decimal | None = None,
) -> FillResult:
    """Apply one signed fill; ``commission`` None means that it is not known yet and is applied later.

    ``flow`` is the cash that it moved where that is known to the last digit, as of a share of a divided fill: the
    shares of a rounded amount add up to it, rounded shares need not.

    A sale through zero realises on the closed part only and opens the rest at its own price:

    >>> long = apply_fill(FLAT, Decimal(100), Decimal(50))
    >>> sold = apply_fill(long.position, Decimal(-150), Decimal(55), Decimal("1.5"))
    >>> sold.realized_pnl == Decimal("498.5"), sold.cash == Decimal("8248.5")
    (True, True)
    >>> sold.position.quantity == -50, average_cost(sold.position.quantity, sold.position.cost_basis) == 55
    (True, True)

    Covering a short earns when the price fell:

    >>> short = apply_fill(FLAT, Decimal(-100), Decimal(20))
    >>> apply_fill(short.position, Decimal(100), Decimal(18), Decimal(1)).realized_pnl == 199
    True

    An option's multiplier counts in cash:

    >>> apply_fill(FLAT, Decimal(2), Decimal("3.00"), Decimal("1.4"), Decimal(100)).cash == Decimal("-601.4")
    True

    Three units for 100 are sold one by one for 100: nothing is won or lost, to the last digit.

    >>> state = apply_fill(apply_fill(FLAT, Decimal(2), Decimal("33.3")).position, Decimal(1), Decimal("33.4")).position
    >>> for price in ("33.3", "33.3", "33.4"):
    ...     state = apply_fill(state, Decimal(-1), Decimal(price)).position
    >>> state.realized_pnl == 0, state.cost_basis == 0
    (True, True)

    Units: signed quantity; price per unit; fee positive when paid.
    Raises: ValueError when the quantity or the multiplier is zero.
    """
    if not quantity or not multiplier:
        raise ValueError("a fill needs a quantity and a multiplier other than zero")
    if flow is None:
        flow = fill_cash(quantity, price, multiplier)
    before = position.cost_basis
    after, basis, closed = _moved(position, quantity, price, multiplier, flow)
    fee = ZERO if commission is None else commission
    realized = (flow + basis - before if closed else ZERO) - fee
    return FillResult(
        position=PositionState(after, basis, position.realized_pnl + realized, position.commissions + fee),
        realized_pnl=realized,
        cash=flow - fee,
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
        position.cost_basis,
        position.realized_pnl - amount,
        position.commissions + amount,
    )
