"""Convert money between currencies, by one direction-named rate table. Pure.

Owns: quotes, their age, crosses through a third currency and the table that converts. Leaves: where rates come from.
Rule: a rate is the worth of one unit of a currency in the base currency, as IB's ExchangeRate says it. A missing rate
is an error, never 1.0; only a currency against itself is 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypeGuard

from portfolio.ledger.money import ONE, exact
from strategies.exceptions import LedgerError

ACCOUNT, SPOT, DELAYED, CROSS, IDENTITY = "account", "spot", "delayed", "cross", "identity"


@dataclass(frozen=True, slots=True)
class Quote:
    """Worth of one unit of a currency in the base currency, and how well it is known.

    ``as_of`` is None where time does not matter: identity, or a table without dates. ``stale``: older than fresh rates
    are, or delayed by the exchange; fit for showing values, to be told to whoever reads them.
    """

    worth: Decimal
    as_of: datetime | None
    source: str
    stale: bool = False

    @property
    def worth_in_base(self) -> Decimal:
        """Base units for one unit of the currency: foreign money times this is base money."""
        return self.worth

    @property
    def units_per_base(self) -> Decimal:
        """Units of the currency for one base unit: foreign money divided by this is base money."""
        return exact(ONE / self.worth)


PairQuote = Callable[[str, str], Quote | None]


@dataclass(frozen=True, slots=True)
class Converted:
    """An amount in another currency, with the weaker of the two rates that made it."""

    amount: Decimal
    stale: bool
    as_of: datetime | None
    source: str


@dataclass(frozen=True, slots=True)
class Rates:
    """Worth of one unit of each currency in ``base``; ``quotes`` says when and from where, where that is known.

    >>> rates = Rates("USD", {"EUR": Decimal("1.25")})
    >>> rates.convert(Decimal(100), "EUR", "USD") == 125, rates.convert(Decimal(125), "USD", "EUR") == 100
    (True, True)
    >>> rates.convert(Decimal(1), "JPY", "USD")
    Traceback (most recent call last):
    strategies.exceptions.LedgerError: No exchange rate for JPY to USD is known.
    """

    base: str
    worth: Mapping[str, Decimal] = field(default_factory=dict)
    quotes: Mapping[str, Quote] = field(default_factory=dict)

    @classmethod
    def of_quotes(cls, base: str, quotes: Mapping[str, Quote]) -> Rates:
        """Build the table from dated quotes."""
        return cls(base, {currency: quote.worth for currency, quote in quotes.items()}, dict(quotes))

    def convert(self, amount: Decimal, source: str, target: str) -> Decimal:
        """Return ``amount`` of ``source`` in ``target``.

        Raises: LedgerError code fx_unknown when a rate is missing or not positive.
        """
        if source == target:
            return amount
        return exact(amount * self._worth(source, target) / self._worth(target, source))

    def quote(self, currency: str) -> Quote:
        """Return what is known of a currency's worth in base.

        Raises: LedgerError code fx_unknown.
        """
        if currency == self.base:
            return Quote(ONE, None, IDENTITY)
        worth = self._worth(currency, self.base)
        return self.quotes.get(currency) or Quote(worth, None, ACCOUNT)

    def convert_flagged(self, amount: Decimal, source: str, target: str) -> Converted:
        """Convert, and say how well the rates are known: stale when either is, as old as the older.

        Raises: LedgerError code fx_unknown.
        """
        converted = self.convert(amount, source, target)
        if source == target:
            return Converted(converted, False, None, IDENTITY)
        used = [quote for quote in (self.quote(source), self.quote(target)) if quote.source != IDENTITY]
        dates = [quote.as_of for quote in used if quote.as_of is not None]
        return Converted(
            converted,
            any(quote.stale for quote in used),
            min(dates, default=None),
            used[0].source if len(used) == 1 else CROSS,
        )

    def is_stale(self, currencies: Iterable[str]) -> bool:
        """Tell whether the rate of one of the currencies is stale; unknown ones are no rate and do not count."""
        others = set(currencies) - {self.base}
        return any(quote.stale for currency in others if (quote := self.quotes.get(currency)) is not None)

    def not_older(self, now: datetime, limit: timedelta) -> Rates:
        """Return the table without the rates that are older than ``limit``: what may decide the size of an order."""
        usable = {
            currency: worth
            for currency, worth in self.worth.items()
            if (quote := self.quotes.get(currency)) is None or quote.as_of is None or now - quote.as_of <= limit
        }
        return replace(self, worth=usable, quotes={c: q for c, q in self.quotes.items() if c in usable})

    def _worth(self, currency: str, other: str) -> Decimal:
        if currency == self.base:
            return ONE
        rate = self.worth.get(currency)
        if not is_rate(rate):
            raise unknown_rate(currency, other if other != currency else self.base)
        return rate


def is_rate(value: Decimal | None) -> TypeGuard[Decimal]:
    """Tell whether a number can be a rate: there, finite and positive."""
    return value is not None and value.is_finite() and value > 0


def unknown_rate(currency: str, other: str) -> LedgerError:
    """Return the error that says which rate is missing."""
    return LedgerError(f"No exchange rate for {currency} to {other} is known.", code="fx_unknown", currency=currency)


def cross(currency: str, base: str, thirds: Mapping[str, Quote], pair: PairQuote) -> Quote | None:
    """Return the worth of a currency through the first third currency that has a price against it, None without one.

    ``thirds`` are quotes in base; ``pair(a, b)`` quotes one ``a`` in ``b``. As old as the older, stale when either is.

    >>> dollars = {"GBP": Quote(Decimal("1.3"), None, "account")}
    >>> cross("EUR", "USD", dollars, lambda a, b: Quote(Decimal("0.8"), None, "spot")).worth
    Decimal('1.0400000000')
    """
    for third, known in thirds.items():
        found = None if third in (currency, base) else pair(currency, third)
        if found is not None and is_rate(worth := exact(found.worth * known.worth)):
            dates = [date for date in (found.as_of, known.as_of) if date is not None]
            return Quote(worth, min(dates, default=None), CROSS, found.stale or known.stale)
    return None


def better(one: Quote | None, other: Quote | None) -> Quote | None:
    """Return the quote to use: a fresh one before a stale one, of fresh ones IB's account rate, else the later.

    >>> old, new = Quote(ONE, datetime(2026, 3, 1), "account", True), Quote(ONE, datetime(2026, 3, 2), "spot")
    >>> better(old, new) is new and better(None, old) is old
    True
    """
    if one is None or other is None:
        return one or other
    return max((one, other), key=_merit)


def _merit(quote: Quote) -> tuple[bool, bool, float]:
    is_fresh = not quote.stale
    return is_fresh, is_fresh and quote.source == ACCOUNT, quote.as_of.timestamp() if quote.as_of else float("inf")
