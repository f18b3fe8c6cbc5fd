"""What the venue may cost. Bounds are several times what is measured, so that a busy machine passes."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from time import perf_counter

from tests.unit.gateway.venue_desk import SECOND, SPY_ID, START, order, venue
from trading.gateway.model import CommissionReported, Contract, Executed, ExecutionFilter

SYMBOLS = ("SPY", "QQQ", "IWM", "DIA", "TLT", "GLD", "AAPL", "MSFT", "HYG", "LQD")


def test_ten_thousand_fills_at_once(tmp_path: Path) -> None:
    exchange = venue(state_file=tmp_path / "state.json")
    begin = perf_counter()
    events = exchange.inject_fills(SPY_ID, 10_000, "BENCH/1", 5)
    taken = perf_counter() - begin
    assert sum(isinstance(e, Executed) for e in events) == 10_000
    assert taken < 2.5
    told = exchange.advance(START + SECOND)
    assert sum(isinstance(e, CommissionReported) for e in told) == 10_000
    assert len(exchange.executions(ExecutionFilter())) == 10_000
    assert exchange.received_order_refs["BENCH/1"] == 1


def test_a_hundred_working_orders_cost_little_per_tick() -> None:
    exchange = venue()
    for number in range(100):
        contract = Contract(symbol=SYMBOLS[number % 10], sec_type="STK", exchange="SMART", currency="USD")
        exchange.place(order(number + 1, quantity=1, contract=contract, order_type="LMT", limit_price="1.00"), START)
    assert len(exchange.open_orders()) == 100
    begin = perf_counter()
    for tick in range(1, 101):
        exchange.advance(START + timedelta(milliseconds=50 * tick))
    assert (perf_counter() - begin) / 100 < 0.01


def test_quotes_and_history_are_cheap() -> None:
    exchange = venue()
    exchange.quote(SPY_ID, START)
    begin = perf_counter()
    for tick in range(1000):
        exchange.quote(SPY_ID, START + timedelta(milliseconds=10 * tick))
    assert perf_counter() - begin < 0.5
    begin = perf_counter()
    bars = exchange.bars(SPY_ID, end=START, duration="1 Y", bar_size="1 day", what="TRADES", use_rth=True, now=START)
    assert len(bars) > 200
    assert perf_counter() - begin < 0.3
