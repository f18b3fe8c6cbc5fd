"""Lots, first in first out, beside the average cost that the books keep."""

# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolio.adjustments import book_adjustment
from portfolio.fold import Item
from portfolio.ledger.journal import Entry, trace
from portfolio.ledger.lots import lots_of_entries
from portfolio.lots import position_lots
from portfolio.models import Position
from portfolio.services import ensure_account, fold_batch
from strategies.exceptions import NotFoundError
from tests.unit.portfolio.builders import ACCOUNT, NOW, fee, fill, owner_of

AAPL = 265598
sizes = st.decimals(Decimal(-50), Decimal(50), places=3).filter(bool)
prices = st.decimals(Decimal("0.0001"), Decimal(500), places=10)
trades = st.lists(st.tuples(sizes, prices), min_size=1, max_size=30)
MULTIPLIERS = st.sampled_from([Decimal(1), Decimal(100), Decimal("0.1")])


@given(trades, prices, MULTIPLIERS, st.integers(0, 30), st.fractions(Fraction(1, 7), 10, max_denominator=7))
def test_lots_and_average_realise_the_same_when_flat(
    drawn: list[tuple[Decimal, Decimal]], last: Decimal, multiplier: Decimal, at: int, ratio: Fraction
) -> None:
    upper, lower = Decimal(ratio.numerator), Decimal(ratio.denominator)
    entries = [
        Entry(2 * number, "quantity", size, price, ref=f"t{number}") for number, (size, price) in enumerate(drawn)
    ]
    entries.append(Entry(2 * at + 1, "factor", upper, denominator=lower, ref="split"))
    entries.append(Entry(1000, "close", price=last, ref="end"))
    state, _ = trace(entries, multiplier)
    lots = lots_of_entries(entries, multiplier)
    assert state.quantity == 0
    assert lots.open == []
    assert lots.realized == state.realized_pnl


@given(trades, MULTIPLIERS)
def test_open_lots_are_the_position_and_the_difference_is_in_their_cost(
    drawn: list[tuple[Decimal, Decimal]], multiplier: Decimal
) -> None:
    entries = [Entry(number, "quantity", size, price, ref=f"t{number}") for number, (size, price) in enumerate(drawn)]
    state, _ = trace(entries, multiplier)
    lots = lots_of_entries(entries, multiplier)
    assert sum((lot.quantity for lot in lots.open), Decimal(0)) == state.quantity
    cost = sum((lot.cost for lot in lots.open), Decimal(0))
    assert lots.realized - cost == state.realized_pnl - state.cost_basis


@pytest.mark.django_db
def test_lots_of_an_owner_carry_their_dates_through_a_split() -> None:
    ensure_account(ACCOUNT, "USD")
    reports: list[Item] = [fill(1, 10, 40), fee(1, "1"), fill(2, 10, 60), fill(3, -15, 70)]
    fold_batch(ACCOUNT, reports, owner_of, NOW)
    later = NOW + timedelta(hours=1)
    details = {"con_id": AAPL, "numerator": "2", "denominator": "1"}
    book_adjustment(ACCOUNT, "split", details, actor="ann", source="page", now=later)
    found = position_lots(ACCOUNT, "ALPHA", AAPL)
    assert [(lot.opened_at, lot.quantity, lot.price, lot.cost) for lot in found.open] == [
        (NOW + timedelta(seconds=2), 10, 30, 300)
    ]
    assert [(lot.closed_at, lot.quantity, lot.realized_pnl) for lot in found.closed] == [
        (NOW + timedelta(seconds=3), 10, 300),
        (NOW + timedelta(seconds=3), 5, 50),
    ]
    assert (found.realized_pnl, Position.objects.get().realized_pnl) == (349, 299)


@pytest.mark.django_db
def test_lots_of_an_unknown_contract_are_an_error() -> None:
    with pytest.raises(NotFoundError):
        position_lots(ACCOUNT, "ALPHA", 1)
