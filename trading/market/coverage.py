"""How complete a stored series is against its exchange's calendar: what should be there, what is, where the holes are.

Owns: the bars that a calendar expects of a timeframe, comparing, grouping what is missing. Leaves: calendars
(``calendars``), which series there are (``catalog``), filling (``ingest_ib``).
Rules: expected are the whole intervals of the regular session, aligned to its open, and of days and weeks one each; a
bar that begins outside of regular hours is counted apart and covers nothing. Bars that do not divide half an hour are
cut on the clock by IB (09:30, 10:00, 11:00 …) and from the open by others (09:30, 10:30 …): the grid counts that the
series has more bars on. The bar of a session that is still open is
not expected yet. Missing bars that follow one another on the calendar are one gap, over nights and weekends too.
Shape: moments are int64 epoch nanoseconds UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from strategies.bar_series import Nanos
from strategies.timeframes import DAY, Timeframe
from trading.market.calendars import NO_OVERRIDES, Overrides, build_table, group_of
from trading.market.frames import nanos_of_index
from trading.market.session_table import SECOND_NS, SessionTable, weeks_of

Flags = npt.NDArray[np.bool_]
DAY_NS = 86_400 * SECOND_NS
HALF_HOUR = timedelta(minutes=30)
_WEEK_DAYS = 7
_MONDAY_BEFORE_EPOCH = 3


class Gap(NamedTuple):
    """Bars that are missing one after another: starts of the first and last, and how many."""

    first_ns: int
    last_ns: int
    bars: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """One series against its calendar. ``outside`` counts bars beyond regular hours, ``expected`` those within."""

    expected: int
    present: int
    outside: int
    gaps: Sequence[Gap]
    quality: float | None = None  # per cent, the average of the sessions, each counting the same

    @property
    def percent(self) -> float | None:
        """Return how much of what is expected is there, None when nothing is expected."""
        return None if not self.expected else 100.0 * self.present / self.expected

    @property
    def missing(self) -> int:
        """Return how many bars are missing."""
        return self.expected - self.present


@dataclass(frozen=True, slots=True)
class Hours:
    """Between which times of its zone an exchange may print anything at all."""

    zone: str
    earliest: pd.Timedelta
    latest: pd.Timedelta


def table_of(calendar: str, first: date, last: date, overrides: Overrides = NO_OVERRIDES) -> SessionTable:
    """Return the sessions of a calendar around some days.

    Raises: ConfigError (unknown_exchange, calendar_bounds).
    """
    return build_table(group_of(calendar), first - timedelta(days=7), last + timedelta(days=7), overrides=overrides)


@lru_cache(maxsize=16)
def hours_of(calendar: str) -> Hours:
    """Return the widest hours of an exchange in the last years, pre- and post-market included."""
    table = table_of(calendar, date(2015, 1, 1), date(2024, 12, 31))
    days = pd.DatetimeIndex(table.days.astype("datetime64[ns]"))
    pre, post = (
        pd.DatetimeIndex(edge).tz_localize("UTC").tz_convert(table.zone).tz_localize(None) - days
        for edge in (table.pre, table.post)
    )
    return Hours(table.zone, pre.min(), post.max())


def trading_days(calendar: str, first: pd.Timestamp, last: pd.Timestamp) -> pd.DatetimeIndex:
    """Return the trading days between two, naive midnights."""
    table = table_of(calendar, first.date(), last.date())
    return pd.DatetimeIndex(table.days.astype("datetime64[ns]"))


def expected_starts(
    table: SessionTable, frame: Timeframe, first_ns: int, last_ns: int, *, by_clock: bool = False
) -> Nanos:
    """Return the starts of the bars that a series from ``first_ns`` to ``last_ns`` should have, both ends included."""
    if frame.is_intraday:
        cut = _by_clock if by_clock else _intraday
        found = cut(table, pd.Timedelta(frame.length).value)
    elif frame.length == DAY:
        found = table.days.astype("datetime64[ns]").astype(np.int64)
    else:
        weeks = np.unique(weeks_of(table.days))
        found = (weeks * _WEEK_DAYS - _MONDAY_BEFORE_EPOCH) * DAY_NS
    return found[(found >= first_ns) & (found <= last_ns)]


def _intraday(table: SessionTable, step: int) -> Nanos:
    counts = -(-(table.segment_closes - table.segment_opens) // step)
    if not len(counts):
        return np.empty(0, dtype=np.int64)
    firsts = np.repeat(np.cumsum(counts) - counts, counts)
    place = np.arange(int(counts.sum()), dtype=np.int64) - firsts
    starts: Nanos = np.repeat(table.segment_opens, counts) + place * step
    return starts


def _by_clock(table: SessionTable, step: int) -> Nanos:
    """Return starts cut from local midnight; the first of a stretch begins with it."""
    days = pd.DatetimeIndex(table.days[table.segment_sessions].astype("datetime64[ns]"))
    midnights = nanos_of_index(days.tz_localize(table.zone).tz_convert("UTC"))
    begins = midnights + (table.segment_opens - midnights) // step * step
    found = [
        np.maximum(np.arange(begin, closes, step, dtype=np.int64), opens)
        for begin, opens, closes in zip(begins, table.segment_opens, table.segment_closes, strict=True)
    ]
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def measure(
    starts: Nanos, table: SessionTable, frame: Timeframe, first_ns: int | None = None, last_ns: int | None = None
) -> Coverage:
    """Compare a series with its calendar, between its own ends or those given.

    Shape: ``starts`` sorted.
    """
    if not len(starts) and (first_ns is None or last_ns is None):
        return Coverage(0, 0, 0, ())
    begin = int(starts[0]) if first_ns is None else first_ns
    end = int(starts[-1]) if last_ns is None else last_ns
    expected = expected_starts(table, frame, begin, end)
    is_there = np.isin(expected, starts, assume_unique=True)
    if frame.is_intraday and HALF_HOUR % frame.length:
        by_clock = expected_starts(table, frame, begin, end, by_clock=True)
        on_clock = np.isin(by_clock, starts, assume_unique=True)
        if on_clock.sum() > is_there.sum():
            expected, is_there = by_clock, on_clock
    present = int(is_there.sum())
    own = int(np.count_nonzero((starts >= begin) & (starts <= end)))
    return Coverage(
        len(expected), present, own - present, _gaps(expected, ~is_there), _quality(table, expected, is_there)
    )


def _quality(table: SessionTable, expected: Nanos, is_there: Flags) -> float | None:
    if not len(expected):
        return None
    sessions = np.unique(table.sessions_at(expected), return_inverse=True)[1]
    shares = np.bincount(sessions, weights=is_there.astype(np.float64)) / np.bincount(sessions)
    return float(100.0 * shares.mean())


def _gaps(expected: Nanos, missing: Flags) -> list[Gap]:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], missing, [False])).astype(np.int8)))
    return [
        Gap(int(expected[begin]), int(expected[stop - 1]), int(stop - begin))
        for begin, stop in zip(edges[::2], edges[1::2], strict=True)
    ]
