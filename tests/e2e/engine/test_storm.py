"""Many strategies on few connections while the gateway goes away again and again: the books end as the broker's.

A storm takes every line at once and fills orders meanwhile: the gateway restarts, it closes every socket and refuses
new ones, or its sockets take bytes and say nothing. Short: 12 strategies on 5 connections through each storm, and 98 on
30 through one. Long (``make prove``): 98 through each, with the waits of real life. Prints what it took.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from ib_async import Contract, Stock

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
from ib_async import Stock
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
EXACT_WITHIN_S = 30.0
AWAY_S = 1.0
# IB takes 20 working orders of one side per contract, MATS 15: the strategies spread over some.
TICKERS = ("SPY", "QQQ", "DIA", "TLT", "IWM", "GLD", "AAPL", "MSFT", "IBM", "AMD", "JPM", "BAC")


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print what a step took, and how busy the machine was."""
    start = time.monotonic()
    yield
    print(f"storm: {what} {time.monotonic() - start:.1f} s, load {os.getloadavg()[0]:.1f}")


class Storm:
    """Strategies that trade while their connections come and go; the first ``own`` have a connection each."""

    def __init__(self, rig: Rig, count: int, own: int) -> None:
        self.rig = rig
        self.symbols = [f"S{number:02d}" for number in range(count)]
        self.sockets = own + -(-(count - own) // PER_CONNECTION)
        self.timeout_s = 60.0 + 2.0 * count
        for number, symbol in enumerate(self.symbols):
            rig.strategy(symbol, MEMBER, weight="0.01", connection="own" if number < own else "shared")
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
        assert len(self.engine.pool.in_use) == self.sockets
        self.contracts = [self._known(ticker) for ticker in TICKERS]

    def _known(self, ticker: str) -> Contract:
        """Return a contract whose price the engine follows: what is not known denies an order."""
        first = self.members[0]
        contract: Contract = self.rig.on_loop(first, first.qualify(Stock(ticker, "SMART", "USD")))
        self.engine.follow_price(contract)
        until(lambda: self.engine.risk.quotes.get(contract.conId), 30, f"the price of {ticker}")
        return contract

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
            contract = self.contracts[number % len(TICKERS)]
            work = member.place_order(contract, quantity, order_type, algo=False, **terms)
            begun.append(go(work, member._loop))
        return [one.result(self.timeout_s).order_ref for one in begun]

    # what a storm does; each returns when the gateway takes new connections again

    def restart(self, meanwhile: Callable[[], None]) -> None:
        """Stop the server and start it again."""
        self.rig.stop_server()
        until(lambda: not any(member.is_connected for member in self.members), 30, "all lines are down")
        meanwhile()
        self.rig.start_server()

    def cut(self, meanwhile: Callable[[], None]) -> None:
        """Close every socket and let nobody in for a while."""
        self.rig.gateway.fault("refuse 60")
        self.rig.gateway.fault("drop")
        meanwhile()
        self.rig.gateway.fault("refuse 0")

    def hole(self, meanwhile: Callable[[], None]) -> None:
        """Have every socket fall silent, and those that come meanwhile too."""
        self.rig.gateway.fault(f"hole for={AWAY_S}")
        meanwhile()
        threading.Event().wait(AWAY_S)

    def blow(self, how: Callable[[Callable[[], None]], None], refs: list[str]) -> None:
        """Take every line, have each strategy filled meanwhile, and wait for exact books.

        Raises: AssertionError when they are not exact, or a strategy is not back, in time.
        """
        before = [member.reconnects for member in self.members]

        def _fill() -> None:
            for number, ref in enumerate(refs):
                self.rig.gateway.fault(f"fill {1 + number % 3} ref={ref} price=1")

        how(_fill)
        back, what = time.monotonic(), f"{len(self.symbols)} strategies, {how.__name__}:"
        until(self.is_exact, 2 * EXACT_WITHIN_S, "executions are the broker's")
        exact_s = time.monotonic() - back
        assert self.engine.gate.wait_open(2 * EXACT_WITHIN_S), self.engine.state_message
        open_s = time.monotonic() - back
        until(
            lambda: all(new > old for new, old in zip((m.reconnects for m in self.members), before, strict=True)),
            2 * EXACT_WITHIN_S,
            "each strategy subscribes anew",
        )
        all_s = time.monotonic() - back
        print(f"storm: {what} exact {exact_s:.1f} s, orders flow {open_s:.1f} s, all back {all_s:.1f} s")
        self.rig.assert_books_equal_broker()
        assert max(exact_s, open_s, all_s) < EXACT_WITHIN_S, what

    def is_exact(self) -> bool:
        """Tell whether the ledger holds the broker's executions."""
        return self.rig.broker_executions() == set(Execution.objects.values_list("exec_id", flat=True))


def weather(rig: Rig, count: int, own: int, *storms: str) -> Storm:
    """Start, order all at once, weather each storm; the books are the broker's after each, and orders work on."""
    with timed(f"{count} strategies made and the engine started:"):
        storm = Storm(rig, count, own)
    with timed(f"{count} strategies started on {storm.sockets} connections:"):
        storm.start()
    with timed(f"{count} orders in one instant on record and sent:"):
        refs = storm.place_all("LMT", 100, limit=1.0)
    for name in storms:
        storm.blow(getattr(storm, name), refs)
        assert Order.objects.filter(order_ref__in=refs, state="partial").count() == count, name
    assert not Order.objects.filter(state="denied").exists()
    expected = {symbol: len(storms) * (1 + number % 3) for number, symbol in enumerate(storm.symbols)}
    assert dict(Position.objects.filter(owner__in=storm.symbols).values_list("owner", "quantity")) == expected
    received = rig.gateway.call(lambda: dict(rig.gateway.venue.received_order_refs))
    assert {received[ref] for ref in refs} == {1}
    return storm


@pytest.fixture
def storm_rig(rig: Rig, mats_settings: Any) -> Rig:
    """A rig with small routers, and the patience of real life."""
    mats_settings.MATS = dataclasses.replace(
        mats_settings.MATS, strategies_per_connection=PER_CONNECTION, ib_connect_timeout_s=15.0
    )
    return rig


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines come back, and are missed, sooner than in real life."""
    monkeypatch.setattr(connection, "BACKOFF_FIRST_S", 0.05)
    monkeypatch.setattr(connection, "BACKOFF_MAX_S", 0.5)
    monkeypatch.setattr(connection, "PROBE_AFTER_S", 1.0)
    monkeypatch.setattr(connection, "PROBE_TIMEOUT_S", 2.0)
    monkeypatch.setattr(session, "RETRY_S", 0.1)


@pytest.mark.usefixtures("short_waits")
def test_a_dozen_strategies_on_five_connections_are_exact_after_every_storm(storm_rig: Rig) -> None:
    weather(storm_rig, 12, 2, "restart", "cut", "hole").stop()


@pytest.mark.proof
@pytest.mark.usefixtures("short_waits")
def test_98_strategies_on_thirty_connections_are_exact_after_a_cut(storm_rig: Rig) -> None:
    weather(storm_rig, 98, 7, "cut")


@pytest.mark.proof
@pytest.mark.timeout(900)
def test_98_strategies_on_thirty_connections_are_exact_within_30_s_of_every_storm(storm_rig: Rig) -> None:
    storm = weather(storm_rig, 98, 7, "restart", "cut", "hole")
    with timed("98 strategies stopped:"):
        storm.stop()
