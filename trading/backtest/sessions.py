"""When the bars of a run began to trade and when they are over.

Owns: the sessions of an exchange over a run, the edges of its bars. Leaves: calendars (``market.calendars``).
Rule: a day that the exchange does not trade has no bar: it would be seen at a close before its own prices were made.
"""

from __future__ import annotations

from datetime import date, timedelta
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from strategies.bar_series import Nanos, moment_of
from strategies.exceptions import ConfigError
from strategies.intervals import Interval
from trading.market.calendars import Overrides, build_table, group_of
from trading.market.session_table import SessionTable, weeks_of

_BLOCK = 65_536  # bars at a time, so that what is made on the way stays small
_BEFORE, _AFTER = timedelta(days=10), timedelta(days=20)  # orders of the last day need the next session


@lru_cache(maxsize=32)
def _table(exchange: str, first_year: int, last_year: int, overrides: Overrides) -> SessionTable:
    """Whole years, so that runs near each other share a table: it takes a good part of a second to build."""
    return build_table(group_of(exchange), date(first_year, 1, 1), date(last_year, 12, 31), overrides=overrides)


def sessions_around(exchange: str, starts: Nanos, overrides: Overrides) -> SessionTable:
    """Return the sessions of an exchange from some days before the bars to some days after.

    Raises: ConfigError (unknown_exchange, calendar_bounds, outside_calendar).
    """
    first, last = moment_of(int(starts[0])) - _BEFORE, moment_of(int(starts[-1])) + _AFTER
    table = _table(exchange, first.year, last.year, overrides)
    if not len(table):
        raise ConfigError(f"The calendar of {exchange} has no session near the bars.", code="outside_calendar")
    return table


def edges(interval: Interval, starts: Nanos, table: SessionTable) -> tuple[Nanos, Nanos]:
    """Return when each bar began to trade and when it may be seen.

    Intraday bars begin at their stamp. Days and weeks begin at the open of their first session and are over at the
    close of their last one.
    Raises: ConfigError (no_session) naming the first bar on a day without trading; (outside_calendar).
    """
    if interval.is_intraday:
        ends = np.empty_like(starts)
        for begin in range(0, len(starts), _BLOCK):
            ends[begin : begin + _BLOCK] = table.bar_ends(interval, starts[begin : begin + _BLOCK])
        return starts, ends
    dates = table.dates_of(starts)
    if interval.unit == "d":
        first = np.searchsorted(table.days, dates)
        lost = table.days[np.minimum(first, len(table) - 1)] != dates
    else:
        first = np.searchsorted(table.weeks, weeks_of(dates))
        lost = table.weeks[np.minimum(first, len(table) - 1)] != weeks_of(dates)
    _refuse(starts, lost, table)
    return table.opens[first], table.bar_ends(interval, starts)


def _refuse(starts: Nanos, lost: npt.NDArray[np.bool_], table: SessionTable) -> None:
    if not lost.any():
        return
    row = int(np.flatnonzero(lost)[0])
    raise ConfigError(
        f"The bar of {moment_of(int(starts[row])):%Y-%m-%d} (row {row}) lies on a day on which {table.group} does not "
        "trade; remove it, or name the right exchange.",
        code="no_session",
        row=row,
    )
