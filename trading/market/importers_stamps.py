"""Turn the times of a file into starts of bars: UTC, or for daily and weekly bars 00:00 UTC of the local day.

Owns: what a written time means, refusing times that mean nothing. Leaves: which column they stand in (``importers``).
Rules: a bare date is a day, wherever it is; a moment without a zone needs one said; a moment that a change of clocks
skips or repeats is refused, never moved.
"""

from __future__ import annotations

import re
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pandas as pd

from strategies.exceptions import ConfigError
from strategies.timeframes import DAY, Timeframe
from trading.market.frames import first_of

_ZONED = re.compile(r"(?:Z|UTC|GMT|[+-]\d{2}:?\d{2})\s*$")
_UNITS = {10: "s", 13: "ms", 16: "us", 19: "ns"}  # digits of an epoch of our time


def read_stamps(
    symbol: str, column: pd.Series[Any], zone: str, calendar: str, wanted: Timeframe | None
) -> pd.DatetimeIndex:
    """Return the starts; rows keep their order.

    Raises: ConfigError (bad_time, naive_time, bad_zone) with the row.
    """
    _check_zone(zone)
    texts = column.map(str) if column.dtype == object else None
    local, is_zoned = _parsed(symbol, column, texts)
    is_daily = wanted.length >= DAY if wanted is not None else bool((local == local.normalize()).all())
    if is_daily:
        return _days(symbol, column, local, is_zoned, zone, calendar)
    if is_zoned:
        moments = pd.DatetimeIndex(pd.to_datetime(texts if texts is not None else column, utc=True, format="mixed"))
    else:
        moments = _placed(symbol, column, local, zone)
    return moments.as_unit("ns").rename("ts")


def _check_zone(zone: str) -> None:
    try:
        if zone:
            ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigError(f"«{zone}» is no time zone; write America/New_York or UTC.", code="bad_zone") from error


def _parsed(symbol: str, column: pd.Series[Any], texts: pd.Series[str] | None) -> tuple[pd.DatetimeIndex, bool]:
    """Return the clock's face of each time, and whether the times carry a zone."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        _refuse_missing(symbol, column, column.isna())
        return pd.DatetimeIndex(column.dt.tz_localize(None)), True
    if texts is None:
        return _plain_times(symbol, column), False
    zoned = texts.str.contains(_ZONED)
    if zoned.any() and not zoned.all():
        row = first_of(zoned != zoned.iloc[0], column.index)
        raise ConfigError(
            f"{symbol}: up to row {row} times either all name a zone or none does; from there on it is otherwise.",
            code="bad_time",
            row=row,
        )
    faces = texts.str.replace(_ZONED, "", regex=True) if zoned.any() else texts
    parsed = pd.to_datetime(faces, errors="coerce", format="mixed")
    _refuse_missing(symbol, column, parsed.isna())
    return pd.DatetimeIndex(parsed), bool(zoned.any())


def _plain_times(symbol: str, column: pd.Series[Any]) -> pd.DatetimeIndex:
    if column.dtype.kind == "M":
        _refuse_missing(symbol, column, column.isna())
        return pd.DatetimeIndex(column)
    if column.dtype.kind in "iu":
        digits = {len(str(abs(int(value)))) for value in (column.iloc[0], column.iloc[-1])}
        if digits == {8}:
            parsed = pd.to_datetime(column.astype(str), format="%Y%m%d", errors="coerce")
            _refuse_missing(symbol, column, parsed.isna())
            return pd.DatetimeIndex(parsed)
        unit = next((unit for size, unit in _UNITS.items() if digits <= {size - 1, size}), "")
        if unit:
            raise ConfigError(
                f"{symbol}: the times are numbers; write them as text or times, such as 2024-01-02 09:30:00-05:00.",
                code="bad_time",
            )
    row = column.index[0]
    raise ConfigError(f"{symbol}: row {row} has no time but {column.iloc[0]!r}.", code="bad_time", row=int(row))


def _refuse_missing(symbol: str, column: pd.Series[Any], missing: pd.Series[bool]) -> None:
    row = first_of(missing, column.index)
    if row is not None:
        raise ConfigError(f"{symbol}: row {row} has no time but {column.loc[row]!r}.", code="bad_time", row=int(row))


def _days(
    symbol: str, column: pd.Series[Any], local: pd.DatetimeIndex, is_zoned: bool, zone: str, calendar: str
) -> pd.DatetimeIndex:
    if is_zoned and zone:  # midnights of another zone: the day is the exchange's
        local = pd.DatetimeIndex(pd.to_datetime(column, utc=True, format="mixed")).tz_convert(zone).tz_localize(None)
    row = first_of(local != local.normalize(), column.index)
    if row is not None:
        raise ConfigError(
            f"{symbol}: row {row} is at {column.loc[row]}, and a daily bar has no time of day. If that is midnight of "
            "the exchange, name its zone with --zone.",
            code="bad_time",
            row=int(row),
        )
    return local.normalize().tz_localize("UTC").as_unit("ns").rename("ts")


def _placed(symbol: str, column: pd.Series[Any], local: pd.DatetimeIndex, zone: str) -> pd.DatetimeIndex:
    if not zone:
        raise ConfigError(
            f"{symbol}: row {column.index[0]} is at {column.iloc[0]}, which names no zone; say which with --zone, such "
            "as --zone America/New_York.",
            code="naive_time",
            row=int(column.index[0]),
        )
    placed = local.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    row = first_of(placed.isna(), column.index)
    if row is not None:
        raise ConfigError(
            f"{symbol}: row {row} is at {column.loc[row]}, which the clocks of {zone} skip or show twice.",
            code="bad_time",
            row=int(row),
        )
    return placed.tz_convert("UTC")
