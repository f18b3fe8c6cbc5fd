"""``make bench``, second part: the ledger alone, a restart over a long history, memory over many fills.

Each figure stands beside a floor of the same run: what a program must do at least that keeps no books.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.performance.engine_run import Mats, prepared_mats, running_engine
from tests.performance.figures import ROOT, Row, commit, table
from tests.performance.floors import SPY, bare_growth_mb
from tests.support.gateway_process import GatewayProcess
from trading.orders.refs import new_ref

FILLS_PER_ORDER = 100
SETTLED = 0.2  # of the soak's fills: until then caches and pools fill up, which is no leak
BLOCK = 20_000


def in_process(folder: Path, fold_fills: int) -> list[Row]:
    """Measure what needs no other process, on a throw-away ledger."""
    os.environ["MATS_HOME"] = str(folder)
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    from tests.performance import books_run as run

    pure, pure_floor = run.pure_fold(fold_fills * 4)
    stored, stored_floor = run.sqlite_fold(fold_fills, folder)
    compared, compared_floor = run.reconcile(str(folder / "mats.sqlite3"))
    return [
        Row("fold, pure", pure, "/s", "bare Decimal sums", pure_floor, "≥ 50,000 /s"),
        Row(f"fold into SQLite, batches of {run.BATCH}", stored, "/s", "bare inserts", stored_floor, "≥ 5,000 /s"),
        Row(
            f"reconcile {run.OWNERS} strategies × {run.CONTRACTS} positions",
            compared * 1e3,
            "ms",
            "read and sum the bare rows",
            compared_floor * 1e3,
            "< 1,000 ms",
        ),
    ]


def restart(folder: Path, past: int) -> Row:
    """Start an engine on an empty ledger and on one with a long past."""
    with GatewayProcess(server={"max_messages_per_s": 0}) as gateway:
        empty = prepared_mats(folder / "empty", gateway.port)
        with running_engine(empty) as floor:
            pass
        long = prepared_mats(folder / "long", gateway.port)
        subprocess.run(
            [sys.executable, "-m", "tests.performance.books_run", str(past)], cwd=ROOT, env=long.environment, check=True
        )
        with running_engine(long) as ours:
            pass
    return Row(f"restart to tradable with {past:,} fills", ours, "s", "the same on an empty ledger", floor, "≤ 10 s")


def soak(folder: Path, count: int, probe: Path | None = None) -> tuple[Row, str]:
    """Send fills through one engine, and return how much its own memory grows by 100,000 of them."""
    bare = min(count, 100_000)
    with GatewayProcess(server={"max_messages_per_s": 0}) as gateway:
        peer = bare_growth_mb(gateway, bare) * 100_000 / bare
    with GatewayProcess(server={"max_messages_per_s": 0}) as gateway:  # another one: an engine replays the whole day
        mats = prepared_mats(folder / "soak", gateway.port)
        with running_engine(mats, probe=probe):
            start = time.perf_counter()
            series = _memory_series(gateway, mats, count)
            rate = count / (time.perf_counter() - start)
    settled = [point for point in series if point[0] >= SETTLED * count]
    grown = _slope(settled) * 100_000
    row = Row(f"memory by 100,000 fills, of {count:,}", grown, "MB", "bare ib_async client", peer, "≤ 1 MB")
    at = ", ".join(f"{size:,.0f} MB at {fills:,}" for fills, size in series[:: max(1, len(series) // 5)])
    return row, f"Soak: {rate:,.0f} fills/s end to end; {at}."


def _memory_series(gateway: GatewayProcess, mats: Mats, count: int) -> list[tuple[int, float]]:
    series = []
    for sent in range(BLOCK, count + 1, BLOCK):
        for _ in range(BLOCK // FILLS_PER_ORDER):
            gateway.inject(SPY, FILLS_PER_ORDER, new_ref("BENCH"), 1)
        _wait_for_rows(mats, sent)
        series.append((sent, mats.anon_mb("engine")))
    return series


def _wait_for_rows(mats: Mats, count: int) -> None:
    import sqlite3

    deadline = time.monotonic() + 900
    connection = sqlite3.connect(f"file:{mats.database}?mode=ro", uri=True, timeout=20)
    while (connection.execute("select max(id) from portfolio_execution").fetchone()[0] or 0) < count:
        if time.monotonic() > deadline:
            raise TimeoutError((mats.home / "engine.out").read_text()[-3000:])
        time.sleep(0.05)
    connection.close()


def _slope(series: list[tuple[int, float]]) -> float:
    """Return the least-squares slope, MB by fill."""
    import numpy as np

    return float(np.polyfit([fills for fills, _ in series], [size for _, size in series], 1)[0])


def report(folder: Path, options: argparse.Namespace) -> str:
    """Run every part once."""
    rows = in_process(folder / "books", options.fold)
    rows.append(restart(folder, options.past))
    notes = ""
    if options.soak:
        row, notes = soak(folder, options.soak, options.probe)
        rows.append(row)
    load = f"Load of the machine in the last minute: {os.getloadavg()[0]:.1f}; {psutil.cpu_count()} cores."
    return f"Commit {commit()}.\n\n{table(rows)}\n\n{notes} {load}"


def main() -> None:
    """Parse the options, print the report."""
    parser = argparse.ArgumentParser(prog="make bench (books)", description=__doc__)
    parser.add_argument("--fold", type=int, default=50_000, help="fills folded into SQLite; four times as many purely")
    parser.add_argument("--past", type=int, default=1_000_000, help="fills in the ledger that an engine restarts on")
    parser.add_argument("--soak", type=int, default=1_000_000, help="fills through one engine; 0 leaves it out")
    parser.add_argument("--probe", type=Path, metavar="FILE", help="have the soak write there what memory is made of")
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mats_site.settings")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that every process is ended
    with tempfile.TemporaryDirectory(prefix="mats-bench-") as name:
        print(report(Path(name), options))


if __name__ == "__main__":
    main()
