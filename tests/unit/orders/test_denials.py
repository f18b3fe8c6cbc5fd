"""A denial that repeats within a second is counted, not written again."""

from __future__ import annotations

from tests.unit.orders.evidence import draft
from trading.orders.denials import Denials


def test_same_denial_within_a_second_is_counted_on_the_first_ones_row() -> None:
    denials = Denials()
    assert denials.repeated(draft(), "halted", 10.0) == ""
    denials.begin(draft(), "halted", "T/1", 10.0)
    assert [denials.repeated(draft(), "halted", 10.0 + tenth / 10) for tenth in range(3)] == ["T/1"] * 3
    assert denials.take_over(10.9) == []
    assert denials.take_over(11.0) == [("T/1", 3)]
    assert denials.take_over(12.0) == []


def test_other_order_or_other_check_or_later_try_has_a_row_of_its_own() -> None:
    denials = Denials()
    denials.begin(draft(), "halted", "T/1", 10.0)
    assert denials.repeated(draft(99), "halted", 10.1) == ""
    assert denials.repeated(draft(owner="U"), "halted", 10.1) == ""
    assert denials.repeated(draft(), "locked", 10.1) == ""
    assert denials.repeated(draft(), "halted", 11.0) == ""


def test_count_of_a_second_survives_the_row_of_the_next() -> None:
    denials = Denials()
    denials.begin(draft(), "halted", "T/1", 10.0)
    denials.repeated(draft(), "halted", 10.5)
    denials.begin(draft(), "halted", "T/2", 11.2)
    assert denials.take_over(11.3) == [("T/1", 1)]
