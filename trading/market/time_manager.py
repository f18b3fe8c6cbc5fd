"""TimeManager: the session's clock and the exchanges' calendars, live and in a backtest.

Owns: the present, sessions by day, what is open, counting of trading days and time, the cache of both.
Leaves: hours and their overrides (``calendars``), reading overrides from the database (``calendar_rows``). Pure.
Rule: the only place that knows exchange time; everything that it hands out is aware UTC, or a local trading day. Naive
moments are refused everywhere, but by ``set_time``, which takes them for exchange time.
Threads: any may read; ``set_time`` belongs to whoever drives the session.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from strategies.bar_series import moment_of, nanos_of
from strategies.exceptions import ConfigError, ConflictError
from trading.market.calendars import EQUITY, NO_OVERRIDES, US_EQUITY, Overrides, build_table, group_of
from trading.market.session_table import SECOND_NS, SessionTable, TradingSession

LIVE, BACKTEST = "live", "backtest"
UNITS = ("seconds", "minutes", "days", "weeks")


class MarketPhase(StrEnum):
    """What kind of trading goes on. A lunch break is closed."""

    PRE_MARKET = "pre_market"
    REGULAR = "regular"
    POST_MARKET = "post_market"
    CLOSED = "closed"


def utc_now() -> datetime:
    """Return the real present."""
    return datetime.now(UTC)


class TimeManager:
    """Clock and calendar of a session.

    ``mode``: live (``clock`` tells the time) or backtest (``set_time`` does). ``group`` is the group of exchanges meant
    where a call names none.
    """

    def __init__(
        self,
        mode: str = LIVE,
        *,
        group: str = US_EQUITY,
        overrides: Overrides = NO_OVERRIDES,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        if mode not in (LIVE, BACKTEST):
            raise ConfigError(f"A clock is {LIVE} or {BACKTEST}, not {mode!r}.", code="bad_mode")
        self.mode = mode
        self.group = group_of(group)
        self._clock = clock
        self._now_ns: int | None = None
        self._overrides = overrides
        self._lock = threading.RLock()
        self._tables: dict[tuple[str, str], SessionTable] = {}
        self._sessions: dict[tuple[date, str, str], TradingSession] = {}
        self.revision = 0
        """Grows whenever overrides change; whoever keeps something made of a table looks at it."""

    # -- clock

    def get_current_time(self, zone: str | None = None) -> datetime:
        """Return the present, aware UTC, or in a zone.

        Raises: ConfigError (clock_unset) in a backtest before ``set_time``, (unknown_zone).
        """
        moment = moment_of(self.now_ns())
        return moment if zone is None else moment.astimezone(_zone(zone))

    def now_ns(self) -> int:
        """Return the present in epoch nanoseconds.

        Raises: ConfigError (clock_unset).
        """
        if self.mode == LIVE:
            return nanos_of(self._clock())
        if self._now_ns is None:
            raise ConfigError("The backtest's clock has not been set.", code="clock_unset")
        return self._now_ns

    def set_time(self, moment: datetime) -> None:
        """Set a backtest's clock; a naive moment is the time of the group's exchange.

        Raises: ConflictError (live_clock).
        """
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=_zone(self.session_table(None, moment.date(), moment.date()).zone))
        self.set_time_ns(nanos_of(moment))

    def set_time_ns(self, nanos: int) -> None:
        """Set a backtest's clock in epoch nanoseconds: the way of a run that goes from bar to bar.

        Raises: ConflictError (live_clock).
        """
        if self.mode == LIVE:
            raise ConflictError("The live clock cannot be set.", code="live_clock")
        self._now_ns = nanos

    def advance_to_market_open(self, exchange: str | None = None, *, extended: bool = False) -> datetime:
        """Set a backtest's clock to the next open (or pre-market's) after the present; return it.

        Raises: ConflictError (live_clock).
        """
        found = self.next_open(self.get_current_time(), exchange, extended=extended)
        self.set_time(found)
        return found

    # -- tables

    @property
    def overrides(self) -> Overrides:
        """Return what operators entered."""
        return self._overrides

    def set_overrides(self, overrides: Overrides) -> None:
        """Take new overrides and forget what was made of the old ones; the same ones change nothing."""
        with self._lock:
            if overrides == self._overrides:
                return
            self._overrides = overrides
            self._tables.clear()
            self._sessions.clear()
            self.revision += 1

    def session_table(
        self,
        exchange: str | None = None,
        first: date | None = None,
        last: date | None = None,
        *,
        asset_class: str = EQUITY,
    ) -> SessionTable:
        """Return the sessions as columns, from ``first`` to ``last`` at least; without them, around the present.

        Raises: ConfigError (unknown_exchange, calendar_bounds, bad_sessions).
        """
        group = self._group(exchange)
        if first is None or last is None:
            today = moment_of(self.now_ns()).date()
            first, last = first or today, last or today
        found = self._tables.get((group, asset_class))
        if found is not None and found.first_day <= first and last <= found.last_day:
            return found
        with self._lock:
            return self._widen(group, asset_class, first, last)

    def _widen(self, group: str, asset_class: str, first: date, last: date) -> SessionTable:
        """Build whole years around the days, and what was known before."""
        low, high = date(max(first.year - 1, 1), 1, 1), date(min(last.year + 1, 9999), 12, 31)
        known = self._tables.get((group, asset_class))
        if known is not None:
            low, high = min(low, known.first_day), max(high, known.last_day)
        made = build_table(group, low, high, overrides=self._overrides, asset_class=asset_class)
        self._tables[group, asset_class] = made
        if not made.first_day <= first <= last <= made.last_day:
            raise ConfigError(
                f"The calendar of {group} knows {made.first_day} to {made.last_day}, not {first} to {last}.",
                code="calendar_bounds",
                group=group,
            )
        return made

    def _group(self, exchange: str | None) -> str:
        return self.group if exchange is None else group_of(exchange)

    def _around(self, moment: datetime, exchange: str | None) -> tuple[SessionTable, int]:
        nanos = nanos_of(moment)
        day = moment_of(nanos).date()
        return self.session_table(exchange, day - timedelta(days=1), day + timedelta(days=1)), nanos

    # -- days

    def get_trading_session(self, day: date, exchange: str | None = None, asset_class: str = EQUITY) -> TradingSession:
        """Return the hours of a local day; on a day without trading they are None.

        Raises: ConfigError (unknown_exchange, calendar_bounds, bad_sessions).
        """
        group = self._group(exchange)
        key = (day, group, asset_class)
        found = self._sessions.get(key)
        if found is None:
            with self._lock:
                found = self._sessions[key] = self._session(day, group, asset_class)
        return found

    def _session(self, day: date, group: str, asset_class: str) -> TradingSession:
        table = self.session_table(group, day, day, asset_class=asset_class)
        entered = next((one for one in self._overrides.holidays if (one.group, one.day) == (group, day)), None)
        name = entered.name if entered is not None else ""
        index = table.index_of(day)
        if index < 0:
            holiday = entered is not None or day.weekday() in {one.weekday() for one in _week(table, day)}
            return TradingSession(day, group, asset_class, table.zone, False, is_holiday=holiday, name=name)
        segments = table.segments_of(index)
        has_break = len(segments) > 1
        return TradingSession(
            day,
            group,
            asset_class,
            table.zone,
            True,
            is_early_close=bool(table.early[index]),
            name=name,
            pre_open=moment_of(int(table.pre[index])),
            regular_open=moment_of(segments[0][0]),
            break_start=moment_of(segments[0][1]) if has_break else None,
            break_end=moment_of(segments[1][0]) if has_break else None,
            regular_close=moment_of(segments[-1][1]),
            post_close=moment_of(int(table.post[index])),
        )

    def is_trading_day(self, day: date, exchange: str | None = None) -> bool:
        """Tell whether a local day has a session."""
        return self.session_table(exchange, day, day).index_of(day) >= 0

    def is_holiday(self, day: date, exchange: str | None = None) -> tuple[bool, str]:
        """Tell whether a day of the group's week does not trade, and the name that operators gave it."""
        found = self.get_trading_session(day, exchange)
        return found.is_holiday, found.name

    def is_early_close(self, day: date, exchange: str | None = None) -> tuple[bool, datetime | None]:
        """Tell whether a day's session ends early, and when (UTC)."""
        found = self.get_trading_session(day, exchange)
        return found.is_early_close, found.regular_close if found.is_early_close else None

    def trading_day_of(self, moment: datetime, exchange: str | None = None) -> date:
        """Return the local date at a moment.

        Raises: ConfigError (naive_time).
        """
        return moment.astimezone(_zone(self._around(moment, exchange)[0].zone)).date()

    def get_first_trading_date(self, day: date, exchange: str | None = None) -> date:
        """Return the day itself when it trades, else the next that does."""
        return self._step(day, exchange, 0)

    def get_next_trading_date(self, day: date, exchange: str | None = None, n: int = 1) -> date:
        """Return the n-th trading day after a day, which itself does not count."""
        return self._step(day + timedelta(days=1), exchange, _positive(n) - 1)

    def get_previous_trading_date(self, day: date, exchange: str | None = None, n: int = 1) -> date:
        """Return the n-th trading day before a day, which itself does not count."""
        return self._step(day, exchange, -_positive(n))

    def _step(self, day: date, exchange: str | None, steps: int) -> date:
        reach = timedelta(days=20 + abs(steps) * 2)
        table = self.session_table(exchange, day - reach if steps < 0 else day, day if steps < 0 else day + reach)
        place = int(np.searchsorted(table.days, np.datetime64(day, "D"))) + steps
        if not 0 <= place < len(table):
            raise ConfigError(f"No trading day of {table.group} is known near {day}.", code="calendar_bounds")
        return table.day(place)

    def get_trading_dates(self, first: date, last: date, exchange: str | None = None) -> list[date]:
        """Return the trading days between two days, both included."""
        if last < first:
            return []
        table = self.session_table(exchange, first, last)
        low, high = np.searchsorted(table.days, [np.datetime64(first, "D"), np.datetime64(last, "D") + 1])
        return [table.day(n) for n in range(low, high)]

    def count_trading_days(self, first: date, last: date, exchange: str | None = None) -> int:
        """Return how many days trade between two days, both included."""
        return len(self.get_trading_dates(first, last, exchange))

    def get_trailing_days(self, day: date, n: int, exchange: str | None = None) -> list[date]:
        """Return the n trading days that end the day before a day: the window of history of its session."""
        first = self.get_previous_trading_date(day, exchange, n)
        return self.get_trading_dates(first, day - timedelta(days=1), exchange)

    # -- moments

    def is_open(self, moment: datetime | None = None, exchange: str | None = None) -> bool:
        """Tell whether regular trading goes on at a moment (the present): [open, close), but for a break.

        Raises: ConfigError (naive_time).
        """
        return self.get_market_session(moment, exchange) is MarketPhase.REGULAR

    def get_market_session(
        self, moment: datetime | None = None, exchange: str | None = None, asset_class: str = EQUITY
    ) -> MarketPhase:
        """Return what kind of trading goes on at a moment (the present).

        Raises: ConfigError (naive_time).
        """
        table, nanos = self._around(moment if moment is not None else self.get_current_time(), exchange)
        if asset_class != EQUITY:
            table = self.session_table(exchange, table.first_day, table.last_day, asset_class=asset_class)
        if table.segment_at(nanos) >= 0:
            return MarketPhase.REGULAR
        index = table.session_at(nanos)
        if index < 0 or nanos >= table.post[index] or table.opens[index] <= nanos < table.closes[index]:
            return MarketPhase.CLOSED
        return MarketPhase.PRE_MARKET if nanos < table.opens[index] else MarketPhase.POST_MARKET

    def next_open(self, moment: datetime, exchange: str | None = None, *, extended: bool = False) -> datetime:
        """Return the next open (or pre-market's) after a moment, which itself does not count.

        Raises: ConfigError (naive_time, calendar_bounds).
        """
        return self._next(moment, exchange, "pre" if extended else "opens")

    def next_close(self, moment: datetime, exchange: str | None = None, *, extended: bool = False) -> datetime:
        """Return the next close (or post-market's) after a moment, which itself does not count.

        Raises: ConfigError (naive_time, calendar_bounds).
        """
        return self._next(moment, exchange, "post" if extended else "closes")

    def _next(self, moment: datetime, exchange: str | None, edge: str) -> datetime:
        nanos = nanos_of(moment)
        day = moment_of(nanos).date()
        table = self.session_table(exchange, day, day + timedelta(days=20))
        edges = getattr(table, edge)
        place = int(np.searchsorted(edges, nanos, side="right"))
        if place >= len(edges):
            raise ConfigError(f"No session of {table.group} is known after {moment}.", code="calendar_bounds")
        return moment_of(int(edges[place]))

    def count_trading_time(self, start: datetime, end: datetime, unit: str, exchange: str | None = None) -> int:
        """Return how much regular trading lies in [start, end): real hours, so that a short day counts less.

        Units: whole seconds or minutes; ``days`` counts sessions that trade in it at all, ``weeks`` their ISO weeks.
        Raises: ConfigError (naive_time, unknown_unit).
        """
        if unit not in UNITS:
            raise ConfigError(f"Trading time is counted in {', '.join(UNITS)}, not {unit!r}.", code="unknown_unit")
        low, high = nanos_of(start), nanos_of(end)
        if high <= low:
            return 0
        table = self.session_table(exchange, moment_of(low).date(), moment_of(high).date() + timedelta(days=1))
        if unit in ("seconds", "minutes"):
            return table.open_ns(low, high) // (SECOND_NS * (60 if unit == "minutes" else 1))
        touched = (table.segment_opens < high) & (table.segment_closes > low)
        sessions = np.unique(table.segment_sessions[touched])
        return len(sessions) if unit == "days" else len(np.unique(table.weeks[sessions]))


def _week(table: SessionTable, day: date) -> list[date]:
    """Return the sessions of the two weeks around a day, from which the group's week shows."""
    low, high = np.searchsorted(table.days, [np.datetime64(day, "D") - 14, np.datetime64(day, "D") + 15])
    return [table.day(n) for n in range(low, high)]


def _positive(n: int) -> int:
    if n < 1:
        raise ConfigError(f"A count of trading days is at least 1, not {n}.", code="bad_count")
    return n


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ConfigError(f"There is no time zone {name!r}.", code="unknown_zone") from None
