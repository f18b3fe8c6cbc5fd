"""When futures and options trade for the last time.

Owns: the exchanges' expiry rules and the moment at which an expiring contract settles.
Leaves: which months and weeks are listed (``derivatives``).
Rule: dates come from the trading calendar of New York; every contract settles at 16:00 New York of its last day, also
those whose exchange settles earlier that day. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache

from trading.gateway import hours

WEEK_ZERO = date(2000, 1, 7)  # the Friday from which option weeks are counted
SETTLEMENT = time(16, 0)
_FRIDAY = 4


def expiry_moment(last_day: str) -> datetime:
    """When a contract with the last trading day ``yyyymmdd`` settles, UTC."""
    day = datetime.strptime(last_day, "%Y%m%d").date()  # noqa: DTZ007 - a day, not a moment
    return datetime.combine(day, SETTLEMENT, hours.NEW_YORK).astimezone(UTC)


@lru_cache(maxsize=4096)
def future_expiry(rule: str, year: int, month: int) -> date:
    """The last trading day of a contract month under one of the exchanges' rules.

    Raises: ValueError for a rule that nobody knows.
    """
    if rule == "third_friday":
        return session_on_or_before(_nth_weekday(year, month, _FRIDAY, 3))
    if rule == "volatility":  # 30 days before the options of the following month expire
        following = (year + month // 12, month % 12 + 1)
        return session_on_or_before(_nth_weekday(*following, _FRIDAY, 3) - timedelta(days=30))
    if rule == "crude_oil":  # three sessions before the 25th of the month before
        before = (year - (month == 1), (month - 2) % 12 + 1)
        return _sessions_before(date(*before, 25), 3)
    if rule == "third_last_day":
        following = (year + month // 12, month % 12 + 1)
        return _sessions_before(date(*following, 1), 3)
    if rule == "third_wednesday":  # two sessions before delivery
        return _sessions_before(_nth_weekday(year, month, 2, 3), 2)
    raise ValueError(f"unknown expiry rule {rule!r}")


@lru_cache(maxsize=4096)
def option_expiry(week: int) -> date:
    """The last trading day of an option week: its Friday, or the session before a holiday."""
    return session_on_or_before(WEEK_ZERO + timedelta(weeks=week))


def week_of(day: date) -> int:
    """The option week whose Friday is ``day`` or comes next."""
    return -(-(day - WEEK_ZERO).days // 7)


def is_monthly(week: int) -> bool:
    """Tell whether the week's Friday is the third of its month."""
    return 15 <= (WEEK_ZERO + timedelta(weeks=week)).day <= 21


def listed_weeks(today: date) -> Iterator[int]:
    """Four weeks, six months, and the Januaries of two years ahead, ascending."""
    first = week_of(today)
    monthly = [week for week in range(first, first + 60) if is_monthly(week)][:6]
    januaries = [week_of(_nth_weekday(year, 1, _FRIDAY, 3)) for year in (today.year + 1, today.year + 2)]
    yield from sorted({*range(first, first + 4), *monthly, *januaries})


def session_on_or_before(day: date) -> date:
    """The last session of New York that is not after ``day``; beyond the calendar's end the weekday itself."""
    for back in range(6):
        candidate = day - timedelta(days=back)
        if hours.sessions_of("XNYS", candidate):
            return candidate
    return day


def _sessions_before(day: date, count: int) -> date:
    for _ in range(count):
        day = session_on_or_before(day - timedelta(days=1))
    return day


def _nth_weekday(year: int, month: int, weekday: int, number: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (number - 1))
