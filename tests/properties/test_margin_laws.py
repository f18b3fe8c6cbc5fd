"""Margin that adds up by contract: what is bound is never less than the worst that may come, and exact without news."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.orders.evidence import AAPL, draft
from trading.orders.facts import OpenOrder
from trading.orders.margins import MarginBase, MarginView, MarginWanted, Move, binding

EACH = {AAPL.con_id: Decimal(50), 7: Decimal(30), 9: Decimal(20)}  # margin of one unit, long or short
START = Decimal(1_000)  # bound by something else

positions = st.fixed_dictionaries(dict.fromkeys(EACH, st.integers(-50, 50).map(Decimal)))
orders = st.lists(
    st.builds(
        OpenOrder,
        con_id=st.sampled_from(sorted(EACH)),
        side=st.sampled_from(["BUY", "SELL"]),
        quantity=st.integers(1, 60).map(Decimal),
        order_type=st.just("LMT"),
        limit_price=st.none(),
        stop_price=st.none(),
        age_s=st.just(5.0),
    ),
    max_size=6,
)


def bound_by(held: Mapping[int, Decimal]) -> Decimal:
    return START + sum((abs(quantity) * EACH[con_id] for con_id, quantity in held.items()), Decimal(0))


def answer(move: Move, held: Mapping[int, Decimal]) -> Decimal:
    [(con_id, ratio)] = move.legs
    before = held.get(con_id, Decimal(0))
    assert move.held == (before,)
    return (abs(before + move.units * ratio) - abs(before)) * EACH[con_id]


def worst(held: Mapping[int, Decimal], works: list[OpenOrder]) -> Decimal:
    total = START
    for con_id, each in EACH.items():
        own = [order.signed_quantity for order in works if order.con_id == con_id]
        ups, downs = sum((x for x in own if x > 0), Decimal(0)), sum((x for x in own if x < 0), Decimal(0))
        at = held.get(con_id, Decimal(0))
        total += each * max(abs(at), abs(at + ups), abs(at + downs))
    return total


def asked(works: list[OpenOrder], quantity: int, view: MarginView, held: Mapping[int, Decimal]) -> MarginView:
    """Ask until everything is known; the venue's books are those of MATS."""
    order = draft(quantity)
    for _ in range(5):
        try:
            binding(order, works, view, held)
        except MarginWanted as wanted:
            changes = {**view.changes, **{move: answer(move, held) for move in wanted.moves}}
            view = MarginView(MarginBase(bound_by(held), Decimal(10**9), dict(held)), changes)
        else:
            return view
    raise AssertionError("it never ends")


@given(held=positions, works=orders, quantity=st.integers(1, 60))
def test_without_news_it_is_exactly_the_worst_that_may_come(
    held: dict[int, Decimal], works: list[OpenOrder], quantity: int
) -> None:
    found = binding(draft(quantity), works, asked(works, quantity, MarginView(), held), held)[0]
    mine = OpenOrder(AAPL.con_id, "BUY", Decimal(quantity), "MKT", None, None, 0.0)
    assert found == worst(held, [*works, mine])


@given(held=positions, works=orders, filled=orders, quantity=st.integers(1, 60))
def test_fills_while_ib_was_asked_hide_nothing(
    held: dict[int, Decimal], works: list[OpenOrder], filled: list[OpenOrder], quantity: int
) -> None:
    view = asked([*works, *filled], quantity, MarginView(), held)
    later = dict(held)
    for order in filled:
        later[order.con_id] += order.signed_quantity
    try:
        found = binding(draft(quantity), works, view, later)[0]
    except MarginWanted:  # then IB is asked anew, and the first law holds
        return
    mine = OpenOrder(AAPL.con_id, "BUY", Decimal(quantity), "MKT", None, None, 0.0)
    assert found >= worst(later, [*works, mine])
