"""``make bench``: fills into the ledger and onto the page, each beside its floor measured in the same run.

The gateway, the engine, the web server and this observer are four processes on one machine. Ledger times are those of
an independent reader: it waits for the engine's doorbell, then reads the committed rows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import websockets

from tests.performance.engine_run import Mats, logged_in_cookie, running_mats
from tests.performance.figures import Latency, Row, commit, table
from tests.performance.floors import FILLS_PER_ORDER, SPY, bare_client, inject_orders, sqlite_commits, stock_client
from tests.support.gateway_process import GatewayProcess
from trading.orders.refs import new_ref

PAGES = 10
WARM_UP = 500
STOCK_BURST = 500  # more would only show how its cost grows


class LedgerReader(threading.Thread):
    """Notes when each execution becomes readable for another process."""

    def __init__(self, mats: Mats) -> None:
        super().__init__(daemon=True)
        self._mats = mats
        self._ended = threading.Event()
        self.seen: dict[str, int] = {}

    def run(self) -> None:
        """Wait for the doorbell, read what is new."""
        import sqlite3

        from trading.engine.doorbell import EVENTS, Listener

        connection = sqlite3.connect(f"file:{self._mats.database}?mode=ro", uri=True, timeout=20)
        last = 0
        with Listener(EVENTS) as bell:
            while not self._ended.is_set():
                bell.wait(0.25)
                rows = connection.execute(
                    "select id, exec_id from portfolio_execution where id > ? order by id", (last,)
                ).fetchall()
                now = time.monotonic_ns()
                for row_id, exec_id in rows:
                    last = row_id
                    self.seen[exec_id] = now
        connection.close()

    def end(self) -> None:
        """Stop reading."""
        self._ended.set()
        self.join(5)


class Page:
    """One open page: a websocket that parses every frame, as a browser does."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}

    async def follow(self, mats: Mats, cookie: str) -> None:
        """Receive until cancelled."""
        origin = f"http://127.0.0.1:{mats.web_port}"
        address = f"ws://127.0.0.1:{mats.web_port}/ws/live"
        async with websockets.connect(
            address, additional_headers={"Cookie": cookie}, origin=websockets.Origin(origin), max_size=None
        ) as socket:
            async for text in socket:
                frame = json.loads(text)
                now = time.monotonic_ns()
                if frame["type"] != "events":
                    continue
                for event in frame["events"]:
                    if event["kind"] == "fill":
                        self.seen[event["payload"]["exec_id"]] = now
                await socket.send(json.dumps({"type": "ack", "last": frame["last"]}))


async def wait_for(seen: dict[str, int], ids: list[str], timeout_s: float = 120.0) -> None:
    """Wait until every id was seen."""
    wanted = set(ids)
    async with asyncio.timeout(timeout_s):
        while not wanted <= seen.keys():
            await asyncio.sleep(0.005)


@dataclass(slots=True)
class EngineFigures:
    """What the whole MATS did. Units: fills/s; CPU seconds per 10,000 fills of the one-order burst."""

    one_order: float
    many_orders: float
    ledger: Latency
    page: Latency
    engine_cpu: float
    busiest_threads: list[float]


async def engine_figures(gateway: GatewayProcess, mats: Mats, *, burst: int, paced: int, rate: float) -> EngineFigures:
    """Measure the ledger alone, then ``PAGES`` open pages: their JSON is parsed in this process and would delay it."""
    loop = asyncio.get_running_loop()
    reader = LedgerReader(mats)
    reader.start()
    _, ids = await loop.run_in_executor(None, gateway.inject, SPY, 50, new_ref("BENCH"), 1)
    await wait_for(reader.seen, ids)
    await wait_for(reader.seen, list(await send_paced(gateway, WARM_UP, rate)))  # first use: imports, stores, caches
    sent_at = await send_paced(gateway, paced, rate)
    await wait_for(reader.seen, list(sent_at))
    ledger = Latency.of_ns([reader.seen[exec_id] - sent for exec_id, sent in sent_at.items()])
    page = await page_figures(gateway, mats, paced, rate)
    cpu, threads = mats.cpu_s("engine"), mats.thread_cpu_s("engine")
    start, ids = await loop.run_in_executor(None, gateway.inject, SPY, burst, new_ref("BENCH"), 1)
    await wait_for(reader.seen, ids)
    one_order = _per_second(reader.seen, ids, start)
    scale = 10_000 / burst
    engine_cpu = (mats.cpu_s("engine") - cpu) * scale
    spent = ((used - threads.get(key, 0.0)) * scale for key, used in mats.thread_cpu_s("engine").items())
    busiest = sorted(spent, reverse=True)[:3]
    start, ids = await loop.run_in_executor(None, inject_orders, gateway, f"{new_ref('BENCH')}/", burst, 1)
    await wait_for(reader.seen, ids)
    many_orders = _per_second(reader.seen, ids, start)
    reader.end()
    return EngineFigures(one_order, many_orders, ledger, page, engine_cpu, busiest)


def _per_second(seen: dict[str, int], ids: list[str], start: int) -> float:
    return len(ids) / ((max(seen[exec_id] for exec_id in ids) - start) / 1e9)


async def send_paced(gateway: GatewayProcess, count: int, rate: float) -> dict[str, int]:
    """Execute ``count`` orders of one fill at ``rate`` per second; return when each was sent, by execution."""
    loop = asyncio.get_running_loop()
    sent_at = {}
    for _ in range(count):
        due = loop.time() + 1 / rate
        sent, (exec_id,) = await loop.run_in_executor(None, gateway.inject, SPY, 1, new_ref("BENCH"), 1)
        sent_at[exec_id] = sent
        await asyncio.sleep(due - loop.time())
    return sent_at


async def page_figures(gateway: GatewayProcess, mats: Mats, paced: int, rate: float) -> Latency:
    """Return the latency wire → page over ``PAGES`` open pages."""
    cookie = await logged_in_cookie(mats)
    pages = [Page() for _ in range(PAGES)]
    tasks = [asyncio.create_task(page.follow(mats, cookie)) for page in pages]
    try:
        _, ids = await asyncio.to_thread(gateway.inject, SPY, 50, new_ref("BENCH"), 1)
        for page in pages:
            await wait_for(page.seen, ids)
        sent_at = await send_paced(gateway, paced, rate)
        for page in pages:
            await wait_for(page.seen, list(sent_at))
    finally:
        for task in tasks:
            task.cancel()
    return Latency.of_ns([page.seen[exec_id] - sent for page in pages for exec_id, sent in sent_at.items()])


def measure(burst: int, paced: int, rate: float) -> str:
    """Run everything once and return the report."""
    with tempfile.TemporaryDirectory(prefix="mats-bench-") as folder:
        home = Path(folder)
        os.environ["MATS_HOME"] = str(home / "mats")  # the observer's doorbell lies in the engine's home
        (home / "mats").mkdir()
        single = sqlite_commits(home)
        with GatewayProcess(server={"max_messages_per_s": 0}) as gateway:
            stock = asyncio.run(stock_client(gateway, STOCK_BURST))
            one, many, delivery = asyncio.run(bare_client(gateway, burst=burst, paced=paced, rate=rate))
            with running_mats(home / "mats", gateway.port) as mats:
                ours = asyncio.run(engine_figures(gateway, mats, burst=burst, paced=paced, rate=rate))
                memory = mats.memory_mb("engine")
    step, step99 = delivery.p50 + single.p50, delivery.p99 + single.p99
    client, commit_too = "bare ib_async client", "bare delivery + one commit"
    of_many = f"fills into the ledger, orders of {FILLS_PER_ORDER}"
    rows = [
        Row("fills into the ledger, one order", ours.one_order, "/s", client, one, "≥ 3,000 /s"),
        Row(of_many, ours.many_orders, "/s", client, many, "≥ 3,000 /s"),
        Row("wire → ledger p50", ours.ledger.p50, "ms", commit_too, step, "≤ 3 ×"),
        Row("wire → ledger p99", ours.ledger.p99, "ms", "same, p99", step99, "≤ 20 ms"),
        Row(f"wire → page p50, {PAGES} pages", ours.page.p50, "ms", commit_too, step, "≤ 5 ms + delivery"),
        Row(f"wire → page p99, {PAGES} pages", ours.page.p99, "ms", "same, p99", step99, "≤ 25 ms"),
    ]
    threads = ", ".join(f"{used:.2f}" for used in ours.busiest_threads)
    notes = (
        f"Engine: {ours.engine_cpu:.2f} CPU s per 10,000 fills (busiest threads {threads}); "
        f"memory after {2 * (burst + paced):,} fills {memory:,.0f} MB. "
        f"Stock ib_async without our patch: {stock:,.0f} fills/s at {STOCK_BURST} fills of one order. "
        f"Bare commit p50 {single.p50:.3f} ms, bare delivery p50 {delivery.p50:.3f} ms; {rate:.0f} fills/s paced. "
        f"Load of the machine in the last minute: {os.getloadavg()[0]:.1f}."
    )
    return f"Commit {commit()}, {os.cpu_count()} cores.\n\n{table(rows)}\n\n{notes}"


def main() -> None:
    """Parse the options, print the report."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--burst", type=int, default=20_000, help="fills of the throughput run")
    parser.add_argument("--paced", type=int, default=1_000, help="fills of the latency run")
    parser.add_argument("--rate", type=float, default=100.0, help="fills per second of the latency run")
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mats_site.settings")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that every process is ended
    print(measure(options.burst, options.paced, options.rate))


if __name__ == "__main__":
    main()
