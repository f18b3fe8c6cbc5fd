"""Divide an amount or a quantity by weights so that the parts add up to it, to the last digit. Pure.

Owns: rounding when something is shared: a fee among the owners of a fill, a dividend among holders.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction

from portfolio.ledger.money import ONE, QUANTUM, ZERO

CENT = Decimal("0.01")


def divide(total: Decimal, weights: Mapping[str, Decimal], unit: Decimal = QUANTUM) -> dict[str, Decimal]:
    """Return each one's part in proportion to its weight, in multiples of ``unit``.

    The units that rounding down leaves go one each to those who lost most by it, of equals to the larger: nobody is a
    whole unit away from its share, and nobody pays where others receive. Weights may be negative: a short holder pays
    what the long ones receive.

    >>> divide(Decimal("10.00"), {"A": Decimal(1), "B": Decimal(1), "C": Decimal(1)}, CENT)
    {'A': Decimal('3.34'), 'B': Decimal('3.33'), 'C': Decimal('3.33')}
    >>> divide(Decimal(6), {"A": Decimal(100), "B": Decimal(-40)}, CENT)
    {'A': Decimal('10.00'), 'B': Decimal('-4.00')}
    >>> divide(Decimal(3), dict.fromkeys("ABCDE", Decimal(1)), ONE)["E"]
    Decimal('0')

    Raises: ValueError when the weights add up to zero.
    """
    whole = sum(map(Fraction, weights.values()), Fraction(0))
    if not whole:
        raise ValueError("nothing can be divided by weights that add up to zero")
    exact_units = {key: Fraction(total) * Fraction(weights[key]) / whole / Fraction(unit) for key in sorted(weights)}
    units = {key: int(wanted) for key, wanted in exact_units.items()}
    left = int(Fraction(total) / Fraction(unit)) - sum(units.values())
    step = 1 if left > 0 else -1
    by_loss = sorted(units, key=lambda key: (step * (units[key] - exact_units[key]), -abs(weights[key]), key))
    for key in by_loss[: abs(left)]:
        units[key] += step
    parts = {key: count * unit for key, count in units.items()}
    largest = max(parts, key=lambda key: abs(weights[key]))
    parts[largest] += total - sum(parts.values(), ZERO)  # less than a unit, where the total is no multiple of it
    return parts


def grain(*quantities: Decimal) -> Decimal:
    """Return the unit to divide quantities by: whole ones stay whole.

    >>> grain(Decimal(60), Decimal("40.0")), grain(Decimal("0.5"))
    (Decimal('1'), Decimal('1E-10'))
    """
    return ONE if all(one == one.to_integral_value() for one in quantities) else QUANTUM
