"""SessionData: the bars, indicators and qualities of all symbols of a session, live and in a backtest.

Owns: which pairs there are, locks, ad-hoc symbols, references for strategies, figures for pages.
Leaves: what follows from a bar (``session_pair``), the clock (``time_manager``), who feeds bars in (a processor live,
``backtest_data.prepare`` in a backtest), who is notified. Pure.
Rule: readers get references and views, never copies; an unknown pair is the shared empty series, quality 0.
Threads: one writer at a time for each symbol, as many readers as there are. Reading takes no lock; asking for a new
indicator takes its symbol's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from strategies.bar_series import Bar, BarSeries, Floats, Nanos, moment_of
from strategies.exceptions import ConfigError, ConflictError, NotFoundError
from strategies.intervals import parse_interval
from trading.market.calendars import US_EQUITY
from trading.market.derived import Columns, check_derivable
from trading.market.gaps import Gap
from trading.market.indicators.indicator import Nothing, View
from trading.market.indicators.registry import Request, make_request
from trading.market.quality import FULL, history_quality
from trading.market.session_pair import Changed, Pair
from trading.market.session_symbol import Calendar, SymbolData
from trading.market.session_table import SessionTable

EMPTY = BarSeries.from_columns("", "", np.empty(0, dtype=np.int64), [np.empty(0)] * 5)
"""What an unknown pair is."""

NOTHING = Nothing()
"""The indicator of an unknown pair."""


class SessionData:
    """Market data of a session (``strategies.reactive.SessionDataPort``).

    ``enable_quality`` off: every known pair is 100 % complete.
    """

    def __init__(self, calendar: Calendar, *, exchange: str = US_EQUITY, enable_quality: bool = True) -> None:
        self.calendar = calendar
        self.exchange = exchange
        self.enable_quality = enable_quality
        self._symbols: dict[str, SymbolData] = {}
        self._pairs: dict[tuple[str, str], Pair] = {}
        self._lock = threading.RLock()

    # -- symbols

    def register_symbol(
        self,
        symbol: str,
        base: str = "1m",
        derived: Iterable[str] = (),
        *,
        exchange: str | None = None,
        adhoc: bool = False,
    ) -> None:
        """Make room for a symbol: bars of ``base`` come from outside, those of ``derived`` are made of them.

        Again for a known symbol: adds what is missing, and an ad-hoc one becomes a full one unless ``adhoc``.
        Raises: ConfigError (unknown_interval, not_derivable, unknown_exchange), ConflictError for another exchange.
        """
        wanted = [one for one in dict.fromkeys(derived) if one != base]
        for one in wanted:
            check_derivable(parse_interval(base), parse_interval(one))
        with self._lock:
            entry = self._entry(symbol, exchange, adhoc=adhoc)
            with entry.lock:
                entry.adhoc = entry.adhoc and adhoc
                source = entry.pairs.get(base) or self._add(entry, Pair(BarSeries(symbol, base), entry.table))
                for one in wanted:
                    if one not in entry.pairs:
                        self._add(entry, Pair(BarSeries(symbol, one), entry.table, source)).remake()

    def _entry(self, symbol: str, exchange: str | None, *, adhoc: bool = False) -> SymbolData:
        if not symbol:
            raise ConfigError("A symbol needs a name.", code="unknown_symbol")
        found = self._symbols.get(symbol)
        if found is None:
            found = SymbolData(symbol, exchange or self.exchange, self.calendar, adhoc=adhoc)
            self._symbols[symbol] = found
        elif exchange is not None and exchange != found.exchange:
            raise ConflictError(f"{symbol} is registered on {found.exchange}, not {exchange}.", code="other_exchange")
        return found

    def _add(self, entry: SymbolData, pair: Pair) -> Pair:
        entry.pairs[pair.series.interval] = pair
        self._pairs[pair.name] = pair
        return pair

    def add_series(self, series: BarSeries, *, exchange: str | None = None, derived_from: str | None = None) -> None:
        """Take a series as it is, laid out for a backtest or grown elsewhere; its cursor is moved from outside.

        Raises: ConflictError for a pair that is there, ConfigError (unknown_interval, outside_calendar, not_derivable).
        """
        with self._lock:
            entry = self._entry(series.symbol, exchange)
            if series.interval in entry.pairs:
                raise ConflictError(f"{series.symbol} {series.interval} is there already.", code="pair_exists")
            starts = series.whole()[0]
            if len(starts):
                entry.cover_ns(int(starts[0]), int(starts[-1]))
            source = entry.pairs[derived_from] if derived_from is not None else None
            self._add(entry, Pair(series, entry.table, source))

    def remove_symbol(self, symbol: str) -> bool:
        """Forget a symbol; False when it is not known. References that somebody holds stop growing.

        Raises: ConflictError (symbol_locked) naming who holds it.
        """
        with self._lock:
            entry = self._symbols.get(symbol)
            if entry is None:
                return False
            if entry.locks:
                raise ConflictError(
                    f"{symbol} is held by {', '.join(sorted(entry.locks))}.", code="symbol_locked", symbol=symbol
                )
            with entry.lock:
                for pair in entry.pairs.values():
                    del self._pairs[pair.name]
                del self._symbols[symbol]
            return True

    def clear(self) -> None:
        """Forget all symbols, locked ones too: the session is over."""
        with self._lock:
            self._symbols, self._pairs = {}, {}

    def lock_symbol(self, symbol: str, reason: str) -> None:
        """Keep a symbol from being removed, for a position or an order; as often as there are reasons.

        Raises: NotFoundError.
        """
        self._known(symbol).locks.add(reason)

    def unlock_symbol(self, symbol: str, reason: str) -> None:
        """Take one reason away."""
        entry = self._symbols.get(symbol)
        if entry is not None:
            entry.locks.discard(reason)

    def is_locked(self, symbol: str) -> bool:
        """Tell whether a symbol is held."""
        entry = self._symbols.get(symbol)
        return entry is not None and bool(entry.locks)

    def is_registered(self, symbol: str) -> bool:
        """Tell whether a symbol is known, ad-hoc ones included."""
        return symbol in self._symbols

    @property
    def symbols(self) -> list[str]:
        """Return the symbols of the session, ad-hoc ones left out."""
        return sorted(name for name, entry in self._symbols.copy().items() if not entry.adhoc)

    @property
    def adhoc_symbols(self) -> list[str]:
        """Return the symbols that were added for a look only."""
        return sorted(name for name, entry in self._symbols.copy().items() if entry.adhoc)

    def table_of(self, symbol: str) -> SessionTable:
        """Return the calendar of a symbol, as it was last looked up.

        Raises: NotFoundError.
        """
        return self._known(symbol).table()

    def pairs(self) -> list[tuple[str, str]]:
        """Return all pairs."""
        return sorted(self._pairs.copy())

    def streamed_pairs(self) -> list[tuple[str, str]]:
        """Return the pairs whose bars come from outside and lie within sessions."""
        return sorted(
            name for name, pair in self._pairs.copy().items() if pair.source is None and pair.interval.is_intraday
        )

    # -- bars in

    def add_bar(self, symbol: str, interval: str, bar: Bar) -> Changed:
        """Take a closed bar from outside; return the pairs that got a bar by it: itself, then derived ones.

        Raises: NotFoundError; ConfigError (bad_bars) with the bar and the reason, (derived_pair), (outside_calendar).
        """
        entry, pair = self._writable(symbol, interval)
        with entry.lock:
            entry.cover_ns(bar.start_ns, bar.start_ns)
            return pair.append(bar)

    def merge_bars(self, symbol: str, interval: str, bars: Sequence[Bar]) -> Changed:
        """Put bars that came late in their places, then compute what follows from them; return the pairs that changed.

        Bars that are there stay as they are.
        Raises: as ``add_bar``.
        """
        entry, pair = self._writable(symbol, interval)
        if not bars:
            return []
        with entry.lock:
            entry.cover_ns(min(bar.start_ns for bar in bars), max(bar.start_ns for bar in bars))
            return pair.merge(bars)

    def load_history(self, symbol: str, interval: str, starts: Nanos, columns: Sequence[Floats]) -> Changed:
        """Put bars of the days before (and of today so far) in place of all; return the pairs that changed.

        Derived pairs follow, but where they were given a history of their own: then only what comes after it is made.
        Raises: NotFoundError; ConfigError (bad_bars) with row and reason, (outside_calendar).
        """
        entry = self._known(symbol)
        pair = entry.pairs.get(interval)
        if pair is None:
            raise _no_pair(symbol, interval)
        with entry.lock:
            if len(starts):
                entry.cover_ns(int(starts[0]), int(starts[-1]))
            return pair.load(starts, columns)

    def _known(self, symbol: str) -> SymbolData:
        found = self._symbols.get(symbol)
        if found is None:
            raise NotFoundError(f"{symbol} is not registered in this session.", code="unknown_symbol", symbol=symbol)
        return found

    def _writable(self, symbol: str, interval: str) -> tuple[SymbolData, Pair]:
        entry = self._known(symbol)
        pair = entry.pairs.get(interval)
        if pair is None:
            raise _no_pair(symbol, interval)
        if pair.source is not None:
            raise ConfigError(
                f"{symbol} {interval} is made of {pair.source.name[1]} bars; add those.", code="derived_pair"
            )
        return entry, pair

    # -- bars out

    def get_bars_ref(self, symbol: str, interval: str) -> BarSeries:
        """Return the closed bars, a reference that grows; an unknown pair is an empty series.

        Raises: ConfigError (unknown_interval) for what is no interval at all.
        """
        pair = self._pairs.get((symbol, interval))
        if pair is None:
            parse_interval(interval)
            return EMPTY
        return pair.series

    def get_historical_bars(self, symbol: str, interval: str, days: int) -> tuple[Nanos, Columns]:
        """Return the bars of the N trading days that end the day before the present session, as read-only views.

        Shape: starts, then open, high, low, close, volume.
        Raises: ConfigError (bad_count, clock_unset).
        """
        pair = self._pairs.get((symbol, interval))
        series = EMPTY if pair is None else pair.series
        columns = (series.open, series.high, series.low, series.close, series.volume)
        if pair is None:
            return series.starts, columns
        table, first, last = self._window(symbol, days)
        if pair.interval.is_intraday:
            low, high = np.searchsorted(series.starts, [table.pre[first], table.pre[last]])
        else:
            low, high = np.searchsorted(table.dates_of(series.starts), [table.days[first], table.days[last]])
        return series.starts[low:high], tuple(column[low:high] for column in columns)

    def get_historical_quality(self, symbol: str, interval: str, days: int) -> float:
        """Return how complete those bars are: the mean of the days; 0.0 for an unknown pair."""
        pair = self._pairs.get((symbol, interval))
        if pair is None:
            return 0.0
        table, first, last = self._window(symbol, days)
        return history_quality(pair.series.starts, pair.interval, table, table.day(first), table.day(last - 1))

    def _window(self, symbol: str, days: int) -> tuple[SessionTable, int, int]:
        """Return a calendar and the sessions of the window in it: from the first, up to today's, which is left out."""
        if days < 1:
            raise ConfigError(f"A window of history has at least 1 day, not {days}.", code="bad_count")
        now = self.calendar.now_ns()
        today = moment_of(now).date()
        table = self.calendar.session_table(self._known(symbol).exchange, today - timedelta(days=20 + 2 * days), today)
        session = table.session_at(now)
        return table, session - days, session

    # -- indicators

    def get_indicator(
        self, symbol: str, interval: str, name: str, period: int = 0, **params: float | str
    ) -> View | Nothing:
        """Return an indicator; asked for the first time it is computed over what is there.

        Raises: ConfigError (unknown_indicator, bad_indicator, unknown_interval).
        """
        pair = self._pairs.get((symbol, interval))
        if pair is None:
            make_request(name, interval, period, params)
            return NOTHING
        place = (name, period, *sorted(params.items())) if params else (name, period)
        found = pair.views.get(place)
        if found is None:
            request = make_request(name, interval, period, params)
            with self._known(symbol).lock:
                found = pair.views[place] = pair.indicator(request)
        return found

    def add_indicator(self, symbol: str, request: Request) -> View:
        """Declare an indicator of a symbol; the same again is the same.

        Raises: NotFoundError; ConfigError (duplicate_indicator) for other parameters under the same key.
        """
        entry = self._known(symbol)
        pair = entry.pairs.get(request.interval.text)
        if pair is None:
            raise _no_pair(symbol, request.interval.text)
        with entry.lock:
            for key, params in pair.indicators:
                if key == request.key and params != request.params:
                    raise ConfigError(
                        f"{symbol}: indicator {key} is there with other parameters.",
                        code="duplicate_indicator",
                        key=key,
                    )
            return pair.indicator(request)

    def get_indicators(self, symbol: str) -> dict[str, View]:
        """Return the indicators of a symbol by key, their main outputs."""
        entry = self._symbols.get(symbol)
        if entry is None:
            return {}
        return {
            one.key: one.views[one.request.spec.outputs[0]]
            for pair in list(entry.pairs.values())
            for one in list(pair.indicators.values())
        }

    # -- quality

    def get_bar_quality(self, symbol: str, interval: str) -> float:
        """Return how complete the present session's bars are, 0–100; 0.0 for an unknown pair.

        Raises: ConfigError (clock_unset).
        """
        pair = self._pairs.get((symbol, interval))
        if pair is None:
            return 0.0
        return pair.quality(self.calendar.now_ns()) if self.enable_quality else FULL

    get_quality_metric = get_bar_quality

    def get_gaps(self, symbol: str, interval: str) -> list[Gap]:
        """Return what the present session lacks up to now; none for days, weeks and unknown pairs."""
        pair = self._pairs.get((symbol, interval))
        if pair is None or not pair.interval.is_intraday:
            return []
        return pair.gaps(self.calendar.now_ns())

    # -- for people

    def get_symbol_metrics(self, symbol: str) -> dict[str, Any]:
        """Return figures of a symbol, JSON-able; what is not known is None.

        Raises: NotFoundError.
        """
        return self._known(symbol).figures(self.calendar.now_ns(), with_quality=self.enable_quality)

    def get_metrics(self) -> dict[str, Any]:
        """Return figures of the whole session, JSON-able."""
        pairs = self._pairs.copy()
        return {
            "symbols": len(self.symbols),
            "adhoc_symbols": len(self.adhoc_symbols),
            "pairs": len(pairs),
            "bars": sum(pair.series.count for pair in pairs.values()),
            "indicators": sum(len(pair.indicators) for pair in pairs.values()),
        }


def _no_pair(symbol: str, interval: str) -> NotFoundError:
    parse_interval(interval)
    return NotFoundError(
        f"{symbol} has no {interval} bars in this session.", code="unknown_pair", symbol=symbol, interval=interval
    )
