"""When scanners scan: moments on a fixed grid of a day.

Leaves: hours and zones (``time_manager``). Pure.
Rule: the grid starts at the window's start and never drifts; several moments that passed together are one scan, at the
present, and the others are told as missed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo

from strategies.intervals import parse_interval
from trading.market.session_parts import ScanWindow


def scan_times(windows: Iterable[ScanWindow], day: date, zone: tzinfo, until: datetime) -> list[datetime]:
    """Return the moments of a day, sorted, UTC; none at or after ``until``, the session's close.

    A wall-clock time that the zone skips or repeats is taken as its first occurrence.
    """
    found: set[datetime] = set()
    for window in windows:
        step = timedelta(seconds=parse_interval(window.interval).seconds)
        moment = datetime.combine(day, window.start, zone).astimezone(UTC)
        last = datetime.combine(day, window.end, zone).astimezone(UTC)
        while moment <= last and moment < until:
            found.add(moment)
            moment += step
    return sorted(found)


class Grid:
    """The moments of one scanner's day and how far it is."""

    def __init__(self, moments: Sequence[datetime]) -> None:
        self._moments = sorted(moments)
        self._done = 0
        self.missed = 0

    @property
    def next_at(self) -> datetime | None:
        """Return the next moment; None when the last is over."""
        return self._moments[self._done] if self._done < len(self._moments) else None

    @property
    def is_over(self) -> bool:
        """Tell whether nothing comes any more."""
        return self.next_at is None

    def take(self, now: datetime) -> bool:
        """Tell whether a scan is due, and count it as taken; what passed together is one."""
        passed = bisect_right(self._moments, now)
        due = passed - self._done
        if due <= 0:
            return False
        self.missed += due - 1
        self._done = passed
        return True
