"""Plans: how much of each instrument, IB's answers added up, and the limits of the account that they would break."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.orders.limits import Limit, LimitBook, LimitRow
from trading.orders.planning import (
    HELD,
    NOTHING,
    UNIVERSE,
    AccountMargin,
    Line,
    Plan,
    Promised,
    grown,
    left_of,
    parted,
)

D = Decimal
NOW = AccountMargin(D(100_000), D(100_000), D(80_000), D(30_000), D(20_000), D(60_000))
ANSWERED = Line(1, "SPY", D(10), D(4_000), D(2_000), D(1_000))


def limits(**values: str) -> Callable[[str], Limit | None]:
    rows = LimitBook([LimitRow(name, D(value)) for name, value in values.items()])
    return lambda name: rows.find(name, "", 0)


def plan(*lines: Line, **changes: object) -> Plan:
    made = Plan("ALPHA", D("0.2"), UNIVERSE, "USD", lines, NOW, gross_change=D(4_000))
    return replace(made, **changes)  # type: ignore[arg-type]  # keyword bag of a builder


def test_answers_add_up_on_what_is_bound() -> None:
    found = plan(ANSWERED, replace(ANSWERED, con_id=2, initial=D(500), maintenance=D(-300)))
    assert (found.after.initial, found.after.maintenance, found.after.excess) == (D(32_500), D(21_000), D(79_000))
    assert found.after.cushion == D("0.79")
    assert (found.is_known, found.refusal(limits())) == (True, None)
    told = found.told(None)
    assert (told["after"]["cushion"], told["before"]["gross_exposure"], told["known"]) == ("0.79", "0.6", True)
    assert found.text == "ALPHA at 20.0% could bind 2500.00 USD more initial margin; the margin cushion would be 79.0%."


@pytest.mark.parametrize(
    ("held", "name", "limit", "value", "source"),
    [
        ({"margin_cushion": "0.8"}, "margin_cushion", "0.8", "0.79", "account"),
        ({"gross_exposure": "0.63"}, "gross_exposure", "0.63", "0.64", "account"),
    ],
)
def test_a_broken_limit_is_named_with_its_value_and_who_set_it(
    held: dict[str, str], name: str, limit: str, value: str, source: str
) -> None:
    refused = plan(ANSWERED).refusal(limits(**held))
    assert refused is not None
    fields = refused.fields
    assert (refused.code, fields["limit"], fields["value"], fields["source"]) == (name, limit, value, source)
    assert plan(ANSWERED).told(refused)["refused"]["name"] == name


def test_more_initial_margin_than_equity_is_refused_whatever_the_limits() -> None:
    refused = plan(replace(ANSWERED, initial=D(70_001))).refusal(limits(margin_cushion="0"))
    assert refused is not None
    assert (refused.code, refused.fields["limit"], refused.fields["source"]) == ("initial_margin", "100000", "IB")


def test_what_others_may_still_bind_counts() -> None:
    found = plan(ANSWERED, promised=Promised(D(10_000), D(5_000), D(20_000)))
    assert (found.after.initial, found.after.excess) == (D(42_000), D(74_000))
    assert found.refusal(limits(margin_cushion="0.75")) is not None
    assert plan(ANSWERED).refusal(limits(margin_cushion="0.75")) is None


def test_an_answer_that_is_missing_makes_it_unknown_but_hides_no_broken_limit() -> None:
    silent = replace(ANSWERED, con_id=2, symbol="TLT", initial=None, maintenance=None, problem="IB did not answer.")
    found = plan(ANSWERED, silent)
    assert not found.is_known
    assert "was not found out: TLT: IB did not answer." in found.text
    assert found.refusal(limits(margin_cushion="0.7")) is None
    refused = found.refusal(limits(margin_cushion="0.8"))
    assert refused is not None


def test_nothing_to_ask_is_not_good() -> None:
    empty = plan(basis=NOTHING, problems=("It has no universe.",), gross_change=D(0))
    assert (empty.is_known, empty.refusal(limits())) == (False, None)
    assert empty.text == "What ALPHA at 20.0% would bind was not found out: It has no universe."
    assert plan(basis=HELD, gross_change=D(0)).is_known  # it holds its weight already


def test_an_account_that_is_not_known_breaks_no_limit_and_says_so() -> None:
    blank = plan(before=AccountMargin(), problems=("IB has not reported it.",))
    assert blank.refusal(limits(margin_cushion="0.9")) is None
    assert blank.told(None)["after"]["cushion"] is None
    assert not blank.is_known


def test_a_strategy_beyond_its_weight_keeps_its_measure_and_grows_with_it() -> None:
    held, worth = {1: D(2), 2: D(-1)}, {1: D(50_000), 2: D(20_000)}
    assert grown(held, worth, D(10_000), D(1)) == {}
    assert grown(held, worth, D(10_000), D(3)) == {1: D(4), 2: D(-2)}


@given(
    held=st.dictionaries(st.integers(1, 5), st.integers(-300, 300).filter(bool).map(Decimal), max_size=5),
    price=st.integers(1, 900).map(Decimal),
    target=st.integers(0, 10**6).map(Decimal),
    growth=st.integers(100, 500).map(lambda percent: Decimal(percent) / 100),
)
def test_a_plan_never_turns_a_position_around_and_never_shrinks_one(
    held: dict[int, Decimal], price: Decimal, target: Decimal, growth: Decimal
) -> None:
    changes = grown(held, dict.fromkeys(held, price), target, growth)
    assert all(change * held[con_id] > 0 for con_id, change in changes.items())
    whole = sum((abs(held[con_id] + changes.get(con_id, 0)) * price for con_id in held), D(0))
    before = sum((abs(quantity) * price for quantity in held.values()), D(0))
    assert whole <= max(target, before * growth, before)


def test_equal_parts_are_whole_units_on_the_side_that_was_held() -> None:
    assert parted(D(1000), {1: D(90), 2: D(600), 3: D(10)}, {3: -1}) == {1: D(3), 3: D(-33)}
    assert parted(D(1000), {}, {}) == {}


def test_a_grant_is_used_up_by_what_is_held_of_it() -> None:
    whole = Promised(D(100), D(50), D(1000))
    assert left_of(whole, D(200), D(700)) == Promised(D(50), D(25), D(500))
    assert left_of(whole, D(200), D(5000)) == Promised(D(0), D(0), D(0))
    assert left_of(whole, D(200), D(0)) == whole
    assert left_of(whole, D(200), None) == whole
