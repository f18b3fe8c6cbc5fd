"""What an order does in the bars that follow it. A signal at bar n meets bar n + 1 first."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from strategies.bar_series import BarSeries, moment_of
from strategies.reactive import Signal
from tests.support.backtests import BUY, CLOSE, HOLD, SELL, D, Row, days, fills_of, flat, minutes, play, states_of
from trading.backtest.contracts import Models, NoFees
from trading.brokers.fees import FixedStockFees

DAY: Row = (100.0, 104.0, 97.0, 102.0)
"""Opens at 100, comes down to 97, goes up to 104, closes at 102."""


def one_bar(row: Row, signal: Signal, **models: Any) -> list[tuple[str, str]]:
    """The fills of a signal before ``row``."""
    bars = days("X", [flat(100), row, flat(100)])
    return fills_of(play({0: [signal]}, bars, Models(fees=NoFees(), **models)))[:1]


def buy(**terms: Any) -> Signal:
    return Signal("X", BUY, 10, **terms)


def sell(**terms: Any) -> Signal:
    return Signal("X", SELL, 10, **terms)


@pytest.mark.parametrize(
    ("signal", "price"),
    [
        (buy(), "100"),
        (sell(), "100"),
        (buy(price=98), "98"),
        (buy(price=101), "100"),  # the market opens below the limit
        (sell(price=103), "103"),
        (sell(price=99), "100"),
        (buy(order_type="STP", stop=103), "103"),
        (buy(order_type="STP", stop=99), "100"),  # opens beyond the stop: the worse of both
        (sell(order_type="STP", stop=98), "98"),
        (sell(order_type="STP", stop=101), "100"),
        (buy(order_type="STP LMT", stop=103, price=103.5), "103"),
        (sell(order_type="STP LMT", stop=99, price=98), "99"),
        (buy(order_type="MIT", stop=98), "98"),
        (sell(order_type="MIT", stop=103), "103"),
        (sell(order_type="TRAIL", trail=2), "98"),
        (sell(order_type="TRAIL", trail_percent=3), "97.000"),
        (buy(order_type="TRAIL", trail=4), "104"),
        (buy(order_type="MOC"), "102"),
        (sell(order_type="LOC", price=101), "102"),
        (buy(tif="OPG"), "100"),
        (buy(price=101, tif="IOC"), "100"),
        (buy(tif="FOK"), "100"),
    ],
)
def test_price_of_each_type_in_one_bar(signal: Signal, price: str) -> None:
    ((quantity, paid),) = one_bar(DAY, signal)
    assert Decimal(paid) == Decimal(price)
    assert quantity == ("10" if signal.action is BUY else "-10")


@pytest.mark.parametrize(
    "signal",
    [
        buy(price=96.99),
        sell(price=104.01),
        buy(order_type="STP", stop=104.01),
        sell(order_type="STP", stop=96.99),
        sell(order_type="STP LMT", stop=99, price=99.5),  # triggered below its limit
        buy(order_type="MIT", stop=96.99),
        sell(order_type="TRAIL", trail=3.01),
        buy(order_type="LOC", price=101),
        buy(price=98, tif="OPG"),
        buy(price=98, tif="IOC"),  # at once means at the bar's start
        sell(price=103, tif="FOK"),
    ],
)
def test_what_the_bar_does_not_reach_does_not_fill(signal: Signal) -> None:
    bars = days("X", [flat(100), DAY])
    assert not play({0: [signal]}, bars).fills


def test_a_market_order_pays_half_the_spread_and_slippage() -> None:
    class Dime:
        def worsen(self, price: Decimal, is_buy: bool) -> Decimal:
            return price + D("0.1") if is_buy else price - D("0.1")

    models = {"half_spread": D("0.05"), "slippage": Dime()}
    assert one_bar(DAY, buy(), **models) == [("10", "100.15")]
    assert one_bar(DAY, sell(), **models) == [("-10", "99.85")]
    assert one_bar(DAY, sell(order_type="STP", stop=98), **models) == [("-10", "97.85")]
    assert one_bar(DAY, buy(price=98), **models) == [("10", "98")]  # a limit pays no slippage
    assert one_bar(DAY, buy(order_type="MOC"), **models) == [("10", "102")]


def test_a_signal_on_the_last_bar_is_never_filled() -> None:
    result = play({1: [buy()]}, days("X", [flat(100), flat(100)]))
    assert not result.fills
    assert states_of(result) == [("MKT", "open", "0")]


# -- time in force


def test_a_day_order_lives_until_the_close_and_not_only_one_bar() -> None:
    """A limit vanished after one bar in older engines; here it works all day, and is gone the next morning."""
    rows = [flat(100)] * 389 + [flat(95), flat(95)]
    late = play({0: [buy(price=96)]}, minutes("X", rows))
    assert fills_of(late) == [("10", "95")]
    missed = play({0: [buy(price=96)]}, minutes("X", [flat(100)] * 390 + [flat(95)]))
    assert states_of(missed) == [("LMT", "expired", "0")]
    assert missed.orders[0].ended_ns == int(datetime(2024, 1, 2, 21, tzinfo=UTC).timestamp()) * 10**9


def test_a_day_order_that_is_placed_at_the_close_is_for_the_next_day() -> None:
    rows = [flat(100)] * 390 + [flat(97)] * 390 + [flat(90)]
    assert fills_of(play({389: [buy()]}, minutes("X", rows))) == [("10", "97")]
    missed = play({389: [buy(price=95)]}, minutes("X", rows))
    assert missed.orders[0].state == "expired"
    assert moment_of(missed.orders[0].ended_ns or 0) == datetime(2024, 1, 3, 21, tzinfo=UTC)


def test_an_order_without_a_bar_left_in_its_day_expires_unfilled() -> None:
    """The source has no bars after 10:00: an order of 10:00 must not fill at the price of the next morning."""
    first = minutes("X", [flat(100)] * 30)
    second = minutes("X", [flat(90)] * 5, day=date(2024, 1, 3))
    starts = np.concatenate([first.whole()[0], second.whole()[0]])
    columns = [np.concatenate(pair) for pair in zip(first.whole()[1], second.whole()[1], strict=True)]
    bars = BarSeries.from_columns("X", "1m", starts, columns)
    result = play({29: [buy()]}, bars)
    assert not result.fills
    assert states_of(result) == [("MKT", "expired", "0")]


def test_gtc_stays_over_nights_and_gtd_until_its_time() -> None:
    rows = [flat(100)] * 4 + [flat(90)]
    assert fills_of(play({0: [buy(price=95, tif="GTC")]}, days("X", rows))) == [("10", "90")]
    until = datetime(2024, 1, 5, 0, tzinfo=UTC)  # the fourth bar's morning
    assert play({0: [buy(price=95, tif="GTD", good_till=until)]}, days("X", rows)).orders[0].state == "expired"
    longer = until + timedelta(days=5)
    assert fills_of(play({0: [buy(price=95, tif="GTD", good_till=longer)]}, days("X", rows))) == [("10", "90")]


def test_ioc_takes_what_there_is_and_fok_all_or_nothing() -> None:
    bars = days("X", [flat(100), flat(100, volume=4), flat(100)])
    ioc = play({0: [buy(tif="IOC")]}, bars)
    assert fills_of(ioc) == [("4", "100")]
    assert states_of(ioc) == [("MKT", "cancelled", "4")]
    assert states_of(play({0: [buy(tif="FOK")]}, bars)) == [("MKT", "cancelled", "0")]


def test_an_order_for_the_opening_auction_meets_only_the_first_bar_of_the_day() -> None:
    rows = [flat(100)] * 390 + [flat(97), flat(80)]
    assert fills_of(play({5: [buy(tif="OPG")]}, minutes("X", rows))) == [("10", "97")]
    missed = play({5: [buy(price=90, tif="OPG")]}, minutes("X", rows))
    assert not missed.fills
    assert missed.orders[0].state == "cancelled"


def test_an_order_for_the_closing_auction_fills_at_the_close_of_the_day() -> None:
    rows = [flat(100)] * 389 + [(100.0, 103.0, 99.0, 101.5), flat(120)]
    result = play({5: [buy(order_type="MOC")]}, minutes("X", rows))
    assert fills_of(result) == [("10", "101.5")]
    assert moment_of(result.fills[0].time_ns) == datetime(2024, 1, 2, 21, tzinfo=UTC)


def test_the_closing_auction_takes_no_orders_in_its_last_ten_minutes() -> None:
    result = play({380: [buy(order_type="MOC")]}, minutes("X", [flat(100)] * 395))
    assert [(order.state, order.reason) for order in result.orders] == [
        ("denied", "The auction that a MOC waits for takes no more orders.")
    ]


def test_there_is_no_closing_auction_where_the_bars_just_end() -> None:
    assert not play({5: [buy(order_type="MOC")]}, minutes("X", [flat(100)] * 30)).fills


# -- volume


def test_volume_cuts_a_fill_and_the_rest_stays() -> None:
    bars = days("X", [flat(100), flat(100, volume=60), flat(101, volume=1000)])
    result = play({0: [Signal("X", BUY, 100, tif="GTC")]}, bars, Models(fees=NoFees(), participation=D("0.5")))
    assert fills_of(result) == [("30", "100"), ("70", "101")]


def test_one_strategy_s_orders_share_the_volume_of_a_bar() -> None:
    bars = days("X", [flat(100), flat(100, volume=60), flat(101, volume=1000)])
    signals = [Signal("X", BUY, 50, tif="GTC"), Signal("X", BUY, 50, tif="GTC")]
    assert fills_of(play({0: signals}, bars)) == [("50", "100"), ("10", "100"), ("40", "101")]


def test_a_bar_without_trade_fills_nothing() -> None:
    bars = days("X", [flat(100), flat(100, volume=0), flat(101)])
    assert fills_of(play({0: [buy(tif="GTC")]}, bars)) == [("10", "101")]


def test_bars_that_know_no_volume_fill_whole_and_say_so() -> None:
    bars = days("X", [flat(100, volume=0)] * 3)
    result = play({0: [buy()]}, bars)
    assert fills_of(result) == [("10", "100")]
    assert result.warnings == ["X has no volumes: its orders fill whole."]


def test_an_auction_takes_every_order_whole() -> None:
    bars = days("X", [flat(100), flat(100, volume=2), flat(101)])
    assert fills_of(play({0: [buy(order_type="MOC")]}, bars)) == [("10", "100")]


# -- sessions


def test_orders_wait_outside_the_session_and_the_run_says_so() -> None:
    night = minutes("X", [flat(90)] * 30)
    starts, columns = night.whole()
    early = BarSeries.from_columns("X", "1m", starts - 20 * 60 * 10**9, columns)  # from 09:10
    result = play({0: [buy()]}, early)
    assert moment_of(result.fills[0].time_ns) == datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
    assert result.warnings == [
        "20 of 30 bars of X lie outside the sessions of US_EQUITY: strategies see them, orders wait."
    ]


# -- what a signal means


def test_hold_trades_nothing_and_close_flattens() -> None:
    plan = {0: [buy()], 1: [Signal("X", HOLD)], 2: [Signal("X", CLOSE)], 3: [Signal("X", CLOSE)]}
    result = play(plan, days("X", [flat(100)] * 6))
    assert [quantity for quantity, _ in fills_of(result)] == ["10", "-10"]
    assert result.strategies["S"].signals == 4


def test_close_takes_back_what_works_and_covers_a_short() -> None:
    plan = {0: [sell(), sell(price=150, tif="GTC")], 1: [Signal("X", CLOSE)]}
    result = play(plan, days("X", [flat(100)] * 4))
    assert [quantity for quantity, _ in fills_of(result)] == ["-10", "10"]
    assert states_of(result) == [("MKT", "filled", "10"), ("LMT", "cancelled", "0"), ("MKT", "filled", "10")]


def test_an_unsized_entry_takes_its_share_of_equity() -> None:
    bars = days("X", [flat(100)] * 4)
    half = play({0: [Signal("X", BUY)]}, bars, cash=10_050, config={"position_size": 0.5})
    assert fills_of(half) == [("50", "100")]
    most = play({0: [Signal("X", BUY)]}, bars, cash=10_050, config={"max_position_size": 0.25, "position_size": 0.5})
    assert fills_of(most) == [("25", "100")]


def test_repeated_unsized_signals_neither_add_nor_cross_zero() -> None:
    plan = {0: [Signal("X", BUY)], 1: [Signal("X", BUY)], 2: [Signal("X", SELL)], 3: [Signal("X", SELL)] * 2}
    bars = days("X", [flat(100)] * 6)
    result = play(plan, bars, cash=10_050, config={"position_size": 0.5, "allow_short": False})
    assert [quantity for quantity, _ in fills_of(result)] == ["50", "-50"]
    assert [order.state for order in result.orders] == ["filled", "filled", "denied", "denied"]


def test_fees_count_their_minimum_once_per_order() -> None:
    bars = days("X", [flat(50), flat(50, volume=60), flat(50, volume=60), flat(50)])
    result = play({0: [Signal("X", BUY, 300, tif="GTC")]}, bars, Models(fees=FixedStockFees()))
    assert [fill.quantity for fill in result.fills] == [60, 60, 180]
    assert [fill.fee for fill in result.fills] == [D(1), D(0), D("0.5")]  # 0.005 · 300, at least 1
    assert result.strategies["S"].fees == D("1.5")
