"""Units that come and go without a trade."""

# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from portfolio.adjustments import book_adjustment
from portfolio.ledger.reconciliation import compare_money
from portfolio.models import Account, CashBalance, Mark, Movement, Position
from portfolio.reconcile import compare_positions, ledger_cash
from portfolio.returns import flows_of
from portfolio.services import ensure_instruments, rates_of
from portfolio.verification import verify_all
from strategies.exceptions import ConfigError, ConflictError
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fill
from tests.unit.portfolio.stories import AAPL, LATER, WHO, book, cash, fold, open_books, sound, state, undo

pytestmark = pytest.mark.django_db
SPUN = contract(700, "SPUN")
FUTURE = contract(701, "MES", sec_type="FUT", multiplier=Decimal(5))
PAIR = contract(702, "EUR", sec_type="CASH")


@pytest.fixture(autouse=True)
def _account() -> None:
    open_books("ALPHA", "BETA")
    ensure_instruments([contract(), SPUN, FUTURE, PAIR])


def flows(owner: str) -> list[Decimal]:
    until = LATER + timedelta(days=1)
    return [flow.amount for flow in flows_of(ACCOUNT, owner, None, until, "USD", rates_of(ACCOUNT))]


def test_units_that_came_have_their_cost_and_no_cash_moved() -> None:
    fold(fill(1, 10, 40))
    before = cash("ALPHA")
    book("receipt", owner="ALPHA", con_id=AAPL, quantity="20", price="46")
    assert state("ALPHA") == (30, 1320, 0)
    assert cash("ALPHA") == before
    assert flows("ALPHA") == [920]
    assert flows("") == [920]
    assert sound()


def test_a_break_of_units_that_nobody_traded_clears_when_they_are_received() -> None:
    (opened,) = compare_positions(ACCOUNT, {SPUN.con_id: Decimal(7)}, NOW)
    assert opened.state == "open"
    book("receipt", con_id=SPUN.con_id, quantity="7", price="0")
    (cleared,) = compare_positions(ACCOUNT, {SPUN.con_id: Decimal(7)}, NOW)
    assert cleared.state == "cleared"
    assert state("Discretionary", SPUN.con_id) == (7, 0, 0)
    assert flows("Discretionary") == []
    assert sound()


def test_a_short_position_comes_and_goes() -> None:
    book("receipt", owner="ALPHA", con_id=AAPL, quantity="-10", price="50")
    assert state("ALPHA") == (-10, -500, 0)
    assert flows("ALPHA") == [-500]
    book("delivery", owner="ALPHA", con_id=AAPL, quantity="4")
    assert state("ALPHA") == (-6, -300, 0)
    assert cash("ALPHA") == 0
    assert sound()


def test_units_that_left_go_at_their_cost_to_the_last_digit() -> None:
    fold(fill(1, 2, "33.3"), fill(2, 1, "33.4"))
    before = cash("ALPHA")
    book("delivery", owner="ALPHA", con_id=AAPL, quantity="1")
    book("delivery", owner="ALPHA", con_id=AAPL, quantity="2")
    assert state("ALPHA") == (0, 0, 0)
    assert cash("ALPHA") == before
    assert round(sum(flows("ALPHA")), 8) == -100
    assert sound()


def test_both_can_be_undone() -> None:
    fold(fill(1, 10, 40))
    for kind, details in (("receipt", {"quantity": "5", "price": "70"}), ("delivery", {"quantity": "3"})):
        before = list(Position.objects.values_list("owner", "quantity", "cost_basis", "realized_pnl"))
        money = list(CashBalance.objects.values_list("owner", "amount", "realized_apart"))
        undo(book(kind, owner="ALPHA", con_id=AAPL, **details))
        assert list(Position.objects.values_list("owner", "quantity", "cost_basis", "realized_pnl")) == before
        assert list(CashBalance.objects.values_list("owner", "amount", "realized_apart")) == money
        assert sum(flows("ALPHA")) == 0
    assert sound()
    assert [check.name for check in verify_all(arctic=False).checks if check.found] == []


def test_a_receipt_is_not_undone_once_it_was_sold() -> None:
    came = book("receipt", owner="ALPHA", con_id=AAPL, quantity="10", price="50")
    fold(fill(1, -6, 60))
    with pytest.raises(ConflictError) as caught:
        undo(came)
    assert caught.value.code == "depended_on"


def test_a_late_split_carries_what_came_before_it() -> None:
    fold(fill(1, 10, 40))
    book("receipt", owner="ALPHA", con_id=AAPL, quantity="10", price="50")
    book("split", con_id=AAPL, numerator="2", denominator="1")
    assert state("ALPHA") == (40, 900, 0)
    fold(fill(1, 12, 40, revision=2))
    assert state("ALPHA") == (44, 980, 0)
    assert sound()


@pytest.mark.parametrize(("kind", "more"), [("receipt", {"price": "5"}), ("delivery", {})])
def test_units_of_before_a_split_are_not_taken_for_units_of_now(kind: str, more: dict[str, str]) -> None:
    fold(fill(1, 10, 40))
    book("split", con_id=AAPL, numerator="4", denominator="1")
    details = {"owner": "ALPHA", "con_id": AAPL, "quantity": "2", **more}
    with pytest.raises(ConflictError) as caught:
        book_adjustment(ACCOUNT, kind, details, effective_at=LATER - timedelta(minutes=1), **WHO)
    assert caught.value.code == "event_since"
    assert state("ALPHA") == (40, 400, 0)
    book(kind, **details)
    assert sound()


def test_a_future_comes_at_notional_so_that_the_brokers_cash_still_agrees() -> None:
    book("deposit", owner="Discretionary", currency="USD", amount="1000")
    book("receipt", owner="ALPHA", con_id=FUTURE.con_id, quantity="2", price="5000")
    Mark.objects.create(instrument_id=FUTURE.con_id, price=Decimal(5010), marked_at=NOW)
    assert (cash("ALPHA"), flows("ALPHA")) == (-50_000, [])
    # the broker paid the gain since it came, and nothing else
    assert compare_money({"USD": Decimal(1100)}, ledger_cash(ACCOUNT)) == []
    assert sound()


@pytest.mark.parametrize(
    ("kind", "details", "word"),
    [
        ("receipt", {"con_id": AAPL, "quantity": "0", "price": "1"}, "quantity"),
        ("receipt", {"con_id": AAPL, "quantity": "1"}, "price"),
        ("receipt", {"con_id": AAPL, "quantity": "1", "price": "-1"}, "price"),
        ("receipt", {"con_id": PAIR.con_id, "quantity": "1", "price": "1"}, "currencies"),
        ("receipt", {"con_id": AAPL, "quantity": "1", "price": "1", "owner": "GHOST"}, "GHOST"),
        ("delivery", {"con_id": AAPL, "quantity": "-1"}, "quantity"),
        ("delivery", {"con_id": FUTURE.con_id, "quantity": "1"}, "expiry"),
    ],
)
def test_what_makes_no_sense_is_refused(kind: str, details: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        book(kind, **details)
    assert not Movement.objects.exists()


def test_nobody_delivers_more_than_he_holds_or_closes_by_a_receipt() -> None:
    fold(fill(1, -10, 40))
    for kind, details, code in (
        ("delivery", {"quantity": "11"}, "not_held"),
        ("receipt", {"quantity": "1", "price": "5"}, "other_side"),
    ):
        with pytest.raises(ConflictError) as caught:
            book(kind, owner="ALPHA", con_id=AAPL, **details)
        assert caught.value.code == code
    assert state("ALPHA") == (-10, -400, 0)
    assert Account.objects.count() == 1
