"""Prices in pence and cents, and contracts that the books do not keep."""

# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import transaction

from portfolio.facts import BrokerPosition
from portfolio.models import Instrument, Mark, ParkedReport, Position
from portfolio.reconcile import ledger_cash
from portfolio.services import (
    compare_positions,
    describe_contracts,
    ensure_account,
    fold_batch,
    open_account,
    park,
    parked_contracts,
    record_marks,
    retry_parked,
    undescribed_contracts,
)
from strategies.exceptions import LedgerError
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fill, owner_of
from tests.unit.portfolio.stories import cash, fold, sound, state

pytestmark = pytest.mark.django_db

BP = contract(37_928, "BP.", currency="GBP", price_magnifier=100)
UNKNOWN = replace(BP, price_magnifier=None)
CORN = contract(700, "ZC", sec_type="FUT", multiplier=Decimal(5000), price_magnifier=100)


@pytest.fixture(autouse=True)
def _account() -> None:
    ensure_account(ACCOUNT, "USD")


def test_shares_quoted_in_pence_are_booked_in_pounds() -> None:
    fold(fill(1, 100, "542.3", of=BP, commission="3", commission_currency="GBP"))
    assert state("ALPHA", BP.con_id) == (100, Decimal("542.3"), -3)
    assert cash("ALPHA", "GBP") == Decimal("-545.3")
    assert sound()


def test_grains_quoted_in_cents_are_booked_in_dollars() -> None:
    fold(fill(1, 2, "450.25", of=CORN))
    assert state("ALPHA", 700)[1] == Decimal("4.5025") * 5000 * 2


def test_repeat_of_a_fill_in_pence_is_the_same_fill() -> None:
    fold(fill(1, 100, "542.3", of=BP))
    again = fold_batch(ACCOUNT, [fill(1, 100, "542.3", of=UNKNOWN)], owner_of, NOW)
    assert (again.duplicates, again.contradictions) == (1, [])


def test_fill_of_a_statement_is_in_pounds_already() -> None:
    fold(fill(1, 100, "542.3", of=BP))
    told = replace(fill(1, 100, "5.423", of=UNKNOWN), in_currency=True)
    assert fold_batch(ACCOUNT, [told], owner_of, NOW).contradictions == []


def test_price_whose_unit_is_not_known_waits_until_ib_has_described_the_contract() -> None:
    report = fill(1, 100, "542.3", of=UNKNOWN)
    with pytest.raises(LedgerError) as refused, transaction.atomic():
        fold(report)
    assert refused.value.code == "unknown_magnifier"
    park(report, refused.value, NOW)
    assert [one.con_id for one in parked_contracts()] == undescribed_contracts(parked_contracts()) == [BP.con_id]
    assert not retry_parked(ACCOUNT, owner_of, NOW).booked
    describe_contracts([BP])
    assert len(retry_parked(ACCOUNT, owner_of, NOW).booked) == 1
    assert state("ALPHA", BP.con_id)[1] == Decimal("542.3")
    assert undescribed_contracts([UNKNOWN]) == []


def test_dollar_shares_need_no_description() -> None:
    fold(fill(1, 1, 50, of=contract(price_magnifier=None)))
    assert state("ALPHA")[1] == 50


def test_marks_in_pence_value_in_pounds_and_of_unknown_unit_not_at_all() -> None:
    fold(fill(1, 100, "542.3", of=BP))
    describe_contracts([contract(5, "VOD", currency="GBP", price_magnifier=None)])
    record_marks({BP.con_id: Decimal(550), 5: Decimal(71)}, NOW)
    assert dict(Mark.objects.values_list("instrument_id", "price")) == {BP.con_id: Decimal("5.5")}


def test_cash_that_a_future_in_cents_stands_for_is_in_dollars() -> None:
    fold(fill(1, 1, 450, of=CORN))
    assert ledger_cash(ACCOUNT, {700: Decimal(460)}).amounts["USD"] == (Decimal("4.6") - Decimal("4.5")) * 5000


def test_opening_walks_fills_in_pence_back_in_pounds() -> None:
    """100 held at £5.00 with costs, 40 of them bought today at 500p."""
    open_account(
        ACCOUNT,
        {"GBP": Decimal(1000)},
        [BrokerPosition(BP, Decimal(100), Decimal(5))],
        [fill(1, 40, 500, of=BP)],
        NOW,
        owner_of=owner_of,
    )
    assert (cash("Discretionary", "GBP"), cash("ALPHA", "GBP")) == (1200, -200)
    assert Position.objects.get(owner="Discretionary").cost_basis == 300


def test_magnifier_that_changes_is_a_contradiction() -> None:
    fold(fill(1, 1, 500, of=BP))
    with pytest.raises(LedgerError) as refused:
        fold(fill(2, 1, 500, of=replace(BP, price_magnifier=1)))
    assert refused.value.code == "instrument_changed"


class TestContractForDifference:
    """Gold as a CFD."""

    cfd = contract(66, "IBUS500", sec_type="CFD")

    def test_is_refused_by_name(self) -> None:
        with pytest.raises(LedgerError) as refused:
            fold(fill(1, 10, 6000, of=self.cfd))
        assert refused.value.code == "unsupported_contract"

    def test_is_left_out_of_the_opening_and_opens_a_break_that_says_why(self) -> None:
        held = [BrokerPosition(self.cfd, Decimal(10), Decimal(6000))]
        open_account(ACCOUNT, {"USD": Decimal(500)}, held, [fill(1, 4, 6000, of=self.cfd)], NOW, owner_of=owner_of)
        assert (cash("Discretionary"), Position.objects.count()) == (500, 0)
        assert ParkedReport.objects.get().code == "unsupported_contract"
        (found,) = compare_positions(ACCOUNT, {66: Decimal(10)}, NOW + timedelta(seconds=1))
        assert [item["kind"] for item in found.cause["items"]] == ["parked_report", "unsupported_contract"]
        assert Instrument.objects.get().sec_type == "CFD"
