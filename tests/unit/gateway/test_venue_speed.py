"""What the venue may cost, in calls of functions: the same however busy the machine is. `make bench` has times."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.unit.gateway.venue_desk import SECOND, SPY_ID, START, order, venue
from trading.gateway.exchange import Exchange
from trading.gateway.model import CommissionReported, Contract, Executed, ExecutionFilter

SYMBOLS = ("SPY", "QQQ", "IWM", "DIA", "TLT", "GLD", "AAPL", "MSFT", "HYG", "LQD")


def calls_of(work: Callable[[], object]) -> int:
    """Count the function calls of some work, those of C included."""
    count = 0

    def note(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def with_orders(number: int) -> Exchange:
    """A venue where so many orders work far from the market."""
    exchange = venue()
    for place in range(number):
        contract = Contract(symbol=SYMBOLS[place % 10], sec_type="STK", exchange="SMART", currency="USD")
        exchange.place(order(place + 1, quantity=1, contract=contract, order_type="LMT", limit_price="1.00"), START)
    assert len(exchange.open_orders()) == number
    return exchange


def test_ten_thousand_fills_at_once(tmp_path: Path) -> None:
    exchange = venue(state_file=tmp_path / "state.json")
    events = exchange.inject_fills(SPY_ID, 10_000, "BENCH/1", 5)
    assert sum(isinstance(e, Executed) for e in events) == 10_000
    told = exchange.advance(START + SECOND)
    assert sum(isinstance(e, CommissionReported) for e in told) == 10_000
    assert len(exchange.executions(ExecutionFilter())) == 10_000
    assert exchange.received_order_refs["BENCH/1"] == 1


def test_a_fill_costs_the_same_however_many_come_at_once() -> None:
    few, many = venue(), venue()
    of_few = calls_of(lambda: few.inject_fills(SPY_ID, 200, "BENCH/1", 5))
    of_many = calls_of(lambda: many.inject_fills(SPY_ID, 1_000, "BENCH/1", 5))
    assert of_many / 1_000 < 1.1 * of_few / 200
    assert of_many / 1_000 < 80


def test_a_tick_costs_as_much_as_orders_work_and_no_more() -> None:
    def cost(exchange: Exchange) -> int:
        exchange.advance(START + timedelta(milliseconds=50))
        return calls_of(lambda: [exchange.advance(START + timedelta(milliseconds=50 * n)) for n in range(2, 12)])

    few, many = cost(with_orders(50)), cost(with_orders(100))
    assert many < 2.2 * few
    assert many / 10 / 100 < 110


def test_a_quote_costs_the_same_after_a_thousand_and_a_year_of_bars_little() -> None:
    exchange = venue()
    exchange.quote(SPY_ID, START)

    def quotes(first: int) -> int:
        return calls_of(
            lambda: [exchange.quote(SPY_ID, START + timedelta(milliseconds=n)) for n in range(first, first + 100)]
        )

    early = quotes(1)
    for tick in range(1_000):
        exchange.quote(SPY_ID, START + timedelta(milliseconds=200 + 10 * tick))
    assert quotes(10_300) < 1.2 * early
    assert early / 100 < 180
    bars: list[Any] = []

    def year() -> None:
        bars.extend(
            exchange.bars(SPY_ID, end=START, duration="1 Y", bar_size="1 day", what="TRADES", use_rth=True, now=START)
        )

    cost = calls_of(year)
    assert len(bars) > 200
    assert cost / len(bars) < 10
