"""The symbols of a session day: how each is loaded, where its bars stand, what scanners asked for lightly.

Owns: streams, windows of history, the one way in which a symbol is loaded, before the open and during the session.
Leaves: what is made of bars (``processor``), fills (``sim_desk``), when bars are taken (``coordinator``).
Rule: a symbol has no bar of the future: its history ends before the day, and of the day it gets what has ended by now.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Protocol

import numpy as np

from strategies.bar_series import Bar, BarSeries, moment_of
from strategies.exceptions import ConfigError, MatsError
from strategies.intervals import parse_interval
from trading.market.feeds import BarFeed, BarStream
from trading.market.gaps import mend_days
from trading.market.scanners.base import Need
from trading.market.session_parts import SessionConfig
from trading.market.session_rules import base_interval
from trading.market.session_table import TradingSession
from trading.market.time_manager import TimeManager

logger = logging.getLogger(__name__)

DAILY = "1d"
MOST_MENDED = 10
"""Days that may be made of base bars among stored ones; a longer hole is for ``ingest_bars --fill-gaps``."""
Windows = dict[str, int]
"""Trading days of history by interval."""


class SymbolStore(Protocol):
    """Where bars of symbols are kept and worked on."""

    def add_symbol(
        self,
        symbol: str,
        intervals: Iterable[str],
        history: Mapping[str, BarSeries],
        today: Sequence[Bar],
        *,
        light: bool,
    ) -> None:
        """Take a symbol: closed bars of the days before by interval, and what has ended today; nobody is notified."""

    def remove_symbol(self, symbol: str) -> None:
        """Forget a symbol."""

    def warm_up_bars(self) -> Mapping[str, int]:
        """Return how many bars the session's indicators need before the day, by interval."""


class LaneDesk(Protocol):
    """What a simulated broker wants of a symbol."""

    def add_symbol(self, symbol: str, interval: str, bars: BarSeries, seen_ns: int) -> None:
        """Trade a symbol on its base bars."""


@dataclass(slots=True)
class Entry:
    """One symbol of the day."""

    symbol: str
    added_by: str  # empty: the configuration
    is_light: bool
    stream: BarStream
    windows: Windows
    bars: int = 0


class SessionSymbols:
    """All symbols of one day. Same thread only, except ``rows``."""

    def __init__(
        self, config: SessionConfig, feed: BarFeed, store: SymbolStore, clock: TimeManager, desk: LaneDesk | None
    ) -> None:
        self._config, self._feed, self._store, self._clock, self._desk = config, feed, store, clock, desk
        self.base = base_interval(config.session_data_config.streams)
        self._entries: dict[str, Entry] = {}
        self._session: TradingSession | None = None

    # -- a day

    def close(self) -> None:
        """Want no more bars of any symbol."""
        for entry in self._entries.values():
            entry.stream.close()

    def begin_day(self, session: TradingSession) -> None:
        """Forget yesterday's symbols."""
        self.close()
        self._entries = {}
        self._session = session

    def load(self, symbol: str, by: str = "") -> bool:
        """Load a symbol in full; False when it was there in full already. The same way before and during the session.

        Raises: MatsError where its bars cannot be had.
        """
        known = self._entries.get(symbol)
        if known is not None and not known.is_light:
            return False
        self._open(symbol, by, self._windows(symbol), light=False)
        return True

    def provision(self, needs: Sequence[Need], by: str) -> None:
        """Have light data of symbols; what is there in full already stays as it is.

        Raises: MatsError where bars cannot be had.
        """
        wanted: dict[str, Windows] = {}
        for need in needs:
            windows = wanted.setdefault(need.symbol, {})
            windows[need.interval] = max(windows.get(need.interval, 0), self._days(need.interval, need.bars))
        for symbol, windows in wanted.items():
            known = self._entries.get(symbol)
            if known is None:
                self._open(symbol, by, windows, light=True)
            elif known.is_light and any(known.windows.get(name, -1) < days for name, days in windows.items()):
                more = {
                    name: max(days, known.windows.get(name, 0)) for name, days in {**known.windows, **windows}.items()
                }
                self._open(symbol, known.added_by, more, light=True)

    def discard(self, symbol: str) -> None:
        """Remove a symbol that was light; one that is there in full stays."""
        entry = self._entries.get(symbol)
        if entry is not None and entry.is_light:
            entry.stream.close()
            del self._entries[symbol]
            self._store.remove_symbol(symbol)

    def _open(self, symbol: str, by: str, windows: Windows, *, light: bool) -> None:
        session, now_ns = self._day(), self._clock.now_ns()
        problem = self._feed.problem(symbol, self.base)
        if problem:
            raise ConfigError(problem, code="no_bars", symbol=symbol)
        stream = self._feed.stream(symbol, self.base, session)
        history = self._history(symbol, windows)
        if self._desk is not None:
            whole = self._feed.history(symbol, self.base, _EPOCH, _END)
            self._desk.add_symbol(symbol, self.base, whole, now_ns)
        today = stream.take(now_ns)
        self._store.add_symbol(symbol, windows, history, today, light=light)
        known = self._entries.get(symbol)
        if known is not None:
            known.stream.close()
        self._entries[symbol] = Entry(symbol, by, light, stream, windows, len(today))

    # -- history

    def _windows(self, symbol: str) -> Windows:
        """Return the days of history that the configuration asks for, and those that its indicators need."""
        data = self._config.session_data_config
        windows: Windows = {}
        for series in data.historical.data:
            if series.apply_to == "all" or symbol in series.apply_to:
                for interval in series.intervals:
                    windows[interval] = max(windows.get(interval, 0), series.trailing_days)
        for interval, bars in self._store.warm_up_bars().items():
            windows[interval] = max(windows.get(interval, 0), self._days(interval, bars))
        return windows

    def _days(self, interval: str, bars: int) -> int:
        """Return how many days hold so many bars."""
        length = parse_interval(interval)
        if not length.is_intraday:
            return bars * (length.count if length.unit == "d" else 5 * length.count)
        session = self._day()
        if not bars or session.regular_open is None or session.regular_close is None:
            return 0
        return math.ceil(bars * length.seconds / (session.regular_close - session.regular_open).total_seconds())

    def _history(self, symbol: str, windows: Windows) -> dict[str, BarSeries]:
        """Read the windows; days within a session are cut from base bars, days and weeks from daily ones."""
        needed: Windows = {}
        for interval, days in windows.items():
            source = self.base if parse_interval(interval).is_intraday else DAILY
            needed[source] = max(needed.get(source, 0), days)
        found = {}
        if needed.get(DAILY):
            found[DAILY] = self._read(symbol, DAILY, needed[DAILY])
            if not len(found[DAILY]):  # no stored days: they are made of base bars
                del found[DAILY]
                needed[self.base] = max(needed.get(self.base, 0), needed[DAILY])
            else:
                found[DAILY] = self._mended(symbol, found[DAILY], needed[DAILY])
        if needed.get(self.base):
            found[self.base] = self._read(symbol, self.base, needed[self.base])
        return found

    def _mended(self, symbol: str, daily: BarSeries, days: int) -> BarSeries:
        """Put days that are missing among the stored ones in from base bars, where those are whole."""
        first, last = self._clock.get_previous_trading_date(self._day().day, n=days), self._day().day
        table = self._clock.session_table(None, first, last)
        inside = table.days[(table.days >= np.datetime64(first)) & (table.days < np.datetime64(last))]
        lacking = inside[~np.isin(inside, table.dates_of(daily.starts))]
        if not len(lacking) or len(lacking) > MOST_MENDED or not parse_interval(self.base).is_intraday:
            return daily
        places = np.searchsorted(table.days, [lacking[0], lacking[-1]])
        begin, end = max(0, int(places[0]) - 1), min(len(table) - 1, int(places[1]) + 1)  # with a day that both have
        try:
            base = self._feed.history(
                symbol, self.base, moment_of(int(table.opens[begin])),
                min(moment_of(int(table.closes[end])), self._day().regular_open or _END),
            )  # fmt: skip
            found, count = mend_days(daily, lacking, base, table)
        except MatsError as error:
            logger.warning("days left missing symbol=%s days=%d reason=%s", symbol, len(lacking), error.message)
            return daily
        logger.info("days mended symbol=%s missing=%d made=%d of=%s", symbol, len(lacking), count, self.base)
        return found

    def _read(self, symbol: str, interval: str, days: int) -> BarSeries:
        day = self._day().day
        first = self._clock.get_previous_trading_date(day, n=days)
        until = self._clock.get_trading_session(day).regular_open or _END
        if interval == DAILY:  # stamped at midnight, which may lie before or after the open of the day before
            begin = datetime.combine(first, time(), UTC)
            until = min(until, datetime.combine(day, time(), UTC))
        else:
            begin = self._clock.get_trading_session(first).regular_open or datetime.combine(first, time(), UTC)
        return self._feed.history(symbol, interval, begin, until)

    def _day(self) -> TradingSession:
        if self._session is None:
            raise ConfigError("The session's day has not begun.", code="no_session")
        return self._session

    # -- bars

    @property
    def next_end(self) -> int | None:
        """Return when the next bar that is known may be seen; None when none is."""
        ends = [entry.stream.next_end for entry in self._entries.values()]
        return min((end for end in ends if end is not None), default=None)

    def take(self, now_ns: int) -> list[tuple[str, Bar]]:
        """Return the bars that ended by now, by time, then in the order in which symbols came."""
        taken: list[tuple[str, Bar]] = []
        for entry in self._entries.values():
            bars = entry.stream.take(now_ns)
            entry.bars += len(bars)
            taken += [(entry.symbol, bar) for bar in bars]
        taken.sort(key=lambda item: item[1].start_ns)
        return taken

    # -- what is known

    def is_light(self, symbol: str) -> bool:
        """Tell whether a symbol is there for scanners alone."""
        entry = self._entries.get(symbol)
        return entry is not None and entry.is_light

    def rows(self) -> list[Entry]:
        """Return every symbol that is there in full. Thread-safe."""
        return [entry for entry in list(self._entries.values()) if not entry.is_light]

    def symbols(self) -> list[str]:
        """Return the symbols that are there in full."""
        return [entry.symbol for entry in self.rows()]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_END = datetime(2261, 1, 1, tzinfo=UTC)  # the last that nanoseconds hold is in 2262
