"""How complete bars are: per session, over days of history, and of derived bars.

Owns: what is expected and what counts. Leaves: where bars are kept, who is warned (``session_data``, strategies). Pure.
Rule: quality is min(100, there ÷ expected · 100). Expected are the whole intervals from the open to now, the close at
the latest; there counts distinct stamps of whole intervals within regular hours, so that a bar before the open, or a
stamp between two minutes, hides no missing one. Before the open nothing is expected, which is 100.
"""

from __future__ import annotations

from datetime import date

import numpy as np

from strategies.bar_series import Floats, Nanos
from strategies.intervals import Interval
from trading.market.derived import on_grid
from trading.market.session_table import SECOND_NS, Indices, SessionTable, weeks_of

FULL = 100.0


def quality_of(there: int, expected: int) -> float:
    """Return the share in per cent, 100 where nothing is expected."""
    return min(FULL, there * FULL / expected) if expected > 0 else FULL


def expected_bars(table: SessionTable, interval: Interval, session: int, now_ns: int) -> int:
    """Return how many whole intervals of a session are over at a moment."""
    if session < 0:
        return 0
    length = interval.seconds * SECOND_NS
    return sum(max(0, min(now_ns, closes) - opens) // length for opens, closes in table.segments_of(session))


def expected_starts(table: SessionTable, interval: Interval, session: int, now_ns: int) -> Nanos:
    """Return the stamps of the whole intervals of a session that are over at a moment."""
    length = interval.seconds * SECOND_NS
    parts = [
        opens + np.arange(max(0, min(now_ns, closes) - opens) // length, dtype=np.int64) * length
        for opens, closes in (table.segments_of(session) if session >= 0 else ())
    ]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def running_counts(starts: Nanos, interval: Interval, table: SessionTable) -> Indices:
    """Return, at each bar, how many bars of its session count up to it.

    Shape: as long as ``starts``; days and weeks count one a bar.
    """
    if not interval.is_intraday:
        return np.arange(1, len(starts) + 1, dtype=np.int64)
    if not len(starts):
        return np.empty(0, dtype=np.int64)
    rows, _ = on_grid(starts, interval, table)
    counts = np.zeros(len(starts), dtype=np.int64)
    counts[rows] = 1
    total = np.cumsum(counts)
    sessions = table.sessions_at(starts)
    first = np.flatnonzero(np.concatenate(([True], sessions[1:] != sessions[:-1])))
    before = total[first] - counts[first]
    return total - np.repeat(before, np.diff(np.append(first, len(starts))))


def counts_as_bar(start_ns: int, interval: Interval, table: SessionTable) -> bool:
    """Tell whether one stamp is that of a whole interval within regular hours."""
    if not interval.is_intraday:
        return True
    segment = table.segment_at(start_ns)
    if segment < 0:
        return False
    opens, closes = table.segment(segment)
    length = interval.seconds * SECOND_NS
    return (start_ns - opens) % length == 0 and start_ns + length <= closes


def day_qualities(starts: Nanos, interval: Interval, table: SessionTable, first: date, last: date) -> Floats:
    """Return the quality of each trading day between two days, both included, as of its close.

    Shape: one value a trading day; days of a longer interval are 100 or 0.
    """
    low, high = np.searchsorted(table.days, [np.datetime64(first, "D"), np.datetime64(last, "D") + 1])
    if not interval.is_intraday:
        return np.isin(table.days[low:high], table.dates_of(starts)).astype(np.float64) * FULL
    rows, segments = on_grid(starts, interval, table)
    sessions = table.segment_sessions[segments[rows]] if len(rows) else np.empty(0, dtype=np.int64)
    there = np.bincount(sessions[(sessions >= low) & (sessions < high)] - low, minlength=int(high - low))
    expected = [expected_bars(table, interval, n, int(table.closes[n])) for n in range(low, high)]
    return np.array([quality_of(int(a), b) for a, b in zip(there, expected, strict=True)], dtype=np.float64)


def history_quality(starts: Nanos, interval: Interval, table: SessionTable, first: date, last: date) -> float:
    """Return the quality of a window of history: the mean of its days'; of daily bars days ÷ trading days.

    100 for a window without trading days. Of the weeks those count that end within it.
    """
    low, high = np.searchsorted(table.days, [np.datetime64(first, "D"), np.datetime64(last, "D") + 1])
    if interval.unit == "w":
        wanted = finished_weeks(table, int(low), int(high))
        return quality_of(int(np.isin(wanted, weeks_of(table.dates_of(starts))).sum()), len(wanted))
    found = day_qualities(starts, interval, table, first, last)
    return float(found.mean()) if len(found) else FULL


def finished_weeks(table: SessionTable, first: int, end: int) -> Indices:
    """Return the ISO weeks of the sessions [first, end) whose last session lies among them."""
    weeks = np.unique(table.weeks[first:end])
    unfinished = len(weeks) and end < len(table) and table.weeks[end] == weeks[-1]
    return weeks[:-1] if unfinished else weeks
