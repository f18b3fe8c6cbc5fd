"""Which limit holds of several, what an override leaves, and what cannot be set."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.orders.limits import SPECS, Limit, LimitBook, LimitRow, problem_with
from trading.orders.trading_state import Override, OverrideAction, TradingState, combined, is_reduction, strictest


def held(rows: list[LimitRow], name: str, strategy: str = "A", con_id: int = 1) -> Limit | None:
    return LimitBook(rows).find(name, strategy, con_id)


def test_default_holds_only_where_nobody_set_a_limit() -> None:
    assert held([], "order_quantity") == Limit("order_quantity", Decimal(500), "default")
    loose = [LimitRow("order_quantity", Decimal(2000), "A")]
    assert held(loose, "order_quantity") == Limit("order_quantity", Decimal(2000), "strategy")
    assert held(loose, "order_quantity", "B") == Limit("order_quantity", Decimal(500), "default")


def test_tightest_row_holds_and_says_whose_it_is() -> None:
    rows = [
        LimitRow("order_quantity", Decimal(1000)),
        LimitRow("order_quantity", Decimal(300), "A"),
        LimitRow("order_quantity", Decimal(200), "", 1),
        LimitRow("order_quantity", Decimal(100), "A", 1),
    ]
    assert held(rows, "order_quantity") == Limit("order_quantity", Decimal(100), "strategy in instrument")
    assert held(rows, "order_quantity", "B") == Limit("order_quantity", Decimal(200), "instrument")
    assert held(rows, "order_quantity", "A", 2) == Limit("order_quantity", Decimal(300), "strategy")
    assert held(rows, "order_quantity", "B", 2) == Limit("order_quantity", Decimal(1000), "account")


@pytest.mark.parametrize(
    ("name", "tight", "loose"), [("margin_cushion", 1, 0), ("liquid_hours_only", 1, 0), ("allow_short", 0, 1)]
)
def test_tight_is_what_allows_less(name: str, tight: int, loose: int) -> None:
    rows = [LimitRow(name, Decimal(loose)), LimitRow(name, Decimal(tight), "A")]
    found = held(rows, name)
    assert found is not None
    assert found.value == tight


def test_allow_list_is_none_until_somebody_keeps_one() -> None:
    assert LimitBook().allow_list("A") is None
    book = LimitBook([LimitRow("allowed", Decimal(1), "", 7), LimitRow("allowed", Decimal(1), "A", 8)])
    assert book.allow_list("A") == frozenset({7, 8})
    assert book.allow_list("B") == frozenset({7})


@pytest.mark.parametrize(
    ("name", "value", "scope"),
    [
        ("nonsense", "1", "account"),
        ("order_quantity", "-1", "account"),
        ("order_quantity", "NaN", "account"),
        ("allow_short", "2", "account"),
        ("orders_per_minute", "1.5", "account"),
        ("daily_loss_account", "0.1", "strategy"),
        ("restricted", "1", "account"),
        ("position_fraction", "101", "account"),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, value: str, scope: str) -> None:
    assert problem_with(name, Decimal(value), scope)


def test_every_default_could_be_set_by_hand() -> None:
    for spec in SPECS.values():
        if spec.default_value is not None:
            assert problem_with(spec.name, spec.default_value, sorted(spec.scopes)[0]) == ""


def test_strictest_state_holds() -> None:
    assert strictest([]) is TradingState.ACTIVE
    assert strictest([TradingState.REDUCING, TradingState.ACTIVE]) is TradingState.REDUCING
    assert strictest([TradingState.REDUCING, TradingState.HALTED]) is TradingState.HALTED


def test_overrides_combine_by_rank_and_multiply() -> None:
    half, third = (Override(OverrideAction.MULTIPLIER, Decimal(one)) for one in ("0.5", "0.3"))
    assert combined([]) is None
    product = combined([half, third])
    assert product is not None
    assert product.multiplier == Decimal("0.15")
    for action in (OverrideAction.REDUCE_ONLY, OverrideAction.CLOSE, OverrideAction.NO_TRADING):
        found = combined([half, Override(OverrideAction.REDUCE_ONLY), Override(action)])
        assert found is not None
        assert found.action is action


@pytest.mark.parametrize(
    ("action", "multiplier", "position", "change", "allowed"),
    [
        ("no_trading", "1", 100, -50, 0),
        ("reduce_only", "1", 100, -50, -50),
        ("reduce_only", "1", 100, 50, 0),
        ("reduce_only", "1", 100, -150, -100),
        ("reduce_only", "1", 0, 10, 0),
        ("close", "1", -5, 9, 5),
        ("multiplier", "0.5", 0, 101, 50),
        ("multiplier", "0.5", 0, -101, -50),  # truncated towards zero, shorts as well
        ("multiplier", "0.5", 50, 51, 0),
        ("multiplier", "0.5", 100, -20, -20),  # a reduction is never cut
        ("multiplier", "0", 0, 10, 0),
        ("multiplier", "1", 3, 4, 4),
    ],
)
def test_override_leaves(action: str, multiplier: str, position: int, change: int, allowed: int) -> None:
    override = Override(OverrideAction(action), Decimal(multiplier))
    assert override.allowed_change(Decimal(position), Decimal(change)) == allowed


whole = st.integers(-1000, 1000).map(Decimal)


@given(whole, whole, st.sampled_from(list(OverrideAction)), st.integers(0, 100))
def test_no_override_allows_more_than_was_asked_or_another_direction(
    position: Decimal, change: Decimal, action: OverrideAction, percent: int
) -> None:
    allowed = Override(action, Decimal(percent) / 100).allowed_change(position, change)
    assert abs(allowed) <= abs(change)
    assert allowed * change >= 0
    if action in (OverrideAction.REDUCE_ONLY, OverrideAction.CLOSE) and allowed:
        assert is_reduction(position, allowed)
