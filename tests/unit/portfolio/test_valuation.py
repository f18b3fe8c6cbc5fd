"""Marks, equity and its order of resolution, snapshots."""

# Whole Decimals are compared with ints to stay readable.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from portfolio.models import EquitySnapshot, Mark
from portfolio.services import (
    allocate_strategy,
    ensure_account,
    ensure_instruments,
    fold_batch,
    note_silence,
    open_account,
    rates_of,
    record_account_values,
    record_marks,
    strategy_equity,
    take_equity_snapshot,
)
from portfolio.valuation import figures_of, value_of
from strategies.exceptions import LedgerError
from strategies.models import Strategy
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fee, fill, owner_of

pytestmark = pytest.mark.django_db

LATER = NOW + timedelta(hours=2)


@pytest.fixture(autouse=True)
def _books() -> None:
    Strategy.objects.create(symbol="ALPHA", filename="a.py", target_weight=Decimal("0.2"))
    ensure_account(ACCOUNT, "USD")
    open_account(ACCOUNT, {"USD": Decimal(100_000)}, [], [], NOW)


def trade() -> None:
    allocate_strategy(ACCOUNT, "ALPHA", Decimal(20_000), "USD", NOW)
    fold_batch(ACCOUNT, [fill(1, 100, 50, commission="1")], owner_of, NOW)


def test_equity_is_cash_plus_marked_positions() -> None:
    trade()
    record_marks({265598: Decimal(55)}, NOW)
    assert strategy_equity(ACCOUNT, "ALPHA", NOW) == 20_000 - 1 + 500


def test_equity_falls_back_to_the_last_snapshot_when_marks_are_old() -> None:
    trade()
    record_marks({265598: Decimal(55)}, NOW)
    take_equity_snapshot(ACCOUNT, NOW)
    record_marks({265598: Decimal(99)}, NOW)
    assert strategy_equity(ACCOUNT, "ALPHA", LATER) == 20_499


def test_prices_that_stopped_value_nothing_until_the_next_one_comes() -> None:
    trade()
    record_marks({265598: Decimal(55)}, NOW)
    before, after = NOW + timedelta(minutes=2), NOW + timedelta(minutes=4)
    take_equity_snapshot(ACCOUNT, before)
    assert note_silence([265598], NOW + timedelta(minutes=3)) == 1
    assert note_silence([265598], NOW + timedelta(minutes=9)) == 0  # since the first word of it
    record_marks({}, after)
    take_equity_snapshot(ACCOUNT, after)  # it goes on at the last price there was, and says nothing new
    EquitySnapshot.objects.filter(owner="ALPHA", taken_at=after).update(equity=1)
    assert not figures_of(ACCOUNT, "ALPHA", "USD", rates_of(ACCOUNT), after).fresh
    assert strategy_equity(ACCOUNT, "ALPHA", after) == 20_000 - 1 + 500
    record_marks({265598: Decimal(55)}, after)
    assert Mark.objects.get().silent_since is None
    assert figures_of(ACCOUNT, "ALPHA", "USD", rates_of(ACCOUNT), after).fresh


def test_equity_falls_back_to_weight_of_net_liquidation() -> None:
    record_account_values(ACCOUNT, [("NetLiquidation", "100000", "USD")], NOW)
    assert strategy_equity(ACCOUNT, "ALPHA", NOW) == 20_000


def test_snapshot_of_yesterday_is_no_equity() -> None:
    trade()
    record_marks({265598: Decimal(55)}, NOW)
    take_equity_snapshot(ACCOUNT, NOW)
    with pytest.raises(LedgerError) as caught:
        strategy_equity(ACCOUNT, "ALPHA", NOW + timedelta(hours=25))
    assert caught.value.code == "equity_unknown"


def test_flat_strategy_needs_no_marks() -> None:
    allocate_strategy(ACCOUNT, "ALPHA", Decimal(20_000), "USD", NOW)
    assert strategy_equity(ACCOUNT, "ALPHA", LATER) == 20_000


def test_snapshot_covers_owners_and_account_at_one_moment() -> None:
    trade()
    record_marks({265598: Decimal(55)}, NOW)
    record_account_values(ACCOUNT, [("NetLiquidation", "100499", "USD"), ("TotalCashValue", "94999", "USD")], NOW)
    facts = {fact.owner: fact for fact in take_equity_snapshot(ACCOUNT, NOW)}
    assert {owner: fact.equity for owner, fact in facts.items()} == {
        "ALPHA": 20_499,
        "Discretionary": 80_000,
        "": 100_499,
    }
    assert (facts[""].cash, facts[""].realized_pnl, facts[""].unrealized_pnl) == (94_999, -1, 500)
    assert EquitySnapshot.objects.filter(taken_at=NOW).count() == 3


def test_sum_of_owners_is_the_account_to_the_cent() -> None:
    trade()
    record_marks({265598: Decimal("55.37")}, NOW)
    facts = take_equity_snapshot(ACCOUNT, NOW)
    assert sum(fact.equity for fact in facts) == 100_000 - 5_000 - 1 + Decimal("5537.00")


def test_snapshot_of_the_same_moment_is_written_once() -> None:
    assert take_equity_snapshot(ACCOUNT, NOW)
    assert take_equity_snapshot(ACCOUNT, NOW) == []


def test_owner_without_a_mark_is_left_out_and_the_account_says_unknown() -> None:
    trade()
    record_account_values(ACCOUNT, [("NetLiquidation", "100000", "USD")], NOW)
    facts = {fact.owner: fact for fact in take_equity_snapshot(ACCOUNT, NOW)}
    assert set(facts) == {"Discretionary", ""}
    assert facts[""].unrealized_pnl is None


def test_fee_in_another_currency_is_in_the_realised_profit() -> None:
    trade()
    record_marks({265598: Decimal(55)}, NOW)
    fold_batch(ACCOUNT, [fill(2, 10, 55), fee(2, "2", "EUR")], owner_of, NOW)
    record_account_values(ACCOUNT, [("ExchangeRate", "1.5", "EUR")], NOW)
    value = value_of("ALPHA", figures_of(ACCOUNT, "ALPHA", "USD", rates_of(ACCOUNT), NOW))
    assert value.realized_pnl == -1 - 3
    assert value.equity == 20_000 + value.realized_pnl + value.unrealized_pnl


def test_positions_of_two_currencies_are_converted_by_ibs_rate() -> None:
    euro = contract(7, "SIE", currency="EUR")
    fold_batch(ACCOUNT, [fill(1, 10, 100, of=euro)], owner_of, NOW)
    record_marks({7: Decimal(110)}, NOW)
    with pytest.raises(LedgerError):
        strategy_equity(ACCOUNT, "ALPHA", NOW)
    record_account_values(ACCOUNT, [("ExchangeRate", "1.2", "EUR")], NOW)
    assert strategy_equity(ACCOUNT, "ALPHA", NOW) == 120


def test_marks_of_unknown_instruments_and_no_numbers_are_left_out() -> None:
    trade()
    record_marks({265598: Decimal("NaN"), 99: Decimal(1)}, NOW)
    assert Mark.objects.count() == 0
    record_marks({265598: Decimal(51)}, NOW)
    record_marks({265598: Decimal(52)}, LATER)
    assert Mark.objects.get().price == 52


def test_what_cannot_be_a_price_of_its_kind_replaces_none() -> None:
    option = contract(77, "AAPL", sec_type="OPT", multiplier=Decimal(100))
    ensure_instruments([contract(), option, contract(78, "CL", sec_type="FUT", multiplier=Decimal(1000))])
    record_marks({265598: Decimal(51), 77: Decimal(2), 78: Decimal(5)}, NOW)
    record_marks({265598: Decimal(-1), 77: Decimal(-1)}, LATER)
    record_marks({265598: Decimal(0)}, LATER)
    assert {row.pk: row.price for row in Mark.objects.all()} == {265598: 51, 77: 2, 78: 5}
    record_marks({77: Decimal(0), 78: Decimal("-37.63")}, LATER)
    assert {row.pk: row.price for row in Mark.objects.all()} == {265598: 51, 77: 0, 78: Decimal("-37.63")}


def test_snapshot_valued_at_prices_of_days_ago_is_no_recent_equity() -> None:
    trade()
    record_account_values(ACCOUNT, [("NetLiquidation", "100000", "USD")], NOW)
    record_marks({265598: Decimal(55)}, NOW)
    later = NOW + timedelta(days=3)
    take_equity_snapshot(ACCOUNT, later)  # the page shows the last known worth
    with pytest.raises(LedgerError):
        strategy_equity(ACCOUNT, "ALPHA", later)  # the net liquidation is of three days ago as well
    record_account_values(ACCOUNT, [("NetLiquidation", "100000", "USD")], later)
    assert strategy_equity(ACCOUNT, "ALPHA", later) == 20_000  # sizing takes weight times net liquidation


def queries_of_a_snapshot(minutes: int) -> int:
    with CaptureQueriesContext(connection) as captured:
        take_equity_snapshot(ACCOUNT, NOW + timedelta(minutes=minutes))
    return len(captured)


def test_a_snapshot_of_many_owners_asks_no_more_than_one_of_few() -> None:
    """The message thread writes it, and what asks once for each owner holds up the fills of a hundred strategies."""
    trade()
    record_marks({265598: Decimal(55)}, NOW)
    take_equity_snapshot(ACCOUNT, NOW)
    few = queries_of_a_snapshot(1)
    for number in range(40):
        symbol = f"S{number:02d}"
        Strategy.objects.create(symbol=symbol, filename="a.py")
        allocate_strategy(ACCOUNT, symbol, Decimal(1_000), "USD", NOW)
    take_equity_snapshot(ACCOUNT, NOW + timedelta(minutes=2))
    assert queries_of_a_snapshot(3) == few
    taken = EquitySnapshot.objects.filter(taken_at=NOW + timedelta(minutes=3))
    assert taken.filter(owner__startswith="S").count() == 40
    assert set(taken.values_list("grain", flat=True)) == {60}


def test_an_owner_that_was_left_out_of_the_last_snapshot_keeps_its_own_grid() -> None:
    trade()
    record_marks({265598: Decimal(55)}, NOW)
    take_equity_snapshot(ACCOUNT, NOW)
    Mark.objects.all().delete()
    take_equity_snapshot(ACCOUNT, NOW + timedelta(minutes=1))  # without a price ALPHA cannot be valued
    record_marks({265598: Decimal(55)}, NOW)
    take_equity_snapshot(ACCOUNT, NOW + timedelta(minutes=1, seconds=10))
    grains = dict(
        EquitySnapshot.objects.filter(taken_at=NOW + timedelta(minutes=1, seconds=10)).values_list("owner", "grain")
    )
    assert (grains["ALPHA"], grains["Discretionary"]) == (60, 0)
