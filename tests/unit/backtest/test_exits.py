"""Exits that protect an entry: stop before target, one takes the other along, never a position the other way round."""

from __future__ import annotations

from decimal import Decimal

from strategies.reactive import Signal
from tests.support.backtests import BUY, CLOSE, SELL, Row, days, fills_of, flat, play, states_of
from trading.backtest.contracts import BacktestResult


def held(result: BacktestResult) -> Decimal:
    """What the strategy holds at the end."""
    return sum((position.quantity for position in result.strategies["S"].positions), Decimal(0))


def bracket(
    quantity: int = 10, stop_loss: float | None = 95, take_profit: float | None = 110, **terms: float
) -> Signal:
    return Signal("X", BUY, quantity, stop_loss=stop_loss, take_profit=take_profit, **terms)  # type: ignore[arg-type]


WIDE: Row = (100.0, 112.0, 94.0, 100.0)


def test_the_target_closes_and_takes_the_stop_along() -> None:
    """Trap 41: a protective stop survived its target and opened a position the other way round."""
    bars = days("X", [flat(100), flat(100), (105.0, 111.0, 104.0, 111.0), (100.0, 100.0, 90.0, 90.0), flat(90)])
    result = play({0: [bracket()]}, bars)
    assert fills_of(result) == [("10", "100"), ("-10", "110")]
    assert states_of(result) == [("MKT", "filled", "10"), ("STP", "cancelled", "0"), ("LMT", "filled", "10")]
    assert held(result) == 0


def test_stop_and_target_in_one_bar_is_the_stop() -> None:
    result = play({0: [bracket()]}, days("X", [flat(100), flat(100), WIDE, flat(100)]))
    assert fills_of(result) == [("10", "100"), ("-10", "95")]


def test_a_target_that_the_market_opens_beyond_is_taken_before_the_stop_is_touched() -> None:
    opens_above: Row = (111.0, 112.0, 94.0, 100.0)
    result = play({0: [bracket()]}, days("X", [flat(100), flat(100), opens_above, flat(100)]))
    assert fills_of(result) == [("10", "100"), ("-10", "111")]


def test_the_bar_that_the_entry_opens_counts_for_its_exits() -> None:
    result = play({0: [bracket()]}, days("X", [flat(100), (100.0, 101.0, 94.0, 99.0), flat(100)]))
    assert fills_of(result) == [("10", "100"), ("-10", "95")]
    won = play({0: [bracket()]}, days("X", [flat(100), (100.0, 111.0, 99.0, 105.0), flat(100)]))
    assert fills_of(won) == [("10", "100"), ("-10", "110")]


def test_a_target_that_the_entry_opens_beyond_is_taken_before_the_stop_is_touched() -> None:
    opens_above: Row = (111.0, 112.0, 94.0, 100.0)
    result = play({0: [bracket()]}, days("X", [flat(100), opens_above, flat(100)]))
    assert fills_of(result) == [("10", "111"), ("-10", "111")]


def test_of_an_entry_on_the_way_the_bar_takes_the_stop_but_not_the_target() -> None:
    """The high may have come before the entry, so it proves no profit; what it may cost is counted."""
    bars = days("X", [flat(105), (105.0, 112.0, 99.0, 104.0), (104.0, 112.0, 103.0, 110.0), flat(110)])
    won = play({0: [bracket(price=100)]}, bars)
    assert fills_of(won) == [("10", "100"), ("-10", "110")]
    assert [fill.time_ns for fill in won.fills] == sorted({fill.time_ns for fill in won.fills})  # a day later
    lost = play({0: [bracket(price=100)]}, days("X", [flat(105), (105.0, 105.0, 94.0, 104.0), flat(104)]))
    assert fills_of(lost) == [("10", "100"), ("-10", "95")]


def test_a_gap_through_the_stop_costs_the_open() -> None:
    result = play({0: [bracket()]}, days("X", [flat(100), flat(100), (90.0, 91.0, 89.0, 90.0)]))
    assert fills_of(result) == [("10", "100"), ("-10", "90")]


def test_closing_by_hand_ends_the_exits() -> None:
    bars = days("X", [flat(100), flat(100), flat(100), WIDE, flat(100)])
    for action in (SELL, CLOSE):
        result = play({0: [bracket()], 1: [Signal("X", action)]}, bars)
        assert fills_of(result) == [("10", "100"), ("-10", "100")]
        assert held(result) == 0
        assert [order.state for order in result.orders if order.order_type != "MKT"] == ["cancelled", "cancelled"]


def test_exits_shrink_with_their_position() -> None:
    bars = days("X", [flat(100), flat(100), flat(100), WIDE, flat(100)])
    result = play({0: [bracket()], 1: [Signal("X", SELL, 4)]}, bars)
    assert fills_of(result) == [("10", "100"), ("-4", "100"), ("-6", "95")]
    assert held(result) == 0


def test_a_stop_that_fills_in_parts_shrinks_its_target() -> None:
    rows: list[Row] = [flat(100), flat(100), (100.0, 100.0, 94.0, 94.0, 6), (111.0, 111.0, 111.0, 111.0, 3), flat(112)]
    result = play({0: [bracket()]}, days("X", rows))
    assert fills_of(result) == [("10", "100"), ("-6", "95"), ("-3", "111"), ("-1", "112")]
    assert held(result) == 0


def test_the_oldest_exits_shrink_first_and_all_close_no_more_than_is_held() -> None:
    plan = {0: [bracket(10, stop_loss=95, take_profit=None)], 1: [bracket(10, stop_loss=96, take_profit=None)]}
    bars = days("X", [*[flat(100)] * 4, (100.0, 100.0, 90.0, 90.0), flat(90)])
    both = play(plan, bars)
    assert fills_of(both)[2:] == [("-10", "95"), ("-10", "96")]
    partly = play({**plan, 2: [Signal("X", SELL, 15)]}, bars)
    assert fills_of(partly)[2:] == [("-15", "100"), ("-5", "96")]
    assert held(partly) == 0


def test_a_strategy_s_own_closing_order_never_opens_after_its_exit() -> None:
    """A limit to sell what is held works beside the stop: when the stop fills, the limit has nothing left to close."""
    plan = {0: [bracket(take_profit=None)], 1: [Signal("X", SELL, 10, price=120, tif="GTC")]}
    bars = days("X", [*[flat(100)] * 3, (100.0, 100.0, 94.0, 94.0), (121.0, 121.0, 121.0, 121.0), flat(121)])
    result = play(plan, bars)
    assert fills_of(result) == [("10", "100"), ("-10", "95")]
    assert states_of(result)[-1] == ("LMT", "cancelled", "0")
    assert result.orders[-1].reason == "there is nothing left to close"


def test_an_order_that_was_cut_is_for_what_it_still_trades() -> None:
    """What is on record as filled is filled whole: its quantity went down with the position that it protects."""
    bars = days("X", [flat(100), flat(100), flat(100), WIDE, flat(100)])
    result = play({0: [bracket()], 1: [Signal("X", SELL, 4)]}, bars)
    orders = {(order.order_type, order.side): (order.state, order.quantity, order.filled) for order in result.orders}
    assert orders == {
        ("MKT", "BUY"): ("filled", Decimal(10), Decimal(10)),
        ("MKT", "SELL"): ("filled", Decimal(4), Decimal(4)),
        ("STP", "SELL"): ("filled", Decimal(6), Decimal(6)),
        ("LMT", "SELL"): ("cancelled", Decimal(6), Decimal(0)),
    }
    plan = {0: [bracket(take_profit=None)], 1: [Signal("X", SELL, 10, price=120, tif="GTC"), Signal("X", SELL, 4)]}
    closer = next(order for order in play(plan, bars).orders if order.order_type == "LMT")
    assert (closer.quantity, closer.filled) == (Decimal(6), Decimal(0))


def test_two_closing_orders_close_once() -> None:
    plan = {0: [bracket(take_profit=None, stop_loss=None)], 1: [Signal("X", SELL, 10), Signal("X", SELL, 10)]}
    result = play(plan, days("X", [flat(100)] * 5))
    assert held(result) == 0
    assert [quantity for quantity, _ in fills_of(result)] == ["10", "-10"]


def test_a_short_is_protected_above() -> None:
    short = Signal("X", SELL, 10, stop_loss=105, take_profit=90)
    stopped = play({0: [short]}, days("X", [flat(100), flat(100), (100.0, 106.0, 89.0, 100.0), flat(100)]))
    assert fills_of(stopped) == [("-10", "100"), ("10", "105")]
    won = play({0: [short]}, days("X", [flat(100), flat(100), (100.0, 104.0, 89.0, 100.0), flat(100)]))
    assert fills_of(won) == [("-10", "100"), ("10", "90")]


def test_a_reversal_protects_what_it_opens() -> None:
    plan = {0: [Signal("X", SELL, 10)], 1: [bracket(25)]}
    result = play(plan, days("X", [flat(100), flat(100), flat(100), WIDE, flat(100)]))
    # What closes goes in an order of its own, as it does live: exits are sized by their entry.
    assert fills_of(result) == [("-10", "100"), ("10", "100"), ("15", "100"), ("-15", "95")]
    assert held(result) == 0


def test_exits_on_the_wrong_side_are_refused() -> None:
    result = play({0: [bracket(stop_loss=101), bracket(take_profit=99)]}, days("X", [flat(100)] * 3))
    assert [order.state for order in result.orders] == ["denied", "denied"]
    assert "must lie on both sides" in result.orders[0].reason


def test_an_entry_that_fills_in_parts_is_protected_when_it_is_done() -> None:
    rows: list[Row] = [flat(100), flat(100, volume=6), (100.0, 100.0, 94.0, 96.0, 4), flat(94), flat(94)]
    result = play({0: [bracket(tif="GTC")]}, days("X", rows))  # type: ignore[arg-type]
    assert fills_of(result) == [("6", "100"), ("4", "100"), ("-10", "94")]
