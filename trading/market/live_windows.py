"""Windows of live bars: where an interval begins and ends, and closed bars out of shorter ones. Pure.

Owns: the window that a moment lies in, building a window's bar from consecutive parts, how complete today is.
Leaves: lines, history and who listens (``live_bars``), sessions (``session_table``).
Rule: windows are those of derived bars everywhere (``derived``): aligned to the open of the session's stretch, none
that reaches over its close. Outside of regular hours, where that is asked for, they are aligned to the clock. A bar
closes only when every part of its window was there, one after the other: what lacks a part is fetched from history.
"""

from __future__ import annotations

import numpy as np

from strategies.bar_series import Bar, Nanos
from strategies.intervals import Interval
from trading.market.quality import expected_starts, quality_of
from trading.market.session_table import SECOND_NS, SessionTable

Window = tuple[int, int]  # start and end, epoch nanoseconds UTC
FIVE_SECONDS_NS = 5 * SECOND_NS
DAYS_LOOKED_AT = 20


def window_at(nanos: int, interval: Interval, table: SessionTable, *, regular_hours: bool) -> Window | None:
    """Return the window of an intraday interval that a moment lies in; None outside of the hours that count."""
    length = interval.seconds * SECOND_NS
    segment = table.segment_at(nanos)
    if segment < 0:
        start = nanos - nanos % length
        return None if regular_hours else (start, start + length)
    opens, closes = int(table.segment_opens[segment]), int(table.segment_closes[segment])
    start = opens + (nanos - opens) // length * length
    return None if start + length > closes else (start, start + length)


class WindowBuilder:
    """Builds the bars of one interval from parts of equal length, which come in order."""

    def __init__(self, part_ns: int = FIVE_SECONDS_NS) -> None:
        self._part_ns = part_ns
        self._window: Window | None = None
        self._bar: Bar | None = None
        self._next_ns = 0
        self._is_whole = False

    def add(self, part: Bar, window: Window) -> tuple[Bar | None, bool]:
        """Take a part of a window; return the bar that it closes, and whether a window ended without one."""
        missed = False
        if window != self._window:
            missed = self._window is not None  # a window that closed leaves None behind
            self._begin(part, window)
        elif self._bar is not None:
            self._is_whole = self._is_whole and part.start_ns == self._next_ns
            self._bar = _joined(self._bar, part)
        self._next_ns = part.start_ns + self._part_ns
        if self._next_ns < window[1]:
            return None, missed
        bar, whole = self._bar, self._is_whole
        self._window = self._bar = None
        return (bar, missed) if whole else (None, True)

    def _begin(self, part: Bar, window: Window) -> None:
        self._window = window
        self._bar = part._replace(start_ns=window[0])
        self._is_whole = part.start_ns == window[0]


def _joined(bar: Bar, part: Bar) -> Bar:
    return Bar(
        bar.start_ns, bar.open, max(bar.high, part.high), min(bar.low, part.low), part.close, bar.volume + part.volume
    )


def closed_from(
    parts: list[Bar], part_ns: int, interval: Interval, table: SessionTable, regular_hours: bool
) -> list[Bar]:
    """Return the closed bars of an interval that lie whole in parts of history, oldest first."""
    builder, found = WindowBuilder(part_ns), list[Bar]()
    for part in parts:
        window = window_at(part.start_ns, interval, table, regular_hours=regular_hours)
        if window is not None:
            bar, _ = builder.add(part, window)
            if bar is not None:
                found.append(bar)
    return found


def completeness(starts: Nanos, interval: Interval, table: SessionTable, now_ns: int) -> float:
    """Return how many of the bars that today's regular session should have brought are there, 0–100.

    Counted from the open, or from the first bar where it came later; where nothing is expected yet it is 100. Days: of
    the last twenty sessions that are over.
    """
    if not len(starts):
        return 0.0
    if not interval.is_intraday:
        over = int(np.searchsorted(table.closes, now_ns, side="right"))
        first = int(np.searchsorted(table.days, table.dates_of(starts[:1])[0]))
        low = max(first, over - DAYS_LOOKED_AT)
        return quality_of(int(np.isin(table.days[low:over], table.dates_of(starts)).sum()), over - low)
    expected = expected_starts(table, interval, table.session_at(now_ns), now_ns)
    expected = expected[expected >= starts[0]]
    return quality_of(int(np.isin(expected, starts).sum()), len(expected))
