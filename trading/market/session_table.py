"""Trading sessions of one group of exchanges as columns: lookups by moment and by day, one at a time or a million.

Owns: the columns, their checks, searches in them. Leaves: where hours come from (``calendars``), the clock
(``time_manager``). Pure.
Rule: all moments are epoch nanoseconds UTC. A session is open in [open, close) but for its break; the stretches without
break are its *segments*, to which bars are aligned. A bar belongs to the last session whose pre-market began before it.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property

import numpy as np
import numpy.typing as npt

from strategies.bar_series import Nanos
from strategies.exceptions import ConfigError
from strategies.intervals import Interval

Days = npt.NDArray[np.datetime64]
Indices = npt.NDArray[np.int64]
DAY_NS = 86_400_000_000_000
SECOND_NS = 1_000_000_000
PRE, REGULAR, POST = 0, 1, 2
"""Phases of a session's day. A break counts as regular, the hours after post-market as post-market."""

_MONDAY_BEFORE_EPOCH = 3  # 1970-01-01 was a Thursday


@dataclass(frozen=True, slots=True)
class TradingSession:
    """One day of a group of exchanges. Moments are aware UTC, None on a day without trading.

    Pre-market is [pre_open, regular_open), post-market [regular_close, post_close); both are empty where the group has
    none. ``is_holiday``: the group's week has the day, but it does not trade.
    """

    day: date
    group: str
    asset_class: str
    zone: str
    is_trading_day: bool
    is_holiday: bool = False
    is_early_close: bool = False
    name: str = ""
    pre_open: datetime | None = None
    regular_open: datetime | None = None
    break_start: datetime | None = None
    break_end: datetime | None = None
    regular_close: datetime | None = None
    post_close: datetime | None = None


class SessionTable:
    """All sessions of a stretch of days, oldest first.

    Shape: ``days`` datetime64[D], ``pre``, ``opens``, ``closes``, ``post`` int64 nanoseconds, ``early`` bool, equally
    long; ``segment_opens``, ``segment_closes``, ``segment_sessions`` likewise. ``first_day`` and ``last_day`` bound
    what the table knows.
    Raises: ConfigError (bad_sessions) naming the day, for hours that run backwards or overlap the day before.
    """

    def __init__(
        self,
        group: str,
        zone: str,
        days: Days,
        *,
        opens: Nanos,
        closes: Nanos,
        pre: Nanos | None = None,
        post: Nanos | None = None,
        breaks: tuple[Nanos, Nanos] | None = None,
        early: npt.NDArray[np.bool_] | None = None,
        covers: tuple[date, date] | None = None,
    ) -> None:
        self.group, self.zone = group, zone
        self.days = days.astype("datetime64[D]")
        self.opens, self.closes = opens, closes
        self.pre = opens if pre is None else pre
        self.post = closes if post is None else post
        self.early = np.zeros(len(days), dtype=bool) if early is None else early
        self.breaks = (closes, closes) if breaks is None else breaks
        self._check()
        parted = self.breaks[0] < closes
        sessions = np.concatenate([np.arange(len(days)), np.flatnonzero(parted)])
        starts = np.concatenate([opens, self.breaks[1][parted]])
        order = np.argsort(starts)
        self.segment_sessions: Indices = sessions[order].astype(np.int64)
        self.segment_opens = starts[order]
        self.segment_closes = np.concatenate([np.where(parted, self.breaks[0], closes), closes[parted]])[order]
        self.first_day, self.last_day = covers if covers is not None else (_day(self.days, 0), _day(self.days, -1))

    def _check(self) -> None:
        start, end = self.breaks
        rising = (
            (self.pre <= self.opens)
            & (self.opens < self.closes)
            & (self.closes <= self.post)
            & (self.opens <= start)
            & (start <= end)
            & (end <= self.closes)
        )
        apart = np.concatenate(([True], (self.post[:-1] <= self.pre[1:]) & (self.days[:-1] < self.days[1:])))
        for fine, text in (
            (rising, "has hours that run backwards"),
            (apart, "begins before the session before it ends"),
        ):
            if len(self.days) and not fine.all():
                row = int(np.flatnonzero(~fine)[0])
                raise ConfigError(
                    f"{self.group}: the session of {self.days[row]} {text}; mend its market hours or holidays.",
                    code="bad_sessions",
                    group=self.group,
                    day=str(self.days[row]),
                )

    def __len__(self) -> int:
        return len(self.days)

    # -- one moment: lists and bisect, because a numpy call costs more than the search

    @cached_property
    def _lists(self) -> tuple[list[int], list[int], list[int]]:
        return self.pre.tolist(), self.segment_opens.tolist(), self.segment_closes.tolist()

    @cached_property
    def _day_lists(self) -> tuple[list[int], list[int], list[int]]:
        return self.days.astype(np.int64).tolist(), self.opens.tolist(), self.closes.tolist()

    def session_at(self, nanos: int) -> int:
        """Return the index of the last session whose pre-market has begun; -1 before the first."""
        return bisect_right(self._lists[0], nanos) - 1

    def place(self, nanos: int) -> tuple[int, int, int]:
        """Return the day (counted from 1970) of ``session_at``, its phase and its open; (-1, POST, 0) before the first.

        A day's number stays when a wider table takes this one's place; an index would not.
        """
        index = self.session_at(nanos)
        if index < 0:
            return -1, POST, 0
        numbers, opens, closes = self._day_lists
        return numbers[index], (nanos >= opens[index]) + (nanos >= closes[index]), opens[index]

    def segment_at(self, nanos: int) -> int:
        """Return the index of the segment that is open at the moment; -1 while closed."""
        _, opens, closes = self._lists
        found = bisect_right(opens, nanos) - 1
        return found if found >= 0 and nanos < closes[found] else -1

    def segment(self, index: int) -> tuple[int, int]:
        """Return when a segment opens and closes."""
        _, opens, closes = self._lists
        return opens[index], closes[index]

    def index_of(self, day: date) -> int:
        """Return the index of a day's session; -1 when it has none."""
        place = int(np.searchsorted(self.days, np.datetime64(day, "D")))
        return place if place < len(self.days) and self.days[place] == np.datetime64(day, "D") else -1

    def day(self, index: int) -> date:
        """Return the local day of a session."""
        return _day(self.days, index)

    def segments_of(self, index: int) -> list[tuple[int, int]]:
        """Return the open stretches of a session: one, or two around its break."""
        return self._segments[index]

    @cached_property
    def _segments(self) -> list[list[tuple[int, int]]]:
        found: list[list[tuple[int, int]]] = [[] for _ in range(len(self.days))]
        _, opens, closes = self._lists
        for session, start, end in zip(self.segment_sessions.tolist(), opens, closes, strict=True):
            found[session].append((start, end))
        return found

    def open_ns(self, start_ns: int, end_ns: int) -> int:
        """Return how long the market is open between two moments, in nanoseconds."""
        return int(
            np.maximum(np.minimum(self.segment_closes, end_ns) - np.maximum(self.segment_opens, start_ns), 0).sum()
        )

    # -- many moments

    def sessions_at(self, nanos: Nanos) -> Indices:
        """Return ``session_at`` of each moment."""
        return np.searchsorted(self.pre, nanos, side="right").astype(np.int64) - 1

    def places(self, nanos: Nanos) -> tuple[Indices, Indices, Nanos]:
        """Return ``place`` of each moment, as three columns."""
        if not len(self.days):
            return np.full(len(nanos), -1), np.full(len(nanos), POST), np.zeros(len(nanos), dtype=np.int64)
        found = self.sessions_at(nanos)
        phases = (nanos >= self.opens[found]).astype(np.int64) + (nanos >= self.closes[found])
        known = found >= 0
        return (
            np.where(known, self.days.astype(np.int64)[found], -1),
            np.where(known, phases, POST),
            np.where(known, self.opens[found], 0),
        )

    def segments_at(self, nanos: Nanos) -> Indices:
        """Return ``segment_at`` of each moment."""
        found = np.searchsorted(self.segment_opens, nanos, side="right").astype(np.int64) - 1
        if not len(self.segment_closes):
            return found
        return np.where((found >= 0) & (nanos < self.segment_closes[found]), found, -1)

    def dates_of(self, starts: Nanos) -> Days:
        """Return the date that each daily or weekly bar is of.

        A stamp at midnight UTC names its date, as stored bars do; one within a session's hours the session's day, as
        derived bars do; any other is taken for the midnight of some zone.
        """
        dates = ((starts + DAY_NS // 2) // DAY_NS).astype("datetime64[D]")
        inside = np.zeros(len(starts), dtype=bool)
        sessions = self.sessions_at(starts)
        if len(self.days):
            inside = (sessions >= 0) & (starts < self.post[sessions])
            dates = np.where(inside, self.days[sessions], dates)
        return np.where(starts % DAY_NS == 0, (starts // DAY_NS).astype("datetime64[D]"), dates)

    @cached_property
    def weeks(self) -> Indices:
        """Return the ISO week of each session, counted from 1970."""
        return weeks_of(self.days)

    def bar_ends(self, interval: Interval, starts: Nanos) -> Nanos:
        """Return when each bar is over and may be seen.

        Intraday: its length after its start, but no later than the close of the open stretch that it began in. Days and
        weeks: the close of the last session that they hold; a day without trading has the next session's.
        Raises: ConfigError (outside_calendar) when bars lie outside of the table.
        """
        self._require(starts)
        if not len(starts):
            return starts
        if interval.is_intraday:
            ends = starts + interval.seconds * SECOND_NS
            segments = self.segments_at(starts)
            return np.where(segments >= 0, np.minimum(ends, self.segment_closes[segments]), ends)
        dates = self.dates_of(starts)
        if interval.unit == "d":
            last = np.searchsorted(self.days, dates) + interval.count - 1
        else:
            last = np.searchsorted(self.weeks, weeks_of(dates) + interval.count - 1, side="right") - 1
        return self.closes[np.clip(last, 0, len(self.closes) - 1)]

    def _require(self, starts: Nanos) -> None:
        if not len(starts):
            return
        first, last = (np.datetime64(int(n) // DAY_NS, "D") for n in (starts[0], starts[-1]))
        if not len(self.days) or first < np.datetime64(self.first_day) or last > np.datetime64(self.last_day):
            raise ConfigError(
                f"{self.group}: bars from {first} to {last} reach beyond the calendar, which knows "
                f"{self.first_day} to {self.last_day}.",
                code="outside_calendar",
            )


def weeks_of(days: Days) -> Indices:
    """Return the ISO week of each day, counted from 1970."""
    found: Indices = (days.astype("datetime64[D]").astype(np.int64) + _MONDAY_BEFORE_EPOCH) // 7
    return found


def _day(days: Days, index: int) -> date:
    if not len(days):
        return date.min
    found: date = days[index].astype("datetime64[D]").item()
    return found
