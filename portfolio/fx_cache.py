"""FXCache: the one place that answers what a currency is worth now or was worth then.

Owns: the order of sources and the limit of age. Leaves: the database (``fx_rates``), asking IB (``spot``), the
arithmetic (``ledger.fx``).
Rule: IB's account rate while it is fresh, else IB's spot price, else a cross through a third currency, else the last
known rate with a flag up to a limit, else an error. Never 1.0, except for a currency against itself.
Thread-safe.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from django.db import close_old_connections
from django.db import connection as database

from portfolio import fx_rates
from portfolio.fx_archive import archived_rates
from portfolio.ledger.fx import ACCOUNT, CROSS, Converted, PairQuote, Quote, Rates, better, cross, is_rate, unknown_rate
from strategies.exceptions import LedgerError

KEPT = timedelta(seconds=5)  # how long an answer of the database serves: a page converts many amounts at once
MAJORS = ("EUR", "USD", "GBP", "JPY", "CHF")


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class RateRow:
    """One currency's rate for pages and the API."""

    currency: str
    base: str
    worth_in_base: Decimal
    units_per_base: Decimal
    as_of: datetime | None
    source: str
    stale: bool
    usable: bool


class FXCache:
    """The rates of one account. ``spot`` quotes one unit of a currency in another, or None; it may be set later."""

    def __init__(
        self,
        account_id: Callable[[], str | None],
        *,
        spot: PairQuote | None = None,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self.spot = spot
        self._account_id = account_id
        self._clock = clock
        self._lock = threading.Lock()
        self._table: tuple[datetime, Rates] | None = None
        self._asked: dict[str, Quote] = {}

    @property
    def base_currency(self) -> str | None:
        """The account's base currency; None until IB has said it, and what depends on it waits."""
        try:
            return self._rates().base
        except LedgerError:
            return None

    def quote(self, currency: str) -> Quote:
        """Return the worth of one unit of a currency in base.

        May wait for IB's price when the caller's thread can wait.
        Raises: LedgerError base_currency_unknown; fx_unknown when no source knows the rate, or only too old.
        """
        return self._quote(self._rates(), currency)

    def refresh(self, currency: str) -> Quote:
        """Return what ``quote`` does, but ask IB anew unless its account rate is fresh.

        Raises: LedgerError as ``quote``.
        """
        rates, now = self._rates(), self._clock()
        known = self._known(rates, currency, now)
        if currency != rates.base and (known is None or known.source != ACCOUNT or known.stale):
            self._ask(rates, currency)
        return self._quote(rates, currency)

    def get_fx_rate(self, currency: str, base: str | None = None) -> Decimal:
        """Return the units of ``currency`` for one unit of ``base`` (the account's when None): native ÷ rate = base.

        Raises: LedgerError as ``quote``.
        """
        return self.convert(Decimal(1), base or self._rates().base, currency)

    def convert(self, amount: Decimal, source: str, target: str, *, at: datetime | None = None) -> Decimal:
        """Return ``amount`` of ``source`` in ``target``, now or at a moment of the past.

        Raises: LedgerError as ``quote``.
        """
        return self.convert_flagged(amount, source, target, at=at).amount

    def convert_flagged(self, amount: Decimal, source: str, target: str, *, at: datetime | None = None) -> Converted:
        """Convert, and say how well the rates were known.

        Raises: LedgerError as ``quote``.
        """
        if source == target:
            return Rates(source).convert_flagged(amount, source, target)
        rates = self._then(at, (source, target)) if at is not None else self._rates()
        if at is None:
            named = {name: self._quote(rates, name) for name in (source, target) if name != rates.base}
            rates = Rates.of_quotes(rates.base, named)
        return rates.convert_flagged(amount, source, target)

    def quotes(self) -> list[RateRow]:
        """Return every known rate, of any age, by currency; asks nobody.

        Raises: LedgerError while the base currency is unknown.
        """
        rates, now = self._rates(), self._clock()
        with self._lock:
            asked = dict(self._asked)
        best = {name: better(rates.quotes.get(name), asked.get(name)) for name in {*rates.quotes, *asked}}
        return [
            RateRow(
                currency=name,
                base=rates.base,
                worth_in_base=quote.worth_in_base,
                units_per_base=quote.units_per_base,
                as_of=quote.as_of,
                source=quote.source,
                stale=quote.stale,
                usable=_within(quote, now, fx_rates.stale_limit()),
            )
            for name, quote in sorted(best.items())
            if quote is not None and name != rates.base
        ]

    def clear(self) -> None:
        """Forget what was read and asked."""
        with self._lock:
            self._table = None
            self._asked.clear()

    def _account(self) -> str:
        account = self._account_id()
        if not account:
            raise LedgerError("No account is known yet; the engine has not connected.", code="account_unknown")
        return account

    def _rates(self) -> Rates:
        now = self._clock()
        with self._lock:
            kept = self._table
        if kept is not None and timedelta(0) <= now - kept[0] < KEPT:
            return kept[1]
        rates = _read(lambda: fx_rates.present_rates(self._account(), now))
        with self._lock:
            self._table = (now, rates)
        return rates

    def _quote(self, rates: Rates, currency: str) -> Quote:
        if currency == rates.base:
            return rates.quote(currency)
        now = self._clock()
        quote = self._known(rates, currency, now)
        if quote is None or quote.stale:
            quote = better(self._ask(rates, currency), quote)
        if quote is None or not _within(quote, now, fx_rates.stale_limit()):
            raise unknown_rate(currency, rates.base)
        return quote

    def _then(self, at: datetime, currencies: tuple[str, str]) -> Rates:
        """Give the rates of the past: the ledger's, and the research store's where it has none."""
        account = self._account()
        rates = _read(lambda: fx_rates.rates_at(account, at))
        if all(name in rates.quotes or name == rates.base for name in currencies):
            return rates
        return Rates.of_quotes(rates.base, {**archived_rates(account, rates.base, at), **rates.quotes})

    def _known(self, rates: Rates, currency: str, now: datetime) -> Quote | None:
        with self._lock:
            asked = self._asked.get(currency)
        return better(rates.quotes.get(currency), None if asked is None else _aged(asked, now))

    def _ask(self, rates: Rates, currency: str) -> Quote | None:
        """Ask IB for the pair with base, else for pairs with third currencies; without the lock, it may wait."""
        if self.spot is None:
            return None
        spot = _checked(self.spot)
        quote = spot(currency, rates.base) or cross(currency, rates.base, self._thirds(rates, currency, spot), spot)
        if quote is not None:
            with self._lock:
                self._asked[currency] = quote
        return quote

    def _thirds(self, rates: Rates, currency: str, spot: PairQuote) -> dict[str, Quote]:
        """Give the third currencies whose worth in base is known freshly, the account's own first."""
        found = {name: quote for name, quote in rates.quotes.items() if not quote.stale and quote.source != CROSS}
        for name in MAJORS:
            if name not in (*found, currency, rates.base) and (quote := spot(name, rates.base)) is not None:
                found[name] = quote
        return found


def _read(work: Callable[[], Rates]) -> Rates:
    """Close the calling thread's connection afterwards: worker threads come and go, their connections would stay."""
    try:
        return work()
    finally:
        if not database.in_atomic_block:  # inside one it would take the caller's transaction away
            close_old_connections()


def _checked(spot: PairQuote) -> PairQuote:
    """Take what is no positive number for no answer."""

    def _ask(currency: str, base: str) -> Quote | None:
        quote = spot(currency, base)
        return quote if quote is not None and is_rate(quote.worth) else None

    return _ask


def _aged(quote: Quote, now: datetime) -> Quote:
    """Give a quote of this process as it counts by now."""
    old = quote.as_of is not None and now - quote.as_of > fx_rates.FRESH
    return replace(quote, stale=True) if old else quote


def _within(quote: Quote, now: datetime, limit: timedelta) -> bool:
    return quote.as_of is None or now - quote.as_of <= limit
