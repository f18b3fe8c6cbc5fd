"""Dated rates: recording, thinning, the present and the past."""

# Whole Decimals are compared with ints to stay readable.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from portfolio.arctic.client import ArcticClient
from portfolio.arctic.projections import Projector
from portfolio.fx_archive import archived_rates
from portfolio.fx_rates import present_rates, rates_at, record_rates, thin_rates, wanted_currencies
from portfolio.ledger.fx import Quote
from portfolio.models import FxRate
from portfolio.services import (
    allocate_strategy,
    ensure_account,
    initial_allocation,
    open_account,
    record_account_values,
)
from portfolio.valuation import figures_of, strategy_equity
from strategies.exceptions import LedgerError
from strategies.models import Strategy
from tests.unit.portfolio.builders import ACCOUNT, NOW

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _account() -> None:
    ensure_account(ACCOUNT, "USD")


def say(rate: str, at: datetime = NOW, currency: str = "EUR") -> None:
    record_account_values(ACCOUNT, [("ExchangeRate", rate, currency), ("ExchangeRate", "1.00", "BASE")], at)


def recorded() -> list[tuple[str, Decimal, datetime]]:
    return list(FxRate.objects.order_by("at", "currency").values_list("currency", "worth", "at"))


def test_rates_are_recorded_with_the_accounts_figures() -> None:
    say("1.25")
    assert recorded() == [("EUR", Decimal("1.25"), NOW)]


def test_changes_are_recorded_at_most_once_a_minute_and_standing_rates_every_five() -> None:
    for second in range(0, 660, 20):
        say("1.25" if second < 60 else "1.26", NOW + timedelta(seconds=second))
    assert [at - NOW for _, _, at in recorded()] == [0 * MINUTE, 1 * MINUTE, 6 * MINUTE]


@pytest.mark.parametrize("text", ["NaN", "0", "-1.2", "Infinity", "", "abc", "0.000000000001"])
def test_what_is_no_rate_is_not_recorded(text: str) -> None:
    say(text)
    assert recorded() == []
    with pytest.raises(LedgerError) as unknown:
        present_rates(ACCOUNT, NOW).convert(Decimal(1), "EUR", "USD")
    assert unknown.value.code == "fx_unknown"


def test_no_rate_is_recorded_while_the_base_currency_is_unknown() -> None:
    record_account_values("DU2", [], NOW)
    ensure_account("DU2")
    record_account_values("DU2", [("ExchangeRate", "1.25", "EUR")], NOW)
    assert recorded() == []


def test_a_base_row_is_no_rate_of_a_currency() -> None:
    record_account_values(ACCOUNT, [("ExchangeRate", "1.25", "EUR"), ("ExchangeRate", "1.00", "BASE")], NOW)
    assert set(present_rates(ACCOUNT, NOW).worth) == {"EUR"}


def test_recording_the_same_moment_again_changes_nothing() -> None:
    for _ in range(3):
        record_rates(ACCOUNT, {"EUR": Decimal("1.25")}, NOW, "spot")
    assert len(recorded()) == 1


def test_a_rate_older_than_the_last_is_not_kept() -> None:
    say("1.25")
    record_rates(ACCOUNT, {"EUR": Decimal("1.1")}, NOW - timedelta(hours=1), "spot")
    assert recorded() == [("EUR", Decimal("1.25"), NOW)]


def test_the_past_is_read_from_the_research_store_where_the_ledger_has_none(arctic: ArcticClient) -> None:
    for hours, worth in ((0, "1.25"), (3, "1.30")):
        record_rates(ACCOUNT, {"EUR": Decimal(worth)}, NOW + timedelta(hours=hours))
    Projector(client=arctic).flush()
    FxRate.objects.all().delete()
    moment = NOW + timedelta(hours=2)
    assert archived_rates(ACCOUNT, "USD", moment, arctic) == {"EUR": Quote(Decimal("1.25"), NOW, "account", True)}
    assert archived_rates(ACCOUNT, "CHF", moment, arctic) == {}
    assert archived_rates(ACCOUNT, "USD", NOW - MINUTE, arctic) == {}
    assert archived_rates("DU9", "USD", moment, arctic) == {}


def test_the_present_takes_the_accounts_rate_before_a_later_spot() -> None:
    say("1.25")
    record_rates(ACCOUNT, {"EUR": Decimal("1.3"), "GBP": Decimal("1.4")}, NOW + 2 * MINUTE, "spot")
    rates = present_rates(ACCOUNT, NOW + 3 * MINUTE)
    assert (rates.worth, rates.quotes["GBP"].source) == ({"EUR": Decimal("1.25"), "GBP": Decimal("1.4")}, "spot")


def test_a_fresh_spot_replaces_an_account_rate_that_grew_old() -> None:
    say("1.25")
    record_rates(ACCOUNT, {"EUR": Decimal("1.3")}, NOW + 20 * MINUTE, "spot")
    quote = present_rates(ACCOUNT, NOW + 21 * MINUTE).quote("EUR")
    assert (quote.worth, quote.source, quote.stale) == (Decimal("1.3"), "spot", False)


def test_old_rates_carry_a_flag_and_delayed_ones_always_do() -> None:
    say("1.25")
    record_rates(ACCOUNT, {"GBP": Decimal("1.4")}, NOW, "delayed")
    young, old = present_rates(ACCOUNT, NOW + 15 * MINUTE), present_rates(ACCOUNT, NOW + 16 * MINUTE)
    assert (young.is_stale(["EUR"]), old.is_stale(["EUR"]), young.is_stale(["GBP"])) == (False, True, True)
    assert old.convert(Decimal(100), "EUR", "USD") == 125  # still shown


def test_the_past_is_valued_at_its_own_rates() -> None:
    for hours, worth in ((0, "1.25"), (1, "1.30"), (5, "1.10")):
        record_rates(ACCOUNT, {"EUR": Decimal(worth)}, NOW + timedelta(hours=hours))
    then = rates_at(ACCOUNT, NOW + timedelta(hours=1, minutes=30))
    assert (then.convert(Decimal(100), "EUR", "USD"), then.is_stale(["EUR"])) == (130, False)
    assert rates_at(ACCOUNT, NOW + timedelta(hours=4)).is_stale(["EUR"])
    with pytest.raises(LedgerError):
        rates_at(ACCOUNT, NOW - MINUTE).convert(Decimal(1), "EUR", "USD")


def test_thinning_keeps_one_row_a_cell_and_all_of_the_last_day() -> None:
    start = datetime(2026, 3, 1, tzinfo=UTC)
    rows = [
        FxRate(base="USD", currency=currency, worth=Decimal(1 + number), source="account", at=start + number * MINUTE)
        for number in range(60)
        for currency in ("EUR", "GBP")
    ]
    FxRate.objects.bulk_create(rows)
    assert thin_rates("USD", start + timedelta(hours=25, minutes=1)) == 0
    assert thin_rates("USD", start + timedelta(hours=26, minutes=5)) == 96
    assert [at.minute for _, _, at in recorded()][::2] == list(range(0, 60, 5))
    thin_rates("USD", start + timedelta(days=90, hours=1, minutes=5))
    assert recorded() == [("EUR", 1, start), ("GBP", 1, start)]
    assert thin_rates("USD", start + timedelta(days=90, hours=2)) == 0


def test_recording_thins_as_the_hours_pass() -> None:
    for minute in range(0, 30 * 60, 2):
        record_rates(ACCOUNT, {"EUR": Decimal(1) + minute}, NOW + minute * MINUTE)
    old = [at for _, _, at in recorded() if at < NOW + timedelta(hours=4)]
    assert len(old) == 4 * 12  # of 120, one each five minutes


def test_wanted_are_the_currencies_of_strategies_and_of_cash_that_is_there() -> None:
    Strategy.objects.create(symbol="EUROS", filename="e.py", target_weight=Decimal("0.1"), currency="EUR")
    Strategy.objects.create(symbol="HOME", filename="h.py", target_weight=Decimal("0.1"))
    open_account(ACCOUNT, {"USD": Decimal(1000), "JPY": Decimal(5), "SEK": Decimal(0)}, [], [], NOW)
    assert wanted_currencies(ACCOUNT) == ["EUR", "JPY"]


def test_too_old_a_rate_allocates_nothing_and_sizes_nothing() -> None:
    Strategy.objects.create(symbol="EUROS", filename="e.py", target_weight=Decimal("0.5"), currency="EUR")
    open_account(ACCOUNT, {"USD": Decimal(100_000)}, [], [], NOW)
    record_account_values(ACCOUNT, [("NetLiquidation", "100000", "USD"), ("ExchangeRate", "1.25", "EUR")], NOW)
    within, beyond = NOW + timedelta(hours=23), NOW + timedelta(hours=25)
    record_account_values(ACCOUNT, [("NetLiquidation", "100000", "USD")], within + timedelta(hours=1, minutes=30))
    assert initial_allocation(ACCOUNT, "EUROS", within) == (40_000, "EUR")
    with pytest.raises(LedgerError) as old:
        initial_allocation(ACCOUNT, "EUROS", beyond)
    assert old.value.code == "fx_unknown"
    allocate_strategy(ACCOUNT, "EUROS", Decimal(40_000), "EUR", NOW)
    allocate_strategy(ACCOUNT, "HOME", Decimal(1_000), "USD", NOW)
    assert strategy_equity(ACCOUNT, "EUROS", beyond) == 40_000  # needs no rate
    Strategy.objects.filter(symbol="EUROS").update(currency="GBP")
    with pytest.raises(LedgerError) as unknown:
        strategy_equity(ACCOUNT, "EUROS", beyond)
    assert unknown.value.code == "equity_unknown"


def test_figures_say_when_a_rate_in_them_is_old() -> None:
    Strategy.objects.create(symbol="EUROS", filename="e.py", target_weight=Decimal("0.5"))
    say("1.25")
    allocate_strategy(ACCOUNT, "EUROS", Decimal(100), "EUR", NOW)
    found = [
        figures_of(ACCOUNT, "EUROS", currency, present_rates(ACCOUNT, at), at).stale_rates
        for currency, at in (("USD", NOW), ("USD", NOW + 20 * MINUTE), ("EUR", NOW + 20 * MINUTE))
    ]
    assert found == [False, True, False]
