"""Explaining positions: whose they are, and by which executions and adjustments."""

# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from portfolio.adjustments import book_adjustment, undo_adjustment
from portfolio.assignments import assign_execution, shares_of
from portfolio.explain import (
    executions_of,
    explain_contract,
    explain_holdings,
    explain_positions,
    find_execution,
)
from portfolio.models import Account, Break, BrokerHolding, Execution, Instrument, Mark, Position
from portfolio.services import ensure_account, fold_batch
from strategies.exceptions import NotFoundError
from strategies.models import Strategy
from tests.unit.portfolio.builders import ACCOUNT, NOW, fill, owner_of

AAPL = 265598


def prepare() -> None:
    ensure_account(ACCOUNT, "USD")
    for symbol in ("ALPHA", "BETA"):
        Strategy.objects.create(symbol=symbol, filename="alpha.py")


@pytest.fixture
def books(db: None) -> None:
    prepare()


def fold(*items: object) -> None:
    fold_batch(ACCOUNT, list(items), owner_of, NOW)  # type: ignore[arg-type]  # fills of the builders


def assign(number: int, to: str, quantity: int | None = None) -> int:
    size = None if quantity is None else Decimal(quantity)
    booking = assign_execution(
        ACCOUNT, fill(number).exec_id, to, quantity=size, actor="ann", source="page", reason="for it", now=NOW
    )
    return booking.adjustment_id


def by_owner() -> dict[str, Decimal]:
    return {holding.owner: holding.quantity for holding in explain_holdings(ACCOUNT, AAPL)}


def test_ib_is_unknown_until_it_gave_a_complete_answer(books: None) -> None:
    fold(fill(1, 100, 50))
    row = explain_positions(ACCOUNT)[0]
    assert (row.ib_quantity, row.difference, row.ib_at) == (None, None, None)
    Account.objects.update(positions_at=NOW)
    row = explain_positions(ACCOUNT)[0]
    assert (row.ib_quantity, row.difference, row.ib_at) == (0, -100, NOW)


def test_owners_discretionary_and_the_difference_stand_beside_ib(books: None) -> None:
    fold(fill(1, 100, 50), fill(2, 30, 50, owner="BETA"), fill(3, 7, 50, owner=""))
    account = Account.objects.get()
    account.positions_at = NOW
    account.save()
    BrokerHolding.objects.create(account=account, instrument_id=AAPL, quantity=Decimal(140), average_cost=Decimal(50))
    broken = Break.objects.create(
        account=account, instrument_id=AAPL, ib_quantity=140, ledger_quantity=137, opened_at=NOW
    )
    row = explain_positions(ACCOUNT)[0]
    assert [(part.owner, part.quantity) for part in row.owners] == [("ALPHA", 100), ("BETA", 30)]
    assert (row.discretionary, row.ledger_quantity, row.ib_quantity, row.difference) == (7, 137, 140, 3)
    assert row.break_id == broken.pk
    assert row.market_value is None
    assert explain_contract(ACCOUNT, AAPL) == row


def test_difference_that_came_after_ibs_answer_is_told_apart(books: None) -> None:
    fold(fill(1, 100, 50))
    Account.objects.update(positions_at=NOW)
    assert explain_positions(ACCOUNT)[0].moved_since is False
    Position.objects.update(updated_at=NOW + timedelta(seconds=1))
    assert explain_positions(ACCOUNT)[0].moved_since is True


def test_mark_of_friday_stands_over_the_weekend_and_grows_old_on_monday(
    books: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold(fill(1, 100, 50))
    close = datetime(2026, 2, 27, 20, 59, tzinfo=UTC)
    Mark.objects.create(instrument_id=AAPL, price=Decimal(51), marked_at=close)
    for now, stale in ((close + timedelta(days=1), False), (datetime(2026, 3, 2, 15, 0, tzinfo=UTC), True)):
        monkeypatch.setattr("portfolio.explain.timezone.now", lambda moment=now: moment)
        assert explain_positions(ACCOUNT)[0].stale is stale


def test_what_only_ib_holds_is_listed(books: None) -> None:
    account = Account.objects.get()
    account.positions_at = NOW
    account.save()
    other = Instrument.objects.create(con_id=1, symbol="X", sec_type="STK", currency="USD")
    BrokerHolding.objects.create(account=account, instrument=other, quantity=Decimal(5), average_cost=Decimal(1))
    row = explain_positions(ACCOUNT)[0]
    assert (row.symbol, row.ib_quantity, row.ledger_quantity, row.owners) == ("X", 5, 0, [])


def test_divided_execution_names_every_share_and_the_booking_that_can_be_undone(books: None) -> None:
    fold(fill(1, 100, 50, owner=""))
    booking = assign(1, "ALPHA", 60)
    execution = executions_of(ACCOUNT, AAPL)[0]
    assert [(share.owner, share.quantity) for share in execution.shares] == [("ALPHA", 60), ("Discretionary", 40)]
    assert execution.reassigned == [booking]
    assert executions_of(ACCOUNT, AAPL, "BETA") == []
    undo_adjustment(booking, actor="ann", source="page", reason="wrong", now=NOW)
    execution = find_execution(ACCOUNT, fill(1).exec_id)
    assert [(share.owner, share.quantity) for share in execution.shares] == [("Discretionary", 100)]
    assert execution.reassigned == []


def test_causes_begin_where_the_owner_was_last_flat(books: None) -> None:
    fold(fill(1, 100, 50), fill(2, -100, 51), fill(3, 40, 52), fill(4, 5, 53))
    holding = explain_holdings(ACCOUNT, AAPL)[0]
    assert [entry.exec_id for entry in holding.entries] == [fill(3).exec_id, fill(4).exec_id]
    assert [entry.running for entry in holding.entries] == [40, 45]


def test_fill_that_goes_through_zero_explains_what_is_held(books: None) -> None:
    fold(fill(1, 100, 50), fill(2, -150, 51))
    holding = explain_holdings(ACCOUNT, AAPL)[0]
    assert [(entry.quantity, entry.running) for entry in holding.entries] == [(-150, -50)]


def test_correction_is_one_cause_with_its_execution(books: None) -> None:
    fold(fill(1, 100, 50), fill(2, 10, 50), fill(1, 90, 50, revision=2))
    holding = explain_holdings(ACCOUNT, AAPL)[0]
    assert [entry.quantity for entry in holding.entries] == [90, 10]
    assert [row.exec_id for row in executions_of(ACCOUNT, AAPL)] == [fill(2).exec_id, fill(1, revision=2).exec_id]
    with pytest.raises(NotFoundError):
        find_execution(ACCOUNT, fill(1).exec_id)


def test_transfer_and_split_are_causes_and_an_undone_one_is_none(books: None) -> None:
    fold(fill(1, 100, 50))
    values = {"actor": "ann", "source": "page", "reason": "x", "now": NOW}
    gone = book_adjustment(
        ACCOUNT,
        "transfer_position",
        {"from": "ALPHA", "to": "BETA", "con_id": AAPL, "quantity": "30"},
        **values,  # type: ignore[arg-type]
    )
    assert by_owner() == {"ALPHA": 70, "BETA": 30}
    assert explain_holdings(ACCOUNT, AAPL)[1].entries[0].adjustment_id == gone.adjustment_id
    undo_adjustment(gone.adjustment_id, actor="ann", source="page", reason="wrong", now=NOW)
    holding = explain_holdings(ACCOUNT, AAPL)[0]
    assert [entry.quantity for entry in holding.entries] == [100]


def test_quantity_that_no_movement_booked_is_told(books: None) -> None:
    fold(fill(1, 100, 50))
    Position.objects.update(quantity=101)
    assert explain_holdings(ACCOUNT, AAPL)[0].unexplained == 1


class TestLaw(TestCase):
    """Every position is explained whatever was traded, corrected and assigned."""

    @settings(max_examples=25, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.integers(-50, 50).filter(bool), st.sampled_from(["", "ALPHA", "BETA"]), st.sampled_from([0, 1, 2])
            ),
            min_size=1,
            max_size=8,
        )
    )
    def test_entries_sum_to_what_is_held(self, trades: list[tuple[int, str, int]]) -> None:
        prepare()
        for number, (quantity, owner, what) in enumerate(trades, 1):
            fold(fill(number, quantity, 50, owner=owner))
            if what == 1 and not owner:
                assign(number, "ALPHA")
            if what == 2 and abs(quantity) > 1:
                fold(fill(number, quantity - (1 if quantity > 0 else -1), 50, owner=owner, revision=2))
        for holding in explain_holdings(ACCOUNT, AAPL):
            assert holding.unexplained == 0
            assert holding.entries[-1].running == holding.quantity
        for row in executions_of(ACCOUNT, AAPL):
            told = {share.owner: share.quantity for share in shares_of(row.exec_id)}
            assert {share.owner: share.quantity for share in row.shares} == told
            assert sum(told.values()) == Execution.objects.get(exec_id=row.exec_id).quantity
