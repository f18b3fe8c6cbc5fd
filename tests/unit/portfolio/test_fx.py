"""The pure rate table: directions, crosses, age."""

# Whole Decimals are compared with ints to stay readable.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolio.ledger.fx import Quote, Rates, better, cross
from portfolio.ledger.money import QUANTUM
from strategies.exceptions import LedgerError

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
WORTHS = st.decimals(min_value="0.0001", max_value="10000", places=10)
AMOUNTS = st.decimals(min_value="-1000000000", max_value="1000000000", places=10)


def quote(worth: str, *, minutes_old: int = 0, source: str = "account", stale: bool = False) -> Quote:
    return Quote(Decimal(worth), NOON - timedelta(minutes=minutes_old), source, stale)


@given(AMOUNTS, WORTHS, WORTHS)
def test_converting_there_and_back_loses_at_most_a_quantum_a_step(amount: Decimal, euro: Decimal, yen: Decimal) -> None:
    rates = Rates("USD", {"EUR": euro, "JPY": yen})
    there = rates.convert(amount, "EUR", "JPY")
    back = rates.convert(there, "JPY", "EUR")
    # The first step's half quantum grows by the rate on the way back; the second adds its own.
    assert abs(back - amount) <= QUANTUM * (1 + yen / euro)


@given(AMOUNTS, WORTHS)
def test_converting_through_base_is_converting_at_once(amount: Decimal, euro: Decimal) -> None:
    rates = Rates("USD", {"EUR": euro, "GBP": Decimal("1.3")})
    through = rates.convert(rates.convert(amount, "EUR", "USD"), "USD", "GBP")
    assert abs(through - rates.convert(amount, "EUR", "GBP")) <= 2 * QUANTUM


@given(WORTHS)
def test_the_two_directions_are_inverse_to_each_other(worth: Decimal) -> None:
    known = Quote(worth, NOON, "account")
    assert abs(known.worth_in_base * known.units_per_base - 1) <= QUANTUM * (worth + 1)


def test_directions_say_what_they_mean() -> None:
    yen = quote("0.0066")
    assert yen.worth_in_base == Decimal("0.0066")
    assert yen.units_per_base == Decimal("151.5151515152")


@pytest.mark.parametrize("worth", ["0", "-1", "NaN", "Infinity"])
def test_what_is_no_rate_is_unknown_and_never_one(worth: str) -> None:
    with pytest.raises(LedgerError) as unknown:
        Rates("USD", {"EUR": Decimal(worth)}).convert(Decimal(5), "EUR", "USD")
    assert unknown.value.code == "fx_unknown"


def test_only_identity_is_one() -> None:
    assert Rates("USD").convert(Decimal("7.5"), "XYZ", "XYZ") == Decimal("7.5")
    assert Rates("USD").quote("USD").worth == 1


def test_conversion_is_as_stale_and_as_old_as_its_weaker_rate() -> None:
    rates = Rates.of_quotes(
        "USD", {"EUR": quote("1.25", minutes_old=5), "GBP": quote("1.3", minutes_old=90, stale=True)}
    )
    found = rates.convert_flagged(Decimal(130), "GBP", "EUR")
    assert (found.amount, found.stale, found.as_of) == (Decimal("135.2"), True, NOON - timedelta(minutes=90))
    assert not rates.convert_flagged(Decimal(1), "EUR", "USD").stale
    assert rates.is_stale(["EUR", "GBP"])
    assert not rates.is_stale(["EUR", "USD", "CHF"])


def test_rates_beyond_the_limit_are_dropped() -> None:
    rates = Rates.of_quotes("USD", {"EUR": quote("1.25", minutes_old=59), "GBP": quote("1.3", minutes_old=61)})
    assert set(rates.not_older(NOON, timedelta(hours=1)).worth) == {"EUR"}


def test_cross_goes_through_the_first_third_currency_with_a_price() -> None:
    prices = {("SEK", "EUR"): quote("0.09", source="spot", stale=True), ("SEK", "USD"): quote("9", source="spot")}
    thirds = {"USD": quote("1"), "GBP": quote("1.3"), "EUR": quote("1.25", minutes_old=3)}
    found = cross("SEK", "USD", thirds, lambda a, b: prices.get((a, b)))
    assert found is not None
    assert (found.worth, found.source, found.stale) == (Decimal("0.1125"), "cross", True)
    assert found.as_of == NOON - timedelta(minutes=3)
    assert cross("NOK", "USD", thirds, lambda a, b: prices.get((a, b))) is None


def test_fresh_beats_the_accounts_own_stale_rate_and_the_account_beats_another_fresh_one() -> None:
    stale, spot, account = quote("1.1", stale=True), quote("1.2", source="spot"), quote("1.3", minutes_old=9)
    assert better(stale, spot) is spot
    assert better(spot, account) is account
    assert better(None, None) is None


def test_of_two_stale_rates_the_later_one_serves_also_against_the_accounts() -> None:
    account = quote("1.1", minutes_old=23 * 60, stale=True)
    delayed = quote("1.2", minutes_old=1, source="delayed", stale=True)
    assert better(account, delayed) is delayed
    assert better(delayed, account) is delayed
