"""Longer bars from shorter ones: over whole columns at once, or bar by bar as they come.

Owns: windows, completeness, both ways. Leaves: which intervals are derived, where bars are kept. Pure.
Rule: windows within a session are aligned to its open (60m from 09:30), and to the end of its break. A window needs its
exact full set of source bars, else there is no bar: one that reaches over the close never comes.
A day is made of its regular bars; the first and the last must be there, because open and close would be wrong without,
single ones between may be missing (nothing traded), and early closes are shorter. A week needs all its trading days.
First open, highest high, lowest low, last close, summed volume; stamped with the start of the first source bar.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from strategies.bar_series import Bar, Floats, Nanos
from strategies.exceptions import ConfigError
from strategies.intervals import Interval, parse_interval
from trading.market.session_table import SECOND_NS, Indices, SessionTable, weeks_of

Columns = tuple[Floats, ...]
TableOf = Callable[[], SessionTable]
DAY, WEEK = parse_interval("1d"), parse_interval("1w")


class Deriver(Protocol):
    """Makes longer bars of bars that come one by one."""

    def step(self, bar: Bar) -> Bar | None:
        """Take the next source bar; return a derived bar when it completes one."""


def check_derivable(source: Interval, target: Interval) -> None:
    """Refuse a pair of intervals of which one cannot be made of the other.

    Raises: ConfigError (not_derivable).
    """
    if source.is_intraday and target.is_intraday:
        fits = target.seconds > source.seconds and target.seconds % source.seconds == 0
    elif source.is_intraday:
        fits = target in (DAY, WEEK)
    else:
        fits = (source, target) == (DAY, WEEK)
    if not fits:
        raise ConfigError(
            f"{target.text} bars cannot be made of {source.text} bars: within a session the shorter length must divide "
            "the longer, beyond it only 1d and 1w are made.",
            code="not_derivable",
            source=source.text,
            target=target.text,
        )


def derive(
    starts: Nanos, columns: Sequence[Floats], source: Interval, target: Interval, table: SessionTable
) -> tuple[Nanos, Columns]:
    """Return all longer bars that the shorter ones make up.

    Shape: ``columns`` open, high, low, close, volume, as long as ``starts``; so are the results.
    Raises: ConfigError (not_derivable).
    """
    check_derivable(source, target)
    if target == DAY:
        return _days(starts, tuple(columns), source, table)
    if target == WEEK:
        if source.is_intraday:
            starts, columns = _days(starts, tuple(columns), source, table)
        return _weeks(starts, tuple(columns), table)
    return _windows(starts, tuple(columns), source, target, table)


def on_grid(starts: Nanos, interval: Interval, table: SessionTable) -> tuple[Indices, Indices]:
    """Return the rows of bars that are whole intervals of an open stretch, and every bar's stretch, -1 for none."""
    segments = table.segments_at(starts)
    if not len(table.segment_opens):
        return np.empty(0, dtype=np.int64), segments
    length = interval.seconds * SECOND_NS
    fits = (
        (segments >= 0)
        & ((starts - table.segment_opens[segments]) % length == 0)
        & (starts + length <= table.segment_closes[segments])
    )
    return np.flatnonzero(fits), segments


def _windows(
    starts: Nanos, columns: Columns, source: Interval, target: Interval, table: SessionTable
) -> tuple[Nanos, Columns]:
    rows, segments = on_grid(starts, source, table)
    at, segment = starts[rows], segments[rows]
    length, parts = target.seconds * SECOND_NS, target.seconds // source.seconds
    opens = table.segment_opens[segment]
    window = opens + (at - opens) // length * length
    first = np.flatnonzero(at == window)
    last = first + parts - 1
    # Starts rise strictly and lie on the grid, so the right bar in the right place means that all between are there;
    # and as each source bar ends before the close, so does the window.
    inside = last < len(at)
    first, last = first[inside], last[inside]
    full = at[last] == at[first] + length - source.seconds * SECOND_NS
    first, last = first[full], last[full]
    open_, high, low, close, volume = (column[rows] for column in columns)
    highs, lows, total = high[first], low[first], volume[first].copy()
    for part in range(1, parts):
        highs, lows = np.maximum(highs, high[first + part]), np.minimum(lows, low[first + part])
        total += volume[first + part]
    return at[first], (open_[first], highs, lows, close[last], total)


def _days(starts: Nanos, columns: Columns, source: Interval, table: SessionTable) -> tuple[Nanos, Columns]:
    rows, segments = on_grid(starts, source, table)
    if not len(rows):
        return _nothing()
    at = starts[rows]
    sessions = table.segment_sessions[segments[rows]]
    first = np.flatnonzero(np.concatenate(([True], sessions[1:] != sessions[:-1])))
    last = np.concatenate((first[1:], [len(at)])) - 1
    edges = np.array([day_edges(table, int(one), source) for one in sessions[first]], dtype=np.int64).reshape(-1, 2)
    full = (at[first] == edges[:, 0]) & (at[last] == edges[:, 1])
    return _grouped(at, tuple(column[rows] for column in columns), first[full], last[full])


def _weeks(starts: Nanos, columns: Columns, table: SessionTable) -> tuple[Nanos, Columns]:
    dates = table.dates_of(starts)
    rows = np.flatnonzero(np.isin(dates, table.days))
    if not len(rows):
        return _nothing()
    weeks = weeks_of(dates[rows])
    first = np.flatnonzero(np.concatenate(([True], weeks[1:] != weeks[:-1])))
    last = np.concatenate((first[1:], [len(rows)])) - 1
    full = last - first + 1 == days_in_week(table, weeks[first])
    return _grouped(starts[rows], tuple(column[rows] for column in columns), first[full], last[full])


def day_edges(table: SessionTable, session: int, source: Interval) -> tuple[int, int]:
    """Return the starts of the first and of the last whole source bar of a session; (-1, -1) when it has none."""
    length = source.seconds * SECOND_NS
    whole = [
        (opens, opens + ((closes - opens) // length - 1) * length)
        for opens, closes in table.segments_of(session)
        if closes - opens >= length
    ]
    return (whole[0][0], whole[-1][1]) if whole else (-1, -1)


def days_in_week(table: SessionTable, weeks: Indices) -> Indices:
    """Return how many trading days each ISO week has; beyond the table's ends more than any bars could fill."""
    low, high = np.searchsorted(table.weeks, weeks), np.searchsorted(table.weeks, weeks, side="right")
    ends = weeks_of(np.array([table.first_day, table.last_day], dtype="datetime64[D]"))
    return np.where((weeks > ends[0]) & (weeks < ends[1]), high - low, 8)


def _grouped(at: Nanos, columns: Columns, first: Indices, last: Indices) -> tuple[Nanos, Columns]:
    open_, high, low, close, volume = columns
    stretches = [slice(a, b + 1) for a, b in zip(first.tolist(), last.tolist(), strict=True)]
    return at[first], (
        open_[first],
        np.array([high[one].max() for one in stretches], dtype=np.float64),
        np.array([low[one].min() for one in stretches], dtype=np.float64),
        close[last],
        np.array([np.cumsum(volume[one])[-1] for one in stretches], dtype=np.float64),  # added in order, as in steps
    )


def _nothing() -> tuple[Nanos, Columns]:
    return np.empty(0, dtype=np.int64), tuple(np.empty(0) for _ in range(5))


# -- bar by bar


def make_deriver(source: Interval, target: Interval, table: TableOf) -> Deriver:
    """Return what makes bars of ``target`` of those of ``source``; ``table`` is asked for the calendar at each bar.

    Raises: ConfigError (not_derivable).
    """
    check_derivable(source, target)
    if target == DAY:
        return _DaySteps(source, table)
    if target == WEEK:
        weeks = _WeekSteps(table)
        return _Chain(_DaySteps(source, table), weeks) if source.is_intraday else weeks
    return _WindowSteps(source, target, table)


class _Sum:
    """Bars on their way to be one."""

    def __init__(self, bar: Bar) -> None:
        self.start_ns, self.open = bar.start_ns, bar.open
        self.high, self.low, self.close, self.volume = bar.high, bar.low, bar.close, bar.volume
        self.parts = 1

    def add(self, bar: Bar) -> None:
        self.high, self.low = max(self.high, bar.high), min(self.low, bar.low)
        self.close = bar.close
        self.volume += bar.volume
        self.parts += 1

    def bar(self) -> Bar:
        return Bar(self.start_ns, self.open, self.high, self.low, self.close, self.volume)


class _WindowSteps:
    def __init__(self, source: Interval, target: Interval, table: TableOf) -> None:
        self._step, self._length = source.seconds * SECOND_NS, target.seconds * SECOND_NS
        self._parts = target.seconds // source.seconds
        self._table = table
        self._sum: _Sum | None = None

    def step(self, bar: Bar) -> Bar | None:
        table = self._table()
        segment = table.segment_at(bar.start_ns)
        if segment < 0:
            return None
        opens, closes = table.segment(segment)
        since = bar.start_ns - opens
        if since % self._step or bar.start_ns + self._step > closes:
            return None
        if since % self._length == 0:
            self._sum = _Sum(bar)
        elif self._sum is not None and bar.start_ns == self._sum.start_ns + self._sum.parts * self._step:
            self._sum.add(bar)
        else:
            self._sum = None
        if self._sum is None or self._sum.parts < self._parts:
            return None
        done, self._sum = self._sum.bar(), None
        return done


class _DaySteps:
    def __init__(self, source: Interval, table: TableOf) -> None:
        self._source, self._step, self._table = source, source.seconds * SECOND_NS, table
        self._sum: _Sum | None = None
        self._edges = (-1, -1)

    def step(self, bar: Bar) -> Bar | None:
        table = self._table()
        segment = table.segment_at(bar.start_ns)
        if segment < 0:
            return None
        opens, closes = table.segment(segment)
        if (bar.start_ns - opens) % self._step or bar.start_ns + self._step > closes:
            return None
        if not self._edges[0] <= bar.start_ns <= self._edges[1]:
            self._edges = day_edges(table, int(table.segment_sessions[segment]), self._source)
            self._sum = _Sum(bar) if bar.start_ns == self._edges[0] else None
        elif self._sum is not None:
            self._sum.add(bar)
        if bar.start_ns != self._edges[1] or self._sum is None:
            return None
        done, self._sum = self._sum.bar(), None
        return done


class _WeekSteps:
    def __init__(self, table: TableOf) -> None:
        self._table = table
        self._week = -1
        self._sum: _Sum | None = None

    def step(self, bar: Bar) -> Bar | None:
        table = self._table()
        date = table.dates_of(np.array([bar.start_ns], dtype=np.int64))
        if not np.isin(date, table.days)[0]:
            return None
        week = weeks_of(date)
        if self._sum is None or week[0] != self._week:
            self._week, self._sum = int(week[0]), _Sum(bar)
        else:
            self._sum.add(bar)
        return self._sum.bar() if self._sum.parts == days_in_week(table, week)[0] else None


class _Chain:
    def __init__(self, first: Deriver, second: Deriver) -> None:
        self._first, self._second = first, second

    def step(self, bar: Bar) -> Bar | None:
        made = self._first.step(bar)
        return None if made is None else self._second.step(made)
