"""``make bench``, third part: from a strategy's wish to the wire, and what one order with many fills costs.

The engine runs in this process against a gateway in another, with every check on and every intent committed before
it is sent. Beside it, in the same run: a bare ib_async client that checks and stores nothing, and that client with one
durable commit before each order, which is the least that a program must do that cannot lose an order.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.performance.figures import Latency, Row, commit, table
from tests.performance.floors import SPY, sqlite_commits
from tests.support.gateway_process import GatewayProcess

if TYPE_CHECKING:
    from trading.engine.manager import StrategyManager

SYMBOL = "BENCH"
CLIENT_ID = 60
PAUSE_S = 1 / 15  # an order and its cancel in each: below the 45 messages in 1.25 s that one connection may send
WARM_UP = 30
BLOCK = 100  # fills of a small order
ROUNDS = 5
LOOK_S = 0.002
STRATEGY = '''"""Waits; the benchmark places its orders."""

from strategies.base import BaseStrategy


class BenchStrategy(BaseStrategy):
    """Does nothing by itself."""

    async def initialize_strategy(self) -> None:
        """Nothing to prepare."""

    async def run_strategy(self) -> None:
        """Wait until stopped."""
        await self.until_stopped()
'''


class WireClock:
    """Notes when a client last handed bytes to its socket."""

    def __init__(self, ib: Any) -> None:
        self.at_ns = 0
        self._transport = ib.client.conn.transport
        ib.client.conn.transport = self

    def write(self, data: bytes) -> None:
        """Pass the bytes on and take the time."""
        self._transport.write(data)
        self.at_ns = time.perf_counter_ns()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def limits(price: float) -> Iterator[float]:
    """Yield limits some percent below the market, each other than the one before: twins are refused."""
    highest = round(price * 0.98, 2)
    for number in itertools.count():
        yield round(highest - 0.01 * (number % 50), 2)


async def price_of_spy(port: int) -> float:
    """Return what SPY costs at the gateway."""
    from ib_async import IB, StartupFetchNONE, Stock

    ib = IB()
    await ib.connectAsync("127.0.0.1", port, clientId=CLIENT_ID, fetchFields=StartupFetchNONE)
    contract = Stock("SPY", "SMART", "USD")
    await ib.qualifyContractsAsync(contract)
    (ticker,) = await ib.reqTickersAsync(contract)
    ib.disconnect()
    return float(ticker.marketPrice())


async def bare_orders(port: int, count: int, price: float, before: Callable[[], None] = lambda: None) -> Latency:
    """Place and cancel orders with ib_async alone; ``before`` runs between the wish and ``placeOrder``."""
    from ib_async import IB, LimitOrder, StartupFetchNONE, Stock

    ib = IB()
    await ib.connectAsync("127.0.0.1", port, clientId=CLIENT_ID, fetchFields=StartupFetchNONE)
    contract = Stock("SPY", "SMART", "USD")
    await ib.qualifyContractsAsync(contract)
    wire = WireClock(ib)
    spent = []
    for limit in itertools.islice(limits(price), count + WARM_UP):
        start = time.perf_counter_ns()
        before()
        trade = ib.placeOrder(contract, LimitOrder("BUY", 1, limit, account=ib.client.getAccounts()[0]))
        spent.append(wire.at_ns - start)
        await asyncio.sleep(PAUSE_S / 2)
        ib.cancelOrder(trade.order)
        await asyncio.sleep(PAUSE_S / 2)
    ib.disconnect()
    return Latency.of_ns(spent[WARM_UP:])


async def engine_orders(strategy: Any, count: int, price: float) -> Latency:
    """Place and cancel orders as a strategy does, on its own loop."""
    from ib_async import Stock

    contract = Stock("SPY", "SMART", "USD")
    wire = WireClock(strategy.ib)
    spent = []
    for limit in itertools.islice(limits(price), count + WARM_UP):
        start = time.perf_counter_ns()
        ticket = await strategy.place_order(contract, 1, "LMT", algo=False, limit=limit)
        spent.append(wire.at_ns - start)
        await asyncio.sleep(PAUSE_S / 2)
        await strategy.broker.cancel_order(ticket.order_ref)
        await ticket.wait_done(10.0)
        await asyncio.sleep(PAUSE_S / 2)
    return Latency.of_ns(spent[WARM_UP:])


def durable_commit(folder: Path) -> Callable[[], None]:
    """Return a function that inserts one row and commits it durably."""
    import sqlite3

    connection = sqlite3.connect(folder / "intent.sqlite3", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE intent (id INTEGER PRIMARY KEY, ref TEXT, quantity TEXT)")

    def write() -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO intent (ref, quantity) VALUES ('x', '1')")
        connection.execute("COMMIT")

    return write


def filled_rate(gateway: GatewayProcess, fills: int) -> float:
    """Fill one new order ``fills`` times at once; return the fills per second until all are committed."""
    from trading.orders.refs import new_ref

    start, ids = gateway.inject(SPY, fills, new_ref(SYMBOL), 1)
    _until_booked(ids)
    return fills / ((time.monotonic_ns() - start) / 1e9)


def _until_booked(ids: list[str]) -> None:
    """Look by hand, and seldom: the engine shares this process, and asking by the ORM would take its time."""
    import sqlite3

    from django.conf import settings

    deadline = time.monotonic() + 60
    database = sqlite3.connect(f"file:{settings.DATABASES['default']['NAME']}?mode=ro", uri=True)
    try:
        while not database.execute("select 1 from portfolio_execution where exec_id = ?", ids[-1:]).fetchone():
            if time.monotonic() > deadline:
                raise TimeoutError("the fills were not booked within 60 s")
            time.sleep(LOOK_S)
    finally:
        database.close()


def prepare(home: Path, port: int) -> None:
    """Make the ledger, the strategy and limits that a benchmark does not reach; nothing is switched off."""
    (home / "strategies").mkdir(parents=True)
    (home / "strategies" / "bench_strategy.py").write_text(STRATEGY)
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "mats_site.settings",
        "MATS_HOME": str(home),
        "MATS_IB_PORT": str(port),
        "MATS_STRATEGY_PATH": str(home / "strategies"),
        "MATS_LOG_LEVEL": "ERROR",
        "MATS_IB_MESSAGES_PER_S": "1000",  # each connection keeps IB's limit; this gateway has none over all
    }
    import django
    from django.core.management import call_command

    django.setup()
    logging.getLogger("ib_async").setLevel(logging.CRITICAL)  # it calls every cancel an error
    call_command("migrate", verbosity=0)
    from strategies.services import save_strategy
    from tests.support.limits import lift_limits

    lift_limits()
    save_strategy(
        {"symbol": SYMBOL, "filename": "bench_strategy.py", "active": True, "target_weight": "0.5"}, user=None
    )


def started() -> tuple[StrategyManager, Any]:
    """Start an engine in this process; return it with its running strategy."""
    from trading.engine.manager import StrategyManager

    engine = StrategyManager()
    engine.stop_grace_s = 5.0
    engine.start()
    deadline = time.monotonic() + 60
    while True:
        strategy = engine.active_strategies.get(SYMBOL)
        if strategy is not None and strategy.is_connected and strategy.broker is not None:
            return engine, strategy
        if time.monotonic() > deadline:
            raise TimeoutError(f"the strategy does not run: {engine.state_message}")
        time.sleep(0.05)


def on_loop(strategy: Any, work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on the strategy's loop."""
    return asyncio.run_coroutine_threadsafe(work, strategy._loop).result(600)


def measure(orders: int, fills: int) -> str:
    """Run everything once and return the report."""
    with (
        tempfile.TemporaryDirectory(prefix="mats-orders-") as folder,
        GatewayProcess(server={"max_messages_per_s": 0}) as gateway,
    ):
        home = Path(folder)
        prepare(home / "mats", gateway.port)
        single = sqlite_commits(home)
        price = asyncio.run(price_of_spy(gateway.port))
        # Before the engine starts: it would book these orders as well, in the same process.
        bare = asyncio.run(bare_orders(gateway.port, orders, price))
        stored = asyncio.run(bare_orders(gateway.port, orders, price, durable_commit(home)))
        engine, strategy = started()
        try:
            ours = on_loop(strategy, engine_orders(strategy, orders, price))
            small = statistics.median(filled_rate(gateway, BLOCK) for _ in range(ROUNDS))
            large = statistics.median(filled_rate(gateway, fills) for _ in range(ROUNDS))
        finally:
            engine.cleanup(5.0)
    rows = [
        Row("signal → wire p50", ours.p50, "ms", "bare placeOrder", bare.p50, "≤ 2 ×"),
        Row("signal → wire p50", ours.p50, "ms", "bare placeOrder + one commit", stored.p50, "≤ 2 ×"),
        Row("signal → wire p99", ours.p99, "ms", "bare placeOrder + one commit", stored.p99, ""),
        Row(f"one order with {fills:,} fills", large, "/s", f"one with {BLOCK}", small, "≥ 1 ×"),
    ]
    notes = f"One durable commit p50 {single.p50:.3f} ms, p99 {single.p99:.3f} ms. Load {os.getloadavg()[0]:.1f}."
    return f"Commit {commit()}, {os.cpu_count()} cores.\n\n{table(rows)}\n\n{notes}"


def main() -> None:
    """Parse the options, print the report."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--orders", type=int, default=300, help="orders of the latency run")
    parser.add_argument("--fills", type=int, default=1_000, help="fills of the one order")
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mats_site.settings")
    print(measure(options.orders, options.fills))


if __name__ == "__main__":
    main()
