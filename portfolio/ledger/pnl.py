"""Value and unrealised profit of a position at a mark. Pure.

Units: signed quantity, price per unit, money in the instrument's currency.
"""

from __future__ import annotations

from decimal import Decimal

from portfolio.ledger.money import ONE, exact


def market_value(quantity: Decimal, mark: Decimal, multiplier: Decimal = ONE) -> Decimal:
    """Return the signed value of a position.

    >>> market_value(Decimal(-50), Decimal(55)) == -2750
    True
    """
    return exact(quantity * mark * multiplier)


def unrealized_pnl(quantity: Decimal, cost_basis: Decimal, mark: Decimal, multiplier: Decimal = ONE) -> Decimal:
    """Return what closing at the mark would realise, before fees: the value less what it cost.

    >>> unrealized_pnl(Decimal(-50), Decimal(-2750), Decimal(50)) == 250
    True
    """
    return market_value(quantity, mark, multiplier) - cost_basis
