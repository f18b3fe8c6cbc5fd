"""``make bench``, backtests: bars a second beside the same work in bare Python, numpy and compiled loops.

Every row runs its floor in the same process and the same minute; best of some runs, CPU time. The cold row is a process
of its own, from a Parquet file to the last figure, by the clock on the wall.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from strategies.bar_series import BarSeries
from tests.performance.backtest_floors import CrossInArrays, compiled_floor, cross_targets, minute_bars, numpy_floor
from tests.performance.backtest_floors import python_floor as bare_python
from tests.performance.backtest_strategies import FAST, SLOW, Cross, CrossByIndicators, Flip, spec_of
from tests.performance.figures import ROOT, Row, commit, table
from trading.backtest.arrays import lay_out
from trading.backtest.compiled import run_targets
from trading.backtest.compiled_market import compile_market
from trading.backtest.compiled_sweep import sweep_arrays
from trading.backtest.engine import run_backtest
from trading.backtest.targets import targets_of

ROUNDS = 3
PAIRS = [{"fast": fast, "slow": slow} for fast in range(5, 55, 5) for slow in range(60, 260, 20)]


def best(work: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """Return the least CPU seconds of some runs."""
    spent = []
    for _ in range(rounds):
        gc.collect()
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return min(spent)


def as_lists(bars: BarSeries) -> list[list[Any]]:
    """Return the columns as lists of numbers, as a bare loop reads them fastest."""
    starts, columns = bars.whole()
    return [starts.tolist(), *(column.tolist() for column in columns)]


def callback_rows(bars: int) -> list[Row]:
    """Strategies that are told of every bar."""
    one = minute_bars("X", bars, 1)
    floor = bars / best(lambda: bare_python([as_lists(one)]))
    # The lists of the floor are made within its time; the engine lays out its columns within its own.
    rows = [
        Row(
            f"reactive, 1 × {bars:,} minutes", bars / best(lambda: run_backtest(spec_of(Cross, [one]))), "bars/s",
            "bare Python", floor, "≥ 860,000 bars/s, ≥ 0.60",
        ),
        Row(
            "the same, reading indicators", bars / best(lambda: run_backtest(spec_of(CrossByIndicators, [one]))),
            "bars/s", "bare Python", floor, "",
        ),
    ]  # fmt: skip
    each = bars // 5
    five = [minute_bars(f"X{n}", each, n) for n in range(5)]
    floor = 5 * each / best(lambda: bare_python([as_lists(series) for series in five]))
    ours = 5 * each / best(lambda: run_backtest(spec_of(Cross, five)))
    rows.append(Row(f"five strategies × {each:,}, one clock", ours, "bars/s", "bare Python", floor, "≥ 690,000 bars/s"))
    return rows


def fill_rows(counts: list[int]) -> list[Row]:
    """What a fill costs: the slope between trading at every bar and never. The floor is a sum of four decimals."""
    from decimal import Decimal

    def decimals() -> None:
        cash, held, price, fee = Decimal(0), Decimal(0), Decimal("101.23"), Decimal("1.000000")
        for _ in range(10_000):
            held += 100
            cash -= 100 * price + fee

    floor = best(decimals) / 10_000 * 1e6
    rows = []
    for count in counts:
        bars = minute_bars("X", count, 1)
        rounds = max(ROUNDS, min(60, 60_000 // count))
        idle = best(lambda bars=bars: run_backtest(spec_of(Flip, [bars], trades=False)), rounds)  # type: ignore[misc]
        busy = best(lambda bars=bars: run_backtest(spec_of(Flip, [bars], trades=True)), rounds)  # type: ignore[misc]
        rows.append(
            Row(f"one fill of {count:,}", (busy - idle) / count * 1e6, "µs", "decimal sums", floor, "≤ 6 µs, flat")
        )
    return rows


def compiled_rows(bars: int) -> list[Row]:
    """Strategies that declare arrays."""
    one = minute_bars("X", bars, 1)
    spec = spec_of(CrossInArrays, [one])
    (entry,), (track,) = spec.strategies, lay_out(spec)
    market = compile_market(spec, entry, track)
    strategy = CrossInArrays(entry.name, entry.config)
    _, (opens, _, _, closes, _) = one.whole()
    curve = np.empty(bars)

    def bare() -> None:
        compiled_floor(opens, closes, cross_targets(closes, FAST, SLOW), curve)

    def ours() -> None:
        run_targets(market, targets_of(entry.name, strategy, one, bars), entry.cash, entry.name)

    bare()  # both compile at their first call
    ours()
    floor = bars / best(bare, 10) / 1e6
    rows = [Row(f"arrays, {bars:,} bars", bars / best(ours, 10) / 1e6, "M bars/s", "bare loop", floor, "≥ 50 M bars/s")]
    numpy_rate = bars / best(lambda: numpy_floor(closes), 10) / 1e6
    rows.append(Row("the same", rows[0].ours, "M bars/s", "numpy: two averages, no orders", numpy_rate, ""))
    whole = bars / best(lambda: run_backtest(spec)) / 1e6
    rows.append(Row("the same with all rows of a result", whole, "M bars/s", "bare loop", floor, ""))
    short = minute_bars("X", bars // 10, 1)
    sweep = spec_of(CrossInArrays, [short])
    prices = short.whole()[1]
    small = np.empty(len(prices[3]))

    def bare_sweep() -> None:
        for pair in PAIRS:
            compiled_floor(prices[0], prices[3], cross_targets(prices[3], pair["fast"], pair["slow"]), small)

    runs = len(PAIRS) * len(small)
    floor = runs / best(bare_sweep) / 1e6
    ours_sweep = runs / best(lambda: sweep_arrays(sweep, PAIRS)) / 1e6
    name = f"sweep, {len(PAIRS)} sets × {len(small):,} bars, one core"
    rows.append(Row(name, ours_sweep, "M bar-runs/s", "bare loop", floor, "≥ 100 M bar-runs/s"))
    return rows


def cold_rows(bars: int) -> list[Row]:
    """A process of its own; the floor is a process that imports what it imports and runs nothing."""
    series = minute_bars("X", bars, 1)
    starts, columns = series.whole()
    names = ("open", "high", "low", "close", "volume")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bars.parquet"
        pq.write_table(pa.table({"ts": starts, **dict(zip(names, columns, strict=True))}), path)
        told = [_cold(str(path)) for _ in range(ROUNDS)]
    seconds, memory = min(row[0] for row in told), min(row[3] for row in told)
    imports = min(_imports() for _ in range(ROUNDS))
    return [
        Row(f"cold process, {bars:,} bars from Parquet", seconds, "s", "its imports", imports, "≤ 1.5 s"),
        Row("its memory at most", memory, "MB", "bars alone", bars * 48 / 1e6, "≤ 200 MB"),
    ]


def _cold(path: str) -> list[float]:
    command = [sys.executable, "-m", "tests.performance.backtest_cold", path]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [time.perf_counter() - began, *(float(part) for part in done.stdout.split()[1:])]


def _imports() -> float:
    code = "import pyarrow.parquet, tests.performance.backtest_strategies, trading.backtest.engine, exchange_calendars"
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    return time.perf_counter() - began


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bars", type=int, default=1_000_000)
    parser.add_argument("--fills", type=int, nargs="+", default=[1_000, 30_000, 300_000])
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    rows = callback_rows(options.bars)
    rows += fill_rows(options.fills)
    rows += compiled_rows(options.bars)
    rows += cold_rows(options.bars)
    print(f"Commit {commit()}, {os.cpu_count()} cores.\n\n{table(rows)}")
    print(f"\nLoad of the machine in the last minute: {os.getloadavg()[0]:.1f}.")


if __name__ == "__main__":
    main()
