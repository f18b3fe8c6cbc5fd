"""When an instrument trades: IB's hours texts and the sessions between two moments, from exchange_calendars.

Owns: regular and extended sessions per calendar, and the texts of reqContractDetails.
Leaves: what an order does while its market sleeps (``exchange``).
Rule: stocks trade 04:00-20:00 around the regular session of their calendar, FX from Sunday 17:15 to Friday 17:00 New
York with a quarter of an hour's break each day, indices in regular hours only.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

FX = "FX"
NEW_YORK = ZoneInfo("America/New_York")
EXTENDED_OPEN = time(4, 0)
EXTENDED_CLOSE = time(20, 0)
_TEXT_DAYS = 6
_HISTORY_START = "2006-12-01"

Micros = npt.NDArray[np.int64]
Session = tuple[datetime, datetime]


def to_micros(moment: datetime) -> int:
    """Microseconds since the epoch, exact."""
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def from_micros(micros: int) -> datetime:
    """The aware UTC datetime of an epoch in microseconds."""
    return _EPOCH + timedelta(microseconds=micros)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def check_calendar(name: str) -> None:
    """Refuse a calendar name that nobody knows.

    Raises: ValueError.
    """
    import exchange_calendars  # here, for the second that it and pandas take: help and FX alone do without

    if name != FX and name not in exchange_calendars.get_calendar_names():
        raise ValueError(f"calendar {name!r} is neither FX nor a name of exchange_calendars, like XNYS")


@lru_cache(maxsize=16)
def _calendar(name: str) -> Any:
    import exchange_calendars

    return exchange_calendars.get_calendar(name, start=_HISTORY_START)


@lru_cache(maxsize=4096)
def sessions_of(calendar: str, day: date, *, extended: bool = False) -> tuple[Session, ...]:
    """The sessions of one local trading day, in UTC; empty on a holiday or outside the calendar."""
    if calendar == FX:
        return _fx_sessions(day)
    known = _calendar(calendar)
    stamp = np.datetime64(day)
    if not (known.first_session.to_datetime64() <= stamp <= known.last_session.to_datetime64()):
        return ()
    if not known.is_session(stamp):
        return ()
    if extended:
        zone = known.tz
        return ((_local(day, EXTENDED_OPEN, zone), _local(day, EXTENDED_CLOSE, zone)),)
    opens, closes = known.session_open(stamp), known.session_close(stamp)
    return ((opens.to_pydatetime(), closes.to_pydatetime()),)


def _local(day: date, at: time, zone: Any) -> datetime:
    return datetime.combine(day, at, zone).astimezone(UTC)


def _fx_sessions(day: date) -> tuple[Session, ...]:
    """The FX day ends at 17:00 New York; it began at 17:15 the evening before (Sunday evening for Monday)."""
    if day.weekday() >= 5:
        return ()
    return ((_local(day - timedelta(days=1), time(17, 15), NEW_YORK), _local(day, time(17, 0), NEW_YORK)),)


@lru_cache(maxsize=64)
def session_array(calendar: str, first: date, last: date, *, extended: bool) -> Micros:
    """Sessions between two days.

    Shape: (n, 2) int64, open and close in epoch microseconds, ascending.
    """
    rows: list[tuple[int, int]] = []
    day = first
    while day <= last:
        rows.extend((to_micros(a), to_micros(b)) for a, b in sessions_of(calendar, day, extended=extended))
        day += timedelta(days=1)
    return np.array(rows, dtype=np.int64).reshape(-1, 2)


def session_at(calendar: str, moment: datetime, *, extended: bool) -> Session | None:
    """The session that runs at ``moment``, None while the market is closed."""
    day = moment.astimezone(NEW_YORK).date()
    for offset in (-1, 0, 1):
        for opens, closes in sessions_of(calendar, day + timedelta(days=offset), extended=extended):
            if opens <= moment < closes:
                return opens, closes
    return None


def next_open(calendar: str, moment: datetime, *, extended: bool) -> datetime | None:
    """The next opening after ``moment``, None beyond the calendar's end."""
    day = moment.astimezone(NEW_YORK).date()
    for offset in range(15):
        for opens, _ in sessions_of(calendar, day + timedelta(days=offset), extended=extended):
            if opens > moment:
                return opens
    return None


def next_close(calendar: str, moment: datetime, *, extended: bool) -> datetime | None:
    """The end of the session that runs at ``moment`` or comes next."""
    day = moment.astimezone(NEW_YORK).date()
    for offset in range(-1, 15):
        for _, closes in sessions_of(calendar, day + timedelta(days=offset), extended=extended):
            if closes > moment:
                return closes
    return None


def trading_text(calendar: str, sec_type: str, zone: str, day: date) -> str:
    """IB's tradingHours of the days from ``day`` on, in the instrument's zone."""
    return _text(calendar, zone, day, extended=sec_type == "STK")


def liquid_text(calendar: str, zone: str, day: date) -> str:
    """IB's liquidHours: the regular sessions."""
    return _text(calendar, zone, day, extended=False)


def _text(calendar: str, zone: str, first: date, *, extended: bool) -> str:
    tz = ZoneInfo(zone)
    parts: list[str] = []
    for offset in range(_TEXT_DAYS):
        day = first + timedelta(days=offset)
        sessions = sessions_of(calendar, day, extended=extended)
        if not sessions:
            parts.append(f"{day:%Y%m%d}:CLOSED")
        parts.extend(f"{a.astimezone(tz):%Y%m%d:%H%M}-{b.astimezone(tz):%Y%m%d:%H%M}" for a, b in sessions)
    return ";".join(parts)
