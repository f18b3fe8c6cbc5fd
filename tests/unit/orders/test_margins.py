"""What IB is asked about margin, and how its answers add up with everything that works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from strategies.events import LegSnapshot
from tests.unit.orders.evidence import AAPL, draft
from trading.orders.drafts import OrderDraft
from trading.orders.facts import Holding, OpenOrder
from trading.orders.margins import MarginBase, MarginView, MarginWanted, Move, binding, held_of, single

SPY, TNA = 756733, 11


def D(*numbers: int) -> tuple[Decimal, ...]:
    return tuple(map(Decimal, numbers))


def works(con_id: int, quantity: int, order_ref: str = "", **changes: Any) -> OpenOrder:
    side = "BUY" if quantity > 0 else "SELL"
    return OpenOrder(con_id, side, Decimal(abs(quantity)), "LMT", None, None, 9.0, order_ref=order_ref, **changes)


def wanted(order: OrderDraft, orders: Sequence[OpenOrder], view: MarginView, now: dict[int, Decimal]) -> list[Move]:
    with pytest.raises(MarginWanted) as caught:
        binding(order, orders, view, now)
    assert caught.value.draft is order
    return list(caught.value.moves)


def answered(moves: Sequence[Move], held: dict[int, Decimal], change: int = 100) -> MarginView:
    base = MarginBase(Decimal(1000), Decimal(5000), held)
    return MarginView(base, dict.fromkeys(moves, Decimal(change)))


def test_an_order_alone_is_one_question_with_its_own_limit() -> None:
    [move] = wanted(draft(order_type="LMT", limit_price=Decimal(99)), [], MarginView(), {})
    assert move == single(AAPL.con_id, Decimal(100), {})
    assert move.limit == 99
    assert binding(draft(), [], answered([move], {}), {}) == D(1100, 5000)


def test_orders_of_a_contract_are_asked_together_and_their_worse_side_counts() -> None:
    working = [works(AAPL.con_id, 50), works(AAPL.con_id, -30), works(SPY, 10), works(SPY, -20)]
    held = {SPY: Decimal(5)}
    moves = wanted(draft(), working, MarginView(), held)
    assert [(move.legs[0][0]) for move in moves] == [AAPL.con_id, AAPL.con_id, SPY, SPY]
    assert [(move.units, move.held[0]) for move in moves] == [D(150, 0), D(-30, 0), D(10, 5), D(-20, 5)]
    changes = dict(zip(moves, map(Decimal, (300, 60, -7, 40)), strict=True))
    view = MarginView(MarginBase(Decimal(1000), Decimal(5000), held), changes)
    assert binding(draft(), working, view, held) == D(1340, 5000)


def test_a_side_that_frees_margin_counts_as_nothing() -> None:
    [mine, other] = wanted(draft(), [works(SPY, -5)], MarginView(), {SPY: Decimal(5)})
    view = replace(answered([mine], {SPY: Decimal(5)}), changes={mine: Decimal(100), other: Decimal(-500)})
    assert binding(draft(), [works(SPY, -5)], view, {SPY: Decimal(5)})[0] == 1100


def test_only_what_is_not_known_is_asked_again() -> None:
    view = answered(wanted(draft(), [], MarginView(), {}), {})
    assert wanted(draft(), [works(SPY, 10)], view, {}) == [single(SPY, Decimal(10), {})]


def test_a_base_that_is_too_old_is_renewed_by_one_question() -> None:
    moves = wanted(draft(), [works(SPY, 10)], MarginView(), {})
    view = replace(answered(moves, {}), base=None)
    assert wanted(draft(), [works(SPY, 10)], view, {}) == moves[:1]


def test_a_fill_since_ib_was_asked_still_counts() -> None:
    moves = wanted(draft(), [works(SPY, 10)], MarginView(), {})
    view = answered(moves, {})
    before = binding(draft(), [works(SPY, 10)], view, {})
    assert binding(draft(), [], view, {SPY: Decimal(10)}) == before  # it filled: nothing works, and it is held


def test_what_came_and_filled_while_ib_was_asked_is_asked_anew_with_what_is_held_now() -> None:
    view = answered(wanted(draft(), [], MarginView(), {}), {})
    now = {SPY: Decimal(10)}
    [move] = wanted(draft(), [], view, now)
    assert move == single(AAPL.con_id, Decimal(100), now)  # IB's next figure has the new position in it
    assert binding(draft(), [], answered([move], now), now)[0] == 1100


def test_an_answer_for_another_position_is_no_answer() -> None:
    view = answered(wanted(draft(), [], MarginView(), {}), {})
    now = {AAPL.con_id: Decimal(40)}
    assert wanted(draft(), [], view, now) == [single(AAPL.con_id, Decimal(100), now)]


def pair(side: str, quantity: int = 3) -> OrderDraft:
    contract = replace(AAPL, con_id=0, sec_type="BAG", legs=(LegSnapshot(SPY, 1), LegSnapshot(TNA, -2)))
    return replace(draft(quantity, side=side), contract=contract)


def test_a_combination_is_asked_as_one_and_sold_as_its_mirror() -> None:
    [bought] = wanted(pair("BUY"), [], MarginView(), {})
    assert (bought.legs, bought.units) == (((TNA, -2), (SPY, 1)), Decimal(3))
    [sold] = wanted(pair("SELL"), [], MarginView(), {})
    assert (sold.legs, sold.units) == (((TNA, 2), (SPY, -1)), Decimal(3))


def test_a_working_combination_is_recognised_by_its_reference() -> None:
    legs = [works(SPY, 3, "A/1"), works(TNA, -6, "A/1")]
    moves = wanted(draft(), legs, MarginView(), {})
    assert moves[1:] == wanted(pair("BUY"), [], MarginView(), {})


def test_exits_behind_an_entry_that_works_are_not_asked_about() -> None:
    orders = [works(SPY, 10, "A/1"), works(SPY, -10, "A/2", parent_ref="A/1", family="A/1")]
    assert [move.units for move in wanted(draft(), orders, MarginView(), {})] == [100, 10]


def test_owners_are_added_up() -> None:
    rows = [Holding("A", SPY, Decimal(100)), Holding("B", SPY, Decimal(-100)), Holding("B", TNA, Decimal(7))]
    assert held_of(rows) == {TNA: 7}
