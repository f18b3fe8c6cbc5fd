"""Comparing IB's positions with the books."""

# Whole Decimals are compared with ints to stay readable.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from portfolio.causes import BrokerDay
from portfolio.models import Break, Position
from portfolio.services import compare_positions, ensure_account, ensure_instruments, fold_batch, moving_contracts
from strategies.exceptions import LedgerError
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fill, owner_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _books() -> None:
    ensure_account(ACCOUNT, "USD")
    fold_batch(ACCOUNT, [fill(1, 60, 50), fill(2, 40, 50, owner="BETA")], owner_of, NOW)


def compare(quantity: int) -> list[tuple[str, Decimal, Decimal]]:
    facts = compare_positions(ACCOUNT, {265598: Decimal(quantity)}, NOW)
    return [(fact.state, fact.ib_quantity, fact.ledger_quantity) for fact in facts]


def test_sum_over_owners_is_what_ib_holds() -> None:
    assert compare(100) == []


def test_difference_opens_one_break_and_moves_nothing() -> None:
    assert compare(90) == [("open", 90, 100)]
    assert compare(90) == []
    assert Break.objects.count() == 1
    assert sum(row.quantity for row in Position.objects.all()) == 100


def test_break_follows_a_changed_difference_and_clears() -> None:
    compare(90)
    assert compare(80) == [("open", 80, 100)]
    assert compare(100) == [("cleared", 100, 100)]
    assert Break.objects.get().cleared_at == NOW
    assert compare(100) == []


def test_position_that_ib_does_not_name_is_zero_there() -> None:
    facts = compare_positions(ACCOUNT, {}, NOW)
    assert [fact.ib_quantity for fact in facts] == [0]


def test_contract_that_nobody_described_is_an_error() -> None:
    with pytest.raises(LedgerError):
        compare_positions(ACCOUNT, {265598: Decimal(100), 5: Decimal(1)}, NOW)
    ensure_instruments([contract(5, "MSFT")])
    facts = compare_positions(ACCOUNT, {265598: Decimal(100), 5: Decimal(1)}, NOW)
    assert [(fact.symbol, fact.state) for fact in facts] == [("MSFT", "open")]


def test_contract_that_trades_at_this_moment_opens_no_break_and_changes_none() -> None:
    assert compare_positions(ACCOUNT, {265598: Decimal(90)}, NOW, moving={265598}) == []
    compare(90)
    assert compare_positions(ACCOUNT, {265598: Decimal(80)}, NOW, moving={265598}) == []
    row = Break.objects.get()
    assert (row.state, row.ib_quantity) == ("open", 90)
    assert [fact.state for fact in compare_positions(ACCOUNT, {265598: Decimal(100)}, NOW, moving={265598})] == [
        "cleared"
    ]


def test_only_contracts_booked_since_the_moment_move() -> None:
    fold_batch(ACCOUNT, [fill(3, 1, 50, of=contract(5, "MSFT"))], owner_of, NOW + timedelta(seconds=5))
    assert moving_contracts(ACCOUNT, NOW + timedelta(seconds=4)) == {5}
    assert moving_contracts(ACCOUNT, NOW) == {5, 265598}
    assert moving_contracts("DU2", NOW) == frozenset()


def test_many_breaks_open_change_and_clear_with_as_many_statements_as_few() -> None:
    def statements(first: int, count: int) -> list[int]:
        con_ids = range(first, first + count)
        ensure_instruments([contract(con_id, f"C{con_id}") for con_id in con_ids])
        taken = []
        for quantity, state in ((1, "open"), (2, "open"), (0, "cleared")):
            answer = {265598: Decimal(100)} | {con_id: Decimal(quantity) for con_id in con_ids if quantity}
            with CaptureQueriesContext(connection) as captured:
                facts = compare_positions(ACCOUNT, answer, NOW, day=BrokerDay({}, NOW))
            assert [fact.state for fact in facts] == [state] * count
            assert len({fact.id for fact in facts}) == count
            taken.append(len(captured))
        return taken

    assert statements(1_000, 50) == statements(2_000, 2)
    assert {row.cause["items"][0]["kind"] for row in Break.objects.all()} == {"unexplained"}
