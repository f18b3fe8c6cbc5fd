"""Divide an amount or a quantity by weights so that the parts add up to it, to the last digit. Pure.

Owns: rounding when something is shared: a fee among the owners of a fill, a dividend among holders.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal

from portfolio.ledger.money import ONE, QUANTUM, ZERO

CENT = Decimal("0.01")


def divide(total: Decimal, weights: Mapping[str, Decimal], unit: Decimal = QUANTUM) -> dict[str, Decimal]:
    """Return each one's part in proportion to its weight, in multiples of ``unit``; the largest takes the remainder.

    Weights may be negative: a short holder pays what the long ones receive.

    >>> divide(Decimal("10.00"), {"A": Decimal(1), "B": Decimal(1), "C": Decimal(1)}, CENT)
    {'A': Decimal('3.34'), 'B': Decimal('3.33'), 'C': Decimal('3.33')}
    >>> divide(Decimal(6), {"A": Decimal(100), "B": Decimal(-40)}, CENT)
    {'A': Decimal('10.00'), 'B': Decimal('-4.00')}

    Raises: ValueError when the weights add up to zero.
    """
    whole = sum(weights.values(), ZERO)
    if not whole:
        raise ValueError("nothing can be divided by weights that add up to zero")
    parts = {
        key: (total * weight / whole / unit).quantize(ONE, rounding=ROUND_HALF_EVEN) * unit
        for key, weight in sorted(weights.items())
    }
    largest = max(parts, key=lambda key: abs(weights[key]))
    parts[largest] += total - sum(parts.values(), ZERO)
    return parts


def grain(*quantities: Decimal) -> Decimal:
    """Return the unit to divide quantities by: whole ones stay whole.

    >>> grain(Decimal(60), Decimal("40.0")), grain(Decimal("0.5"))
    (Decimal('1'), Decimal('1E-10'))
    """
    return ONE if all(one == one.to_integral_value() for one in quantities) else QUANTUM
