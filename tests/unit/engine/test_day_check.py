"""The day's executions and IB's cash, as they are taken from answers."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from ib_async import AccountValue

from portfolio.causes import BrokerDay, day_start
from portfolio.services import ensure_account, fold_batch, open_account
from strategies.exceptions import LedgerError
from tests.unit.portfolio.builders import ACCOUNT, NOW, fill, owner_of
from trading.engine.broker_state import AccountAnswer
from trading.engine.cash_check import CashCheck, CheckTimes
from trading.engine.day_check import Replayed, live_executions, look_at_day, settle_day
from trading.engine.marks import Marks

CON_ID = 265598
SOON = NOW + timedelta(seconds=5)


@pytest.fixture
def books(db: None) -> None:
    ensure_account(ACCOUNT, "USD")
    open_account(ACCOUNT, {"USD": Decimal(1000)}, [], [], NOW)
    fold_batch(ACCOUNT, [fill(1), fill(2), fill(2, 90, revision=2), fill(3, at=NOW - timedelta(days=1))], owner_of, NOW)


def ids(*fills: tuple[int, int]) -> dict[str, int]:
    return {fill(number, revision=revision).exec_id: CON_ID for number, revision in fills}


def replayed(*fills: tuple[int, int], wanted: Marks | None = None) -> Replayed:
    heard = Replayed(wanted or Marks())
    for exec_id, con_id in ids(*fills).items():
        heard.take(exec_id, con_id)
    return heard


def compare_day(*fills: tuple[int, int], asked_at: datetime = SOON) -> BrokerDay:
    """Return what two looks at the same replay find, the second naming what the first lacked."""
    first = look_at_day(ACCOUNT, replayed(*fills), asked_at, NOW)
    again = replayed(*fills, wanted=first.missing)
    return settle_day(first, look_at_day(ACCOUNT, again, asked_at, NOW), again.named)


@pytest.mark.usefixtures("books")
def test_same_executions_in_force_on_both_sides_agree() -> None:
    assert look_at_day(ACCOUNT, replayed((1, 1), (2, 1), (2, 2)), SOON, NOW).agrees


@pytest.mark.usefixtures("books")
def test_a_replay_since_a_moment_is_compared_with_the_books_since_then() -> None:
    later = NOW + timedelta(minutes=20)
    fold_batch(ACCOUNT, [fill(7, at=later)], owner_of, later)
    asked_at, since = later + timedelta(seconds=5), later - timedelta(minutes=5)
    assert look_at_day(ACCOUNT, replayed((7, 1)), asked_at, later, since).agrees
    assert not look_at_day(ACCOUNT, replayed((7, 1)), asked_at, later).agrees, "of the whole day more is expected"
    look = look_at_day(ACCOUNT, replayed((8, 1)), asked_at, later, since)
    assert look.unconfirmed == frozenset(ids((7, 1)))
    assert len(look.missing) == 1


@pytest.mark.usefixtures("books")
def test_each_side_s_own_executions_are_found() -> None:
    found = compare_day((1, 1), (9, 1))
    assert found.missing == frozenset(ids((9, 1)))
    assert found.executions == ids((9, 1))
    assert found.unconfirmed == frozenset(ids((2, 2)))


@pytest.mark.usefixtures("books")
def test_execution_of_yesterday_is_neither_expected_nor_missing() -> None:
    found = compare_day((1, 1), (2, 2), (3, 1))
    assert not found.missing
    assert not found.unconfirmed


@pytest.mark.usefixtures("books")
def test_of_a_missing_execution_the_revision_in_force_is_named() -> None:
    assert compare_day((1, 1), (2, 2), (9, 1), (9, 2)).executions == ids((9, 2))


@pytest.mark.usefixtures("books")
def test_what_was_booked_after_the_replay_was_asked_for_is_left_out() -> None:
    found = compare_day(asked_at=NOW - timedelta(seconds=1))
    assert not found.unconfirmed


@pytest.mark.usefixtures("books")
def test_only_what_two_looks_share_counts() -> None:
    first = look_at_day(ACCOUNT, replayed((1, 1), (9, 1)), SOON, NOW)
    again = replayed((9, 1), (2, 2), (8, 1), wanted=first.missing)
    found = settle_day(first, look_at_day(ACCOUNT, again, SOON, NOW), again.named)
    assert (found.missing, found.unconfirmed) == (frozenset(ids((9, 1))), frozenset())


def test_a_day_is_remembered_by_a_few_bytes_an_execution() -> None:
    def take(count: int) -> Replayed:
        heard = Replayed()
        for number in range(count):
            heard.take(f"0000e0d5.{number:08x}.01.01", CON_ID)
        return heard

    take(10)  # numpy's own first use
    tracemalloc.start()
    heard = take(50_000)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(heard.marks) == 50_000
    assert kept < 50_000 * 12


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


@pytest.mark.skipif(connection.vendor != "sqlite", reason="SQLite's planner is the one that needs telling")
@pytest.mark.usefixtures("books")
def test_a_look_at_the_day_does_not_read_the_executions_of_all_days() -> None:
    with CaptureQueriesContext(connection) as captured:
        look_at_day(ACCOUNT, replayed((1, 1), (2, 2)), SOON, NOW)
        CashCheck(ACCOUNT, CheckTimes(quiet_s=0)).look(AccountAnswer(ACCOUNT, {("CashBalance", "USD"): "1"}), NOW)
    asked = [query["sql"] for query in captured if "executed_at" in query["sql"].partition("WHERE")[2]]
    assert len(asked) == 2
    with connection.cursor() as cursor:
        for sql in asked:
            plan = cursor.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()
            assert any("portfolio_execution_executed_at" in str(row) for row in plan), plan
