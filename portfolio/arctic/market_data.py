"""Bars in ArcticDB: ``market_data/<SYMBOL>_<TIMEFRAME>``.

Owns: names, appending closed bars, reading them. Rule: a bar is stamped with the start of its interval, UTC, and is
written once, closed; a bar at or before the last one is already there and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import pandas as pd

from portfolio.arctic.client import ArcticClient
from portfolio.arctic.schema import BARS, frame
from portfolio.arctic.writer import ArcticWriter
from strategies.exceptions import ConfigError

LIBRARY = "market_data"
TIMEFRAMES = ("5_secs", "1_min", "5_min", "15_min", "30_min", "1_hour", "1_day")
_REFUSED = set("*<>/\\")


@dataclass(frozen=True, slots=True)
class Bar:
    """One closed bar; ``start`` aware UTC."""

    start: datetime
    open: Decimal | float
    high: Decimal | float
    low: Decimal | float
    close: Decimal | float
    volume: Decimal | float


def symbol_name(symbol: str, timeframe: str) -> str:
    """Return ArcticDB's name of a series.

    >>> symbol_name("AAPL", "1_min")
    'AAPL_1_min'

    Raises: ConfigError for an unknown timeframe or a name that ArcticDB refuses.
    """
    if timeframe not in TIMEFRAMES:
        raise ConfigError(f"«{timeframe}» is no timeframe; choose one of {', '.join(TIMEFRAMES)}.")
    if not symbol or not symbol.isascii() or _REFUSED & set(symbol):
        raise ConfigError(f"«{symbol}» cannot name a series of bars.", symbol=symbol)
    return f"{symbol}_{timeframe}"


def append_bars(writer: ArcticWriter, symbol: str, timeframe: str, bars: Sequence[Bar]) -> int:
    """Append closed bars in any order; return how many were new."""
    name = symbol_name(symbol, timeframe)
    last = last_start(writer.client, symbol, timeframe)
    latest = {bar.start: bar for bar in bars}
    fresh = [latest[start] for start in sorted(latest) if last is None or start > last]
    if not fresh:
        return 0
    rows = [{field: getattr(bar, field) for field in BARS} for bar in fresh]
    stamps = [pd.Timestamp(bar.start).tz_convert("UTC").value for bar in fresh]
    writer.append(
        LIBRARY, name, frame(rows, BARS, stamps), {"symbol": symbol, "timeframe": timeframe, "last": stamps[-1]}
    )
    return len(fresh)


def write_bars(writer: ArcticWriter, symbol: str, timeframe: str, data: pd.DataFrame) -> int:
    """Replace a whole series, for imports of history; return its rows.

    Shape: index UTC bar starts strictly increasing, columns of ``schema.BARS``.
    Raises: ConfigError when the shape is another.
    """
    name = symbol_name(symbol, timeframe)
    missing = [column for column in BARS if column not in data.columns]
    index = data.index
    if missing or not isinstance(index, pd.DatetimeIndex) or index.tz is None:
        raise ConfigError(f"Bars of {symbol} need a UTC time index and the columns {', '.join(BARS)}.")
    if not index.is_monotonic_increasing or index.has_duplicates:
        raise ConfigError(f"Bars of {symbol} must be sorted by start, without duplicates.")
    clean = data[list(BARS)].astype("float64")
    clean.index = index.tz_convert("UTC").as_unit("ns").rename("ts")
    stamp = int(clean.index[-1].value) if len(clean) else 0
    writer.write(LIBRARY, name, clean, {"symbol": symbol, "timeframe": timeframe, "last": stamp})
    return len(clean)


def read_bars(
    client: ArcticClient,
    symbol: str,
    timeframe: str,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int | None = None,
) -> pd.DataFrame:
    """Read bars that start in [start, end], or the last ``limit``; an unknown series is an empty frame.

    Shape: index ``ts`` UTC bar starts, columns of ``schema.BARS``.
    """
    name = symbol_name(symbol, timeframe)
    if not client.has_symbol(LIBRARY, name):
        return frame([], BARS, [])
    if limit is not None and start is None and end is None:
        newest: pd.DataFrame = client.tail(LIBRARY, name, limit).data
        return newest
    data: pd.DataFrame = client.read(LIBRARY, name, date_range=(start, end) if start or end else None).data
    return data if limit is None else data.tail(limit)


def last_start(client: ArcticClient, symbol: str, timeframe: str) -> datetime | None:
    """Return the start of the last stored bar, None when there is none."""
    stamp = client.metadata(LIBRARY, symbol_name(symbol, timeframe)).get("last")
    return pd.Timestamp(stamp, tz="UTC").to_pydatetime() if stamp else None
