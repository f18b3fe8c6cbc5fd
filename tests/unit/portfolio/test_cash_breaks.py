"""Comparing IB's cash with what the books expect."""

# Whole Decimals are compared with ints to stay readable.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolio.facts import BrokerPosition
from portfolio.ledger.money import ZERO
from portfolio.ledger.reconciliation import CENT, ExpectedCash, Held, compare_money, expected_cash, split_ratio
from portfolio.models import Account, Break, BrokerHolding, CashBalance
from portfolio.services import (
    cash_differences,
    compare_cash,
    compare_positions,
    ensure_account,
    ensure_instruments,
    fold_batch,
    note_reconciled,
    open_account,
    store_holdings,
)
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fee, fill, owner_of

MONEY = st.decimals(min_value=-(10**9), max_value=10**9, places=4)
FUTURE = contract(9001, "ES", sec_type="FUT", exchange="CME", multiplier=Decimal(50))
PAIR = contract(12087792, "EUR", sec_type="CASH", exchange="IDEALPRO", currency="USD")


def compare(amount: str | int, currency: str = "USD") -> list[tuple[str, str, Decimal, Decimal]]:
    facts = compare_cash(ACCOUNT, {currency: Decimal(amount)}, NOW)
    return [(fact.currency, fact.state, fact.ib_quantity, fact.ledger_quantity) for fact in facts]


@pytest.fixture
def books(db: None) -> None:
    """1000 USD, of which 60 shares at 5 with a fee of one dollar were bought."""
    ensure_account(ACCOUNT, "USD")
    open_account(ACCOUNT, {"USD": Decimal(1000)}, [], [], NOW)
    fold_batch(ACCOUNT, [fill(1, 60, 5), fee(1)], owner_of, NOW)


@pytest.mark.usefixtures("books")
def test_cash_of_all_owners_is_what_ib_holds() -> None:
    assert compare(699) == []
    assert compare("699.01") == []  # IB rounds to the cent, at the opening and now


@pytest.mark.usefixtures("books")
def test_difference_opens_one_break_follows_it_and_clears() -> None:
    assert compare("699.02") == [("USD", "open", Decimal("699.02"), 699)]
    assert compare("699.02") == []
    assert compare(800) == [("USD", "open", 800, 699)]
    assert compare(699) == [("USD", "cleared", 699, 699)]
    assert Break.objects.get().cleared_at == NOW
    assert compare(699) == []
    assert sum(CashBalance.objects.values_list("amount", flat=True), ZERO) == 699


@pytest.mark.usefixtures("books")
def test_currency_that_ib_does_not_name_holds_nothing_there() -> None:
    assert compare(5, "EUR") == [("EUR", "open", 5, 0), ("USD", "open", 0, 699)]


@pytest.mark.usefixtures("books")
def test_breaks_of_cash_and_positions_do_not_disturb_each_other() -> None:
    compare(700)
    assert [fact.kind for fact in compare_positions(ACCOUNT, {265598: Decimal(61)}, NOW)] == ["position"]
    assert Break.objects.filter(state="open").count() == 2
    compare(699)
    assert Break.objects.get(state="open").kind == "position"


@pytest.mark.usefixtures("books")
def test_pair_s_base_currency_is_cash_at_ib_and_a_position_here() -> None:
    fold_batch(ACCOUNT, [fill(2, 100, "1.1", of=PAIR)], owner_of, NOW)
    assert cash_differences(ACCOUNT, {"USD": Decimal(589), "EUR": Decimal(100)}) == []
    [found] = cash_differences(ACCOUNT, {"USD": Decimal(589)})
    assert (found.currency, found.amount) == ("EUR", -100)


@pytest.mark.usefixtures("books")
def test_future_s_value_is_added_and_its_mark_leaves_room() -> None:
    fold_batch(ACCOUNT, [fill(3, 1, 4000, of=FUTURE)], owner_of, NOW)
    paid = 699 - 200_000
    assert cash_differences(ACCOUNT, {"USD": Decimal(paid + 50 * 4010)}, {9001: Decimal(4010)}) == []
    assert cash_differences(ACCOUNT, {"USD": Decimal(paid + 50 * 4010 + 1002)}, {9001: Decimal(4010)}) == []
    [found] = cash_differences(ACCOUNT, {"USD": Decimal(paid + 50 * 4010 + 1003)}, {9001: Decimal(4010)})
    assert found.tolerance == Decimal("1002.51")


@pytest.mark.usefixtures("books")
def test_currency_whose_future_has_no_mark_neither_opens_nor_clears() -> None:
    assert compare(800) == [("USD", "open", 800, 699)]
    fold_batch(ACCOUNT, [fill(3, 1, 4000, of=FUTURE)], owner_of, NOW)
    assert compare(123) == []
    assert Break.objects.get().state == "open"


@pytest.mark.usefixtures("books")
def test_cause_says_that_a_commission_is_not_known() -> None:
    fold_batch(ACCOUNT, [fill(4, 1, 9)], owner_of, NOW)
    [fact] = compare_cash(ACCOUNT, {"USD": Decimal(689)}, NOW)
    [item] = fact.cause["items"]
    assert (item["kind"], item["ids"]) == ("commission_unknown", [fill(4).exec_id])


@pytest.mark.usefixtures("books")
def test_holdings_are_ibs_last_complete_answer() -> None:
    ensure_instruments([contract(5, "MSFT")])
    first = [
        BrokerPosition(contract(), Decimal(60), Decimal("5.02")),
        BrokerPosition(contract(5, "MSFT"), Decimal(-2), Decimal(9)),
    ]
    store_holdings(ACCOUNT, first, NOW)
    store_holdings(ACCOUNT, first, NOW)
    assert {row.instrument_id: row.quantity for row in BrokerHolding.objects.all()} == {265598: 60, 5: -2}
    store_holdings(ACCOUNT, [BrokerPosition(contract(), Decimal(50), Decimal(5))], NOW)
    [row] = BrokerHolding.objects.all()
    assert (row.instrument_id, row.quantity, row.average_cost) == (265598, 50, 5)
    note_reconciled(ACCOUNT, NOW)
    account = Account.objects.get()
    assert (account.positions_at, account.reconciled_at) == (NOW, NOW)


@given(st.dictionaries(st.sampled_from(["USD", "EUR", "JPY"]), MONEY), MONEY)
def test_equal_books_never_differ_and_more_than_a_cent_always_does(owned: dict[str, Decimal], more: Decimal) -> None:
    expected = expected_cash(owned, [])
    assert compare_money(owned, expected) == []
    found = compare_money({**owned, "USD": owned.get("USD", ZERO) + more}, expected)
    assert bool(found) is (abs(more) > CENT)


@given(MONEY, st.integers(-500, 500), st.decimals(min_value="0.01", max_value=9999, places=2))
def test_paying_a_future_s_notional_and_adding_its_value_leaves_the_gain(
    cash: Decimal, quantity: int, price: Decimal
) -> None:
    held = Held(1, "ES", "FUT", "USD", Decimal(50), Decimal(quantity), price)
    expected = expected_cash({"USD": cash - quantity * price * 50}, [held])
    assert expected.amounts["USD"] == cash


@given(st.integers(2, 50), st.integers(1, 10**6))
def test_whole_splits_and_their_reverses_are_recognised(ratio: int, quantity: int) -> None:
    assert split_ratio(Decimal(quantity), Decimal(quantity * ratio)) == (ratio, 1)
    assert split_ratio(Decimal(-quantity * ratio), Decimal(-quantity)) == (1, ratio)


def test_unknown_expectation_is_left_out() -> None:
    assert compare_money({"USD": Decimal(5)}, ExpectedCash({"USD": ZERO}, {}, frozenset({"USD"}))) == []
