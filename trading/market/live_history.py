"""Closed bars of the past for live series: which history to ask for, and how to read the answer.

Owns: which stored timeframe an interval is read from, how far back, what is closed. Leaves: the store and IB
(``strategies.data``), series and followers (``live_bars``).
Rule: what is not over at the market's present is left out. The present is IB's, since a replayed market has its own.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import numpy as np
from ib_async import Contract

from strategies.bar_requests import COLUMNS, MOST_PAGES
from strategies.bar_series import Bar, Nanos, moment_of, nanos_of, problem_with_bar
from strategies.exceptions import ConfigError
from strategies.intervals import Interval, parse_interval
from strategies.timeframes import TIMEFRAMES, Timeframe
from trading.market.calendars import US_EQUITY, group_of
from trading.market.live_windows import closed_from
from trading.market.session_table import SECOND_NS, SessionTable

logger = logging.getLogger(__name__)

PART_S = 5  # IB's real-time bars
CLOCK_S = 1800  # IB cuts bars on the clock, we from the open: both agree on what divides half an hour
SESSION_S = 6.5 * 3600
_CALENDARS = {
    "AEB": "XAMS", "ASX": "XASX", "BM": "XMAD", "BVME": "XMIL", "EBS": "XSWX", "IBIS": "XETR", "LSE": "XLON",
    "SBF": "XPAR", "SEHK": "XHKG", "SGX": "XSES", "TSE": "XTSE", "TSEJ": "XTKS",
}  # fmt: skip


class Reader(Protocol):
    """Bars of the past (``strategies.data.BarReader``)."""

    def read(
        self,
        contract: Contract,
        timeframe: str,
        start: str | datetime,
        end: str | datetime,
        *,
        use_rth: bool,
        force_download: bool,
    ) -> Awaitable[Any]:
        """Return a frame of bars."""


def live_interval(text: str) -> Interval:
    """Return an interval that live bars can have: seconds by five, minutes, or a day.

    Raises: ConfigError (unknown_interval).
    """
    interval = parse_interval(text)
    if interval.text == "1d" or (interval.is_intraday and interval.seconds % PART_S == 0):
        return interval
    raise ConfigError(
        f"Live bars of {text} cannot be had: IB sends one each five seconds. Use 5s, 30s, 1m, 5m, 60m or 1d.",
        code="unknown_interval",
    )


def group_of_contract(contract: Contract) -> str:
    """Return whose hours an instrument keeps.

    Raises: ConfigError (unknown_exchange).
    """
    listed = contract.primaryExchange or contract.exchange or US_EQUITY
    if listed == "SMART" and contract.currency != "USD":
        raise ConfigError(
            f"It is not known where {contract.symbol} in {contract.currency} is listed, hence neither its hours.",
            code="unknown_exchange",
        )
    return group_of(_CALENDARS.get(listed, listed))


def source_of(interval: Interval) -> Timeframe:
    """Return the timeframe of history that an interval is read or put together from.

    >>> source_of(parse_interval("5m")).key, source_of(parse_interval("10m")).key, source_of(parse_interval("60m")).key
    ('5_min', '5_min', '30_min')
    """
    if not interval.is_intraday:
        return TIMEFRAMES["1_day"]
    lengths = {frame: int(frame.length.total_seconds()) for frame in TIMEFRAMES.values() if frame.is_intraday}
    fitting = [
        frame
        for frame, length in lengths.items()
        if length <= CLOCK_S and not CLOCK_S % length and not interval.seconds % length
    ]
    return max(fitting, key=lambda frame: frame.length)


def reach_of(interval: Interval, count: int, *, regular_hours: bool) -> timedelta:
    """Return how far back so many bars lie at most, nights, weekends and a holiday included.

    No farther than IB may be asked for at once: bars of seconds would otherwise be refused whole, and begin with none.
    """
    return min(_reach(interval, count, regular_hours), source_of(interval).longest * (MOST_PAGES - 1))


def _reach(interval: Interval, count: int, regular_hours: bool) -> timedelta:
    if not interval.is_intraday:
        return timedelta(days=count * 7 // 5 + 10)
    seconds = float(count * interval.seconds)
    if not regular_hours:
        return timedelta(seconds=max(seconds * 1.1, 60.0))
    return timedelta(days=int(seconds // SESSION_S) * 7 // 5 + (5 if interval.seconds >= 60 else 0), seconds=seconds)


@dataclass(slots=True)
class PastBars:
    """Reads closed bars. ``present`` asks for the market's time, in epoch nanoseconds."""

    make_reader: Callable[[], Reader]
    present: Callable[[], Awaitable[int]]

    async def read(
        self,
        contract: Contract,
        interval: Interval,
        since_ns: int,
        table: SessionTable,
        *,
        regular_hours: bool,
        fresh: bool,
    ) -> list[Bar]:
        """Return the closed bars that begin at or after a moment, oldest first; ``fresh`` asks IB alone.

        Raises: as ``BarReader.read``.
        """
        frame = source_of(interval)
        # Days are those of the regular session, whatever hours the intraday bars have.
        use_rth = regular_hours or not interval.is_intraday
        now_ns = await self.present()
        data = await self.make_reader().read(
            contract, frame.key, moment_of(since_ns), moment_of(now_ns), use_rth=use_rth, force_download=fresh
        )
        parts = bars_of_frame(data)
        if not interval.is_intraday:
            starts = np.array([bar.start_ns for bar in parts], dtype=np.int64)
            return [
                bar for bar, end in zip(parts, table.bar_ends(interval, starts).tolist(), strict=True) if end <= now_ns
            ]
        part_ns = int(frame.length.total_seconds()) * SECOND_NS
        found = closed_from(parts, part_ns, interval, table, regular_hours=regular_hours)
        return [bar for bar in found if end_of(bar.start_ns, interval, table) <= now_ns]


def end_of(start_ns: int, interval: Interval, table: SessionTable) -> int:
    """Return when a bar is over."""
    if not interval.is_intraday:
        return int(table.bar_ends(interval, np.array([start_ns], dtype=np.int64))[0])
    return start_ns + interval.seconds * SECOND_NS


def bars_of_frame(data: Any) -> list[Bar]:
    """Return a frame's bars; what no market prints is left out and told."""
    starts: Nanos = data.index.as_unit("ns").asi8
    found = []
    for start, *values in zip(starts.tolist(), *(data[name].tolist() for name in COLUMNS), strict=True):
        bar = Bar(start, *values)
        problem = problem_with_bar(bar)
        if problem:
            logger.warning("bar of history left out start=%s: it has %s", bar.timestamp, problem)
        else:
            found.append(bar)
    return found


__all__ = [
    "PastBars",
    "Reader",
    "bars_of_frame",
    "end_of",
    "group_of_contract",
    "live_interval",
    "nanos_of",
    "reach_of",
]
