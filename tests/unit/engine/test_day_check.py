"""The day's executions and IB's cash, as they are taken from answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from ib_async import AccountValue

from portfolio.causes import day_start
from portfolio.services import ensure_account, fold_batch, open_account
from strategies.exceptions import LedgerError
from tests.unit.portfolio.builders import ACCOUNT, NOW, fill, owner_of
from trading.engine.broker_state import AccountAnswer
from trading.engine.day_check import both, compare_day, live_executions

CON_ID = 265598
SOON = NOW + timedelta(seconds=5)


@pytest.fixture
def books(db: None) -> None:
    ensure_account(ACCOUNT, "USD")
    open_account(ACCOUNT, {"USD": Decimal(1000)}, [], [], NOW)
    fold_batch(ACCOUNT, [fill(1), fill(2), fill(2, 90, revision=2), fill(3, at=NOW - timedelta(days=1))], owner_of, NOW)


def ids(*fills: tuple[int, int]) -> dict[str, int]:
    return {fill(number, revision=revision).exec_id: CON_ID for number, revision in fills}


@pytest.mark.usefixtures("books")
def test_same_executions_in_force_on_both_sides_agree() -> None:
    found = compare_day(ACCOUNT, ids((1, 1), (2, 1), (2, 2)), SOON, NOW)
    assert (found.missing, found.unconfirmed) == (frozenset(), frozenset())
    assert set(found.executions) == set(ids((1, 1), (2, 2)))


@pytest.mark.usefixtures("books")
def test_each_side_s_own_executions_are_found() -> None:
    found = compare_day(ACCOUNT, ids((1, 1), (9, 1)), SOON, NOW)
    assert found.missing == frozenset(ids((9, 1)))
    assert found.unconfirmed == frozenset(ids((2, 2)))


@pytest.mark.usefixtures("books")
def test_execution_of_yesterday_is_neither_expected_nor_missing() -> None:
    found = compare_day(ACCOUNT, ids((1, 1), (2, 2), (3, 1)), SOON, NOW)
    assert not found.missing
    assert not found.unconfirmed


@pytest.mark.usefixtures("books")
def test_what_was_booked_after_the_replay_was_asked_for_is_left_out() -> None:
    found = compare_day(ACCOUNT, {}, NOW - timedelta(seconds=1), NOW)
    assert not found.unconfirmed


@pytest.mark.usefixtures("books")
def test_only_what_two_looks_share_counts() -> None:
    first = compare_day(ACCOUNT, ids((1, 1), (9, 1)), SOON, NOW)
    second = compare_day(ACCOUNT, ids((9, 1), (2, 2)), SOON, NOW)
    found = both(first, second)
    assert (found.missing, found.unconfirmed) == (frozenset(ids((9, 1))), frozenset())


def test_the_highest_revision_is_in_force_whatever_the_order() -> None:
    assert set(live_executions(ids((1, 10), (1, 9), (1, 2)))) == set(ids((1, 10)))


@pytest.mark.parametrize(
    ("moment", "start"),
    [
        (datetime(2026, 7, 1, 3, 59, tzinfo=UTC), datetime(2026, 6, 30, 4, tzinfo=UTC)),
        (datetime(2026, 1, 5, 5, 1, tzinfo=UTC), datetime(2026, 1, 5, 5, tzinfo=UTC)),
        (datetime(2026, 3, 8, 20, tzinfo=UTC), datetime(2026, 3, 8, 5, tzinfo=UTC)),  # clocks go forward that night
    ],
)
def test_the_day_begins_at_midnight_in_new_york(moment: datetime, start: datetime) -> None:
    assert day_start(moment) == start


def value(tag: str, text: str, currency: str, account: str = ACCOUNT) -> AccountValue:
    return AccountValue(account, tag, text, currency, "")


def test_cash_is_taken_by_currency_without_base_and_other_accounts() -> None:
    answer = AccountAnswer(ACCOUNT)
    for one in (
        value("CashBalance", "10.50", "USD"),
        value("CashBalance", "99", "BASE"),
        value("CashBalance", "-3", "EUR"),
        value("CashBalance", "77", "USD", "DU9"),
        value("TotalCashBalance", "1", "USD"),
    ):
        answer.take_value(one)
    assert answer.cash() == {"USD": Decimal("10.5"), "EUR": Decimal(-3)}


@pytest.mark.parametrize("rows", [[], [value("CashBalance", "5", "BASE")], [value("CashBalance", "n/a", "USD")]])
def test_answer_without_cash_is_an_error_and_not_nothing(rows: list[AccountValue]) -> None:
    answer = AccountAnswer(ACCOUNT)
    for one in rows:
        answer.take_value(one)
    with pytest.raises(LedgerError):
        answer.cash()
