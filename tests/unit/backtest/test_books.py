"""Money in a run: averages, cash, shorts, what is denied and why, instruments of other sizes, splits and dividends."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from strategies.bar_series import nanos_of
from strategies.exceptions import ConfigError
from strategies.reactive import Signal
from tests.support.backtests import (
    BUY,
    CLOSE,
    SELL,
    D,
    days,
    fills_of,
    flat,
    play,
    scripted,
    series,
    spec_of,
    states_of,
)
from trading.backtest.contracts import BacktestResult, CorporateAction, InstrumentTerms, Models, NoFees
from trading.backtest.engine import run_backtest
from trading.brokers.fees import FixedStockFees, PerContractFees


def only(result: BacktestResult) -> Any:
    (position,) = result.strategies["S"].positions
    return position


def reason(result: BacktestResult) -> str:
    (order,) = [order for order in result.orders if order.state == "denied"]
    return order.reason


def test_a_partial_close_keeps_the_average() -> None:
    plan = {0: [Signal("X", BUY, 10)], 1: [Signal("X", BUY, 30)], 2: [Signal("X", SELL, 15)]}
    result = play(plan, days("X", [flat(1), flat(10), flat(20), flat(30), flat(40)]))
    assert only(result).average_cost == D("17.5")
    assert result.strategies["S"].realized == 15 * D("12.5")
    assert only(result).unrealized == 25 * D("22.5")


def test_a_reversal_realises_the_closed_part_and_opens_at_its_price() -> None:
    plan = {0: [Signal("X", BUY, 100)], 1: [Signal("X", SELL, 150)]}
    models = Models(fees=PerContractFees(D("0.01")))
    result = play(plan, days("X", [flat(50), flat(50), flat(55), flat(55)]), models)
    outcome = result.strategies["S"]
    assert result.fills[1].realized == 500
    assert outcome.realized == 500
    assert (only(result).quantity, only(result).average_cost) == (-50, 55)
    assert outcome.cash == 100_000 - 5000 - 1 + 8250 - D("1.5")
    assert outcome.equity == 100_000 + 500 - D("2.5")


def test_equity_is_start_cash_and_what_was_earned() -> None:
    plan = {0: [Signal("X", BUY, 7)], 1: [Signal("X", SELL, 3)], 2: [Signal("X", SELL, 9)], 3: [Signal("X", BUY, 1)]}
    result = play(
        plan, days("X", [flat(p) for p in (10.1, 10.3, 9.7, 10.9, 11.3, 12.7)]), Models(fees=FixedStockFees())
    )
    outcome = result.strategies["S"]
    unrealized = sum((position.unrealized for position in outcome.positions), D(0))
    assert outcome.equity == outcome.start_cash + outcome.realized + unrealized - outcome.fees
    assert outcome.cash == outcome.start_cash - sum((f.quantity * f.price + f.fee for f in result.fills), D(0))
    assert outcome.equity_curve[-1] == pytest.approx(float(outcome.equity), abs=1e-9)


# -- what is denied


def test_what_cannot_be_paid_is_denied_with_both_sums() -> None:
    result = play({0: [Signal("X", BUY, 11)]}, days("X", [flat(100)] * 3), cash=1000)
    assert not result.fills
    assert reason(result) == "11 X cost about 1100.00; 1000.00 is free."
    assert play({0: [Signal("X", BUY, 10)]}, days("X", [flat(100)] * 3), cash=1000).fills  # to the cent


def test_fees_count_before_an_order_is_taken() -> None:
    models = Models(fees=FixedStockFees())
    result = play({0: [Signal("X", BUY, 10)]}, days("X", [flat(100)] * 3), models, cash=1000)
    assert reason(result) == "10 X cost about 1001.00; 1000.00 is free."


def test_an_entry_without_a_quantity_leaves_room_for_its_fees() -> None:
    """A share for 30 cents costs a fee of one per cent at IB: sized by equity alone it was denied for ever."""
    models = Models(fees=FixedStockFees())
    bars = days("X", [flat(0.3, 1e7)] * 4)
    result = play({0: [Signal("X", BUY)], 1: [Signal("X", CLOSE)]}, bars, models, cash=1000)
    assert fills_of(result) == [("3300", "0.3"), ("-3300", "0.3")]
    assert result.fills[0].fee == D("9.9")
    short = play({0: [Signal("X", SELL)]}, bars, models, cash=1000)
    assert fills_of(short) == [("-3300", "0.3")]
    too_dear = play({0: [Signal("X", BUY)]}, days("X", [flat(100)] * 3), models, cash=100)
    assert reason(too_dear).endswith("100.00 is free.")


def test_working_entries_hold_their_cash_back() -> None:
    plan = {0: [Signal("X", BUY, 6, price=90, tif="GTC")], 1: [Signal("X", BUY, 6)]}
    result = play(plan, days("X", [flat(100)] * 4), cash=1000)
    assert reason(result) == "6 X cost about 600.00; 460.00 is free."


def test_a_second_order_of_a_side_needs_leave_as_it_does_live() -> None:
    rows = [flat(100)] * 5
    resting = Signal("X", BUY, 5, price=90, tif="GTC")
    plan = {0: [resting], 1: [Signal("X", BUY, 7)], 2: [Signal("X", SELL, 3)]}
    refused = play(plan, days("X", rows), config={"allow_repeats": False})
    assert reason(refused).startswith("5 X are being traded that way already")
    assert fills_of(refused) == [("-3", "100")]
    allowed = play(plan, days("X", rows), config={"allow_repeats": True})
    assert fills_of(allowed) == fills_of(play(plan, days("X", rows))) == [("7", "100"), ("-3", "100")]


def test_what_only_closes_needs_no_cash() -> None:
    plan = {0: [Signal("X", SELL, 5)], 1: [Signal("X", BUY, 5)]}
    result = play(plan, days("X", [flat(100), flat(100), flat(400), flat(400)]), cash=501)
    assert [quantity for quantity, _ in fills_of(result)] == ["-5", "5"]
    assert result.strategies["S"].cash == 501 + 500 - 2000  # a short can cost more than there is


def test_the_proceeds_of_a_short_buy_nothing() -> None:
    plan = {0: [Signal("X", SELL, 6)], 1: [Signal("X", SELL, 5)], 2: [Signal("X", SELL, 4)]}
    result = play(plan, days("X", [flat(100)] * 5), cash=1000)
    assert reason(result) == "5 X cost about 500.00; 400.00 is free."
    assert only(result).quantity == -10


def test_a_sale_from_flat_needs_permission_of_run_and_strategy() -> None:
    bars = days("X", [flat(100)] * 3)
    text = "A sale of X from flat goes short, which is not allowed here."
    assert reason(play({0: [Signal("X", SELL, 5)]}, bars, Models(fees=NoFees(), allow_short=False))) == text
    assert reason(play({0: [Signal("X", SELL)]}, bars, config={"allow_short": False})) == text
    assert play({0: [Signal("X", SELL, 5)]}, bars).fills


def test_a_sale_of_more_than_is_held_is_cut_where_shorts_are_not_allowed() -> None:
    plan = {0: [Signal("X", BUY, 5)], 1: [Signal("X", SELL, 8)]}
    result = play(plan, days("X", [flat(100)] * 4), config={"allow_short": False})
    assert [quantity for quantity, _ in fills_of(result)] == ["5", "-5"]


@pytest.mark.parametrize(
    ("signal", "text"),
    [
        (Signal("NOPE", BUY, 5), "The run has no bars of NOPE."),
        (Signal("X", BUY, 0), "no number above zero"),
        (Signal("X", BUY, -5), "no number above zero"),
        (Signal("X", BUY, 1.5), "no multiple of 1"),  # type: ignore[arg-type]
        (Signal("X", BUY, float("nan")), "no number above zero"),  # type: ignore[arg-type]
        (Signal("X", BUY, 5, price=float("nan")), "no price"),
        (Signal("X", BUY, 5, order_type="ICEBERG"), "is unknown"),
        (Signal("X", BUY, 5, order_type="LMT"), "needs a limit price"),
        (Signal("X", BUY, 5, stop=99), "names its order_type"),
        (Signal("X", BUY, 5, tif="FOREVER"), "is unknown"),
        (Signal("X", BUY, 5, tif="GTD"), "belong together"),
        (Signal("X", BUY, 5, order_type="MOC", tif="GTC"), "takes no GTC"),
        (Signal("X", "BUY", 5), "is none of BUY, SELL, HOLD, CLOSE"),  # type: ignore[arg-type]
    ],
)
def test_a_signal_that_makes_no_sense_is_listed_as_denied(signal: Signal, text: str) -> None:
    result = play({0: [signal], 1: [Signal("X", BUY, 1)]}, days("X", [flat(100)] * 4))
    assert text in reason(result)
    assert [quantity for quantity, _ in fills_of(result)] == ["1"]  # the strategy goes on
    assert not result.strategies["S"].errors


# -- other instruments


def test_a_future_counts_its_multiplier_its_lot_and_its_own_fees() -> None:
    terms = InstrumentTerms("X", multiplier=D(50), lot=D(2), tick=D("0.25"), fees=PerContractFees(D("2.25")))
    plan = {0: [Signal("X", BUY, 2, price=99.9)], 1: [Signal("X", SELL, 1)], 2: [Signal("X", SELL, 2)]}
    result = play(plan, days("X", [flat(100), flat(99), flat(101), flat(102)]), instruments={"X": terms})
    assert "no multiple of 2" in reason(result)
    assert result.orders[0].limit == D("99.75")  # a limit is never paid more than it says
    assert [fill.fee for fill in result.fills] == [D("4.5"), D("4.5")]
    assert result.strategies["S"].realized == 3 * 2 * 50
    assert result.strategies["S"].equity == 100_000 + 300 - 9


def test_quantities_come_in_lots_where_the_executor_sizes() -> None:
    terms = InstrumentTerms("X", lot=D(100))
    result = play({0: [Signal("X", BUY)]}, days("X", [flat(30)] * 3), instruments={"X": terms}, cash=10_000)
    assert fills_of(result) == [("300", "30")]


def test_two_currencies_in_one_strategy_are_refused() -> None:
    bars = [days("X", [flat(1)] * 3), days("Y", [flat(1)] * 3)]
    entry = scripted("S", [("X", "1d"), ("Y", "1d")], {})
    with pytest.raises(ConfigError, match="S would trade in EUR and USD"):
        run_backtest(spec_of([entry], bars, instruments={"Y": InstrumentTerms("Y", currency="EUR")}))


# -- splits and dividends

FOURTH = nanos_of(datetime(2024, 1, 5, tzinfo=UTC))
"""The morning of the fourth bar of ``days``."""


def test_a_split_keeps_what_a_position_is_worth() -> None:
    split = CorporateAction("X", FOURTH, ratio=D(7))
    result = play({0: [Signal("X", BUY, 10)]}, days("X", [flat(70)] * 3 + [flat(10), flat(11)]), actions=[split])
    assert (only(result).quantity, only(result).average_cost) == (70, 10)
    assert result.strategies["S"].equity_curve.tolist() == [100_000.0] * 4 + [100_070.0]


def test_a_split_moves_resting_orders_with_the_price() -> None:
    split = CorporateAction("X", FOURTH, ratio=D(2))
    plan = {0: [Signal("X", BUY, 10, stop_loss=95, take_profit=120)], 1: [Signal("X", BUY, 3, price=80, tif="GTC")]}
    rows = [flat(100)] * 3 + [flat(50), (50.0, 50.0, 47.4, 47.6), (47.6, 47.6, 40.0, 41.0)]
    result = play(plan, days("X", rows), actions=[split])
    assert fills_of(result) == [("10", "100"), ("-20", "47.5"), ("6", "40")]
    unsplit = play(plan, days("X", rows))
    assert fills_of(unsplit)[1] == ("-10", "50")  # without it the stop at 95 sells into the split


def test_a_split_pays_out_what_it_does_not_leave_whole() -> None:
    split = CorporateAction("X", FOURTH, ratio=D("1.5"))
    result = play({0: [Signal("X", BUY, 101)]}, days("X", [flat(30)] * 3 + [flat(20)] * 2), actions=[split])
    assert only(result).quantity == 151
    assert result.strategies["S"].equity == 100_000
    assert "left 0.5 units, paid out at 20.0000" in result.warnings[0]


def test_a_dividend_pays_the_holder_and_charges_the_short() -> None:
    dividend = CorporateAction("X", FOURTH, amount=D("0.24"))
    bars = days("X", [flat(100)] * 6)
    long = play({0: [Signal("X", BUY, 10)]}, bars, actions=[dividend]).strategies["S"]
    assert (long.dividends, long.equity, long.realized) == (D("2.40"), D("100002.40"), D(0))
    assert long.equity_curve.tolist() == [100_000.0] * 3 + [100_002.4] * 3
    short = play({0: [Signal("X", SELL, 10)]}, bars, actions=[dividend]).strategies["S"]
    assert short.equity == D("99997.60")
    late = play({2: [Signal("X", BUY, 10)]}, bars, actions=[dividend]).strategies["S"]
    assert late.dividends == 0  # bought at the open of the day itself


def test_an_action_that_is_neither_is_refused() -> None:
    for action in (
        CorporateAction("X", FOURTH),
        CorporateAction("X", FOURTH, D(2), D(1)),
        CorporateAction("X", FOURTH, D(0)),
    ):
        with pytest.raises(ConfigError, match="a split has a ratio"):
            play({}, days("X", [flat(100)] * 6), actions=[action])


def test_prices_of_many_digits_are_booked_as_they_are_written() -> None:
    bars = series("X", "1d", days("X", [flat(1)] * 3).whole()[0], [flat(0.1), flat(0.30000000000000004), flat(1 / 3)])
    result = play({0: [Signal("X", BUY, 3)]}, bars)
    assert result.fills[0].price == Decimal("0.30000000000000004")
    assert result.strategies["S"].cash == D(100_000) - D("0.9000000000")


def test_every_order_is_listed_once_in_the_order_of_its_number() -> None:
    plan = {0: [Signal("X", BUY, 10**9), Signal("X", BUY, 10, stop_loss=50)], 1: [Signal("X", SELL, 1, price=500)]}
    result = play(plan, days("X", [flat(100)] * 4))
    assert [order.order_id for order in result.orders] == [1, 2, 3, 4]
    assert states_of(result) == [
        ("MKT", "denied", "0"), ("MKT", "filled", "10"), ("STP", "open", "0"), ("LMT", "expired", "0")
    ]  # fmt: skip
