"""Fills from before an event of their contract that are reported only after it was booked."""

# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.db import transaction

from portfolio.adjustments import book_adjustment
from portfolio.daily import DailyPnl
from portfolio.facts import Booking
from portfolio.fold import Item
from portfolio.lots import position_lots
from portfolio.models import Execution
from portfolio.services import ensure_instruments, fold_batch
from tests.properties.books_rig import books_hash
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fee, fill, owner_of
from tests.unit.portfolio.stories import AAPL, CALL, WHO, cash, fold, open_books, sound, state, undo
from tests.unit.portfolio.test_assignments import assign

pytestmark = pytest.mark.django_db

OTHER = contract(265599, "AAPN")
MINUTE = timedelta(minutes=1)
END = NOW + timedelta(days=1)


@pytest.fixture(autouse=True)
def _account() -> None:
    open_books("ALPHA", "BETA")


def at(minute: int) -> datetime:
    """A minute of the story."""
    return NOW + minute * MINUTE


def happen(minute: int, kind: str, **details: object) -> Booking:
    """Book an event that acts at a minute of the story."""
    return book_adjustment(ACCOUNT, kind, details, effective_at=at(minute), **{**WHO, "now": END})


def split(minute: int, numerator: int, denominator: int = 1, con_id: int = AAPL) -> Booking:
    return happen(minute, "split", con_id=con_id, numerator=numerator, denominator=denominator)


def test_a_correction_that_says_when_it_was_made_stands_when_its_fill_happened() -> None:
    fold(fill(1, 100, 50, at=at(0)), fill(2, -40, 55, at=at(1)), fill(3, 40, 50, owner="BETA", at=at(2)))
    fold(replace(fill(1, 90, 50, revision=2), executed_at=NOW + timedelta(days=1)))
    fold(replace(fill(1, 80, 50, revision=3), executed_at=NOW + timedelta(days=2)))
    assert set(Execution.objects.filter(family="0000e0d5.00000001.01").values_list("executed_at", flat=True)) == {
        fill(1, at=at(0)).executed_at
    }
    happen(10, "dividend", con_id=AAPL, currency="USD", amount="8")  # both had 40 then, after the last word
    assert cash("ALPHA") == -80 * 50 + 40 * 55 + 4
    assert position_lots(ACCOUNT, "ALPHA", AAPL).open[0].opened_at == fill(1, at=at(0)).executed_at
    assert DailyPnl().realized(ACCOUNT, "ALPHA", NOW + timedelta(days=1, minutes=1)) == 0
    assert sound()


Step = Callable[[], object]
LATE: list[Item] = [fill(50, 40, 70, at=at(2)), fee(50, "0.9")]


def one_split(late: Step, now: Step) -> None:
    fold(fill(1, 100, 50, at=at(0)), fee(1, "1"))
    now()
    fold(fill(3, -30, 60, at=at(4)))
    split(10, 4)
    fold(fill(4, -100, 20, at=at(12)), fee(4, "2"))
    late()


def two_splits(late: Step, now: Step) -> None:
    fold(fill(1, 100, 50, at=at(0)))
    now()
    split(10, 3, 2)
    fold(fill(3, -60, 40, at=at(12)))
    split(20, 1, 3)
    fold(fill(4, 7, 100, at=at(22)))
    late()


def split_and_change(late: Step, now: Step) -> None:
    ensure_instruments([contract(), OTHER])
    fold(fill(1, 100, 50, at=at(0)), fill(2, 10, 51, owner="BETA", at=at(0)))
    now()
    split(10, 2)
    happen(15, "symbol_change", con_id=AAPL, new_con_id=OTHER.con_id)
    fold(fill(4, -120, 30, of=OTHER, at=at(16)))
    split(20, 5, con_id=OTHER.con_id)
    late()


def held_by_nobody_at_the_split(late: Step, now: Step) -> None:
    fold(fill(1, 100, 50, owner="BETA", at=at(0)))
    now()
    split(10, 4)
    late()


def expiry(late: Step, now: Step) -> None:
    fold(fill(1, 100, 50, at=at(0)))
    now()
    happen(10, "expiry", con_id=AAPL, settlement_price=65)
    late()


@pytest.mark.parametrize("story", [one_split, two_splits, split_and_change, held_by_nobody_at_the_split, expiry])
def test_fill_that_comes_after_the_event_makes_the_books_of_one_that_came_in_time(
    story: Callable[[Step, Step], None],
) -> None:
    def deliver() -> None:
        fold(*LATE)

    with transaction.atomic():
        story(lambda: None, deliver)
        in_time = books_hash(journal=False)
        assert sound()
        transaction.set_rollback(True)
    story(deliver, lambda: None)
    assert sound()
    assert books_hash(journal=False) == in_time


def test_figures_of_a_late_fill_through_a_split() -> None:
    """100 at 50, then 4 for 1; 40 at 70 from before it: 560 at 5,000 + 2,800."""
    fold(fill(1, 100, 50, at=at(0)))
    split(10, 4)
    fold(fill(2, 40, 70, at=at(2)))
    assert state("ALPHA") == (560, 7800, 0)
    assert cash("ALPHA") == -7800
    assert sound()


def test_fill_from_before_stands_before_a_split_that_is_booked_after_both_in_the_wrong_order() -> None:
    """A statement brings yesterday's fill when today's came already; the split between them is approved last."""
    fold(fill(1, 100, 50, at=at(0)))
    fold(fill(2, 10, 12, at=at(12)))
    fold(fill(3, 40, 70, at=at(2)))
    split(10, 4)
    assert state("ALPHA")[0] == 4 * 140 + 10
    assert state("ALPHA")[1] == 5000 + 2800 + 120
    assert sound()


def test_late_sale_realises_at_the_average_of_old_units() -> None:
    fold(fill(1, 100, 50, at=at(0)))
    split(10, 2)
    fold(fill(2, -40, 60, at=at(2)))
    assert state("ALPHA") == (120, 3000, 400)
    assert sound()


def test_late_fill_can_be_corrected_assigned_and_the_split_undone() -> None:
    fold(fill(1, 100, 50, owner="", at=at(0)))
    done = split(10, 4)
    fold(fill(2, 40, 70, owner="", at=at(2)), fee(2, "1"))
    assign(2, "ALPHA", 10)
    assert (state("ALPHA")[0], state("Discretionary")[0]) == (40, 520)
    fold(fill(2, 20, 70, owner="", at=at(30), revision=2), fee(2, "1", revision=2))
    assert (state("ALPHA")[0], state("Discretionary")[0]) == (20, 460)
    assert sound()
    undo(done)
    assert (state("ALPHA")[0], state("Discretionary")[0]) == (5, 115)
    assert sound()


def test_correction_with_the_time_of_its_making_keeps_the_fill_before_the_split() -> None:
    fold(fill(1, 100, 50, at=at(0)))
    split(10, 4)
    fold(fill(1, 90, 50, at=at(12), revision=2))
    assert state("ALPHA") == (360, 4500, 0)
    assert sound()


def test_assignment_of_shares_from_before_a_split_that_is_booked_late() -> None:
    """A put at 150 was assigned before a 2:1 split and comes by the statement after it: 100 old shares are 200."""
    put = contract(901, "AAPL", sec_type="OPT", multiplier=Decimal(100), strike=Decimal(150), right="P")
    fold(fill(1, 10, 140, at=at(0)), fill(2, -1, 2, of=put, at=at(0)))
    split(10, 2)
    happen(5, "exercise", con_id=901, underlying_con_id=AAPL)
    assert state("ALPHA") == (220, 1400 + 15_000 - 200, 0)
    assert state("ALPHA", 901) == (0, 0, 0)
    assert sound()


def test_late_option_fill_carries_its_cost_into_the_exercise() -> None:
    """2 calls exercised; one of them was sold before it, says a late report: its owner had 3."""
    ensure_instruments([contract()])
    fold(fill(1, 2, 3, of=CALL, at=at(0)))
    happen(10, "exercise", con_id=900, underlying_con_id=AAPL)
    fold(fill(2, 1, 6, of=CALL, at=at(2)))
    assert state("ALPHA", 900) == (1, 400, 0)
    assert state("ALPHA") == (200, 30_000 + 800, 0)
    assert sound()


def test_event_booked_behind_a_later_one_acts_before_it() -> None:
    ensure_instruments([contract(), OTHER])
    fold(fill(1, 100, 50, at=at(0)))
    happen(20, "symbol_change", con_id=AAPL, new_con_id=OTHER.con_id)
    split(10, 4)
    assert state("ALPHA", OTHER.con_id) == (400, 5000, 0)
    assert sound()


def test_executions_of_one_batch_stand_on_both_sides_of_the_split() -> None:
    fold(fill(1, 100, 50, at=at(0)))
    split(10, 4)
    batch: list[Item] = [fill(2, 40, 70, at=at(2)), fill(3, -8, 20, at=at(12)), fill(4, 4, 71, at=at(3)), fee(4, "1")]
    fold_batch(ACCOUNT, batch, owner_of, END)
    assert state("ALPHA")[0] == 4 * 144 - 8
    assert sound()


def test_correction_before_a_change_of_contract_reaches_what_was_split_before_the_change() -> None:
    """The new contract was split 3 for 1 before the old one became it; that split is booked last."""
    fold(fill(1, 10, 50, at=at(0)), fill(2, 5, 8, of=OTHER, at=at(1)))
    happen(20, "symbol_change", con_id=AAPL, new_con_id=OTHER.con_id)
    split(10, 3, con_id=OTHER.con_id)
    assert state("ALPHA", OTHER.con_id) == (25, 540, 0)
    fold(fill(1, 12, 50, at=at(0), revision=2))
    assert state("ALPHA", OTHER.con_id) == (27, 640, 0)
    fold(fill(4, 1, 60, owner="BETA", at=at(2)))
    assert state("BETA", OTHER.con_id) == (1, 60, 0)
    assert sound()
