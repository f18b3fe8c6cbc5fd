"""A backtest as a process of its own, from a Parquet file to the last figure: prints seconds, bars, fills, memory."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

BEGAN = time.perf_counter()


def main(path: str) -> None:
    """Read the bars, run the crossing of two averages over them, print."""
    import numpy as np
    import pyarrow.parquet as pq

    from strategies.bar_series import BarSeries
    from tests.performance.backtest_strategies import Cross, spec_of
    from trading.backtest.engine import run_backtest

    def column(name: str) -> Any:
        """Read one column at a time: a whole table would be in memory twice."""
        return pq.read_table(path, columns=[name], use_threads=False).column(0).to_numpy()

    columns = [column(name) for name in ("open", "high", "low", "close", "volume")]
    bars = BarSeries.from_columns("X", "1m", column("ts").astype(np.int64, copy=False), columns)
    result = run_backtest(spec_of(Cross, [bars]))
    spent = time.perf_counter() - BEGAN
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{spent:.3f} {result.bars} {len(result.fills)} {peak:.1f} {result.seconds:.3f}")


if __name__ == "__main__":
    main(sys.argv[1])
