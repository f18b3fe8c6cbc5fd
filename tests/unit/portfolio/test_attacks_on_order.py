"""Attacks on the order of events: corrections, splits, assignments, exercises and undos that cross each other."""

# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from portfolio.adjustments import approve_adjustment, book_adjustment, propose_adjustment
from portfolio.models import Movement, Position
from portfolio.services import ensure_instruments
from strategies.exceptions import ConfigError, ConflictError
from strategies.models import AuditEntry
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fee, fill
from tests.unit.portfolio.stories import AAPL, CALL, WHO, book, cash, fold, open_books, sound, state, undo
from tests.unit.portfolio.test_assignments import assign, everything

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _account() -> None:
    open_books("ALPHA", "BETA")


def test_correction_after_a_split_after_an_assignment() -> None:
    """100 at 40, 60 of them ALPHA's; 4 for 1; the fill was really 90 at 40: ALPHA has 216, the rest 144."""
    fold(fill(1, 100, 40, owner=""), fee(1, "1"))
    assign(1, "ALPHA", 60)
    book("split", con_id=AAPL, numerator="4", denominator="1")
    fold(fill(1, 90, 40, owner="", revision=2))
    assert (state("ALPHA"), state("Discretionary")) == ((216, 2160, 0), (144, 1440, 0))
    fold(fee(1, "0.9", revision=2))
    assert (cash("ALPHA"), cash("Discretionary")) == (Decimal("-2160.54"), Decimal("-1440.36"))
    assert sound()


def test_correction_before_an_exercise_carries_its_premium_to_the_shares() -> None:
    """2 calls for 3.00 cost 600 and become 200 shares for 30,600; they really cost 2.50: 30,500."""
    ensure_instruments([contract()])
    fold(fill(1, 2, 3, of=CALL))
    done = book("exercise", con_id=900, underlying_con_id=AAPL)
    assert state("ALPHA") == (200, 30_600, 0)
    fold(fill(1, 2, "2.50", of=CALL, revision=2))
    assert (state("ALPHA"), state("ALPHA", 900)) == ((200, 30_500, 0), (0, 0, 0))
    assert cash("ALPHA") == -30_500
    assert sound()
    undo(done)
    assert (state("ALPHA"), state("ALPHA", 900)) == ((0, 0, 0), (2, 500, 0))
    assert cash("ALPHA") == -500
    assert sound()


def test_exercise_through_a_short_of_the_underlying_covers_and_opens() -> None:
    """Short 50 at 160; a call for 4.00, strike 150: 100 shares at 154. Covered: 50 · 6 = 300; 50 stay for 7,700."""
    fold(fill(1, -50, 160), fill(2, 1, 4, of=CALL))
    done = book("exercise", con_id=900, underlying_con_id=AAPL)
    assert state("ALPHA") == (50, 7_700, 300)
    assert cash("ALPHA") == 8_000 - 400 - 15_000
    assert sound()
    undo(done)
    assert (state("ALPHA"), state("ALPHA", 900)) == ((-50, -8_000, 0), (1, 400, 0))
    assert cash("ALPHA") == 7_600
    assert sound()


def test_assignment_of_a_fill_before_an_expiry_moves_what_the_expiry_realised() -> None:
    fold(fill(1, 2, 3, of=CALL, owner=""))
    book("expiry", con_id=900)
    assert state("Discretionary", 900) == (0, 0, -600)
    assign(1, "ALPHA", 1)
    assert (state("ALPHA", 900), state("Discretionary", 900)) == ((0, 0, -300), (0, 0, -300))
    assert sound()


def test_expiry_acts_on_what_is_held_when_it_is_approved() -> None:
    fold(fill(1, 2, 3, of=CALL))
    waits = propose_adjustment(ACCOUNT, "expiry", {"con_id": 900, "settlement_price": "1.5"}, **WHO)
    fold(fill(2, -1, 5, of=CALL))
    approve_adjustment(waits.adjustment_id, **WHO)
    approve_adjustment(waits.adjustment_id, **WHO)
    assert state("ALPHA", 900) == (0, 0, 200 - 150)
    assert cash("ALPHA") == -600 + 500 + 150
    assert AuditEntry.objects.filter(action="adjustment.booked").count() == 1
    assert sound()


def test_handing_over_through_the_receivers_short_realises_at_the_givers_cost() -> None:
    """BETA is short 30 at 60 and gets 100 at 50: covered 30 · 10 = 300; 70 stay at 50."""
    fold(fill(1, 100, 50, owner="ALPHA"), fill(2, -30, 60, owner="BETA"))
    given = book("transfer_position", **{"from": "ALPHA", "to": "BETA"}, con_id=AAPL, quantity="100")
    assert (state("ALPHA"), state("BETA")) == ((0, 0, 0), (70, 3_500, 300))
    assert (cash("ALPHA"), cash("BETA")) == (0, -3_200)
    undo(given)
    assert (state("ALPHA"), state("BETA")) == ((100, 5_000, 0), (-30, -1_800, 0))
    assert sound()


def test_change_into_a_contract_that_is_held_short_closes_against_it() -> None:
    """100 old at 40, 2 for 1: 200 new for 4,000 meet 50 short at 25: 50 · (25 − 20) = 250; 150 stay for 3,000."""
    fold(fill(1, 100, 40), fill(2, -50, 25, of=contract(7, "NEW")))
    done = book("symbol_change", con_id=AAPL, new_con_id=7, numerator="2")
    assert (state("ALPHA"), state("ALPHA", 7)) == ((0, 0, 0), (150, 3_000, 250))
    assert cash("ALPHA") == -4_000 + 1_250
    assert sound()
    undo(done)
    assert (state("ALPHA"), state("ALPHA", 7)) == ((100, 4_000, 0), (-50, -1_250, 0))


def test_change_into_another_currency_is_refused_and_another_multiplier_keeps_cost() -> None:
    small = contract(8, "MINI", sec_type="OPT", multiplier=Decimal(10))
    ensure_instruments([contract(6, "EURO", currency="EUR"), small])
    fold(fill(1, 2, 3, of=CALL))
    with pytest.raises(ConfigError):
        book("symbol_change", con_id=900, new_con_id=6)
    book("symbol_change", con_id=900, new_con_id=8, numerator="10")
    assert state("ALPHA", 8) == (20, 600, 0)
    assert sound()


def test_reverse_split_across_owners_sums_to_what_ib_rounds_to() -> None:
    """15 and 18 shares, 1 for 10, are 1.5 and 1.8; IB keeps 3 and pays 30 for 0.3 of them."""
    fold(fill(1, 15, 10, owner="ALPHA"), fill(2, 18, 10, owner="BETA"))
    lieu = {"currency": "USD", "amount": "30", "quantity": "0.3"}
    done = book("split", con_id=AAPL, numerator="1", denominator="10", cash_in_lieu=lieu)
    assert sum(row.quantity for row in Position.objects.all()) == 3
    assert cash("ALPHA") + cash("BETA") == -330 + 30
    assert sound()
    undo(done)
    assert (state("ALPHA"), state("BETA")) == ((15, 150, 0), (18, 180, 0))
    assert sound()


def test_fee_of_another_currency_on_a_divided_execution_survives_its_correction() -> None:
    """2 EUR on 100, 25 of them ALPHA's; then 80: the fee goes back, the new one of 1.60 is divided 0.40 to 1.20."""
    fold(fill(1, 100, 50, owner=""), fee(1, "2", "EUR"))
    assign(1, "ALPHA", 25)
    assert (cash("ALPHA", "EUR"), cash("Discretionary", "EUR")) == (Decimal("-0.5"), Decimal("-1.5"))
    fold(fill(1, 80, 50, owner="", revision=2))
    assert (cash("ALPHA", "EUR"), cash("Discretionary", "EUR")) == (0, 0)
    fold(fee(1, "1.6", "EUR", revision=2))
    assert (cash("ALPHA", "EUR"), cash("Discretionary", "EUR")) == (Decimal("-0.4"), Decimal("-1.2"))
    assert sound()


def test_undo_of_the_first_of_two_assignments_of_one_execution_names_the_second() -> None:
    fold(fill(1, 100, 50, owner=""))
    first = assign(1, "ALPHA", 60)
    second = assign(1, "BETA", 30, giver="ALPHA")
    with pytest.raises(ConflictError):
        undo(first)
    before = everything()
    undo(second)
    undo(first)
    assert everything() != before
    assert (cash("ALPHA"), cash("BETA"), cash("Discretionary")) == (0, 0, -5_000)
    assert sound()


def test_dividend_by_the_holders_of_the_ex_date_when_everything_was_assigned_and_split_since() -> None:
    """100 held at the ex-date, by assignment since then ALPHA's; 2 for 1 came after it: ALPHA gets all of 25."""
    fold(fill(1, 100, 50, owner=""))
    book_adjustment(ACCOUNT, "split", {"con_id": AAPL, "numerator": "2", "denominator": "1"}, **WHO)
    assign(1, "ALPHA")
    details = {"con_id": AAPL, "currency": "USD", "amount": "25"}
    book_adjustment(ACCOUNT, "dividend", details, effective_at=NOW + timedelta(minutes=30), **WHO)
    assert state("ALPHA")[2] == 25
    assert Movement.objects.filter(kind="dividend").count() == 1
    assert sound()


def test_option_that_was_exercised_is_not_assigned_away_behind_it() -> None:
    """The shares stay where the exercise put them: the new owner would pay 300 for an option that is gone."""
    ensure_instruments([contract()])
    fold(fill(1, 2, 3, of=CALL, owner=""))
    done = book("exercise", con_id=900, underlying_con_id=AAPL)
    before = everything()
    with pytest.raises(ConflictError, match=r"adj|op:"):
        assign(1, "ALPHA", 1)
    assert everything() == before
    undo(done)
    assign(1, "ALPHA", 1)
    book("exercise", con_id=900, underlying_con_id=AAPL)
    assert (state("ALPHA"), state("Discretionary")) == ((100, 15_300, 0), (100, 15_300, 0))
    assert sound()


def test_option_beyond_those_exercised_may_be_assigned() -> None:
    ensure_instruments([contract()])
    fold(fill(1, 3, 3, of=CALL, owner=""))
    book("exercise", con_id=900, underlying_con_id=AAPL, quantity="2")
    assign(1, "ALPHA", 1)
    assert (state("ALPHA", 900), state("Discretionary", 900)[0]) == ((1, 300, 0), 0)
    assert sound()


def test_assignment_of_an_option_that_its_new_owner_exercised_is_not_undone() -> None:
    ensure_instruments([contract()])
    fold(fill(1, 2, 3, of=CALL, owner=""))
    given = assign(1, "ALPHA")
    done = book("exercise", con_id=900, underlying_con_id=AAPL)
    with pytest.raises(ConflictError):
        undo(given)
    undo(done)
    undo(given)
    assert (state("ALPHA", 900), state("Discretionary", 900)) == ((0, 0, 0), (2, 600, 0))
    assert sound()
