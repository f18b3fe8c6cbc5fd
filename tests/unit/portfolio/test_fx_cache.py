"""FXCache: the order of its sources, the limit of age, threads."""

# Whole Decimals are compared with ints to stay readable.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connections

from portfolio.fx_cache import FXCache
from portfolio.fx_rates import record_rates
from portfolio.ledger.fx import Quote
from portfolio.manager import PortfolioManager
from portfolio.services import ensure_account, record_account_values
from strategies.exceptions import LedgerError
from tests.unit.portfolio.builders import ACCOUNT, NOW

pytestmark = pytest.mark.django_db


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def passes(self, **by: float) -> None:
        self.now += timedelta(**by)


class Spot:
    """IB's prices by pair, and what was asked."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.prices: dict[tuple[str, str], str] = {}
        self.delayed = False
        self.asked: list[tuple[str, str]] = []

    def __call__(self, currency: str, base: str) -> Quote | None:
        self.asked.append((currency, base))
        price = self.prices.get((currency, base))
        return None if price is None else Quote(Decimal(price), self.clock(), "spot", self.delayed)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def spot(clock: Clock) -> Spot:
    return Spot(clock)


@pytest.fixture
def cache(clock: Clock, spot: Spot) -> FXCache:
    ensure_account(ACCOUNT, "USD")
    return FXCache(lambda: ACCOUNT, spot=spot, clock=clock)


def report(clock: Clock, rate: str, currency: str = "EUR") -> None:
    record_account_values(ACCOUNT, [("ExchangeRate", rate, currency)], clock())


def test_the_accounts_fresh_rate_comes_first_and_asks_nobody(cache: FXCache, clock: Clock, spot: Spot) -> None:
    report(clock, "1.25")
    spot.prices["EUR", "USD"] = "9"
    assert cache.convert(Decimal(100), "EUR", "USD") == 125
    assert spot.asked == []


def test_get_fx_rate_is_units_of_the_currency_for_one_base(cache: FXCache, clock: Clock) -> None:
    report(clock, "1.25")
    report(clock, "1.5", "GBP")
    assert cache.get_fx_rate("EUR") == Decimal("0.8")
    assert cache.get_fx_rate("EUR", "GBP") == Decimal("1.2")
    assert Decimal(100) / cache.get_fx_rate("EUR") == cache.convert(Decimal(100), "EUR", "USD")
    assert cache.get_fx_rate("USD") == 1


def test_spot_comes_second(cache: FXCache, clock: Clock, spot: Spot) -> None:
    spot.prices["EUR", "USD"] = "1.2"
    assert cache.quote("EUR") == Quote(Decimal("1.2"), NOW, "spot", False)
    cache.quote("EUR")
    assert spot.asked == [("EUR", "USD")]  # serves until it is old
    clock.passes(minutes=16)
    cache.quote("EUR")
    assert len(spot.asked) == 2


def test_spot_replaces_an_account_rate_that_grew_old(cache: FXCache, clock: Clock, spot: Spot) -> None:
    report(clock, "1.25")
    clock.passes(minutes=16)
    spot.prices["EUR", "USD"] = "1.2"
    assert cache.quote("EUR").worth == Decimal("1.2")


def test_a_delayed_price_comes_before_an_account_rate_of_yesterday(cache: FXCache, clock: Clock, spot: Spot) -> None:
    report(clock, "1.25")
    clock.passes(hours=20)
    spot.prices["EUR", "USD"], spot.delayed = "1.2", True
    found = cache.convert_flagged(Decimal(100), "EUR", "USD")
    assert (found.amount, found.stale, found.as_of) == (120, True, clock.now)


def test_cross_through_a_third_currency_comes_third(cache: FXCache, clock: Clock, spot: Spot) -> None:
    report(clock, "1.25")
    spot.prices["SEK", "EUR"] = "0.1"
    quote = cache.quote("SEK")
    assert (quote.worth, quote.source, quote.stale) == (Decimal("0.125"), "cross", False)


def test_cross_asks_for_the_third_currency_too(cache: FXCache, spot: Spot) -> None:
    spot.prices.update({("NOK", "EUR"): "0.1", ("EUR", "USD"): "1.25"})
    assert cache.convert(Decimal(8), "NOK", "USD") == 1


def test_an_old_rate_serves_with_a_flag_up_to_the_limit_and_then_is_an_error(cache: FXCache, clock: Clock) -> None:
    report(clock, "1.25")
    clock.passes(hours=24)
    found = cache.convert_flagged(Decimal(100), "EUR", "USD")
    assert (found.amount, found.stale, found.as_of) == (125, True, NOW)
    clock.passes(seconds=1)
    cache.clear()
    with pytest.raises(LedgerError) as unknown:
        cache.convert(Decimal(100), "EUR", "USD")
    assert unknown.value.code == "fx_unknown"


def test_the_limit_holds_for_a_table_that_is_still_kept(cache: FXCache, clock: Clock) -> None:
    report(clock, "1.25")
    clock.passes(hours=23, minutes=59, seconds=58)
    cache.quote("EUR")
    clock.passes(seconds=3)
    with pytest.raises(LedgerError):
        cache.quote("EUR")


def test_a_rate_nobody_knows_is_an_error_and_never_one(cache: FXCache) -> None:
    with pytest.raises(LedgerError) as unknown:
        cache.convert(Decimal(100), "EUR", "USD")
    assert unknown.value.code == "fx_unknown"
    assert cache.convert(Decimal(100), "EUR", "EUR") == 100


def test_delayed_price_is_flagged(cache: FXCache, spot: Spot) -> None:
    spot.prices["EUR", "USD"], spot.delayed = "1.2", True
    assert cache.convert_flagged(Decimal(1), "EUR", "USD").stale


def test_base_currency_is_unknown_until_ib_says_it() -> None:
    cache = FXCache(lambda: None)
    assert cache.base_currency is None
    ensure_account(ACCOUNT)
    waiting = FXCache(lambda: ACCOUNT)
    assert waiting.base_currency is None
    with pytest.raises(LedgerError) as unknown:
        waiting.convert(Decimal(1), "EUR", "USD")
    assert unknown.value.code == "base_currency_unknown"
    ensure_account(ACCOUNT, "CHF")
    assert waiting.base_currency == "CHF"


def test_the_past_has_its_own_rates(cache: FXCache, clock: Clock, spot: Spot) -> None:
    record_rates(ACCOUNT, {"EUR": Decimal("1.1")}, NOW - timedelta(days=30))
    report(clock, "1.25")
    then = cache.convert_flagged(Decimal(100), "EUR", "USD", at=NOW - timedelta(days=30, minutes=-5))
    assert (then.amount, then.stale) == (110, False)
    with pytest.raises(LedgerError):
        cache.convert(Decimal(1), "EUR", "USD", at=NOW - timedelta(days=31))
    assert spot.asked == []  # nobody is asked about the past


def test_refresh_asks_anew_only_what_the_account_does_not_say(cache: FXCache, clock: Clock, spot: Spot) -> None:
    report(clock, "1.25")
    spot.prices["GBP", "USD"] = "1.3"
    for _ in range(2):
        cache.refresh("EUR"), cache.refresh("GBP")
    assert spot.asked == [("GBP", "USD")] * 2


def test_quotes_list_every_known_rate_with_both_directions(cache: FXCache, clock: Clock, spot: Spot) -> None:
    report(clock, "1.25")
    spot.prices["GBP", "USD"] = "1.6"
    cache.quote("GBP")
    clock.passes(hours=25)
    cache.clear()
    [euro] = cache.quotes()
    assert (euro.currency, euro.worth_in_base, euro.units_per_base) == ("EUR", Decimal("1.25"), Decimal("0.8"))
    assert (euro.source, euro.stale, euro.usable) == ("account", True, False)


def test_a_price_that_comes_back_zero_or_nan_is_no_rate(cache: FXCache, spot: Spot) -> None:
    for junk in ("0", "NaN", "-1"):
        spot.prices["EUR", "USD"] = junk
        with pytest.raises(LedgerError):
            cache.quote("EUR")


def test_one_cache_belongs_to_the_portfolio_manager() -> None:
    ensure_account(ACCOUNT, "USD")
    manager = PortfolioManager()
    assert manager.fx_cache.base_currency == "USD"


@pytest.mark.django_db(transaction=True)
def test_threads_see_whole_tables_only(clock: Clock) -> None:
    ensure_account(ACCOUNT, "USD")
    report(clock, "2")
    cache = FXCache(lambda: ACCOUNT, spot=lambda a, b: None, clock=clock)
    together = threading.Barrier(8)

    def work(number: int) -> set[Decimal]:
        try:
            together.wait(10)
            seen = set()
            for _ in range(100):
                if number == 0:
                    cache.clear()
                seen.add(cache.convert(Decimal(10), "EUR", "USD"))
            return seen
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        assert set().union(*pool.map(work, range(8))) == {Decimal(20)}
