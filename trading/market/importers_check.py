"""Refuse bars that no market prints, or that do not lie where they say, before anything is stored.

Owns: order, doubles, numbers, step, trading hours; each refusal names the row. Leaves: reading (``importers``).
Rule: nothing is mended here: a wrong bar would become a wrong fill, and a mended one a wrong belief.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from strategies.bar_series import check_columns
from strategies.exceptions import ConfigError
from strategies.timeframes import DAY, TIMEFRAMES, Timeframe
from trading.market.coverage import hours_of, trading_days
from trading.market.frames import nanos_of_index

FEW = 10  # bars; so few may all stand apart by chance


def infer_timeframe(symbol: str, index: pd.DatetimeIndex) -> Timeframe:
    """Return the timeframe whose length is the smallest step between bars.

    Raises: ConfigError (unknown_timeframe) when it is none, or there are too few bars to tell.
    """
    if len(index) < 2:
        raise ConfigError(f"{symbol}: one bar does not tell how long it is; say --timeframe.", code="unknown_timeframe")
    steps = np.abs(np.diff(nanos_of_index(index)))
    step = int(steps[steps > 0].min(initial=pd.Timedelta(DAY).value * 8))
    for frame in TIMEFRAMES.values():
        if pd.Timedelta(frame.length).value == step:
            return frame
    if pd.Timedelta(DAY).value <= step < pd.Timedelta(DAY).value * 7:  # days with holes between them
        return TIMEFRAMES["1_day"]
    raise ConfigError(
        f"{symbol}: the bars stand {pd.Timedelta(step)} apart, which is no timeframe; say --timeframe.",
        code="unknown_timeframe",
    )


def check_bars(symbol: str, frame: Timeframe, bars: pd.DataFrame, rows: npt.NDArray[Any], calendar: str) -> None:
    """Refuse what cannot be.

    ``rows``: the number of each bar's row in the file.
    Raises: ConfigError (bad_bars, outside_hours) with the row.
    """
    starts = nanos_of_index(bars.index)
    columns = [bars[name].to_numpy() for name in ("open", "high", "low", "close", "volume")]
    try:
        check_columns(symbol, frame.key, starts, columns)
    except ConfigError as error:
        row = error.fields.get("row")
        if row is None:
            raise
        text = error.message.replace(f"(row {row})", f"(row {rows[row]})")
        raise ConfigError(text, code="bad_bars", row=int(rows[row])) from error
    prices = np.column_stack(columns[:4])
    if len(prices) and (prices <= 0).any():
        row = int(np.flatnonzero((prices <= 0).any(axis=1))[0])
        raise ConfigError(
            f"{symbol}: row {rows[row]} has a price that is not above 0.", code="bad_bars", row=int(rows[row])
        )
    if calendar and len(bars) and frame.length <= DAY:
        _check_hours(symbol, frame, pd.DatetimeIndex(bars.index), rows, calendar)


def _check_hours(symbol: str, frame: Timeframe, index: pd.DatetimeIndex, rows: npt.NDArray[Any], calendar: str) -> None:
    hours = hours_of(calendar)
    local = index.tz_localize(None) if frame.length == DAY else index.tz_convert(hours.zone).tz_localize(None)
    days = local.normalize()
    is_open = np.isin(nanos_of_index(days), nanos_of_index(trading_days(calendar, days.min(), days.max())))
    if frame.is_intraday:
        face = local - days
        is_open &= np.asarray((face >= hours.earliest) & (face < hours.latest))
    wrong = np.flatnonzero(~is_open)
    if not len(wrong):
        return
    row, when = int(rows[wrong[0]]), local[wrong[0]]
    many = f", as {len(wrong) - 1} more are" if len(wrong) > 1 else ""
    raise ConfigError(
        f"{symbol}: row {row} is at {when:%Y-%m-%d %H:%M} in {hours.zone}, when {calendar} does not trade{many}. Is "
        "the zone right? For another exchange say --calendar, for none --calendar none.",
        code="outside_hours",
        row=row,
        count=len(wrong),
    )


def check_step(symbol: str, frame: Timeframe, index: pd.DatetimeIndex) -> None:
    """Refuse bars that are closer together, or all farther apart, than their timeframe says.

    Raises: ConfigError (wrong_timeframe).
    """
    steps, length = np.diff(nanos_of_index(index)), pd.Timedelta(frame.length).value
    if not len(steps):
        return
    # A week that begins at another day stands apart by days; a day of another length does not.
    closest = int(steps.min())
    if closest < length and frame.is_intraday:
        row = int(np.argmin(steps)) + 2
        raise ConfigError(
            f"{symbol}: bar {row} begins {pd.Timedelta(closest)} after the one before: these are no {frame.key} bars.",
            code="wrong_timeframe",
        )
    if closest > length and len(index) >= FEW:
        raise ConfigError(
            f"{symbol}: the bars stand {pd.Timedelta(closest)} apart: these are no {frame.key} bars.",
            code="wrong_timeframe",
        )
