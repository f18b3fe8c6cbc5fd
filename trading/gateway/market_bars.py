"""IB's words for bars: sizes, durations and the edges of the intervals they mean.

Owns: parsing and checking bar sizes, durations and what-to-show, and cutting time into bar intervals.
Leaves: prices in them (``market``).
Rule: seconds to one hour are cut on the clock, longer intraday bars from local midnight, days, weeks and months on the
instrument's own calendar; a bar is stamped with its start.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from trading.gateway.hours import Micros, to_micros
from trading.gateway.model import RequestError

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
MAX_BARS = 120_000

BAR_SIZES: dict[str, int] = {
    "1 secs": 1,
    "5 secs": 5,
    "10 secs": 10,
    "15 secs": 15,
    "30 secs": 30,
    "1 min": 60,
    "2 mins": 120,
    "3 mins": 180,
    "5 mins": 300,
    "10 mins": 600,
    "15 mins": 900,
    "20 mins": 1200,
    "30 mins": 1800,
    "1 hour": 3600,
    "2 hours": 7200,
    "3 hours": 10800,
    "4 hours": 14400,
    "8 hours": 28800,
    "1 day": 86_400,
    "1 week": 7 * 86_400,
    "1 month": 31 * 86_400,
}
_ALIASES = {"1 sec": "1 secs", "1D": "1 day", "1W": "1 week", "1M": "1 month", "1 mins": "1 min", "1 hours": "1 hour"}
CALENDAR_SIZES = frozenset({"1 day", "1 week", "1 month"})
WHATS = frozenset({"TRADES", "MIDPOINT", "BID", "ASK", "BID_ASK", "ADJUSTED_LAST"})
_DURATION = re.compile(r"^\s*(\d+)\s+([SDWMY])\s*$")
_CAUSE = "Error validating request.-'bR' : cause - "


@dataclass(frozen=True, slots=True)
class Duration:
    """IB's duration: a count of seconds, days, weeks, months or years."""

    count: int
    unit: str


def parse_bar_size(text: str) -> str:
    """IB's own spelling of a bar size.

    Raises: RequestError 321.
    """
    size = _ALIASES.get(text.strip(), text.strip())
    if size not in BAR_SIZES:
        legal = ", ".join(BAR_SIZES)
        raise RequestError(321, f"{_CAUSE}Historical data bar size setting is invalid. Legal ones are: {legal}")
    return size


def parse_duration(text: str, bar_size: str) -> Duration:
    """Read a duration; a bare number means seconds.

    Raises: RequestError 321.
    """
    text = f"{text.strip()} S" if text.strip().isdigit() else text
    match = _DURATION.match(text)
    if match is None or int(match[1]) < 1:
        raise RequestError(321, f"{_CAUSE}Historical data query end date/time string [{text}] is invalid.")
    duration = Duration(int(match[1]), match[2])
    if duration.unit == "S" and duration.count > 86_400:
        raise RequestError(
            321,
            f"{_CAUSE}Historical data requests for durations longer than 86400 seconds must be made in days.",
        )
    if duration.unit in "DWM" and duration.count > 365:
        raise RequestError(
            321, f"{_CAUSE}Historical data requests for durations longer than 365 days must be made in years."
        )
    if bar_size in CALENDAR_SIZES and duration.unit == "S":
        raise RequestError(321, f"{_CAUSE}Historical data requests of {bar_size} bars need a duration of days or more.")
    return duration


def check_what(what: str, sec_type: str) -> None:
    """Refuse what IB does not keep for the instrument.

    Raises: RequestError 321 for an unknown word, 162 for trades of FX and quotes of an index.
    """
    if what not in WHATS:
        raise RequestError(321, f"{_CAUSE}Unknown historical data type {what!r}")
    no_trades = sec_type == "CASH" and what in ("TRADES", "ADJUSTED_LAST")
    no_quotes = sec_type == "IND" and what != "TRADES"
    if no_trades or no_quotes:
        raise RequestError(
            162, f"Historical Market Data Service error message:No historical market data for this instrument@{what}"
        )


def begin_of(end_us: int, duration: Duration, zone: ZoneInfo) -> int:
    """Where a duration that ends at ``end_us`` begins, on the calendar, in epoch microseconds."""
    if duration.unit == "S":
        return end_us - duration.count * SECOND_US
    if duration.unit in "DW":
        days = duration.count * (7 if duration.unit == "W" else 1)
        return end_us - days * DAY_US
    months = duration.count * (12 if duration.unit == "Y" else 1)
    local = _local_day(end_us, zone)
    index = local.year * 12 + local.month - 1 - months
    first = date(max(index // 12, 1), index % 12 + 1, 1)
    day = min(local.day, (_next_month(first) - timedelta(days=1)).day)
    offset = end_us - _midnight(local, zone)
    return _midnight(first.replace(day=day), zone) + offset


def intraday_edges(begin_us: int, end_us: int, seconds: int, zone: ZoneInfo) -> Micros:
    """Starts of the bars that cover [begin, end). Shape: ascending epoch microseconds."""
    step = seconds * SECOND_US
    if seconds <= 3600:
        first = begin_us - begin_us % step
        return np.arange(first, end_us, step, dtype=np.int64)
    starts: list[int] = []
    day = _local_day(begin_us, zone)
    while (midnight := _midnight(day, zone)) < end_us:
        following = _midnight(day + timedelta(days=1), zone)
        starts.extend(range(midnight, following, step))
        day += timedelta(days=1)
    edges = np.array(starts, dtype=np.int64)
    edges = edges[edges < end_us]
    return edges[np.searchsorted(edges, begin_us, side="right") - 1 :] if len(edges) else edges


def days_between(begin_us: int, end_us: int, zone: ZoneInfo) -> list[date]:
    """Local days that [begin, end) touches."""
    first, last = _local_day(begin_us, zone), _local_day(end_us - 1, zone)
    return [first + timedelta(days=i) for i in range((last - first).days + 1)]


def midnights(days: list[date], zone: ZoneInfo) -> Micros:
    """Local midnights of the days. Shape: epoch microseconds."""
    return np.array([_midnight(day, zone) for day in days], dtype=np.int64)


def group_of(day: date, bar_size: str) -> date:
    """The first day of the week or month that a day belongs to."""
    return day - timedelta(days=day.weekday()) if bar_size == "1 week" else day.replace(day=1)


def _local_day(micros: int, zone: ZoneInfo) -> date:
    return datetime.fromtimestamp(micros // SECOND_US, zone).date()


def _midnight(day: date, zone: ZoneInfo) -> int:
    return to_micros(datetime(day.year, day.month, day.day, tzinfo=zone))


def _next_month(first: date) -> date:
    return first.replace(year=first.year + 1, month=1) if first.month == 12 else first.replace(month=first.month + 1)
