"""The shipped minute bars, in ArcticDB for notebooks and backtests: library ``sample``, symbols like ``SPY_1_min``.

They have a library of their own because ``market_data/SPY_1_min`` is topped up to the present from IB, and six years
would lie between the last sample bar and the first one asked for.
Source and licence: ``trading/market/sample/README.md``.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from portfolio.arctic.market_data import symbol_name
from portfolio.arctic.schema import BARS
from portfolio.arctic.writer import ArcticWriter
from strategies.exceptions import ConfigError

LIBRARY = "sample"
TIMEFRAME = "1_min"
SAMPLE_FILE = Path(__file__).resolve().parent / "sample" / "us_etf_1min_2019-12_2020-01.parquet"


def read_sample() -> dict[str, pd.DataFrame]:
    """Return the bars by symbol.

    Shape: index ``ts`` UTC starts of minutes, strictly increasing; columns of ``schema.BARS``, float64.
    Raises: ConfigError when the file is missing or has other columns.
    """
    try:
        bars = pd.read_parquet(SAMPLE_FILE)
        bars["ts"] = pd.to_datetime(bars["ts"], utc=True)
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(f"The sample bars cannot be read from {SAMPLE_FILE.name}: {error}") from error
    return {
        str(symbol): rows.set_index("ts").sort_index()[list(BARS)].astype("float64")
        for symbol, rows in bars.groupby("symbol")
    }


def load_sample_bars() -> dict[str, int]:
    """Write the sample into ArcticDB where it is missing; return the rows written, by symbol.

    Raises: ConfigError for an unusable file, TransientError when another process writes or the store cannot be used.
    """
    writer = ArcticWriter()
    if writer.client.has_symbol(LIBRARY, symbol_name("SPY", TIMEFRAME)):
        return {}
    written = {}
    try:
        # SPY last: its presence says that the whole sample is there, also after an interruption.
        for symbol, rows in sorted(read_sample().items(), key=lambda item: item[0] == "SPY"):
            rows.index = pd.DatetimeIndex(rows.index).as_unit("ns").rename("ts")
            writer.write(LIBRARY, symbol_name(symbol, TIMEFRAME), rows, {"symbol": symbol, "timeframe": TIMEFRAME})
            written[symbol] = len(rows)
    finally:
        writer.close()
    return written
