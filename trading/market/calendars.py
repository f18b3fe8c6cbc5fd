"""Hours of groups of exchanges: the calendars of ``exchange_calendars``, overridden by what operators entered.

Owns: groups and their names, pre- and post-market, how overrides change a calendar. Leaves: where overrides are stored
(``calendar_rows``), the clock (``time_manager``). Pure but for the library's import, which takes a second.
Rule: US_EQUITY trades 04:00–20:00 New York around its calendar's regular hours; other groups have regular hours only,
unless an operator entered more. An early close ends the regular session; post-market starts there.
Source: https://github.com/gerrymanoim/exchange_calendars
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import date, time
from functools import lru_cache
from typing import Any

import numpy as np

from strategies.bar_series import Nanos
from strategies.exceptions import ConfigError
from trading.market.session_table import Days, SessionTable

US_EQUITY = "US_EQUITY"
EQUITY = "EQUITY"
"""Class of what trades outside of regular hours, too. Every other class (OPTION, INDEX, …) keeps to them."""

_CALENDARS = {US_EQUITY: "XNYS"}
_US_NAMES = frozenset(
    {US_EQUITY, "NYSE", "NASDAQ", "AMEX", "ARCA", "BATS", "IEX", "ISLAND", "SMART", "XNYS", "XNAS", "XASE", "ARCX"}
)
_EXTENDED = {US_EQUITY: (time(4, 0), time(20, 0))}
_FIXED = threading.Lock()  # the library's cache is not made for several threads


@dataclass(frozen=True, slots=True)
class HoursOverride:
    """Hours of a group from a day on, local. The one that begins last holds."""

    group: str
    valid_from: date
    valid_to: date | None
    regular_open: time
    regular_close: time
    pre_open: time | None = None
    post_close: time | None = None


@dataclass(frozen=True, slots=True)
class HolidayOverride:
    """One day of a group against its calendar: closed, closed early (local time), or open after all."""

    group: str
    day: date
    name: str = ""
    closes_at: time | None = None
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class Overrides:
    """All that operators entered."""

    hours: tuple[HoursOverride, ...] = ()
    holidays: tuple[HolidayOverride, ...] = ()

    def of(self, group: str) -> Overrides:
        """Return those of one group."""
        return Overrides(
            tuple(one for one in self.hours if one.group == group),
            tuple(one for one in self.holidays if one.group == group),
        )


NO_OVERRIDES = Overrides()


@lru_cache(maxsize=256)
def group_of(exchange: str) -> str:
    """Return the group of an exchange: US_EQUITY for NYSE, NASDAQ, AMEX, ARCA and IB's SMART, else the calendar's name.

    Raises: ConfigError (unknown_exchange).
    """
    name = exchange.strip().upper()
    if name in _US_NAMES:
        return US_EQUITY
    import exchange_calendars

    for spelling in (name, exchange.strip()):
        if spelling in exchange_calendars.get_calendar_names():
            known = str(exchange_calendars.resolve_alias(spelling))
            return US_EQUITY if known == _CALENDARS[US_EQUITY] else known
    raise ConfigError(
        f"«{exchange}» is no known exchange; write US_EQUITY, NYSE, NASDAQ, AMEX, ARCA or a name of exchange_calendars "
        "such as XLON.",
        code="unknown_exchange",
        exchange=exchange,
    )


@lru_cache(maxsize=64)
def build_table(
    group: str, first: date, last: date, *, overrides: Overrides = NO_OVERRIDES, asset_class: str = EQUITY
) -> SessionTable:
    """Return the sessions of a group between two days, what operators entered included; kept, for it takes a while.

    The calendar's own bounds cut the stretch; ``covers`` of the table tells what is left.
    Raises: ConfigError (unknown_exchange, calendar_bounds, bad_sessions).
    """
    calendar, first, last = _calendar(_CALENDARS.get(group, group), first, last)
    zone = str(calendar.tz)
    schedule = _Schedule.of(calendar, zone)
    mine = overrides.of(group)
    extended = _EXTENDED.get(group) if asset_class == EQUITY else None
    if extended is not None:
        schedule.pre = np.minimum(_local(schedule.days, extended[0], zone), schedule.opens)
        schedule.post = np.maximum(_local(schedule.days, extended[1], zone), schedule.closes)
    for holiday in mine.holidays:
        if holiday.is_open and first <= holiday.day <= last:
            schedule.add_day(holiday.day, calendar, extended)
    for hours in sorted(mine.hours, key=lambda one: one.valid_from):
        schedule.set_hours(hours, with_extended=asset_class == EQUITY)
    for holiday in mine.holidays:
        schedule.apply(holiday)
    return SessionTable(
        group,
        zone,
        schedule.days,
        opens=schedule.opens,
        closes=schedule.closes,
        pre=schedule.pre,
        post=schedule.post,
        breaks=schedule.breaks,
        early=schedule.early,
        covers=(first, last),
    )


def _calendar(name: str, first: date, last: date) -> tuple[Any, date, date]:
    """Return the library's calendar of the stretch, cut to what it knows, and the stretch."""
    import exchange_calendars

    with _FIXED:
        try:
            return exchange_calendars.get_calendar(name, start=str(first), end=str(last)), first, last
        except exchange_calendars.errors.InvalidCalendarName:
            raise ConfigError(f"exchange_calendars has no calendar «{name}».", code="unknown_exchange") from None
        except ValueError:
            known = exchange_calendars.get_calendar(name)  # some calendars know a few years only
            low = max(first, known.first_session.date() if known.bound_min() is None else known.bound_min().date())
            high = min(last, known.last_session.date() if known.bound_max() is None else known.bound_max().date())
        if low > high:
            raise ConfigError(f"The calendar {name} does not reach {first} to {last}.", code="calendar_bounds")
        return exchange_calendars.get_calendar(name, start=str(low), end=str(high)), low, high


def _local(days: Days, at: time, zone: str) -> Nanos:
    """Return a local time on each day, in epoch nanoseconds; a time that a change of clocks skips moves forward."""
    import pandas as pd  # costs a second: a web process starts without it

    since_midnight = pd.Timedelta(hours=at.hour, minutes=at.minute, seconds=at.second)
    stamps = pd.DatetimeIndex(days.astype("datetime64[ns]")) + since_midnight
    aware = stamps.tz_localize(zone, ambiguous=np.ones(len(stamps), dtype=bool), nonexistent="shift_forward")
    found: Nanos = aware.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[ns]").astype(np.int64)
    return found


class _Schedule:
    """A calendar's columns while overrides are laid over them."""

    def __init__(self, zone: str, days: Days, opens: Nanos, closes: Nanos) -> None:
        self.zone, self.days, self.opens, self.closes = zone, days, opens, closes
        self.pre, self.post = opens.copy(), closes.copy()
        self.breaks = (closes.copy(), closes.copy())
        self.early = np.zeros(len(days), dtype=bool)

    @classmethod
    def of(cls, calendar: Any, zone: str) -> _Schedule:
        days = calendar.schedule.index.to_numpy().astype("datetime64[D]")
        made = cls(zone, days, calendar.opens_nanos.copy(), calendar.closes_nanos.copy())
        unset = np.iinfo(np.int64).min  # NaT: no break
        made.breaks = (
            np.where(calendar.break_starts_nanos == unset, made.closes, calendar.break_starts_nanos),
            np.where(calendar.break_ends_nanos == unset, made.closes, calendar.break_ends_nanos),
        )
        made.early = np.isin(days, calendar.early_closes.to_numpy().astype("datetime64[D]"))
        return made

    def add_day(self, day: date, calendar: Any, extended: tuple[time, time] | None) -> None:
        """Open a day that the calendar has closed, with the hours that are usual then."""
        stamp = np.datetime64(day, "D")
        place = int(np.searchsorted(self.days, stamp))
        if place < len(self.days) and self.days[place] == stamp:
            return
        one = np.array([stamp])
        opens = _local(one, _usual(calendar.open_times, day), self.zone)
        closes = _local(one, _usual(calendar.close_times, day), self.zone)
        pre, post = (_local(one, at, self.zone) for at in extended) if extended is not None else (opens, closes)
        self.days = np.insert(self.days, place, stamp)
        self.early = np.insert(self.early, place, False)
        self.opens, self.closes = np.insert(self.opens, place, opens), np.insert(self.closes, place, closes)
        self.pre, self.post = np.insert(self.pre, place, pre), np.insert(self.post, place, post)
        self.breaks = (np.insert(self.breaks[0], place, closes), np.insert(self.breaks[1], place, closes))

    def set_hours(self, hours: HoursOverride, *, with_extended: bool) -> None:
        """Lay hours over their days; a day on which the calendar closes early still does."""
        mask = self.days >= np.datetime64(hours.valid_from, "D")
        if hours.valid_to is not None:
            mask &= self.days <= np.datetime64(hours.valid_to, "D")
        days, had_break = self.days[mask], self.breaks[0][mask] < self.closes[mask]
        opens, closes = (_local(days, at, self.zone) for at in (hours.regular_open, hours.regular_close))
        closes = np.where(self.early[mask], np.minimum(self.closes[mask], closes), closes)
        self.opens[mask], self.closes[mask] = opens, closes
        self.pre[mask] = _local(days, hours.pre_open, self.zone) if hours.pre_open and with_extended else opens
        self.post[mask] = (
            np.maximum(_local(days, hours.post_close, self.zone), closes)
            if hours.post_close and with_extended
            else closes
        )
        for edge in self.breaks:
            edge[mask] = np.where(had_break, np.clip(edge[mask], opens, closes), closes)

    def apply(self, holiday: HolidayOverride) -> None:
        """Close a day, or end it early; post-market then starts there."""
        stamp = np.datetime64(holiday.day, "D")
        place = int(np.searchsorted(self.days, stamp))
        if place >= len(self.days) or self.days[place] != stamp:
            return
        if holiday.closes_at is not None:
            closes = int(_local(np.array([stamp]), holiday.closes_at, self.zone)[0])
            had_post = self.post[place] > self.closes[place]
            self.closes[place], self.early[place] = closes, True
            self.post[place] = max(self.post[place], closes) if had_post else closes
            for edge in self.breaks:
                edge[place] = min(edge[place], closes)
        elif not holiday.is_open:
            keep = np.arange(len(self.days)) != place
            self.days, self.early = self.days[keep], self.early[keep]
            self.opens, self.closes = self.opens[keep], self.closes[keep]
            self.pre, self.post = self.pre[keep], self.post[keep]
            self.breaks = (self.breaks[0][keep], self.breaks[1][keep])


def _usual(times: Any, day: date) -> time:
    """Return the local time that holds on a day, of the library's pairs (valid from, time)."""
    found: time = times[0][1]
    for since, at in times:
        if since is None or since.date() <= day:
            found = at
    return found
