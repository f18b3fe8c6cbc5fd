"""Histories that the machine once failed on, each as short as it could be made."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.properties.books_model import NOBODY
from tests.properties.books_venue import STOCK
from tests.properties.test_books_machine import Books, quiet

pytestmark = pytest.mark.django_db(transaction=True)

__all__ = ["quiet"]  # a fixture


def test_an_undo_that_divides_a_late_fee_anew_is_no_finding() -> None:
    machine = Books()
    traded = machine.trade_by_hand(STOCK, 30, Decimal(50), (Decimal(3), "USD"), "late", False)
    assigned = machine.assign(traded, NOBODY, "ALPHA", 10)
    machine.late_fee(0)
    machine.undo(assigned)
    machine.the_books_are_what_the_truth_makes_them()
    machine.teardown()


def test_a_correction_takes_back_fees_of_several_currencies_before_a_commission_came() -> None:
    machine = Books()
    traded = machine.trade_by_hand(STOCK, 30, Decimal(50), None, "never", False)
    machine.correct_fee(traded, "GBP", Decimal(1))
    machine.correct_fee(traded, "EUR", Decimal(2))
    machine.correct(traded, 30, Decimal(51), None, "never", False, "price")
    machine.the_books_are_what_the_truth_makes_them()
    machine.teardown()
