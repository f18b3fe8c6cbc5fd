"""What pages and API read of the books."""

# Whole Decimals are compared with ints to stay readable.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from portfolio import queries
from portfolio.assignments import assign_execution
from portfolio.books_queries import consolidated
from portfolio.daily import DailyPnl
from portfolio.fold import Item
from portfolio.models import EquitySnapshot
from portfolio.reconcile import compare_cash
from portfolio.services import (
    allocate_strategy,
    compare_positions,
    fold_batch,
    open_account,
    record_account_values,
    record_marks,
    take_equity_snapshot,
)
from portfolio.services import ensure_account as ensure
from strategies.exceptions import NotFoundError
from strategies.models import Strategy
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fee, fill, owner_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def _books() -> None:
    Strategy.objects.create(symbol="ALPHA", filename="a.py", target_weight=Decimal("0.2"))
    ensure(ACCOUNT, "USD")
    open_account(ACCOUNT, {"USD": Decimal(100_000)}, [], [], NOW)
    allocate_strategy(ACCOUNT, "ALPHA", Decimal(20_000), "USD", NOW)
    items: list[Item] = [
        fill(1, 100, 50),
        fee(1, "1"),
        fill(2, -40, 55),
        fill(3, 10, 50, owner="BETA"),
        fill(4, -10, 50, owner="BETA"),
    ]
    fold_batch(ACCOUNT, items, owner_of, NOW)


@pytest.mark.usefixtures("_books")
class TestBooks:
    def test_of_an_execution_that_owners_share_each_sees_its_part(self) -> None:
        Strategy.objects.create(symbol="BETA", filename="b.py")
        fold_batch(ACCOUNT, [fill(9, 100, 60, owner=""), fee(9, "2"), fill(10, -50, 62, owner="")], owner_of, NOW)
        for number, part in ((9, 25), (10, 10)):
            assign_execution(
                ACCOUNT,
                fill(number).exec_id,
                "BETA",
                quantity=Decimal(part),
                actor="a",
                source="cli",
                reason="r",
                now=NOW,
            )
        mine = {row.exec_id: row for row in queries.fills("BETA")}
        bought, sold = mine[fill(9).exec_id], mine[fill(10).exec_id]
        assert (bought.quantity, bought.commission, bought.realized_pnl) == (25, Decimal("0.5"), Decimal("-0.5"))
        assert (sold.quantity, sold.commission, sold.realized_pnl) == (10, None, 20)
        rest = {row.exec_id: row.quantity for row in queries.fills("Discretionary")}
        assert (rest[fill(9).exec_id], rest[fill(10).exec_id]) == (75, 40)
        whole = {row.exec_id: row for row in queries.fills()}[fill(9).exec_id]
        assert (whole.quantity, whole.commission, whole.realized_pnl) == (100, 2, -2)
        assert queries.strategy_summary("Discretionary").fills == 2

    def test_position_without_a_mark_says_unknown(self) -> None:
        (view,) = queries.positions(owner="ALPHA")
        assert (view.quantity, view.average_cost, view.mark, view.market_value) == (60, 50, None, None)
        assert view.stale

    def test_position_at_a_fresh_mark_is_valued(self) -> None:
        record_marks({265598: Decimal(52)}, timezone.now())
        (view,) = queries.positions(owner="ALPHA")
        assert (view.market_value, view.unrealized_pnl, view.stale) == (3120, 120, False)

    def test_old_mark_is_shown_as_stale(self) -> None:
        record_marks({265598: Decimal(52)}, timezone.now() - timedelta(days=13))  # longer than any market rests
        assert queries.positions(owner="ALPHA")[0].stale

    def test_flat_positions_come_on_request(self) -> None:
        assert queries.positions(owner="BETA") == []
        assert len(queries.positions(owner="BETA", include_flat=True)) == 1

    def test_cash_by_owner(self) -> None:
        assert [(row.owner, row.amount) for row in queries.cash(ACCOUNT)] == [
            ("ALPHA", 20_000 - 5000 + 2200 - 1),
            ("BETA", 0),
            ("Discretionary", 80_000),
        ]

    def test_fills_page_backwards_with_what_each_realised(self) -> None:
        newest, *rest = queries.fills(owner="ALPHA")
        assert (newest.side, newest.quantity, newest.realized_pnl) == ("SLD", 40, 200)
        assert rest[0].realized_pnl == -1
        assert queries.fills(owner="ALPHA", before_id=newest.id) == rest
        assert len(queries.fills(limit=3)) == 3

    def test_summary_before_marks_shows_what_is_known_and_no_zero_for_the_rest(self) -> None:
        found = queries.summary()
        assert found is not None
        assert (found.net_liquidation, found.realized_pnl, found.unrealized_pnl) == (None, 199, None)
        alpha = next(owner for owner in found.owners if owner.owner == "ALPHA")
        assert (alpha.equity, alpha.cash, alpha.realized_pnl) == (None, 20_000 - 5_000 - 1 + 2_200, 199)
        reasons = {owner.owner: owner.reason for owner in found.owners}
        assert "no price" in reasons["ALPHA"]

    def test_summary_adds_up(self) -> None:
        record_marks({265598: Decimal(52)}, NOW)
        record_account_values(ACCOUNT, [("NetLiquidation", "100319", "USD"), ("TotalCashValue", "97199", "USD")], NOW)
        compare_positions(ACCOUNT, {265598: Decimal(61)}, NOW)
        found = queries.summary()
        assert found is not None
        assert (found.net_liquidation, found.cash) == (100_319, 97_199)
        assert (found.realized_pnl, found.unrealized_pnl, found.total_pnl) == (199, 120, 319)
        assert sum(owner.equity or 0 for owner in found.owners) == found.net_liquidation
        assert [one.symbol for one in found.breaks] == ["AAPL"]

    def test_break_of_cash_is_among_the_open_breaks(self) -> None:
        compare_cash(ACCOUNT, {"USD": Decimal(1)}, NOW)
        (found,) = queries.open_breaks()
        assert (found.kind, found.currency, found.con_id, found.symbol) == ("cash", "USD", 0, "")
        assert found.ib_quantity == 1

    def test_strategy_summary_holds_its_books(self) -> None:
        record_marks({265598: Decimal(52)}, NOW)
        found = queries.strategy_summary("ALPHA")
        assert (found.figures.equity, found.fills, len(found.positions)) == (20_319, 2, 1)

    def test_strategy_summary_of_nobody_is_an_error(self) -> None:
        with pytest.raises(NotFoundError):
            queries.strategy_summary("NOBODY")

    def test_daily_profit_counts_the_day_of_the_execution(self) -> None:
        daily = DailyPnl()
        assert daily.realized(ACCOUNT, "ALPHA", NOW) == 199
        assert daily.realized(ACCOUNT, "ALPHA", NOW + timedelta(days=1)) == 0
        assert daily.realized(ACCOUNT, "ALPHA", NOW) == 199

    def test_daily_profit_follows_new_fills_by_reading_only_them(self) -> None:
        daily = DailyPnl()
        daily.realized(ACCOUNT, "ALPHA", NOW)
        fold_batch(ACCOUNT, [fill(5, -10, 60), fee(5, "2", "EUR")], owner_of, NOW)
        record_account_values(ACCOUNT, [("ExchangeRate", "1.5", "EUR")], NOW)
        assert daily.realized(ACCOUNT, "ALPHA", NOW) == 199 + 100 - 3
        fold_batch(ACCOUNT, [fill(5, -10, 61, revision=2)], owner_of, NOW)
        assert daily.realized(ACCOUNT, "ALPHA", NOW) == 199 + 110

    def test_equity_series_is_thinned_and_keeps_its_end(self) -> None:
        record_marks({265598: Decimal(52)}, NOW)
        for minute in range(30):
            take_equity_snapshot(ACCOUNT, NOW + timedelta(minutes=minute))
        everything = queries.equity_series("ALPHA")
        assert len(everything) == 30
        thinned = queries.equity_series("ALPHA", max_points=7)
        assert 7 <= len(thinned) <= 8
        assert thinned[-1] == everything[-1]
        assert len(queries.equity_series("ALPHA", NOW + timedelta(minutes=20))) == 10
        assert EquitySnapshot.objects.filter(owner="").count() == 0


def test_an_account_that_was_never_opened_hides_no_books() -> None:
    ensure("DU0000001")
    open_account(ACCOUNT, {"USD": Decimal(100)}, [], [], NOW)
    assert queries.account_id_or_none() == ACCOUNT


def test_nothing_is_known_before_an_account_is() -> None:
    assert queries.summary() is None
    assert queries.positions() == []
    assert queries.account_id_or_none() is None


@pytest.mark.usefixtures("_books")
def test_account_at_a_glance_asks_as_much_for_thirty_strategies_as_for_one() -> None:
    def asked() -> int:
        with CaptureQueriesContext(connection) as made:
            found = queries.summary()
        assert found is not None
        assert found.owners == [queries.owner_summary(ACCOUNT, row.owner) for row in found.owners]
        return len(made)

    one = asked()
    for number in range(30):
        other = contract(5_000 + number, f"T{number}")
        Strategy.objects.create(symbol=f"S{number}", filename="a.py", currency="USD")
        fold_batch(ACCOUNT, [fill(1_000 + number, 1, 50, owner=f"S{number}", of=other)], owner_of, NOW)
    assert asked() == one


@pytest.mark.usefixtures("_books")
def test_owners_on_both_sides_have_no_cost_together() -> None:
    (row,) = consolidated()
    assert (row.quantity, row.average_cost) == (60, 50)
    fold_batch(ACCOUNT, [fill(7, -59, 80, owner="BETA")], owner_of, NOW)
    (row,) = consolidated()
    assert (row.quantity, row.average_cost) == (1, None)
