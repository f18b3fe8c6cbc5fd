"""Booking, proposing, previewing and undoing what is no fill."""

# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from portfolio.adjustments import (
    approve_adjustment,
    book_adjustment,
    preview_adjustment,
    propose_adjustment,
    reject_adjustment,
    undo_adjustment,
)
from portfolio.facts import Booking
from portfolio.models import Adjustment, CashBalance, Mark, Movement
from portfolio.services import ensure_instruments
from strategies.exceptions import ConfigError, ConflictError, NotFoundError
from strategies.models import AuditEntry
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fee, fill
from tests.unit.portfolio.stories import AAPL, CALL, LATER, WHO, book, cash, fold, open_books, sound, state, undo
from tests.unit.portfolio.test_assignments import assign, everything

pytestmark = pytest.mark.django_db

PUT = contract(901, "AAPL", sec_type="OPT", multiplier=Decimal(100), strike=Decimal(150), right="P")


@pytest.fixture(autouse=True)
def _account() -> None:
    open_books("ALPHA", "BETA")


def transfer(kind: str = "transfer_position", **details: Any) -> Booking:
    return book_adjustment(ACCOUNT, kind, {"from": "ALPHA", "to": "BETA", **details}, **WHO)


def test_deposit_and_withdrawal_move_cash_and_realise_nothing() -> None:
    book("deposit", owner="ALPHA", currency="USD", amount=Decimal(1000))
    book("withdrawal", owner="ALPHA", currency="USD", amount="400")
    assert cash("ALPHA") == 600
    assert CashBalance.objects.get().realized_apart == 0
    assert sound()


def test_cash_goes_from_one_owner_to_another() -> None:
    transfer("transfer_cash", currency="USD", amount="250")
    transfer("rebalance", currency="USD", amount="50", target_weight="0.2", equity="10", net_liquidation="50")
    assert (cash("ALPHA"), cash("BETA")) == (-300, 300)


def test_interest_and_fees_are_realised_apart_from_positions() -> None:
    book("interest", currency="EUR", amount="-3")
    book("fee", currency="EUR", amount="2", owner="ALPHA")
    rows = {row.owner: row.realized_apart for row in CashBalance.objects.all()}
    assert rows == {"Discretionary": -3, "ALPHA": -2}
    assert sound()


def test_fee_of_an_instrument_lowers_its_realised_pnl() -> None:
    fold(fill(1, 10, 50))
    undo_me = book("fee", currency="USD", amount="1.5", owner="ALPHA", con_id=AAPL)
    assert state("ALPHA") == (10, 500, Decimal("-1.5"))
    undo(undo_me)
    assert state("ALPHA") == (10, 500, 0)
    assert sound()


def test_correction_of_a_commission_goes_to_the_owners_by_share() -> None:
    fold(fill(1, 100, 50, owner=""), fee(1, "1"))
    assign(1, "ALPHA", 25)
    before = everything()
    booking = book("fee", currency="USD", amount="-0.4", exec_id=fill(1).exec_id)
    assert state("ALPHA")[2] == Decimal("-0.15")
    assert state("Discretionary")[2] == Decimal("-0.45")
    assert sound()
    undo(booking)
    assert everything() == before


def test_dividend_is_divided_by_what_each_held_then_and_the_cents_add_up() -> None:
    fold(fill(1, 1, 50, owner="ALPHA"), fill(2, 1, 50, owner="BETA"), fill(3, 1, 50, owner=""))
    fold(fill(4, 500, 50, owner="BETA", at=LATER))
    details = {"con_id": AAPL, "currency": "USD", "amount": "10"}
    booking = book_adjustment(ACCOUNT, "dividend", details, effective_at=NOW + timedelta(minutes=1), **WHO)
    gains = {owner: state(owner)[2] for owner in ("ALPHA", "BETA", "Discretionary")}
    assert sorted(gains.values()) == [Decimal("3.33"), Decimal("3.33"), Decimal("3.34")]
    assert sound()
    undo(booking)
    assert {state(owner)[2] for owner in gains} == {0}
    assert sound()


def test_short_holder_pays_the_dividend() -> None:
    fold(fill(1, 100, 50, owner="ALPHA"), fill(2, -40, 50, owner="BETA"))
    book("dividend", con_id=AAPL, currency="USD", amount="30")
    assert (state("ALPHA")[2], state("BETA")[2]) == (50, -20)


def test_dividend_that_nobody_holds_is_discretionary() -> None:
    ensure_instruments([contract()])
    book("tax", con_id=AAPL, currency="USD", amount="-1.5")
    assert state("Discretionary") == (0, 0, Decimal("-1.5"))
    assert sound()


def test_dividend_in_another_currency_is_realised_apart() -> None:
    fold(fill(1, 100, 50))
    book("dividend", con_id=AAPL, currency="EUR", amount="5")
    assert state("ALPHA")[2] == 0
    assert CashBalance.objects.get(owner="ALPHA", currency="EUR").realized_apart == 5
    assert sound()


def test_dividend_of_named_owners() -> None:
    fold(fill(1, 100, 50))
    book("dividend", con_id=AAPL, currency="USD", amount="5", owners={"ALPHA": "3", "BETA": "2"})
    assert (cash("ALPHA"), cash("BETA")) == (-4997, 2)
    with pytest.raises(ConfigError, match="do not add up"):
        book("dividend", con_id=AAPL, currency="USD", amount="5", owners={"ALPHA": "3"})


def test_position_at_cost_realises_nothing_and_is_paid_for() -> None:
    fold(fill(1, 3, "33.3333333333", owner="ALPHA"))
    before = everything()
    booking = transfer(con_id=AAPL, quantity="1")
    assert state("ALPHA") == (2, Decimal("66.6666666666"), 0)
    assert state("BETA") == (1, Decimal("33.3333333333"), 0)
    assert cash("ALPHA") == Decimal("-66.6666666666")
    assert sound()
    undo(booking)
    assert everything() == before


def test_position_at_a_price_realises_with_the_giver() -> None:
    fold(fill(1, -10, 50, owner="ALPHA"))
    transfer(con_id=AAPL, quantity="4", price="45")
    assert state("ALPHA") == (-6, -300, 20)
    assert state("BETA") == (-4, -180, 0)
    assert (cash("ALPHA"), cash("BETA")) == (320, 180)
    assert sound()


def test_position_that_is_not_held_cannot_be_handed_over() -> None:
    fold(fill(1, 10, 50, owner="ALPHA"))
    with pytest.raises(ConflictError, match="holds 10"):
        transfer(con_id=AAPL, quantity="11")
    with pytest.raises(ConfigError):
        transfer(con_id=AAPL, quantity="1", price="-4")
    with pytest.raises(NotFoundError):
        transfer(con_id=77, quantity="1")


def test_position_that_was_sold_on_is_not_given_back() -> None:
    fold(fill(1, 10, 50, owner="ALPHA"))
    booking = transfer(con_id=AAPL, quantity="10")
    fold(fill(2, -10, 55, owner="BETA"))
    with pytest.raises(ConflictError, match=r"fill:.*00000002"):
        undo(booking)


def test_split_leaves_every_owners_value_unchanged() -> None:
    fold(fill(1, 100, 50, owner="ALPHA"), fill(2, -20, 55, owner="BETA"), fill(3, 7, 50, owner=""))
    Mark.objects.create(instrument_id=AAPL, price=Decimal(60), marked_at=NOW)
    before = everything()
    booking = book("split", con_id=AAPL, numerator="4", denominator="1")
    assert [state(owner)[:2] for owner in ("ALPHA", "BETA", "Discretionary")] == [
        (400, 5000),
        (-80, -1100),
        (28, 350),
    ]
    assert Mark.objects.get().price == 15
    assert sound()
    undo(booking)
    assert everything() == before
    assert Mark.objects.get().price == 60
    assert sound()


def test_correction_and_assignment_of_a_fill_before_a_split_carry_through_it() -> None:
    fold(fill(1, 100, 50, owner=""))
    book("split", con_id=AAPL, numerator="4", denominator="1")
    fold(fill(2, -100, 15, owner="", at=LATER))
    assign(1, "ALPHA", 40, now=LATER)
    assert state("ALPHA") == (160, 2000, 0)
    assert state("Discretionary") == (140, 1750, 250)
    fold(fill(1, 90, 50, owner="", revision=2))
    assert state("ALPHA") == (144, 1800, 0)
    assert state("Discretionary") == (116, 1450, 250)
    assert sound()


def test_split_that_is_booked_late_stands_before_the_fills_after_it() -> None:
    fold(fill(1, 100, 50), fill(2, 10, 13, at=LATER))
    details = {"con_id": AAPL, "numerator": "4", "denominator": "1"}
    booking = book_adjustment(ACCOUNT, "split", details, effective_at=NOW + timedelta(minutes=30), **WHO)
    assert state("ALPHA") == (410, 5130, 0)
    assert sound()
    undo(booking)
    assert state("ALPHA") == (110, 5130, 0)
    assert sound()


def test_reverse_split_sells_the_fraction_for_cash() -> None:
    fold(fill(1, 101, 5, owner="ALPHA"), fill(2, 50, 5, owner="BETA"))
    before = everything()
    paid = {"currency": "USD", "amount": "5", "quantity": "0.1"}
    booking = book("split", con_id=AAPL, numerator="1", denominator="10", cash_in_lieu=paid)
    assert state("ALPHA") == (10, 500, 0)
    assert state("BETA") == (5, 250, 0)
    assert cash("ALPHA") == -500
    assert sound()
    undo(booking)
    assert everything() == before


def test_symbol_change_carries_cost_to_the_new_contract_and_later_corrections_too() -> None:
    new = contract(77, "META")
    ensure_instruments([new])
    fold(fill(1, 100, 50, owner="ALPHA"), fill(2, -50, 56, owner="ALPHA"))
    before = everything()
    booking = book("symbol_change", con_id=AAPL, new_con_id=77, numerator="2")
    assert state("ALPHA") == (0, 0, 300)
    assert state("ALPHA", 77) == (100, 2500, 0)
    assert cash("ALPHA") == -5000 + 2800
    fold(fill(1, 90, 51, owner="ALPHA", revision=2))
    assert state("ALPHA") == (0, 0, 250)
    assert state("ALPHA", 77) == (80, 2040, 0)
    assert sound()
    fold(fill(1, 100, 50, owner="ALPHA", revision=3))
    undo(booking)
    assert everything()[:2] == before[:2]
    assert sound()


def test_worthless_expiry_realises_the_premium_and_a_correction_changes_it() -> None:
    fold(fill(1, 2, 3, of=CALL), fill(2, -1, 4, of=CALL, owner="BETA"))
    before = everything()
    booking = book("expiry", con_id=900)
    assert state("ALPHA", 900) == (0, 0, -600)
    assert state("BETA", 900) == (0, 0, 400)
    fold(fill(1, 3, 3, of=CALL, revision=2))
    assert state("ALPHA", 900) == (0, 0, -900)
    assert sound()
    fold(fill(1, 2, 3, of=CALL, revision=3))
    undo(booking)
    assert everything()[:2] == before[:2]


def test_expiry_at_a_settlement_price_pays_it() -> None:
    fold(fill(1, 2, 3, of=CALL))
    book("expiry", con_id=900, settlement_price="5.5")
    assert state("ALPHA", 900) == (0, 0, 500)
    assert cash("ALPHA") == 500
    with pytest.raises(ConflictError, match="Nobody held"):
        book("expiry", con_id=900)


def test_exercise_of_a_call_puts_the_premium_into_the_shares() -> None:
    ensure_instruments([contract()])
    fold(fill(1, 2, 3, of=CALL))
    before = everything()
    booking = book("exercise", con_id=900, underlying_con_id=AAPL)
    assert state("ALPHA", 900) == (0, 0, 0)
    assert state("ALPHA") == (200, 30600, 0)
    assert cash("ALPHA") == -600 - 30000
    assert sound()
    fold(fill(1, 2, 4, of=CALL, revision=2))
    assert state("ALPHA") == (200, 30800, 0)
    assert sound()
    fold(fill(1, 2, 3, of=CALL, revision=3))
    undo(booking)
    assert everything()[:2] == before[:2]


def test_assignment_of_a_short_put_buys_shares_for_less_than_the_strike() -> None:
    ensure_instruments([contract()])
    fold(fill(1, -3, 2, of=PUT))
    book("exercise", con_id=901, underlying_con_id=AAPL, quantity="1")
    assert state("ALPHA", 901) == (-2, -400, 0)
    assert state("ALPHA") == (100, 14800, 0)
    assert cash("ALPHA") == 600 - 15000
    assert sound()


def test_exercise_that_closes_shares_realises_with_the_premium() -> None:
    fold(fill(1, 100, 140), fill(2, -1, 2, of=CALL))
    book("exercise", con_id=900, underlying_con_id=AAPL, owners={"ALPHA": "1"})
    assert state("ALPHA") == (0, 0, 1200)
    assert state("ALPHA", 900) == (0, 0, 0)
    assert sound()


def test_exercise_of_more_than_is_held_or_of_no_option_is_refused() -> None:
    fold(fill(1, 1, 2, of=CALL), fill(2, 5, 50))
    with pytest.raises(ConflictError):
        book("exercise", con_id=900, underlying_con_id=AAPL, quantity="2")
    with pytest.raises(ConfigError):
        book("exercise", con_id=AAPL, underlying_con_id=900)


def test_undo_is_refused_while_a_later_event_of_the_contract_stands_on_it() -> None:
    fold(fill(1, 100, 50))
    first = book("split", con_id=AAPL, numerator="2", denominator="1")
    second = book("split", con_id=AAPL, numerator="3", denominator="1")
    with pytest.raises(ConflictError, match="undo it first"):
        undo(first)
    undo(second)
    undo(first)
    assert state("ALPHA") == (100, 5000, 0)
    assert sound()


def test_the_same_key_books_once_and_other_content_is_refused() -> None:
    details = {"owner": "ALPHA", "currency": "USD", "amount": "10"}
    first = book_adjustment(ACCOUNT, "deposit", details, key="flex:1", **WHO)
    again = book_adjustment(ACCOUNT, "deposit", {**details, "amount": "10.00"}, key="flex:1", **WHO)
    assert again.adjustment_id == first.adjustment_id
    assert again.touched_cash == []
    assert cash("ALPHA") == 10
    with pytest.raises(ConflictError):
        book_adjustment(ACCOUNT, "deposit", {**details, "amount": "11"}, key="flex:1", **WHO)


def test_proposal_moves_nothing_until_it_is_approved() -> None:
    details = {"owner": "ALPHA", "currency": "USD", "amount": "10"}
    proposed = propose_adjustment(ACCOUNT, "deposit", details, **WHO)
    assert (proposed.state, Movement.objects.count()) == ("proposed", 0)
    booked = approve_adjustment(proposed.adjustment_id, **WHO)
    assert (booked.state, cash("ALPHA")) == ("booked", 10)
    approve_adjustment(proposed.adjustment_id, **WHO)
    assert cash("ALPHA") == 10
    with pytest.raises(ConflictError):
        reject_adjustment(proposed.adjustment_id, **WHO)
    assert [entry.action for entry in AuditEntry.objects.all()] == ["adjustment.proposed", "adjustment.booked"]


def test_rejected_proposal_cannot_be_approved() -> None:
    proposed = propose_adjustment(ACCOUNT, "interest", {"currency": "USD", "amount": "1"}, **WHO)
    assert reject_adjustment(proposed.adjustment_id, **WHO).state == "rejected"
    with pytest.raises(ConflictError, match="rejected"):
        approve_adjustment(proposed.adjustment_id, **WHO)


def test_undo_happens_once_and_is_no_adjustment_to_undo() -> None:
    booking = book("deposit", owner="ALPHA", currency="USD", amount="10")
    assert undo(booking).state == "undone"
    assert undo(booking).state == "undone"
    assert cash("ALPHA") == 0
    reverse = Adjustment.objects.get(undoes_id=booking.adjustment_id)
    with pytest.raises(ConflictError, match="undo itself"):
        undo_adjustment(reverse.pk, **WHO)


def test_preview_says_what_would_be_booked_and_writes_nothing() -> None:
    fold(fill(1, 100, 50))
    count = Movement.objects.count()
    details = {"con_id": AAPL, "numerator": "4", "denominator": "1"}
    lines = preview_adjustment(ACCOUNT, "split", details, None, LATER)
    assert [(line.owner, line.quantity, line.cash) for line in lines] == [("ALPHA", Decimal(300), Decimal(0))]
    assert (Movement.objects.count(), Adjustment.objects.count(), AuditEntry.objects.count()) == (count, 0, 0)
    assert state("ALPHA")[0] == 100


def test_refused_booking_leaves_nothing_behind() -> None:
    ensure_instruments([contract()])
    with pytest.raises(ConflictError):
        book("split", con_id=AAPL, numerator="4", denominator="1")
    assert (Adjustment.objects.count(), AuditEntry.objects.count()) == (0, 0)


@pytest.mark.parametrize(
    ("moment", "text"), [(LATER + timedelta(seconds=1), "future"), (NOW.replace(tzinfo=None), "zone")]
)
def test_moment_in_the_future_or_without_zone_is_refused(moment: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        book_adjustment(ACCOUNT, "interest", {"currency": "USD", "amount": "1"}, effective_at=moment, **WHO)


def test_unknown_account_is_refused() -> None:
    with pytest.raises(NotFoundError):
        book_adjustment("DU9", "interest", {"currency": "USD", "amount": "1"}, **WHO)
