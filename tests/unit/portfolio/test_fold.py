"""Folding executions and commissions into real tables."""

# Whole Decimals are compared with ints to stay readable.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from pytest_django import DjangoAssertNumQueries

from portfolio.facts import FoldResult
from portfolio.fold import Item
from portfolio.models import CashBalance, Execution, Movement, PendingCommission, Position
from portfolio.services import assign_execution, ensure_account, fold_batch, open_account
from strategies.events import FillSnapshot
from strategies.exceptions import LedgerError
from strategies.models import Strategy
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fee, fill, owner_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _account() -> None:
    ensure_account(ACCOUNT, "USD")


def fold(*items: Item) -> FoldResult:
    return fold_batch(ACCOUNT, items, owner_of, NOW)


def position(owner: str = "ALPHA", con_id: int = 265598) -> Position:
    return Position.objects.get(owner=owner, instrument_id=con_id)


def cash(owner: str = "ALPHA", currency: str = "USD") -> Decimal:
    amount: Decimal = CashBalance.objects.get(owner=owner, currency=currency).amount
    return amount


def test_first_fill_moves_quantity_and_cash() -> None:
    result = fold(fill(1, 100, 50))
    assert position().quantity == 100
    assert position().average_cost == 50
    assert cash() == -5000
    assert [fact.position for fact in result.new_executions] == [Decimal(100)]


def test_sell_through_zero_realises_the_closed_part_and_opens_short() -> None:
    fold(fill(1, 100, 50))
    result = fold(fill(2, -150, 55, commission="1.5"))
    assert position().quantity == -50
    assert position().average_cost == 55
    assert position().realized_pnl == Decimal("498.5")
    assert cash() == Decimal("3248.5")
    assert result.new_executions[0].commission == Decimal("1.5")


def test_duplicate_execution_is_a_no_op() -> None:
    fold(fill(1), fee(1))
    again = fold(fill(1), fill(1), fee(1))
    assert again.duplicates == 3
    assert again.new_executions == []
    assert position().quantity == 100
    assert Movement.objects.count() == 2


@pytest.mark.parametrize(
    "other", [{"price": Decimal(51)}, {"quantity": Decimal(7)}, {"side": "SLD"}, {"price": Decimal("NaN")}]
)
def test_repeated_id_with_other_content_changes_nothing_and_is_told(
    caplog: pytest.LogCaptureFixture, other: dict[str, Any]
) -> None:
    fold(fill(1), fee(1))
    before = (position().quantity, cash(), Movement.objects.count())
    fold(dataclasses.replace(fill(1), **other))
    assert (position().quantity, cash(), Movement.objects.count()) == before
    assert [record.levelname for record in caplog.records if "contradicts the books" in record.message] == ["ERROR"]


def test_commission_before_its_execution_waits_for_it() -> None:
    fold(fee(1, "1.25"))
    assert PendingCommission.objects.count() == 1
    result = fold(fill(1))
    assert PendingCommission.objects.count() == 0
    assert Execution.objects.get().commission == Decimal("1.25")
    assert cash() == Decimal("-5001.25")
    assert result.new_executions[0].commission == Decimal("1.25")


def test_commission_after_its_execution_is_its_own_movement() -> None:
    fold(fill(1))
    assert Execution.objects.get().commission is None
    result = fold(fee(1, "1.25"))
    assert [fact.realized_pnl for fact in result.commissions] == [Decimal("-1.25")]
    assert cash() == Decimal("-5001.25")
    assert list(Movement.objects.values_list("kind", flat=True)) == ["fill", "commission"]


def test_commission_in_another_currency_leaves_cash_of_that_currency() -> None:
    fold(fill(1), fee(1, "2", "EUR"))
    assert cash() == -5000
    assert cash(currency="EUR") == -2
    assert position().realized_pnl == 0


def test_second_commission_that_differs_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    fold(fill(1), fee(1, "1"))
    fold(fee(1, "9"))
    assert cash() == -5001
    assert "second commission differs" in caplog.text


def test_correction_stands_where_its_predecessor_stood() -> None:
    fold(fill(1, 100, 50), fill(2, -50, 55), fill(3, 10, 60))
    result = fold(fill(2, -50, 56, revision=2))
    assert position().quantity == 60
    assert position().realized_pnl == 300
    assert position().average_cost == Decimal("51.6666666667")
    assert cash() == -5000 + 2800 - 600
    assert Execution.objects.filter(superseded=True).count() == 1
    assert result.new_executions[0].corrects.endswith(".01")
    assert result.new_executions[0].quantity_change == 0


def test_correction_returns_the_fee_of_its_predecessor() -> None:
    fold(fill(1), fee(1, "1"))
    fold(fill(1, 90, 50, revision=2))
    assert cash() == -4500
    assert position().realized_pnl == 0
    fold(fee(1, "0.9", revision=2))
    assert cash() == Decimal("-4500.9")
    assert position().commissions == Decimal("0.9")


def test_late_original_after_its_correction_moves_nothing() -> None:
    fold(fill(1, 90, 50, revision=2))
    result = fold(fill(1, 100, 50, revision=1), fee(1, "5", revision=1))
    assert position().quantity == 90
    assert cash() == -4500
    assert Execution.objects.get(revision=1).superseded
    assert result.new_executions[0].quantity_change == 0


class TestBust:
    """A correction to a quantity of zero: the fill never was."""

    def busted(self, revision: int = 2) -> FillSnapshot:
        return dataclasses.replace(fill(1, 100, 50, revision=revision), quantity=Decimal(0), price=Decimal(0))

    def test_takes_the_fill_and_its_fee_back_and_posts_nothing(self) -> None:
        fold(fill(1, 100, 50), fee(1), fill(2, 50, 60), fill(3, -30, 70))
        result = fold(self.busted())
        assert position().quantity == 20
        assert position().cost_basis == 1200
        assert position().realized_pnl == 300  # the sale closed what was bought at 60
        assert position().commissions == 0
        assert cash() == -3000 + 2100
        assert result.new_executions[0].quantity_change == -100
        assert not Movement.objects.filter(execution__revision=2).exists()
        assert Execution.objects.get(family__contains="00000001", superseded=False).quantity == 0

    def test_again_is_a_no_op(self) -> None:
        fold(fill(1), self.busted())
        again = fold(self.busted())
        assert (again.duplicates, again.contradictions) == (1, [])

    def test_before_its_fill_keeps_the_fill_out(self) -> None:
        fold(self.busted(), fill(1), fee(1))
        assert not Position.objects.exclude(quantity=0).exists()
        assert Execution.objects.get(revision=1).superseded

    def test_that_is_taken_back_restores_the_fill_in_its_place(self) -> None:
        fold(fill(1, 100, 50), fill(2, 100, 60), fill(3, -100, 70))
        before = (position().quantity, position().cost_basis, position().realized_pnl, cash())
        fold(self.busted())
        fold(fill(1, 100, 50, revision=3))
        assert (position().quantity, position().cost_basis, position().realized_pnl, cash()) == before

    def test_of_a_divided_execution_takes_it_from_every_owner(self) -> None:
        Strategy.objects.create(symbol="ALPHA", filename="a.py")
        Strategy.objects.create(symbol="BETA", filename="b.py")
        fold(fill(1, 100, 50), fee(1))
        assign_execution(
            ACCOUNT, fill(1).exec_id, "BETA", quantity=Decimal(40), from_owner="ALPHA",
            actor="ann", source="page", reason="Theirs.", now=NOW,
        )  # fmt: skip
        fold(self.busted(), fee(1, "0.5", revision=2))
        assert {row.quantity for row in Position.objects.all()} == {0}
        assert sum(row.amount for row in CashBalance.objects.all()) == Decimal("-0.5")

    def test_as_a_first_report_is_no_fill(self) -> None:
        with pytest.raises(LedgerError) as caught:
            fold(self.busted(revision=1))
        assert caught.value.code == "bad_execution"


def test_correction_keeps_the_owner_of_its_predecessor() -> None:
    fold(fill(1, 100, 50, owner="ALPHA"))
    fold(fill(1, 90, 50, revision=2, owner="BETA"))
    assert position("ALPHA").quantity == 90
    assert not Position.objects.filter(owner="BETA").exists()


def test_same_ticker_of_two_contracts_stays_apart() -> None:
    option = contract(1, "AAPL", sec_type="OPT", multiplier=Decimal(100))
    fold(fill(1, 100, 50), fill(2, 2, "3.00", of=option, commission="1.4"))
    assert position(con_id=1).quantity == 2
    assert position().quantity == 100
    assert cash() == Decimal("-5601.4")


def test_movements_carry_the_balances_after_them() -> None:
    fold(fill(1, 100, 50), fee(1), fill(2, -40, 55))
    rows = list(Movement.objects.values_list("quantity_after", "basis_after", "realized_after", "cash_after"))
    assert rows == [(100, 5000, 0, -5000), (100, 5000, -1, -5001), (60, 3000, 199, -2801)]


def test_million_with_ten_decimals_survives_the_database() -> None:
    fold(fill(1, 1, "1234567.0123456789"))
    assert cash() == Decimal("-1234567.0123456789")


def test_execution_of_another_account_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    foreign = fill(1)
    object.__setattr__(foreign, "account", "DU9")
    assert fold(foreign).ignored == 1
    assert Execution.objects.count() == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("side", "HELD"),
        ("quantity", Decimal(-1)),
        ("quantity", Decimal("1E-11")),
        ("quantity", Decimal("NaN")),
        ("price", Decimal("Infinity")),
    ],
)
def test_impossible_execution_is_refused_and_nothing_of_the_batch_stays(field: str, value: object) -> None:
    bad = fill(2)
    object.__setattr__(bad, field, value)
    with pytest.raises(LedgerError) as caught:
        fold(fill(1), bad)
    assert caught.value.code == "bad_execution"


def test_contract_that_changes_its_multiplier_is_refused() -> None:
    fold(fill(1))
    with pytest.raises(LedgerError) as caught:
        fold(fill(2, of=contract(multiplier=Decimal(10))))
    assert caught.value.code == "instrument_changed"


@pytest.mark.parametrize("size", [20, 400])
def test_a_batch_costs_the_same_number_of_queries_whatever_its_size(
    size: int, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_max_num_queries(20):
        fold(*(item for number in range(1, size) for item in (fill(number, 1), fee(number))))


def test_report_of_a_combination_moves_nothing_beside_its_legs() -> None:
    combination = contract(28812380, "AAPL", sec_type="BAG")
    bought = contract(700, "AAPL", sec_type="OPT", multiplier=Decimal(100))
    sold = contract(701, "AAPL", sec_type="OPT", multiplier=Decimal(100))
    result = fold(fill(1, 1, 2, of=combination), fill(2, 1, 5, of=bought), fill(3, -1, 3, of=sold))
    assert (result.ignored, cash()) == (1, Decimal(-200))
    assert set(Position.objects.values_list("instrument_id", flat=True)) == {700, 701}


def test_report_of_a_combination_is_not_walked_back_at_the_opening() -> None:
    combination = contract(28812380, "AAPL", sec_type="BAG")
    open_account(ACCOUNT, {"USD": Decimal(1000)}, [], [fill(1, 1, 2, of=combination)], NOW)
    assert CashBalance.objects.get(currency="USD").amount == 1000
    assert not Position.objects.exists()


FUTURE = contract(800, "CL", sec_type="FUT", multiplier=Decimal(1000))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"price": Decimal(0)}, "bad_price"),
        ({"price": Decimal(-1)}, "bad_price"),
        ({"price": Decimal("NaN")}, "bad_execution"),
        ({"exec_id": ""}, "bad_execution"),
        ({"quantity": Decimal(0)}, "bad_execution"),
        ({"quantity": Decimal("Infinity")}, "bad_execution"),
        ({"contract": contract(0)}, "unknown_contract"),
        ({"contract": contract(currency="")}, "unknown_currency"),
        ({"contract": contract(currency="US$")}, "unknown_currency"),
        ({"contract": contract(multiplier=Decimal(0))}, "bad_execution"),
        ({"commission": Decimal("NaN"), "commission_currency": "USD"}, "bad_commission"),
        ({"commission": Decimal("Infinity"), "commission_currency": "USD"}, "bad_commission"),
        ({"commission": Decimal(1), "commission_currency": "dollar"}, "unknown_currency"),
    ],
)
def test_bad_execution_is_refused_with_its_code_and_the_next_batch_goes_on(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(LedgerError) as caught, transaction.atomic():
        fold(fill(1), dataclasses.replace(fill(2), **changes))
    assert caught.value.code == code
    assert not Execution.objects.exists()
    fold(fill(1))
    assert position().quantity == 100


@pytest.mark.parametrize(
    ("report", "code"),
    [
        (fee(1, "NaN"), "bad_commission"),
        (fee(1, "1", ""), "unknown_currency"),
        (fee(1, "1", "BASE"), "unknown_currency"),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_bad_commission_is_refused_with_its_code(report: Item, code: str, known: bool) -> None:
    if known:
        fold(fill(1))
    with pytest.raises(LedgerError) as caught:
        fold(report)
    assert caught.value.code == code


def test_bad_commission_within_a_repeated_execution_is_refused() -> None:
    fold(fill(1))
    with pytest.raises(LedgerError):
        fold(fill(1, commission="Infinity"))


@pytest.mark.parametrize("early", [True, False])
def test_commission_of_nothing_needs_no_currency(early: bool) -> None:
    items: list[Item] = [fee(1, "0", ""), fill(1)]
    fold(*(items if early else reversed(items)))
    again = fold(fee(1, "0", ""))
    assert Execution.objects.get().commission_currency == "USD"
    assert (again.duplicates, again.contradictions) == (1, [])


def test_future_trades_below_zero_and_option_closes_at_zero() -> None:
    option = contract(801, "CL", sec_type="OPT", multiplier=Decimal(100))
    fold(fill(1, 1, "-37.63", of=FUTURE), fill(2, 1, 1, of=option), fill(3, -1, 0, of=option))
    assert position(con_id=800).cost_basis == -37630
    assert cash() == 37630 - 100
    assert position(con_id=801).realized_pnl == -100


def test_contract_that_two_fills_of_a_batch_describe_differently_is_refused() -> None:
    with pytest.raises(LedgerError) as caught:
        fold(fill(1, of=contract(5)), fill(2, of=contract(5, multiplier=Decimal(10))))
    assert caught.value.code == "instrument_changed"


def test_correction_may_change_the_side() -> None:
    fold(fill(1, 100, 50), fee(1, "1"))
    fold(fill(1, -100, 50, revision=2))
    assert position().quantity == -100
    assert cash() == 5000


def test_contradictions_are_returned_for_a_person() -> None:
    fold(fill(1), fee(1, "1"))
    other = dataclasses.replace(fill(1), price=Decimal(51))
    abroad = dataclasses.replace(fill(1, revision=2), account="DU9")
    result = fold(other, fee(1, "9"), abroad)
    assert [(one.exec_id, one.con_id) for one in result.contradictions] == [(fill(1).exec_id, 265598)] * 3
    assert "account DU9" in result.contradictions[2].text
    assert (position().quantity, cash()) == (100, -5001)


def test_replayed_executions_are_folded_in_the_order_of_time() -> None:
    sold = dataclasses.replace(fill(3, -10, 70), is_replay=True)
    bought = [dataclasses.replace(fill(number, 10, price), is_replay=True) for number, price in ((1, 40), (2, 60))]
    fold(sold, *reversed(bought))
    assert (position().quantity, position().realized_pnl) == (10, 200)


def test_live_executions_are_folded_in_the_order_of_arrival() -> None:
    fold(fill(3, -10, 70), fill(1, 10, 40))
    assert position().realized_pnl == 300
    assert position().quantity == 0
