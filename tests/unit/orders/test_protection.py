"""Exits never trade more than the position that they protect."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from trading.orders.protection import Exit, Family, Step, steps

D = Decimal


def family(
    ref: str, entered: int, exits: int = 2, *, exited: int = 0, side: str = "BUY", works: bool = False
) -> Family:
    made = tuple(Exit(f"{ref}.{number}", D(entered), D(exited if number == 0 else 0)) for number in range(exits))
    return Family(ref, side, D(entered), works, D(exited), made)


def test_exits_of_a_whole_position_are_left_alone() -> None:
    assert steps(D(10), [family("a", 10)]) == []
    assert steps(D(25), [family("a", 10), family("b", 15)]) == []
    assert steps(D(-10), [family("a", 10, side="SELL")]) == []


def test_exits_shrink_with_the_position_and_go_with_it() -> None:
    assert steps(D(6), [family("a", 10)]) == [Step("a.0", D(6), False), Step("a.1", D(6), False)]
    assert steps(D(0), [family("a", 10)]) == [Step("a.0", None, False), Step("a.1", None, False)]
    assert [step.quantity for step in steps(D(-5), [family("a", 10)])] == [None, None]


def test_oldest_family_gives_way_first() -> None:
    assert [step.order_ref for step in steps(D(15), [family("a", 10, 1), family("b", 15, 1)])] == ["a.0"]


def test_entry_that_fills_nothing_protects_nothing_yet() -> None:
    assert steps(D(0), [family("a", 0, works=True)]) == []


def test_entry_that_still_works_is_cancelled_with_its_family() -> None:
    sleeping = Family("a", "BUY", D(4), True, D(0), (Exit("a.0", D(10), D(0)),))
    assert steps(D(4), [sleeping]) == []
    assert steps(D(0), [sleeping]) == [Step("a", None, False), Step("a.0", None, False)]


def test_exit_whose_sibling_did_the_job_is_ibs_to_cancel_first() -> None:
    [step] = steps(D(0), [Family("a", "BUY", D(10), False, D(10), (Exit("a.1", D(10), D(0)),))])
    assert step == Step("a.1", None, True)


@given(
    st.integers(-40, 40),
    st.lists(st.tuples(st.integers(1, 30), st.sampled_from(["BUY", "SELL"])), max_size=4),
)
def test_what_exits_may_still_trade_never_turns_the_position(position: int, made: list[tuple[int, str]]) -> None:
    families = [family(str(number), entered, side=side) for number, (entered, side) in enumerate(made)]
    wanted = {step.order_ref: step for step in steps(D(position), families)}

    def left(one: Family) -> Decimal:
        kept = []
        for order in one.exits:
            step = wanted.get(order.order_ref)
            kept.append(
                order.remaining if step is None else D(0) if step.quantity is None else step.quantity - order.filled
            )
        return max(kept)

    for side, held in (("BUY", max(0, position)), ("SELL", max(0, -position))):
        assert sum((left(one) for one in families if one.side == side), D(0)) <= held
    assert steps(D(position), families) == list(wanted.values()), "looking twice asks for the same"
