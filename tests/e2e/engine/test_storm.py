"""Many strategies on few connections while the gateway goes away again and again: the books end as the broker's.

Short: 12 strategies on 3 connections, one loss. Long (``make prove``): 48 on 12. Prints what it took.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from ib_async import Stock

from portfolio.models import Execution, Position
from tests.e2e.engine.harness import Rig, run_state, until
from trading.engine import session
from trading.engine.manager import StrategyManager
from trading.ib import connection
from trading.models import Order
from trading.services import enqueue

pytestmark = pytest.mark.e2e
logger = logging.getLogger(__name__)

MEMBER = """
from strategies.base import BaseStrategy

class MemberStrategy(BaseStrategy):
    async def initialize_strategy(self):
        self.reconnects = 0
    async def run_strategy(self):
        await self.until_stopped()
    async def on_reconnected(self):
        self.reconnects += 1
"""
PER_CONNECTION = 4
SOCKETS = 30  # what IB leaves to strategies
# IB takes 20 working orders of one side per contract, MATS 15: the strategies spread over some.
TICKERS = ("SPY", "QQQ", "DIA", "TLT", "IWM", "GLD", "AAPL", "MSFT", "IBM", "AMD", "JPM", "BAC")


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print what a step took."""
    start = time.monotonic()
    yield
    print(f"storm: {what} {time.monotonic() - start:.1f} s")


def ticker_of(number: int) -> str:
    """Return what a strategy trades."""
    return TICKERS[number % len(TICKERS)]


class Storm:
    """Strategies that trade while their connections come and go."""

    def __init__(self, rig: Rig, count: int) -> None:
        self.rig = rig
        self.symbols = [f"S{number:02d}" for number in range(count)]
        self.timeout_s = 60.0 + 2.0 * count
        for symbol in self.symbols:
            rig.strategy(symbol, MEMBER, weight="0.01", connection="shared")
        self.engine: StrategyManager = rig.engine(autostart=False)

    @property
    def members(self) -> list[Any]:
        """Return the running instances."""
        return [self.engine.active_strategies[symbol] for symbol in self.symbols]

    def start(self) -> None:
        """Start all with one command each, all at once."""
        for symbol in self.symbols:
            enqueue("start_strategy", {"symbol": symbol}, source="test")
        until(lambda: all(run_state(symbol) == "running" for symbol in self.symbols), self.timeout_s, "all run")

    def stop(self) -> None:
        """Stop all with one command each, all at once."""
        for symbol in self.symbols:
            enqueue("stop_strategy", {"symbol": symbol}, source="test")
        until(lambda: not self.engine.active_strategies, self.timeout_s, "all stopped")

    def place_all(self, order_type: str, quantity: int, **terms: Any) -> list[str]:
        """Have every strategy order in the same instant; return the references.

        Raises: OrderDeniedError when a single one was denied.
        """
        go = asyncio.run_coroutine_threadsafe
        begun = []
        for number, member in enumerate(self.members):
            contract = Stock(ticker_of(number), "SMART", "USD")
            work = member.place_order(contract, quantity, order_type, algo=False, **terms)
            begun.append(go(work, member._loop))
        return [one.result(self.timeout_s).order_ref for one in begun]

    def lose_the_line(self, refs: list[str]) -> None:
        """Stop the server, have fills happen meanwhile, start it; wait for exact books."""
        before = [member.reconnects for member in self.members]
        self.rig.stop_server()
        until(lambda: not any(member.is_connected for member in self.members), 30, "all lines are down")
        for number, (member, ref) in enumerate(zip(self.members, refs, strict=True)):
            self.rig.inject(ticker_of(number), 1 + number % 3, ref, member.client_id, publish=False)
        self.rig.start_server()
        with timed(f"{len(self.symbols)} strategies exact after a lost line:"):
            assert self.engine.gate.wait_open(60), self.engine.state_message
            until(self.is_exact, 60, "executions, positions and cash are the broker's")
            until(
                lambda: all(new > old for new, old in zip((m.reconnects for m in self.members), before, strict=True)),
                60,
            )

    def is_exact(self) -> bool:
        """Tell whether the ledger holds the broker's executions."""
        return self.rig.broker_executions() == set(Execution.objects.values_list("exec_id", flat=True))


def weather(rig: Rig, count: int, losses: int) -> None:
    """Start, order all at once, lose the line, stop; the books are the broker's after each loss."""
    with timed(f"{count} strategies made and the engine started:"):
        storm = Storm(rig, count)
    with timed(f"{count} strategies started:"):
        storm.start()
    assert len(storm.engine.pool.in_use) <= min(SOCKETS, -(-count // PER_CONNECTION))
    with timed(f"{count} orders in one instant on record and sent:"):
        working = storm.place_all("LMT", 1, limit=1.0)
    with timed(f"{count} orders filled:"):
        filled = storm.place_all("MKT", 2)
        until(lambda: Order.objects.filter(order_ref__in=filled, state="filled").count() == count, storm.timeout_s)
    for turn in range(losses):
        storm.lose_the_line(filled)
        rig.assert_books_equal_broker()
        assert Order.objects.filter(order_ref__in=working, state="accepted").count() == count, turn
    assert not Order.objects.filter(state="denied").exists()
    expected = {symbol: 2 + losses * (1 + number % 3) for number, symbol in enumerate(storm.symbols)}
    assert dict(Position.objects.filter(owner__in=storm.symbols).values_list("owner", "quantity")) == expected
    with timed(f"{count} strategies stopped:"):
        storm.stop()
    refs = rig.gateway.call(lambda: dict(rig.gateway.venue.received_order_refs))
    assert {refs[ref] for ref in working} == {1}


@pytest.fixture
def storm_rig(rig: Rig, mats_settings: Any, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """A rig with small routers and lines that come back without the patience of real life."""
    monkeypatch.setattr(connection, "BACKOFF_FIRST_S", 0.05)
    monkeypatch.setattr(connection, "BACKOFF_MAX_S", 0.5)
    monkeypatch.setattr(session, "RETRY_S", 0.1)
    mats_settings.MATS = dataclasses.replace(mats_settings.MATS, strategies_per_connection=PER_CONNECTION)
    return rig


def test_a_dozen_strategies_on_three_connections_are_exact_after_a_lost_line(storm_rig: Rig) -> None:
    weather(storm_rig, 12, 1)


@pytest.mark.proof
def test_48_strategies_on_twelve_connections_are_exact_after_a_lost_line(storm_rig: Rig) -> None:
    weather(storm_rig, 48, 1)
