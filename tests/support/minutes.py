"""Minute bars of New York for tests of market data: days, clocks and columns to write them with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np

from strategies.bar_series import Bar, BarSeries, Floats, Nanos, nanos_of
from trading.market.calendars import build_table
from trading.market.sample_data import read_sample
from trading.market.session_table import SessionTable
from trading.market.time_manager import TimeManager

NEW_YORK = ZoneInfo("America/New_York")
MONDAY, TUESDAY, WEDNESDAY = date(2019, 12, 2), date(2019, 12, 3), date(2019, 12, 4)
BLACK_FRIDAY = date(2019, 11, 29)
MINUTE = 60_000_000_000


def at(day: date, hour: int, minute: int = 0, second: int = 0) -> int:
    """A moment of New York in epoch nanoseconds."""
    return nanos_of(datetime(day.year, day.month, day.day, hour, minute, second, tzinfo=NEW_YORK))


@cache
def table() -> SessionTable:
    """The sessions of New York around the days of these tests."""
    return build_table("US_EQUITY", date(2019, 1, 1), date(2020, 12, 31))


def clock(now_ns: int) -> TimeManager:
    """A backtest's clock that stands somewhere."""
    made = TimeManager("backtest")
    made.set_time_ns(now_ns)
    return made


def bar(start_ns: int, close: float = 100.0, volume: float = 10.0) -> Bar:
    """A bar around a close."""
    return Bar(start_ns, close - 0.25, close + 0.5, close - 0.5, close, volume)


def minutes(day: date, first: int, last: int, *, without: Iterable[int] = (), base: float = 100.0) -> list[Bar]:
    """Minutes [first, last) of a session, counted from its open; each closes a cent above the one before."""
    opens, left_out = at(day, 9, 30), set(without)
    return [bar(opens + n * MINUTE, base + n / 100, 10.0 + n % 7) for n in range(first, last) if n not in left_out]


def columns_of(bars: Sequence[Bar]) -> tuple[Nanos, tuple[Floats, ...]]:
    """Bars as columns."""
    if not bars:
        return np.empty(0, dtype=np.int64), tuple(np.empty(0) for _ in range(5))
    starts, *columns = zip(*bars, strict=True)
    return np.array(starts, dtype=np.int64), tuple(np.array(one, dtype=np.float64) for one in columns)


def series_of(symbol: str, interval: str, bars: Sequence[Bar], count: int = 0) -> BarSeries:
    """Bars laid out."""
    starts, columns = columns_of(bars)
    return BarSeries.from_columns(symbol, interval, starts, columns, count)


@cache
def real_minutes(symbol: str) -> list[Bar]:
    """The shipped minutes of a fund."""
    frame = read_sample()[symbol]
    starts = [stamp.value for stamp in frame.index]
    return [Bar(start, *row) for start, row in zip(starts, frame.to_numpy().tolist(), strict=True)]
