"""The session's data as its processor writes it: which pairs a symbol has, its history, its indicators.

Owns: what the configuration means for a symbol's pairs and indicators. Leaves: bars, indicators and quality themselves
(``session_data``). Pure.
Rule: one base series a symbol comes from outside; everything within the day is made of it. Stored days and weeks stay
as they are, and go on with what the session makes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from strategies.bar_series import Bar, BarSeries
from strategies.intervals import parse_interval
from trading.market.indicators.registry import Request, make_request
from trading.market.session_data import SessionData
from trading.market.session_parts import SessionConfig
from trading.market.session_rules import base_interval
from trading.market.session_table import TradingSession
from trading.market.time_manager import TimeManager


def make_session_data(config: SessionConfig, clock: TimeManager) -> SessionData:
    """Return empty data for a session."""
    is_measured = config.session_data_config.gap_filler.enable_session_quality
    return SessionData(clock, exchange=config.exchange_group, enable_quality=is_measured)


class SessionStore:
    """Writes a session's data. One thread."""

    def __init__(self, config: SessionConfig, data: SessionData) -> None:
        self._data = data
        self._base = base_interval(config.session_data_config.streams)
        self._streams = config.session_data_config.streams
        self._requests = requests_of(config)

    def begin_day(self, session: TradingSession) -> None:
        """Forget every symbol."""
        self._data.clear()

    def add_symbol(
        self,
        symbol: str,
        intervals: Iterable[str],
        history: Mapping[str, BarSeries],
        today: Sequence[Bar],
        *,
        light: bool,
    ) -> None:
        """Take a symbol with its bars so far; one that is there gets what it lacks.

        ``history``: closed bars of the days before, of the base interval and of days; ``intervals`` are made beside
        those of the session.
        Raises: ConfigError (bad_bars, unknown_indicator, …).
        """
        wanted = {*intervals, *history} if light else {*intervals, *history, *self._streams, *self._of_indicators()}
        derived = sorted(wanted - {self._base}, key=lambda text: parse_interval(text).seconds)
        self._data.register_symbol(symbol, self._base, derived, adhoc=light)
        for interval, bars in history.items():
            if interval != self._base:
                self._load(symbol, bars)
        self._load(symbol, with_today(history.get(self._base) or BarSeries(symbol, self._base), today))
        if not light:
            for request in self._requests:
                self._data.add_indicator(symbol, request)

    def _load(self, symbol: str, bars: BarSeries) -> None:
        starts, columns = bars.whole()
        if len(starts):
            self._data.load_history(symbol, bars.interval, starts, columns)

    def _of_indicators(self) -> set[str]:
        return {request.interval.text for request in self._requests}

    def remove_symbol(self, symbol: str) -> None:
        """Forget a symbol.

        Raises: ConflictError (symbol_locked).
        """
        self._data.remove_symbol(symbol)

    def append(self, symbol: str, bar: Bar) -> Sequence[str]:
        """Add a base bar; return the intervals that have a new bar, the base first."""
        return [interval for _, interval in self._data.add_bar(symbol, self._base, bar)]

    def get_bar_quality(self, symbol: str, interval: str) -> float:
        """Return how complete today's bars are, 0–100."""
        return self._data.get_bar_quality(symbol, interval)

    def warm_up_bars(self) -> Mapping[str, int]:
        """Return how many bars the session's indicators need before the day, by interval."""
        needed: dict[str, int] = {}
        for request in self._requests:
            text = request.interval.text
            needed[text] = max(needed.get(text, 0), request.warm_up)
        return needed


def requests_of(config: SessionConfig) -> list[Request]:
    """Return the indicators that the configuration asks for.

    Raises: ConfigError (unknown_indicator, bad_indicator).
    """
    indicators = config.session_data_config.indicators
    session = [make_request(one.name, one.interval, one.period, one.params) for one in indicators.session]
    return session + [
        make_request(one.name, one.interval, one.period, one.params, unit=one.unit) for one in indicators.historical
    ]


def with_today(history: BarSeries, today: Sequence[Bar]) -> BarSeries:
    """Return bars of the days before and of today as one series, all visible."""
    if not today:
        return history
    starts, columns = history.whole()
    new_starts, *new_columns = (np.array(column) for column in zip(*today, strict=True))
    joined = [np.concatenate(pair) for pair in zip(columns, new_columns, strict=True)]
    whole = np.concatenate([starts, new_starts.astype(np.int64)])
    return BarSeries.from_columns(history.symbol, history.interval, whole, joined, len(whole))
