"""Combinations and rolls: which legs are bought and sold, for long and short."""

from __future__ import annotations

from decimal import Decimal

import pytest
from ib_async import Contract, Future

from strategies.combos import combination, roll
from strategies.events import LegSnapshot
from strategies.exceptions import OrderDeniedError
from strategies.order_entry import part_of
from trading.ib import mapping
from trading.orders.combos import add_up, legs_of_text, legs_text, units_filled

OLD = Future("VXM", "20260318", "CFE", conId=11, multiplier="100", currency="USD")
NEW = Future("VXM", "20260415", "CFE", conId=12, multiplier="100", currency="USD")
D = Decimal


def traded(contract: Contract, units: Decimal) -> dict[int, int]:
    """Return what the legs change of each position when the order fills."""
    sign = 1 if units > 0 else -1
    return {leg.con_id: sign * leg.ratio * int(abs(units)) for leg in mapping.legs_of(contract)}


@pytest.mark.parametrize("held", [2, -3])
def test_roll_closes_what_is_held_and_opens_the_same_anew(held: int) -> None:
    made, units = roll(OLD, NEW, D(held))
    assert traded(made, units) == {OLD.conId: -held, NEW.conId: held}


def test_roll_has_one_price_for_long_and_short() -> None:
    long, short = roll(OLD, NEW, D(1))[0], roll(OLD, NEW, D(-1))[0]
    assert mapping.legs_of(long) == mapping.legs_of(short) == (LegSnapshot(12, 1), LegSnapshot(11, -1))


def test_roll_of_nothing_or_into_something_else_is_refused() -> None:
    other = Future("ES", "20260318", "CME", conId=13, multiplier="50", currency="USD")
    bigger = Future("VXM", "20260415", "CFE", conId=14, multiplier="1000", currency="USD")
    for current, new, quantity in ((OLD, NEW, 0), (OLD, OLD, 1), (OLD, other, 1), (OLD, bigger, 1)):
        with pytest.raises(OrderDeniedError):
            roll(current, new, D(quantity))


def test_part_of_a_holding_has_its_sign_and_no_more_than_is_held() -> None:
    assert [part_of(D(5), None), part_of(D(-5), 2), part_of(D(5), 2)] == [D(5), D(-2), D(2)]
    with pytest.raises(OrderDeniedError):
        part_of(D(1), 2)


def test_combination_needs_two_known_legs_of_one_currency() -> None:
    euro = Future("FDAX", "20260318", "EUREX", conId=15, currency="EUR")
    for legs in ([(OLD, 1)], [(OLD, 1), (OLD, -1)], [(OLD, 1), (euro, -1)], [(OLD, 1), (NEW, 0)]):
        with pytest.raises(OrderDeniedError):
            combination(legs)


def test_combination_without_a_contract_id_is_kept_by_its_legs() -> None:
    snapshot = mapping.contract_snapshot(roll(OLD, NEW, D(1))[0])
    assert (snapshot.con_id, snapshot.sec_type, len(snapshot.legs)) == (0, "BAG", 2)
    assert legs_of_text(legs_text(snapshot.legs)) == snapshot.legs


def test_unit_is_filled_when_every_leg_is_and_priced_as_their_difference() -> None:
    legs = (LegSnapshot(12, 1), LegSnapshot(11, -2))
    half = add_up([(12, D(3), D(20))])
    assert units_filled(legs, half) == (D(0), None)
    whole = add_up([(12, D(3), D(20)), (11, D(-4), D(9)), (11, D(-3), D(9))])
    assert units_filled(legs, whole) == (D(3), D(2))


def test_shares_against_an_option_are_priced_by_the_share() -> None:
    legs = (LegSnapshot(1, 100), LegSnapshot(2, -1))  # a covered call: 100 shares bought, one call sold
    executed = add_up([(1, D(200), D("50.00")), (2, D(-2), D("3.00"))])
    assert units_filled(legs, executed, {1: D(1), 2: D(100)}) == (D(2), D(47))
