"""Convert money between currencies, by one direction-named rate table. Pure.

Rule: a rate is the worth of one unit of a currency in the base currency, as IB's ExchangeRate says it. A missing rate
is an error, never 1.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from portfolio.ledger.money import ONE, exact
from strategies.exceptions import LedgerError


@dataclass(frozen=True, slots=True)
class Rates:
    """Worth of one unit of each currency in ``base``.

    >>> rates = Rates("USD", {"EUR": Decimal("1.25")})
    >>> rates.convert(Decimal(100), "EUR", "USD") == 125, rates.convert(Decimal(125), "USD", "EUR") == 100
    (True, True)
    >>> rates.convert(Decimal(1), "JPY", "USD")
    Traceback (most recent call last):
    strategies.exceptions.LedgerError: No exchange rate for JPY to USD is known.
    """

    base: str
    worth: Mapping[str, Decimal] = field(default_factory=dict)

    def convert(self, amount: Decimal, source: str, target: str) -> Decimal:
        """Return ``amount`` of ``source`` in ``target``.

        Raises: LedgerError code fx_unknown when a rate is missing or not positive.
        """
        if source == target:
            return amount
        return exact(amount * self._worth(source, target) / self._worth(target, source))

    def _worth(self, currency: str, other: str) -> Decimal:
        if currency == self.base:
            return ONE
        rate = self.worth.get(currency)
        if rate is None or rate <= 0:
            pair = f"{currency} to {other if other != currency else self.base}"
            raise LedgerError(f"No exchange rate for {pair} is known.", code="fx_unknown", currency=currency)
        return rate
