"""Bars in ArcticDB: ``market_data/<SYMBOL>_<TIMEFRAME>``.

Owns: finding a contract's name, appending closed bars, reading them. Rules: a bar is stamped with the start of its
interval, UTC, and is written once, closed; a bar at or before the last one is already there and is left out. A series
has bars of one contract: where a series names another one, or none, bars of a contract are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import pandas as pd

from portfolio.arctic.client import ArcticClient
from portfolio.arctic.schema import BARS, frame
from portfolio.arctic.writer import ArcticWriter
from strategies.exceptions import ConfigError, ConflictError
from strategies.series_names import Listing, owner_of

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


def series_of(client: ArcticClient, listing: Listing) -> str:
    """Return the name of a contract's series: the one it wishes for, or its own where another contract has that.

    All timeframes of a contract have the same name. A series that names no contract was imported by hand: whose it is
    nobody knows, so it is left as it is.
    """
    if listing.wish != listing.own and any(_is_taken(client, listing, timeframe) for timeframe in TIMEFRAMES):
        return listing.own
    return listing.wish


def _is_taken(client: ArcticClient, listing: Listing, timeframe: str) -> bool:
    name = symbol_name(listing.wish, timeframe)
    return client.has_symbol(LIBRARY, name) and owner_of(client.metadata(LIBRARY, name)) != listing.con_id


def append_bars(
    writer: ArcticWriter, symbol: str, timeframe: str, bars: Sequence[Bar], of: Listing | None = None
) -> int:
    """Append closed bars in any order; return how many were new.

    ``of`` is the contract that they are of; without it the series stays whose it is.
    Raises: ConflictError (series_of_other) when the series does not name that contract.
    """
    name = symbol_name(symbol, timeframe)
    known = _checked(writer.client, name, of)
    last = last_start(writer.client, symbol, timeframe)
    latest = {bar.start: bar for bar in bars}
    fresh = [latest[start] for start in sorted(latest) if last is None or start > last]
    if not fresh:
        return 0
    rows = [{field: getattr(bar, field) for field in BARS} for bar in fresh]
    stamps = [pd.Timestamp(bar.start).tz_convert("UTC").value for bar in fresh]
    said = known if of is None else of.as_metadata()
    writer.append(
        LIBRARY,
        name,
        frame(rows, BARS, stamps),
        {**said, "symbol": symbol, "timeframe": timeframe, "last": stamps[-1]},
    )
    return len(fresh)


def _checked(client: ArcticClient, name: str, of: Listing | None) -> dict[str, Any]:
    """Return what a series says of itself, once it is sure that bars of a contract belong into it."""
    known = client.metadata(LIBRARY, name)
    if of is not None and owner_of(known) != of.con_id and client.has_symbol(LIBRARY, name):
        whose = f"of contract {owner_of(known)}" if owner_of(known) else "of a contract that it does not name"
        raise ConflictError(
            f"The series {name} has bars {whose}; those of {of.symbol} ({of.con_id}) do not belong there.",
            code="series_of_other",
            series=name,
            con_id=of.con_id,
        )
    return known


def write_bars(writer: ArcticWriter, symbol: str, timeframe: str, data: pd.DataFrame, of: Listing | None = None) -> int:
    """Replace a whole series, for imports of history; return its rows.

    ``of`` is the contract that they are of; without it the series names none.
    Shape: index UTC bar starts strictly increasing, columns of ``schema.BARS``.
    Raises: ConfigError when the shape is another; ConflictError as ``append_bars``.
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
    _checked(writer.client, name, of)
    stamp = int(clean.index[-1].value) if len(clean) else 0
    said = {} if of is None else of.as_metadata()
    writer.write(LIBRARY, name, clean, {**said, "symbol": symbol, "timeframe": timeframe, "last": stamp})
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
