"""The floors: what a bare client and a bare database do on this machine at this moment."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

from ib_async import IB, Fill, StartupFetchNONE, Trade

from tests.performance.figures import ROOT, Latency
from tests.support.gateway_process import GatewayProcess


def sqlite_commits(folder: Path, count: int = 2_000) -> Latency:
    """Insert single rows, one durable commit each (WAL, synchronous FULL)."""
    import sqlite3

    import mats_site  # noqa: F401 - replaces sqlite3 as the product does

    connection = sqlite3.connect(folder / "floor.sqlite3", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE fill (id INTEGER PRIMARY KEY, exec_id TEXT UNIQUE, price TEXT, quantity TEXT)")
    spent = []
    for number in range(count):
        start = time.monotonic_ns()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO fill (exec_id, price, quantity) VALUES (?, '101.25', '100')", (f"x.{number}",))
        connection.execute("COMMIT")
        spent.append(time.monotonic_ns() - start)
    connection.close()
    return Latency.of_ns(spent)


class BareClient:
    """ib_async alone on one connection: counts executions as they are raised as events."""

    def __init__(self) -> None:
        self.ib = IB()
        self.seen: dict[str, int] = {}
        self.ib.execDetailsEvent += self._on_execution

    def _on_execution(self, _trade: Trade, fill: Fill) -> None:
        self.seen[fill.execution.execId] = time.monotonic_ns()

    async def wait_for(self, count: int, timeout_s: float = 120.0) -> None:
        """Wait until ``count`` executions were raised."""
        async with asyncio.timeout(timeout_s):
            while len(self.seen) < count:
                await asyncio.sleep(0.001)


async def stock_client(gateway: GatewayProcess, burst: int) -> float:
    """Return fills/s of one order on an ib_async without our patch; its cost grows with the square of the fills."""
    client = BareClient()
    await client.ib.connectAsync("127.0.0.1", gateway.port, clientId=42, fetchFields=StartupFetchNONE)
    start, ids = await asyncio.get_running_loop().run_in_executor(None, gateway.inject, SPY, burst, "STOCK/burst", 42)
    await client.wait_for(len(ids))
    client.ib.disconnect()
    return burst / ((max(client.seen.values()) - start) / 1e9)


def inject_orders(gateway: GatewayProcess, name: str, fills: int, client_id: int) -> tuple[int, list[str]]:
    """Fill orders of ``FILLS_PER_ORDER`` one after the other without a pause; return the first's time and all ids."""
    first, ids = 0, []
    for number in range(fills // FILLS_PER_ORDER):
        sent, some = gateway.inject(SPY, FILLS_PER_ORDER, f"{name}{number}", client_id)
        first = first or sent
        ids += some
    return first, ids


async def bare_client(gateway: GatewayProcess, *, burst: int, paced: int, rate: float) -> tuple[float, float, Latency]:
    """Return fills/s in a burst of one order and of many, and the latency of single fills at ``rate`` per second.

    The client carries the same O(1) reprs as the engine's, so that the floor is not slower than what stands on it.
    """
    import trading.ib  # noqa: F401 - applies the patches; until here this process ran stock ib_async

    client = BareClient()
    await client.ib.connectAsync("127.0.0.1", gateway.port, clientId=41, fetchFields=StartupFetchNONE)
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    start, ids = await loop.run_in_executor(None, gateway.inject, SPY, burst, "FLOOR/burst", 41)
    await client.wait_for(len(ids))
    one_order = burst / ((max(client.seen.values()) - start) / 1e9)
    start, ids = await loop.run_in_executor(None, inject_orders, gateway, "FLOOR/many", burst, 41)
    before = burst
    await client.wait_for(before + len(ids))
    many_orders = len(ids) / ((max(client.seen.values()) - start) / 1e9)
    before += len(ids)
    spent = []
    for number in range(paced):
        sent, (exec_id,) = await loop.run_in_executor(None, gateway.inject, SPY, 1, f"FLOOR/{number}", 41)
        await asyncio.sleep(1 / rate)
        await client.wait_for(before + number + 1)
        spent.append(client.seen[exec_id] - sent)
    client.ib.disconnect()
    return one_order, many_orders, Latency.of_ns(spent)


SPY = 756733  # IB's contract id of SPY
FILLS_PER_ORDER = 100
GROWTH_CLIENT = 43


def bare_growth_mb(gateway: GatewayProcess, count: int) -> float:
    """Return by how many MB a bare ib_async client, in a process of its own, grows over ``count`` fills."""
    command = [sys.executable, "-m", "tests.performance.bare_client", str(gateway.port), str(count)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        if client.stdout.readline().strip() != "ready":
            raise RuntimeError("the bare client did not connect")
        inject_orders(gateway, "GROWTH/", count, GROWTH_CLIENT)
        return float(client.stdout.readline())
