"""The ledger's number: Decimal with ten decimals, rounded the same way at every step.

Owns: the quantum. Rule: each result is rounded before it is kept, so that folding in one batch, in many, or again after
a crash gives the same digits.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal

QUANTUM = Decimal("1E-10")
ZERO = Decimal(0)
ONE = Decimal(1)
CONTEXT = Context(prec=60, rounding=ROUND_HALF_EVEN)


def exact(value: Decimal) -> Decimal:
    """Round to the quantum.

    >>> exact(Decimal(100) / Decimal(3))
    Decimal('33.3333333333')
    """
    return value.quantize(QUANTUM, None, CONTEXT)


def plain(value: Decimal) -> str:
    """Write without exponent and without trailing zeros.

    >>> plain(Decimal("1E+3")), plain(Decimal("2.5000000000")), plain(Decimal("-0E-10"))
    ('1000', '2.5', '0')
    """
    text = f"{value:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text
