"""Attacks on who gets what: late fees, undone divisions, corrections smaller than a part, shorts, roundings."""

# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from portfolio.adjustments import book_adjustment
from portfolio.ledger.shares import divide, grain
from portfolio.models import CashBalance, Mark, Movement, Position
from strategies.exceptions import ConfigError, ConflictError, LedgerError
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fee, fill
from tests.unit.portfolio.stories import AAPL, CALL, LATER, WHO, book, cash, fold, open_books, sound, state, undo
from tests.unit.portfolio.test_assignments import assign, everything

pytestmark = pytest.mark.django_db

OWNERS = ("ALPHA", "BETA", "GAMMA", "DELTA", "OMEGA")


@pytest.fixture(autouse=True)
def _account() -> None:
    open_books(*OWNERS)


# -- fees that come late


def test_fee_that_came_between_a_division_and_its_undo_goes_back_with_the_fill() -> None:
    fold(fill(1, 100, 50, owner=""))
    part = assign(1, "ALPHA", 60)
    fold(fee(1, "1"))
    undo(part)
    assert state("ALPHA") == (0, 0, 0)
    assert (cash("ALPHA"), cash("Discretionary")) == (0, -5001)
    assert sound()


def test_late_fee_in_another_currency_goes_back_too() -> None:
    fold(fill(1, 100, 50, owner=""))
    part = assign(1, "ALPHA")
    fold(fee(1, "1.10", "EUR"))
    undo(part)
    assert (cash("ALPHA", "EUR"), cash("Discretionary", "EUR")) == (0, Decimal("-1.1"))
    assert {row.owner: row.realized_apart for row in CashBalance.objects.filter(currency="EUR")} == {
        "ALPHA": 0,
        "Discretionary": Decimal("-1.1"),
    }
    assert sound()


def test_undo_of_the_last_of_two_divisions_leaves_the_late_fee_with_the_first() -> None:
    fold(fill(1, 100, 50, owner=""))
    assign(1, "ALPHA", 25)
    last = assign(1, "BETA", 25)
    fold(fee(1, "1"))
    undo(last)
    assert (state("ALPHA")[2], state("BETA")[2], state("Discretionary")[2]) == (Decimal("-0.25"), 0, Decimal("-0.75"))
    assert sound()


def test_fee_after_the_undo_is_the_givers_alone() -> None:
    fold(fill(1, 100, 50, owner=""))
    undo(assign(1, "ALPHA", 60))
    fold(fee(1, "1"))
    assert (cash("ALPHA"), cash("Discretionary")) == (0, -5001)
    assert sound()


# -- parts


def test_correction_to_less_than_the_part_that_was_given_leaves_nobody_on_the_other_side() -> None:
    fold(fill(1, 100, 50, owner=""))
    for owner in OWNERS:
        assign(1, owner, 20)
    fold(fill(1, 3, 50, owner="", revision=2))
    held = {owner: state(owner)[0] for owner in OWNERS}
    assert sum(held.values()) == 3
    assert sorted(held.values()) == [0, 0, 1, 1, 1]
    assert sound()


def test_halving_an_execution_of_many_owners_gives_none_all_of_it() -> None:
    assert sorted(
        divide(Decimal(10), dict.fromkeys("abcdefghijklmnopqrst", Decimal(1)), grain(Decimal(1))).values()
    ) == [
        *[0] * 10,
        *[1] * 10,
    ]


def test_a_dividend_of_three_cents_costs_nobody_anything() -> None:
    parts = divide(Decimal("0.03"), dict.fromkeys("abcde", Decimal(1)), Decimal("0.01"))
    assert sorted(parts.values()) == [0, 0, Decimal("0.01"), Decimal("0.01"), Decimal("0.01")]


def test_negative_cents_are_divided_like_positive_ones() -> None:
    weights = {"A": Decimal(3), "B": Decimal(3), "C": Decimal(1)}
    up = divide(Decimal("10.00"), weights, Decimal("0.01"))
    down = divide(Decimal("-10.00"), weights, Decimal("0.01"))
    assert up == {"A": Decimal("4.29"), "B": Decimal("4.28"), "C": Decimal("1.43")}
    assert down == {name: -part for name, part in up.items()}


def test_two_of_five_single_options_are_exercised_without_naming_owners() -> None:
    fold(
        *(fill(number, 1, 3, owner=owner, of=CALL) for number, owner in enumerate(OWNERS, 1)), fill(9, 1, 100, owner="")
    )
    book("exercise", con_id=900, underlying_con_id=AAPL, quantity="2")
    assert sum(row.quantity for row in Position.objects.filter(instrument_id=900)) == 3
    assert sum(row.quantity for row in Position.objects.filter(instrument_id=AAPL)) == 201
    assert {row.quantity for row in Position.objects.filter(instrument_id=900)} == {0, 1}
    assert sound()


# -- splits


def test_cash_in_lieu_of_a_net_long_account_goes_to_the_long_owners() -> None:
    fold(fill(1, 15, 10, owner="ALPHA"), fill(2, -8, 10, owner="BETA"))
    lieu = {"currency": "USD", "amount": "70", "quantity": "0.7"}
    book("split", con_id=AAPL, numerator="1", denominator="10", cash_in_lieu=lieu)
    assert (state("ALPHA")[0], state("BETA")[0]) == (Decimal("0.8"), Decimal("-0.8"))
    assert (cash("ALPHA"), cash("BETA")) == (-80, 80)
    assert sound()


def test_price_of_after_the_split_is_not_divided_again() -> None:
    fold(fill(1, 10, 400))
    Mark.objects.create(instrument_id=AAPL, price=Decimal(101), marked_at=LATER)
    details = {"con_id": AAPL, "numerator": "4", "denominator": "1"}
    done = book_adjustment(ACCOUNT, "split", details, effective_at=NOW + timedelta(minutes=30), **WHO)
    assert Mark.objects.get().price == 101
    undo(done)
    assert Mark.objects.get().price == 101


# -- details


@pytest.mark.parametrize(
    ("kind", "details"),
    [
        ("expiry", {"con_id": AAPL, "settlement_price": ""}),
        ("symbol_change", {"con_id": AAPL, "new_con_id": 7, "numerator": "", "denominator": ""}),
        ("split", {"con_id": AAPL, "numerator": " 4 ", "denominator": "1_0"}),
    ],
)
def test_left_out_numbers_take_their_defaults(kind: str, details: dict[str, Any]) -> None:
    fold(fill(1, 10, 50), fill(2, 1, 50, of=contract(7, "NEW"), owner="BETA"))
    book(kind, **details)
    fold(fill(1, 20, 50, revision=2))
    assert sound()


@pytest.mark.parametrize("amount", [[0, [5], 2], "1e400", "Infinity", "-NaN", "sNaN", "1e-11", 10**15, True, {}, 2.5])
def test_amount_that_is_no_plain_number_is_refused_by_field(amount: Any) -> None:
    with pytest.raises(ConfigError) as refusal:
        book("deposit", owner="ALPHA", currency="USD", amount=amount)
    assert "amount" in refusal.value.fields["errors"]
    assert not Movement.objects.exists()


def test_price_that_makes_money_too_large_for_the_books_is_refused_in_words() -> None:
    fold(fill(1, 10**9, "0.01"))
    with pytest.raises(LedgerError, match="too large"):
        book(
            "transfer_position",
            **{"from": "ALPHA", "to": "BETA"},
            con_id=AAPL,
            quantity="1000000000",
            price="999999999999999",
        )
    assert sound()


def test_key_that_returns_for_another_moment_is_refused() -> None:
    fold(fill(1, 10, 50))
    details = {"con_id": AAPL, "currency": "USD", "amount": "10"}
    book_adjustment(ACCOUNT, "dividend", details, key="k", effective_at=NOW, **WHO)
    with pytest.raises(ConflictError):
        book_adjustment(ACCOUNT, "dividend", details, key="k", effective_at=LATER, **WHO)
    book_adjustment(ACCOUNT, "dividend", details, key="k", **WHO)
    assert Movement.objects.filter(kind="dividend").count() == 1


def test_undo_of_the_middle_one_of_three_flows_leaves_the_others() -> None:
    book("deposit", owner="ALPHA", currency="USD", amount="100")
    middle = book("withdrawal", owner="ALPHA", currency="USD", amount="30")
    book("fee", owner="ALPHA", currency="USD", amount="1")
    undo(middle)
    assert cash("ALPHA") == 99
    before = everything()
    undo(middle)
    assert everything() == before
    assert sound()
