"""Bars in ArcticDB: ``market_data/<SYMBOL>_<TIMEFRAME>``.

Owns: finding a contract's name, appending closed bars, reading them, what a series' metadata says. Rules: a bar is
stamped with the start of its interval, UTC, and is written once, closed; a bar at or before the last one is already
there and is left out. A series has bars of one contract: where it names another one, or none, bars of a contract are
refused.
Metadata: ``symbol``, ``timeframe``, ``last`` (start of the last bar, UTC nanoseconds); where known ``con_id``,
``sec_type`` and ``currency`` of the contract, ``use_rth`` (only regular hours), ``source``, ``split_basis`` (day up to
which the source had applied splits already, absent for prices as they were traded) and ``calendar``
(exchange_calendars' name). Whoever adds rows keeps the other keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from strategies.timeframes import SERIES_SUFFIX
from strategies.timeframes import TIMEFRAMES as IB_TIMEFRAMES

LIBRARY = "market_data"
TIMEFRAMES = tuple(IB_TIMEFRAMES)
ACTIONS = "actions"
_KEPT = ("split_basis", "calendar", "zone", "use_rth")
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
    if timeframe not in TIMEFRAMES and timeframe != ACTIONS:
        raise ConfigError(f"«{timeframe}» is no timeframe; choose one of {', '.join(TIMEFRAMES)}.")
    if not symbol or not symbol.isascii() or _REFUSED & set(symbol):
        raise ConfigError(f"«{symbol}» cannot name a series of bars.", symbol=symbol)
    return f"{symbol}_{timeframe}"


def split_name(name: str) -> tuple[str, str] | None:
    """Return series and timeframe of ArcticDB's name, ``actions`` among them; None when it is no series.

    >>> split_name("BRK B_1_day"), split_name("AAPL_actions"), split_name("notes")
    (('BRK B', '1_day'), ('AAPL', 'actions'), None)
    """
    found = SERIES_SUFFIX.search(name)
    if found is None or not found.start():
        return None
    timeframe = found[0][1:]
    return (name[: found.start()], timeframe) if timeframe in (*TIMEFRAMES, ACTIONS) else None


def merged_metadata(known: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a series' metadata say after rows were added: its scale and its hours stay those that it began with.

    >>> merged_metadata({"use_rth": True}, {"use_rth": False, "split_basis": "2024-01-02", "source": "ib"})
    {'use_rth': True, 'source': 'ib'}
    """
    if not known:
        return dict(asked)
    news = {name: value for name, value in asked.items() if name != "split_basis"}
    kept = {name: known[name] for name in _KEPT if name in known}
    return {**known, **news, **kept}


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
    writer: ArcticWriter,
    symbol: str,
    timeframe: str,
    bars: Sequence[Bar],
    of: Listing | None = None,
    *,
    use_rth: bool | None = None,
) -> int:
    """Append closed bars in any order; return how many were new. A new series notes ``use_rth`` when it is given.

    ``of`` is the contract that they are of; without it the series stays whose it is.
    Raises: ConflictError (series_of_other) when the series does not name that contract.
    """
    name = symbol_name(symbol, timeframe)
    latest = {bar.start: bar for bar in bars}
    with writer.symbol_lock(LIBRARY, name):
        known = _checked(writer.client, name, of)
        last = _moment(known.get("last"))
        fresh = [latest[start] for start in sorted(latest) if last is None or start > last]
        if not fresh:
            return 0
        rows = [{field: getattr(bar, field) for field in BARS} for bar in fresh]
        stamps = [pd.Timestamp(bar.start).tz_convert("UTC").value for bar in fresh]
        hours = {} if use_rth is None else {"use_rth": use_rth}
        said = {} if of is None else of.as_metadata()
        own = {"symbol": symbol, "timeframe": timeframe, "last": stamps[-1]}
        writer.append(LIBRARY, name, frame(rows, BARS, stamps), {**hours, **known, **said, **own})
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
    return _moment(client.metadata(LIBRARY, symbol_name(symbol, timeframe)).get("last"))


def _moment(stamp: int | None) -> datetime | None:
    return pd.Timestamp(stamp, tz="UTC").to_pydatetime() if stamp else None
