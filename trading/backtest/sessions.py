"""The sessions of an exchange as columns, and when a bar is over.

Owns: opens and closes of a stretch of days, from ``exchange_calendars``; the end of each bar.
Leaves: the clock (``arrays``), what an order does while its market sleeps (``lane``).
Rule: an intraday bar is over after its length, a daily or weekly one at the close of the last session that it holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any

import numpy as np

from strategies.bar_series import Nanos, moment_of
from strategies.exceptions import ConfigError
from strategies.intervals import Interval

DAY_NS = 86_400_000_000_000
SECOND_NS = 1_000_000_000
_MONDAY_BEFORE_EPOCH = 3  # 1970-01-01 was a Thursday


@dataclass(frozen=True, slots=True)
class Sessions:
    """The sessions of one exchange, oldest first.

    Shape: ``days`` int64 days since the epoch, by the exchange's clock; ``opens`` and ``closes`` int64 epoch
    nanoseconds UTC; equally long, strictly increasing.
    """

    exchange: str
    days: Nanos
    opens: Nanos
    closes: Nanos

    def bar_starts(self, interval: Interval, starts: Nanos) -> Nanos:
        """Return when each bar began to trade: its stamp, for days and weeks the open of its first session."""
        if interval.is_intraday:
            return starts
        return self.opens[self._first_sessions(interval, starts)]

    def bar_ends(self, interval: Interval, starts: Nanos) -> Nanos:
        """Return when each bar is over and may be seen.

        Raises: ConfigError (no_session) naming the first daily bar on a day without trading.
        """
        if interval.is_intraday:
            return starts + interval.seconds * SECOND_NS
        first = self._first_sessions(interval, starts)
        if interval.unit == "d":
            return self.closes[np.minimum(first + interval.count - 1, len(self.closes) - 1)]
        weeks = _weeks(self.days)
        return self.closes[np.searchsorted(weeks, weeks[first] + interval.count - 1, side="right") - 1]

    def _first_sessions(self, interval: Interval, starts: Nanos) -> Nanos:
        days = self._days_of(starts)
        if interval.unit == "w":
            days = days - (days + _MONDAY_BEFORE_EPOCH) % 7
        places = np.searchsorted(self.days, days)
        found = np.minimum(places, len(self.days) - 1)
        lost = places == len(self.days)
        if interval.unit == "d":
            lost |= self.days[found] != days
        if lost.any():
            row = int(np.flatnonzero(lost)[0])
            raise ConfigError(
                f"The bar of {moment_of(int(starts[row])):%Y-%m-%d} (row {row}) lies on a day on which {self.exchange} "
                "does not trade; remove it, or name the right exchange.",
                code="no_session",
                row=row,
            )
        return found

    def _days_of(self, starts: Nanos) -> Nanos:
        """The days of daily stamps: of midnight UTC that date, of any other stamp the local day that it falls on."""
        at = np.searchsorted(self.closes, starts, side="right")
        local = self.days[np.minimum(at, len(self.days) - 1)]
        return np.where(starts % DAY_NS == 0, starts // DAY_NS, local)


def _weeks(days: Nanos) -> Nanos:
    return (days + _MONDAY_BEFORE_EPOCH) // 7


@lru_cache(maxsize=32)
def exchange_sessions(exchange: str, first_day: int, last_day: int) -> Sessions:
    """Return the sessions from a week before ``first_day`` to a fortnight after ``last_day`` (days since the epoch).

    Raises: ConfigError (unknown_exchange) for a name that ``exchange_calendars`` does not know.
    """
    import exchange_calendars  # takes half a second to import

    start, end = moment_of((first_day - 7) * DAY_NS), moment_of(last_day * DAY_NS) + timedelta(days=14)
    try:
        calendar: Any = exchange_calendars.get_calendar(exchange, start=f"{start:%Y-%m-%d}", end=f"{end:%Y-%m-%d}")
    except exchange_calendars.errors.InvalidCalendarName as error:
        raise ConfigError(
            f"The exchange «{exchange}» is not known; use a name of exchange_calendars such as XNYS.",
            code="unknown_exchange",
        ) from error
    return Sessions(
        exchange,
        days=calendar.sessions.values.astype("datetime64[D]").astype(np.int64),
        opens=calendar.opens.values.astype("datetime64[ns]").astype(np.int64),
        closes=calendar.closes.values.astype("datetime64[ns]").astype(np.int64),
    )
