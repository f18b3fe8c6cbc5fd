"""The account's margin divided among owners: the parts add up, and what is not known is no number."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from portfolio.ledger.margin import Held, divide_margin, net_of

OWNERS = ("A", "B", "C")
D = Decimal

holdings = st.lists(
    st.builds(
        Held,
        owner=st.sampled_from([*OWNERS, "Rest"]),
        con_id=st.integers(1, 4),
        quantity=st.integers(-50, 50).map(Decimal),
    ),
    max_size=10,
)
released = st.fixed_dictionaries(dict.fromkeys(range(1, 5), st.integers(-200, 900).map(Decimal)))
totals = st.integers(0, 10**9).map(lambda cents: Decimal(cents) / 100)


def divided(total: str | None, freed: dict[int, Decimal | None], *held: Held) -> dict[str, Decimal | None]:
    return divide_margin(None if total is None else D(total), freed, held, OWNERS, "Rest")


@given(total=totals, freed=released, held=holdings)
def test_known_parts_are_never_negative_and_add_up_to_the_total(
    total: Decimal, freed: dict[int, Decimal], held: list[Held]
) -> None:
    parts = divide_margin(total, freed, held, OWNERS, "Rest")
    assert set(parts) == {*OWNERS, "Rest"}
    known = [part for part in parts.values() if part is not None]
    assert all(part >= 0 for part in known)
    if len(known) == len(parts):
        assert sum(known, D(0)) == total
    else:
        assert total > 0
        assert all(freed[con_id] <= 0 for con_id in net_of(held)), "only where no closing releases anything"


@given(total=totals, freed=released, held=holdings)
def test_who_holds_nothing_binds_nothing(total: Decimal, freed: dict[int, Decimal], held: list[Held]) -> None:
    parts = divide_margin(total, freed, held, OWNERS, "Rest")
    holders = {one.owner for one in held if one.quantity}
    assert all(parts[owner] == 0 for owner in OWNERS if owner not in holders)


def test_a_contract_that_ib_did_not_answer_for_makes_the_holders_parts_unknown() -> None:
    held = Held("A", 1, D(10)), Held("B", 2, D(10))
    parts = divided("100", {1: D(50), 2: None}, *held)
    assert parts == {"A": None, "B": None, "C": D(0), "Rest": None}
    assert divided("100", {1: D(50)}, *held)["A"] is None
    assert divided("0", {1: D(50), 2: None}, *held)["A"] is None  # a nought of IB proves nothing here
    assert divided(None, {1: D(50), 2: D(50)}, *held)["A"] is None


def test_owners_who_cancel_out_bind_nothing_and_need_no_answer() -> None:
    held = Held("A", 1, D(10)), Held("B", 1, D(-10)), Held("C", 2, D(1))
    assert divided("80", {2: D(3)}, *held) == {"A": D(0), "B": D(0), "C": D(80), "Rest": D(0)}


def test_margin_without_any_position_is_the_rests() -> None:
    assert divided("12.34", {}) == {"A": D(0), "B": D(0), "C": D(0), "Rest": D("12.34")}


def test_a_hedge_binds_nothing_beside_what_others_bind_and_alone_it_is_not_known() -> None:
    pair = Held("A", 1, D(10)), Held("A", 2, D(-10))
    assert divided("100", {1: D(-5), 2: D(-5), 3: D(7)}, *pair, Held("B", 3, D(1)))["A"] == 0
    assert divided("100", {1: D(-5), 2: D(-5)}, *pair)["A"] is None
