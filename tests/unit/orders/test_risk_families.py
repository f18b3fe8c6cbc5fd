"""Orders of which only one trades count once: exits beside each other, exits behind their entry, legs together."""

from __future__ import annotations

from decimal import Decimal

import pytest

from strategies.exceptions import OrderDeniedError
from tests.unit.orders.evidence import AAPL, draft
from tests.unit.orders.test_risk import denial, desk, facts, row, working
from trading.orders.exposure_checks import lines_of
from trading.orders.facts import Holding, OpenOrder
from trading.orders.risk import CHANGES, check_order

STOP = working(60, side="SELL", order_type="STP", stop_price=Decimal(90), order_ref="S", parent_ref="E", family="E")
TAKE = working(60, side="SELL", order_type="LMT", limit_price=Decimal(120), order_ref="T", parent_ref="E", family="E")
ENTRY = working(60, order_ref="E")


def test_exit_is_moved_beside_its_sibling_wherever_a_reduction_passes() -> None:
    known = facts(position="100", working=[STOP, TAKE], desk=desk(row("allow_short", "0"), hours=()))
    known.leave_out = "S"
    check_order(draft(side="SELL", order_type="STP", stop_price=Decimal(95)), known, CHANGES)


def test_exit_that_grows_beyond_the_position_is_no_reduction() -> None:
    known = facts(position="100", working=[STOP, TAKE], desk=desk(row("allow_short", "0")))
    known.leave_out = "S"
    with pytest.raises(OrderDeniedError, match="may not sell"):
        check_order(draft(101, side="SELL", order_type="STP", stop_price=Decimal(95)), known, CHANGES)


def test_sale_beside_working_exits_still_counts_them() -> None:
    known = facts(position="100", working=[STOP, TAKE], desk=desk(row("allow_short", "0")))
    assert denial(draft(1, side="SELL"), known) == "allow_short"


def test_bracket_that_waits_is_measured_by_its_entry_alone() -> None:
    known = facts(working=[ENTRY, STOP, TAKE], desk=desk())
    assert known.desk is not None
    line = lines_of(draft(50), known, known.desk)[AAPL.con_id]
    assert line.worst == 150


def test_group_of_orders_that_cancel_each_other_counts_its_largest() -> None:
    pair = [working(60, family="G", quantity=Decimal(count)) for count in (30, 70)]
    known = facts(working=pair, desk=desk())
    assert known.desk is not None
    assert lines_of(draft(1), known, known.desk)[AAPL.con_id].buys == 71


def test_legs_of_a_combination_count_together() -> None:
    other = OpenOrder(7, "BUY", Decimal(14_950), "MKT", None, None, 0.0, owner="T")
    assert denial(draft(100), facts(working=[other], desk=desk())) == "gross_exposure"


def test_reducing_stop_needs_no_price_of_the_market() -> None:
    known = facts(position="100", desk=desk(price=None))
    check_order(draft(side="SELL", order_type="STP", stop_price=Decimal(90)), known)
    check_order(draft(side="SELL", order_type="LMT", limit_price=Decimal(90)), known)


@pytest.mark.parametrize(
    ("side", "stop", "limit", "passes"),
    [
        ("BUY", 120, 121, True),  # trades at 120, not at the market's 100
        ("BUY", 120, 133, False),
        ("SELL", 80, 79, True),
        ("SELL", 80, 71, False),
        ("BUY", 90, 111, False),  # triggered already: the market counts
    ],
)
def test_collar_of_a_stop_limit_is_measured_from_where_it_trades(
    side: str, stop: int, limit: int, passes: bool
) -> None:
    order = draft(10, side=side, order_type="STP LMT", stop_price=Decimal(stop), limit_price=Decimal(limit))
    known = facts(desk=desk())
    if passes:
        check_order(order, known)
    else:
        assert denial(order, known) == "price_collar"


def test_short_sale_with_a_limit_below_the_market_is_worth_what_the_market_pays() -> None:
    order = draft(500, side="SELL", order_type="LMT", limit_price=Decimal(99))
    assert denial(order, facts(desk=desk(price="101"))) == "order_notional"


def test_positions_of_others_do_not_make_a_reduction() -> None:
    held = [Holding("U", AAPL.con_id, Decimal(100))]
    assert denial(draft(side="SELL"), facts(desk=desk(row("allow_short", "0"), held=held))) == "allow_short"
