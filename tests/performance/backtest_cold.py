"""A backtest as a process of its own, from a Parquet file to the last figure: prints seconds, bars, fills, memory."""

from __future__ import annotations

import sys
import time
from pathlib import Path

BEGAN = time.perf_counter()


def main(path: str) -> None:
    """Read the bars, run the crossing of two averages over them, print."""
    import numpy as np
    import pyarrow.parquet as pq

    from strategies.bar_series import BarSeries
    from tests.performance.backtest_strategies import Cross, spec_of
    from trading.backtest.engine import run_backtest

    file = pq.ParquetFile(path, buffer_size=65_536)
    starts = np.empty(file.metadata.num_rows, dtype=np.int64)
    columns = [np.empty(len(starts), dtype=np.float64) for _ in range(5)]
    for name, column in zip(("ts", "open", "high", "low", "close", "volume"), (starts, *columns), strict=True):
        done = 0
        for batch in file.iter_batches(columns=[name], use_threads=False):  # a whole table would be in memory twice
            column[done : done + batch.num_rows] = batch.column(0).to_numpy(zero_copy_only=False)
            done += batch.num_rows
    bars = BarSeries.from_columns("X", "1m", starts, columns)
    result = run_backtest(spec_of(Cross, [bars]))
    spent = time.perf_counter() - BEGAN
    print(f"{spent:.3f} {result.bars} {len(result.fills)} {most_mb():.1f} {result.seconds:.3f}")


def most_mb() -> float:
    """Return the most memory that this process held, in MB; ``getrusage`` counts its parent's as well."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("the system does not tell how much memory a process held")


if __name__ == "__main__":
    main(sys.argv[1])
