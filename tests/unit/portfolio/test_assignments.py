"""Giving executions, or parts of them, to the owners they belong to."""

# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction

from portfolio.adjustments import undo_adjustment
from portfolio.assignments import Share, assign_execution, divide_execution, shares_of
from portfolio.assignments import undo as undo_deed
from portfolio.facts import Booking
from portfolio.fold import Item
from portfolio.models import Adjustment, CashBalance, Execution, Movement, Position
from portfolio.services import ensure_account, fold_batch
from portfolio.verification import verify_ledger
from strategies.exceptions import ConfigError, ConflictError, NotFoundError
from strategies.models import AuditEntry, Strategy
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fee, fill, owner_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _account() -> None:
    ensure_account(ACCOUNT, "USD")
    for symbol in ("ALPHA", "BETA"):
        Strategy.objects.create(symbol=symbol, filename="alpha.py")


def fold(*items: Item) -> None:
    fold_batch(ACCOUNT, items, owner_of, NOW)


def exec_id(number: int, revision: int = 1) -> str:
    return fill(number, revision=revision).exec_id


def assign(number: int, to: str, quantity: int | None = None, giver: str | None = None, **more: Any) -> Booking:
    size = None if quantity is None else Decimal(quantity)
    values = {"actor": "ann", "source": "page", "reason": "traded for it", "now": NOW, **more}
    target = values.pop("exec_id", exec_id(number))
    return assign_execution(ACCOUNT, target, to, quantity=size, from_owner=giver, **values)


def state(owner: str) -> tuple[Decimal, Decimal, Decimal, Decimal]:
    row = Position.objects.get(owner=owner)
    return row.quantity, row.cost_basis, row.realized_pnl, row.commissions


def cash(owner: str, currency: str = "USD") -> Decimal:
    return sum((row.amount for row in CashBalance.objects.filter(owner=owner, currency=currency)), Decimal(0))


def everything() -> tuple[object, ...]:
    """All that an undo must restore."""
    positions = Position.objects.order_by("owner", "instrument_id")
    balances = CashBalance.objects.order_by("owner", "currency")
    held = [
        (p.owner, p.instrument_id, p.quantity, p.cost_basis, p.realized_pnl, p.commissions)
        for p in positions
        if p.quantity or p.realized_pnl or p.commissions
    ]
    paid = [(c.owner, c.currency, c.amount, c.realized_apart) for c in balances if c.amount or c.realized_apart]
    return held, paid, list(Execution.objects.order_by("id").values_list("exec_id", "owner", "divided"))


def sound() -> bool:
    return verify_ledger().findings == []


def test_whole_execution_goes_with_its_cash_and_fee() -> None:
    fold(fill(1, 100, 50, owner=""), fee(1, "2"))
    assign(1, "ALPHA")
    assert state("ALPHA") == (100, 5000, -2, 2)
    assert state("Discretionary") == (0, 0, 0, 0)
    assert (cash("ALPHA"), cash("Discretionary")) == (-5002, 0)
    assert Execution.objects.get().owner == "ALPHA"
    assert sound()


def test_part_goes_and_the_fee_goes_pro_rata() -> None:
    fold(fill(1, 100, 50, owner=""), fee(1, "2"), fill(2, -50, 60, owner=""))
    assign(1, "ALPHA", 40)
    assert state("ALPHA") == (40, 2000, Decimal("-0.8"), Decimal("0.8"))
    assert state("Discretionary") == (10, 500, Decimal("498.8"), Decimal("1.2"))
    assert shares_of(exec_id(1)) == [Share("ALPHA", Decimal(40)), Share("Discretionary", Decimal(60))]
    assert Execution.objects.get(exec_id=exec_id(1)).divided
    assert sound()


def test_both_owners_stand_as_if_the_fill_had_been_theirs_from_the_start() -> None:
    fold(fill(1, 10, 40, owner="ALPHA"), fill(2, 10, 60, owner=""), fill(3, -10, 70, owner="ALPHA"))
    assign(2, "ALPHA")
    assert state("ALPHA")[:3] == (10, 500, 200)
    assert state("Discretionary")[:3] == (0, 0, 0)
    assert sound()


def test_thirds_of_a_fee_leave_no_dust() -> None:
    fold(fill(1, 3, "33.3333333333", owner=""), fee(1, "1"))
    assign(1, "ALPHA", 1)
    assign(1, "BETA", 1)
    assert cash("ALPHA") + cash("BETA") + cash("Discretionary") == Decimal("-100.9999999999")
    assign(1, "BETA")
    assert state("Discretionary") == (0, 0, 0, 0)
    assert cash("Discretionary") == 0
    assert sound()


def test_late_commission_of_a_divided_execution_goes_to_its_owners() -> None:
    fold(fill(1, 100, 50, owner=""))
    assign(1, "ALPHA", 25)
    fold(fee(1, "1"))
    assert (cash("ALPHA"), cash("Discretionary")) == (Decimal("-1250.25"), Decimal("-3750.75"))
    assert sound()


def test_commission_in_another_currency_goes_along() -> None:
    fold(fill(1, 100, 50, owner=""), fee(1, "2", "EUR"))
    assign(1, "ALPHA", 50)
    assert (cash("ALPHA", "EUR"), cash("Discretionary", "EUR")) == (-1, -1)
    assert sound()


def test_correction_of_a_divided_execution_goes_to_its_owners_by_share() -> None:
    fold(fill(1, 100, 50, owner=""), fee(1, "1"), fill(2, -30, 55, owner=""))
    assign(1, "ALPHA", 40)
    fold(fill(1, 90, 52, owner="", revision=2), fee(1, "0.9", revision=2))
    assert state("ALPHA")[:2] == (36, 36 * 52)
    assert state("Discretionary")[:3] == (24, 24 * 52, 90 - Decimal("0.54"))
    assert shares_of(exec_id(1)) == []
    assert {share.quantity for share in shares_of(exec_id(1, 2))} == {Decimal(36), Decimal(54)}
    assert sound()


def test_correction_of_an_assigned_execution_stays_with_its_new_owner() -> None:
    fold(fill(1, 100, 50, owner=""))
    assign(1, "ALPHA")
    fold(fill(1, 101, 50, owner="", revision=2))
    assert state("ALPHA")[0] == 101
    assert state("Discretionary")[0] == 0
    assert sound()


@pytest.mark.parametrize("quantity", [None, 40])
def test_undo_restores_every_figure(quantity: int | None) -> None:
    fold(fill(1, 100, 50, owner=""), fee(1, "3"), fill(2, 7, 49, owner="ALPHA"), fill(3, -60, 58, owner=""))
    before = everything()
    booking = assign(1, "ALPHA", quantity)
    assert everything() != before
    undo_adjustment(booking.adjustment_id, actor="ann", source="page", reason="wrong", now=NOW)
    assert everything() == before
    assert sound()


def test_undo_after_a_correction_is_refused_and_says_so() -> None:
    fold(fill(1, 100, 50, owner=""))
    booking = assign(1, "ALPHA")
    fold(fill(1, 101, 50, owner="", revision=2))
    with pytest.raises(ConflictError, match="was corrected"):
        undo_adjustment(booking.adjustment_id, actor="ann", source="page", reason="wrong", now=NOW)


def test_undo_while_a_later_assignment_stands_on_it_is_refused_and_names_it() -> None:
    fold(fill(1, 100, 50, owner=""))
    first = assign(1, "ALPHA", key="first")
    assign(1, "BETA", giver="ALPHA", key="second")
    with pytest.raises(ConflictError, match="second"):
        undo_adjustment(first.adjustment_id, actor="ann", source="page", reason="wrong", now=NOW)


def test_the_same_key_assigns_once() -> None:
    fold(fill(1, 100, 50, owner=""))
    first = assign(1, "ALPHA", 10, key="k")
    again = assign(1, "ALPHA", 10, key="k")
    assert again.adjustment_id == first.adjustment_id
    assert state("ALPHA")[0] == 10
    with pytest.raises(ConflictError):
        assign(1, "ALPHA", 11, key="k")


def test_more_than_the_giver_has_is_refused() -> None:
    fold(fill(1, 100, 50, owner=""))
    with pytest.raises(ConflictError, match="belongs to Discretionary 100"):
        assign(1, "ALPHA", 101)
    with pytest.raises(ConflictError):
        assign(1, "BETA", giver="ALPHA")
    assert Adjustment.objects.count() == 0


def test_unknown_owner_and_execution_are_refused() -> None:
    fold(fill(1, 100, 50, owner=""))
    with pytest.raises(ConfigError) as caught:
        assign(1, "GAMMA")
    assert caught.value.fields["errors"] == {"to": "there is no strategy GAMMA"}
    with pytest.raises(NotFoundError):
        assign(1, "ALPHA", exec_id="nobody.01")


def test_movements_name_execution_adjustment_and_place_and_one_audit_entry_is_written() -> None:
    fold(fill(1, 100, 50, owner=""), fee(1))
    booking = assign(1, "ALPHA")
    rows = Movement.objects.filter(adjustment_id=booking.adjustment_id)
    first = Movement.objects.order_by("id").first()
    assert first is not None
    assert {(row.kind, row.slot, row.execution_id) for row in rows} == {("assignment", first.pk, first.execution_id)}
    assert rows.count() == 4
    assert [entry.action for entry in AuditEntry.objects.all()] == ["adjustment.booked"]


def test_a_short_option_is_assigned_with_its_multiplier() -> None:
    option = contract(5, "AAPL", sec_type="OPT", multiplier=Decimal(100))
    fold(fill(1, -4, "2.5", owner="", of=option))
    assign(1, "BETA", 1)
    assert state("BETA")[:2] == (-1, -250)
    assert cash("BETA") == 250
    assert sound()


DEED: dict[str, Any] = {"actor": "ann", "source": "page", "reason": "one order for both", "now": NOW}


def money(owner: str) -> Decimal:
    return CashBalance.objects.get(owner=owner).amount


class TestDivision:
    """100 by hand, divided among two strategies in one deed."""

    @pytest.fixture(autouse=True)
    def _filled(self) -> None:
        fold(fill(1, 100, 50, owner=""), fee(1, "1"))

    def divide(self, **parts: int) -> list[Booking]:
        wanted = {owner: Decimal(part) for owner, part in parts.items()}
        return divide_execution(ACCOUNT, fill(1).exec_id, wanted, key="op:1", **DEED)

    def shares(self) -> dict[str, Decimal]:
        return {share.owner: share.quantity for share in shares_of(fill(1).exec_id)}

    def test_gives_every_owner_his_part_with_its_fee(self) -> None:
        self.divide(ALPHA=60, BETA=30)
        assert self.shares() == {"ALPHA": 60, "BETA": 30, "Discretionary": 10}
        assert (money("ALPHA"), money("BETA")) == (Decimal("-3000.6"), Decimal("-1500.3"))
        assert verify_ledger().findings == []

    def test_that_asks_too_much_gives_nothing_to_anybody(self) -> None:
        with pytest.raises(ConflictError), transaction.atomic():
            self.divide(ALPHA=60, BETA=50)
        assert self.shares() == {"Discretionary": 100}

    def test_for_an_owner_that_does_not_exist_gives_nothing_to_anybody(self) -> None:
        with pytest.raises(ConfigError), transaction.atomic():
            self.divide(ALPHA=60, NOBODY=10)
        assert self.shares() == {"Discretionary": 100}

    def test_asked_again_moves_nothing_and_with_other_parts_is_refused(self) -> None:
        first = self.divide(ALPHA=60, BETA=30)
        again = self.divide(ALPHA=60, BETA=30)
        assert [one.adjustment_id for one in again] == [one.adjustment_id for one in first]
        with pytest.raises(ConflictError), transaction.atomic():
            self.divide(ALPHA=50, BETA=30)
        assert self.shares() == {"ALPHA": 60, "BETA": 30, "Discretionary": 10}

    @pytest.mark.parametrize("part", [0, 1])
    def test_is_undone_as_a_whole(self, part: int) -> None:
        before = everything()
        made = self.divide(ALPHA=60, BETA=30)
        undone = undo_deed(made[part].adjustment_id, **DEED)
        assert [one.adjustment_id for one in undone] == [made[1].adjustment_id, made[0].adjustment_id]
        assert everything() == before
        assert verify_ledger().findings == []

    def test_on_which_something_stands_is_not_undone_in_part(self) -> None:
        made = self.divide(ALPHA=60, BETA=30)
        assign(1, "BETA", 5)
        with pytest.raises(ConflictError), transaction.atomic():
            undo_deed(made[1].adjustment_id, **DEED)
        assert self.shares() == {"ALPHA": 60, "BETA": 35, "Discretionary": 5}
