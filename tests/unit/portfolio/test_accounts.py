"""Opening an account, allocating its cash, keeping IB's figures."""

# Whole Decimals are compared with ints to stay readable.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from portfolio.facts import BrokerPosition
from portfolio.models import Account, CashBalance, Movement, Position
from portfolio.services import (
    allocate_strategy,
    compare_positions,
    ensure_account,
    fold_batch,
    initial_allocation,
    open_account,
    rates_of,
    record_account_values,
)
from portfolio.verification import verify_all, verify_ledger
from strategies.events import CommissionSnapshot, FillSnapshot
from strategies.exceptions import LedgerError, NotFoundError
from strategies.models import Strategy
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fee, fill, owner_of

pytestmark = pytest.mark.django_db

FX = contract(12087792, "EUR", sec_type="CASH", exchange="IDEALPRO")


def cash() -> dict[tuple[str, str], Decimal]:
    rows = CashBalance.objects.values_list("owner", "currency", "amount")
    return {(owner, currency): amount for owner, currency, amount in rows if amount}


def held() -> dict[tuple[str, int], tuple[Decimal, Decimal]]:
    rows = Position.objects.select_related("instrument")
    return {(row.owner, row.instrument_id): (row.quantity, row.average_cost) for row in rows if row.quantity}


def report_values(*rows: tuple[str, str, str]) -> None:
    ensure_account(ACCOUNT, "USD")
    record_account_values(ACCOUNT, rows, NOW)


def test_present_minus_todays_executions_opens_the_books() -> None:
    ensure_account(ACCOUNT, "USD")
    today = [fill(1, 50, 60, commission="1"), fill(2, -20, 61, commission="1")]
    present = [BrokerPosition(contract(), Decimal(130), Decimal("53.85"))]
    open_account(ACCOUNT, {"USD": Decimal(98_218)}, present, today, NOW, owner_of=owner_of)
    assert cash() == {("Discretionary", "USD"): 100_000, ("ALPHA", "USD"): -3000 + 1220 - 2}
    assert held()["Discretionary", 265598] == (100, Decimal("50.765"))  # (150 · 53.85 − 3000 − 1) / 100
    assert held()["ALPHA", 265598] == (30, 60)
    assert compare_positions(ACCOUNT, {265598: Decimal(130)}, NOW) == []
    assert verify_ledger().findings == []


def test_opening_again_changes_nothing() -> None:
    ensure_account(ACCOUNT, "USD")
    present = [BrokerPosition(contract(), Decimal(100), Decimal(50))]
    for _ in range(3):
        open_account(ACCOUNT, {"USD": Decimal(1000)}, present, [fill(1, 10, 50)], NOW, owner_of=owner_of)
    assert Movement.objects.filter(kind="opening").count() == 2
    assert Account.objects.get().opened_at == NOW
    assert cash()["Discretionary", "USD"] == 1500


def test_position_sold_out_today_opens_with_what_was_sold() -> None:
    open_account(ACCOUNT, {"USD": Decimal(900)}, [], [fill(1, -10, 90)], NOW)
    assert held() == {}
    assert cash() == {("Discretionary", "USD"): 900}
    assert Movement.objects.get(kind="opening", instrument=265598).quantity == 10


def test_option_average_loses_its_multiplier() -> None:
    option = contract(9, "AAPL", sec_type="OPT", multiplier=Decimal(100))
    open_account(ACCOUNT, {}, [BrokerPosition(option, Decimal(2), Decimal("301.4"))], [], NOW)
    assert held() == {("Discretionary", 9): (2, Decimal("3.014"))}


def test_only_the_revision_in_force_is_walked_back() -> None:
    today = [fill(1, 100, 50), fill(1, 90, 50, revision=2)]
    present = [BrokerPosition(contract(), Decimal(90), Decimal(50))]
    open_account(ACCOUNT, {"USD": Decimal(0)}, present, today, NOW, owner_of=owner_of)
    assert held() == {("ALPHA", 265598): (90, 50)}
    assert cash() == {("Discretionary", "USD"): 4500, ("ALPHA", "USD"): -4500}


def test_fx_pair_is_not_counted_twice_beside_its_currency() -> None:
    present = [BrokerPosition(FX, Decimal(20_000), Decimal("1.10"))]
    today = [fill(1, 5_000, "1.2", of=FX)]
    open_account(ACCOUNT, {"USD": Decimal(50_000), "EUR": Decimal(20_000)}, present, today, NOW, owner_of=owner_of)
    assert held()["Discretionary", 12087792][0] == 15_000
    assert held()["ALPHA", 12087792] == (5_000, Decimal("1.2"))
    assert cash() == {("Discretionary", "USD"): 56_000, ("ALPHA", "USD"): -6_000}


def test_allocation_moves_cash_between_owners_once() -> None:
    open_account(ACCOUNT, {"USD": Decimal(1000)}, [], [], NOW)
    assert allocate_strategy(ACCOUNT, "ALPHA", Decimal(300), "USD", NOW)
    assert allocate_strategy(ACCOUNT, "ALPHA", Decimal(999), "USD", NOW) is None
    assert cash() == {("Discretionary", "USD"): 700, ("ALPHA", "USD"): 300}


def test_allocation_of_nothing_leaves_a_later_one_possible() -> None:
    ensure_account(ACCOUNT, "USD")
    assert allocate_strategy(ACCOUNT, "ALPHA", Decimal(0), "USD", NOW) is None
    assert allocate_strategy(ACCOUNT, "ALPHA", Decimal(5), "USD", NOW) is not None


def test_an_account_in_debt_gives_nobody_less_than_nothing() -> None:
    open_account(ACCOUNT, {"USD": Decimal(-100)}, [], [], NOW)
    assert allocate_strategy(ACCOUNT, "ALPHA", Decimal(-50), "USD", NOW) is None
    assert not Movement.objects.filter(kind="allocation").exists()


def test_initial_allocation_is_target_weight_of_net_liquidation() -> None:
    Strategy.objects.create(symbol="ALPHA", filename="a.py", target_weight=Decimal("0.25"))
    report_values(("NetLiquidation", "200000", "USD"))
    assert initial_allocation(ACCOUNT, "ALPHA") == (50_000, "USD")


def test_initial_allocation_converts_into_the_strategys_currency() -> None:
    Strategy.objects.create(symbol="ALPHA", filename="a.py", target_weight=Decimal("0.5"), currency="EUR")
    report_values(("NetLiquidation", "100000", "USD"), ("ExchangeRate", "1.25", "EUR"))
    assert initial_allocation(ACCOUNT, "ALPHA") == (40_000, "EUR")


def test_initial_allocation_without_a_rate_is_an_error_not_one() -> None:
    Strategy.objects.create(symbol="ALPHA", filename="a.py", target_weight=Decimal("0.5"), currency="EUR")
    report_values(("NetLiquidation", "100000", "USD"))
    with pytest.raises(LedgerError) as caught:
        initial_allocation(ACCOUNT, "ALPHA")
    assert caught.value.code == "fx_unknown"


def test_initial_allocation_before_ib_reported_is_an_error() -> None:
    Strategy.objects.create(symbol="ALPHA", filename="a.py", target_weight=Decimal("0.5"))
    ensure_account(ACCOUNT, "USD")
    with pytest.raises(LedgerError) as caught:
        initial_allocation(ACCOUNT, "ALPHA")
    assert caught.value.code == "equity_unknown"


def test_initial_allocation_of_an_unknown_strategy_says_so() -> None:
    with pytest.raises(NotFoundError):
        initial_allocation(ACCOUNT, "NOBODY")


def test_base_rows_do_not_overwrite_currency_rows() -> None:
    report_values(("CashBalance", "10", "USD"), ("CashBalance", "12", "BASE"), ("ExchangeRate", "1.0", "USD"))
    assert rates_of(ACCOUNT).worth == {"USD": 1}
    report_values(("CashBalance", "11", "USD"))
    assert dict(Account.objects.get().accountvalue_set.values_list("currency", "value").filter(tag="CashBalance")) == {
        "USD": "11",
        "BASE": "12",
    }


def test_base_currency_may_become_known_but_never_changes() -> None:
    ensure_account(ACCOUNT)
    ensure_account(ACCOUNT, "USD")
    with pytest.raises(LedgerError):
        ensure_account(ACCOUNT, "EUR")


def test_fee_that_comes_after_opening_is_booked_then() -> None:
    open_account(ACCOUNT, {"USD": Decimal(0)}, [], [fill(1, 10, 50)], NOW, owner_of=owner_of, commissions=[fee(1, "2")])
    assert cash() == {("Discretionary", "USD"): 502, ("ALPHA", "USD"): -502}


class TestCommissionThatIsUnknownAtTheOpening:
    """Bought 10 at 50 for a fee of 2 before the books are opened: the broker's cash of 98 has paid it."""

    present = {"USD": Decimal(98), "EUR": Decimal(-3)}
    position = (BrokerPosition(contract(), Decimal(10), Decimal("50.2")),)

    def open(self, *known: CommissionSnapshot, fills: tuple[FillSnapshot, ...] = (fill(1, 10, 50),)) -> None:
        open_account(ACCOUNT, self.present, self.position, fills, NOW, owner_of=owner_of, commissions=known)

    def total(self, currency: str = "USD") -> Decimal:
        return sum((amount for (_, ccy), amount in cash().items() if ccy == currency), Decimal(0))

    def test_is_taken_out_of_the_opening_when_it_comes(self) -> None:
        Strategy.objects.create(symbol="ALPHA", filename="alpha.py")
        self.open()
        assert self.total() == 98
        fold_batch(ACCOUNT, [fee(1, "2")], owner_of, NOW + timedelta(seconds=9))
        assert cash() == {("Discretionary", "USD"): 600, ("ALPHA", "USD"): -502, ("Discretionary", "EUR"): -3}
        assert verify_all(arctic=False).exit_code == 0

    def test_makes_the_same_books_as_one_that_was_known(self) -> None:
        self.open(fee(1, "2"))
        assert cash() == {("Discretionary", "USD"): 600, ("ALPHA", "USD"): -502, ("Discretionary", "EUR"): -3}

    def test_that_was_reported_before_its_execution_is_known(self) -> None:
        ensure_account(ACCOUNT, "USD")
        fold_batch(ACCOUNT, [fee(1, "2")], owner_of, NOW)
        self.open()
        assert cash() == {("Discretionary", "USD"): 600, ("ALPHA", "USD"): -502, ("Discretionary", "EUR"): -3}

    def test_in_another_currency_is_taken_out_there(self) -> None:
        self.open()
        fold_batch(ACCOUNT, [fee(1, "1.5", "EUR")], owner_of, NOW + timedelta(seconds=9))
        assert self.total("EUR") == -3
        assert cash()["ALPHA", "EUR"] == Decimal("-1.5")

    def test_comes_once(self) -> None:
        self.open()
        for second in (9, 10):
            fold_batch(ACCOUNT, [fee(1, "2")], owner_of, NOW + timedelta(seconds=second))
        assert self.total() == 98

    def test_that_came_with_a_statement_is_the_same(self) -> None:
        self.open()
        again = fill(1, 10, 50, commission="2", commission_currency="USD")
        fold_batch(ACCOUNT, [again], owner_of, NOW + timedelta(days=1))
        assert self.total() == 98

    def test_of_an_execution_after_the_opening_moves_cash(self) -> None:
        self.open()
        fold_batch(ACCOUNT, [fill(2, 1, 50)], owner_of, NOW + timedelta(seconds=5))
        fold_batch(ACCOUNT, [fee(2, "1")], owner_of, NOW + timedelta(seconds=9))
        assert self.total() == 98 - 51

    def test_of_a_fill_that_is_corrected_afterwards_is_paid_back_once(self) -> None:
        self.open()
        later = NOW + timedelta(seconds=5)
        fold_batch(ACCOUNT, [fill(1, 9, 50, revision=2), fee(1, "1.8", revision=2), fee(1, "2")], owner_of, later)
        assert self.total() == 98 + 50 + 2 - Decimal("1.8")

    def test_of_a_fill_that_was_corrected_before_moves_nothing(self) -> None:
        both = (fill(1, 9, 50), fill(1, 10, 50, revision=2))
        self.open(fee(1, "2", revision=2), fills=both)
        fold_batch(ACCOUNT, [fee(1, "1.8")], owner_of, NOW + timedelta(seconds=5))
        assert self.total() == 98
