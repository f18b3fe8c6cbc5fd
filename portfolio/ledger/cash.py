"""Cash by owner and currency.

Owns: how a balance moves. Rule: a fee leaves cash in the currency it was reported in, whatever the instrument's;
nothing is converted here. An FX pair is an instrument whose quantity is its base currency: buying EUR.USD holds EUR as
the position and pays USD from cash, so the base currency is never booked a second time as cash.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from portfolio.ledger.money import ONE, ZERO, exact


def fill_cash(quantity: Decimal, price: Decimal, multiplier: Decimal = ONE) -> Decimal:
    """Return what a signed fill moves in the instrument's currency: a purchase pays, a sale receives.

    >>> fill_cash(Decimal(2), Decimal("3.00"), Decimal(100)) == -600
    True
    """
    return exact(-quantity * price * multiplier)


def totals(rows: Iterable[tuple[str, Decimal]]) -> dict[str, Decimal]:
    """Sum amounts by currency.

    >>> totals([("USD", Decimal(2)), ("EUR", Decimal(1)), ("USD", Decimal(3))])
    {'USD': Decimal('5'), 'EUR': Decimal('1')}
    """
    found: dict[str, Decimal] = {}
    for currency, amount in rows:
        found[currency] = found.get(currency, ZERO) + amount
    return found


def differences(left: Mapping[str, Decimal], right: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """Return ``left − right`` for every currency in which they differ; a missing currency is zero.

    >>> differences({"USD": Decimal(5)}, {"USD": Decimal(5), "EUR": Decimal(1)})
    {'EUR': Decimal('-1')}
    """
    keys = sorted({*left, *right})
    found = {key: left.get(key, ZERO) - right.get(key, ZERO) for key in keys}
    return {key: value for key, value in found.items() if value}
