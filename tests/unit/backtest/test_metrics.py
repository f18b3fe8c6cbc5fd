"""Round trips and daily returns of a finished run."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trading.backtest.contracts import BacktestFill
from trading.backtest.curves import drawdown, thin
from trading.backtest.metrics import daily_returns, round_trips

HOUR_NS = 3_600_000_000_000
DAY_NS = 24 * HOUR_NS


def fills_of(quantities: list[int], prices: list[int]) -> list[BacktestFill]:
    """Return fills whose realised profit is what an average-cost book says."""
    held, cost, made = Decimal(0), Decimal(0), []
    for number, (quantity, price) in enumerate(zip(quantities, prices, strict=False)):
        signed, paid = Decimal(quantity), Decimal(price)
        closed = min(abs(signed), abs(held)) if held * signed < 0 else Decimal(0)
        realized = closed * (paid - cost) * (1 if held > 0 else -1)
        left = held + signed
        if held * signed >= 0:
            cost = (abs(held) * cost + abs(signed) * paid) / abs(left) if left else Decimal(0)
        elif held * left < 0:
            cost = paid
        held = left
        made.append(BacktestFill(number * HOUR_NS, "A", "SPY", signed, paid, Decimal("1"), number, "MKT", "", realized))
    return made


@given(
    st.lists(st.integers(-5, 5).filter(bool), min_size=1, max_size=30),
    st.lists(st.integers(1, 50), min_size=30, max_size=30),
)
def test_profits_of_round_trips_and_of_what_is_open_are_what_the_fills_realised(
    quantities: list[int], prices: list[int]
) -> None:
    fills = fills_of(quantities, prices)
    flat = fills_of([*quantities, -sum(quantities)] if sum(quantities) else quantities, prices)
    trips = round_trips(flat)
    total = sum((fill.realized - fill.fee for fill in flat), Decimal(0))
    assert abs(sum((trip.profit for trip in trips), Decimal(0)) - total) < Decimal("1e-20")
    assert abs(sum((trip.fees for trip in trips), Decimal(0)) - len(flat)) < Decimal("1e-20")
    assert len(round_trips(fills)) <= len(trips)


def test_a_fill_that_turns_a_position_ends_one_trade_and_begins_the_next() -> None:
    first, second = round_trips(fills_of([10, -15, 5], [100, 110, 100]))
    share = Decimal(10) / 15
    assert (first.quantity, first.profit, first.fees) == (Decimal(10), Decimal(100) - 1 - share, 1 + share)
    assert (second.quantity, second.closed_ns) == (Decimal(-5), 2 * HOUR_NS)


def test_daily_returns_run_from_the_last_equity_of_the_day_before() -> None:
    at = np.array([0, HOUR_NS, DAY_NS, DAY_NS + HOUR_NS, 3 * DAY_NS])
    equity = np.array([100.0, 110.0, 90.0, 121.0, 121.0])
    returns = daily_returns(at, equity, 100.0)
    assert returns == {date(1970, 1, 1): 110 / 100 - 1, date(1970, 1, 2): 121 / 110 - 1, date(1970, 1, 4): 0.0}
    assert daily_returns(at[:0], equity[:0], 100.0) == {}


@given(st.lists(st.floats(1, 1000), min_size=1, max_size=400))
def test_thinning_keeps_the_ends_and_every_extreme(values: list[float]) -> None:
    curve = np.array(values)
    rows = thin(curve, 30)
    assert rows[0] == 0
    assert rows[-1] == len(curve) - 1
    assert curve[rows].max() == curve.max()
    assert curve[rows].min() == curve.min()
    assert len(rows) <= max(31, 30 + 2) + 1 or len(curve) <= 30


def test_drawdown_counts_from_the_start_too() -> None:
    found = drawdown(np.array([75.0, 100.0, 120.0, 60.0]), 100.0)
    assert found.tolist() == [-0.25, 0.0, 0.0, -0.5]
