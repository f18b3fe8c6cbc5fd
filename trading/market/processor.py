"""DataProcessor: base bars in; derived bars, indicators and quality brought up to date; strategies told and waited for.

Owns: what happens to the bars of one moment and in which order, whom strategies hear of.
Leaves: bars, indicators and quality themselves (``session_data``), threads and waiting (``dispatcher``), when a moment
is (``coordinator``).
Rule: it alone adds bars, so that an indicator steps once a bar. All bars of a moment are worked on before anybody is
told; only pairs that got a new bar are told of. Symbols that are late, or there for scanners alone, are worked on in
silence, and so is everything while the session is held or not active.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from strategies.bar_series import Bar, BarSeries
from strategies.intervals import parse_interval
from trading.market.lag import SECOND_NS, LagControl
from trading.market.session_parts import RunMode, SessionConfig
from trading.market.session_rules import base_interval
from trading.market.session_table import TradingSession


class Store(Protocol):
    """The session's data, as its one writer sees it."""

    def begin_day(self, session: TradingSession) -> None:
        """Forget every symbol."""

    def add_symbol(
        self,
        symbol: str,
        intervals: Iterable[str],
        history: Mapping[str, BarSeries],
        today: Sequence[Bar],
        *,
        light: bool,
    ) -> None:
        """Take a symbol with its bars so far."""

    def remove_symbol(self, symbol: str) -> None:
        """Forget a symbol."""

    def append(self, symbol: str, bar: Bar) -> Sequence[str]:
        """Add a base bar; return the intervals that have a new bar, the base first."""

    def get_bar_quality(self, symbol: str, interval: str) -> float:
        """Return how complete today's bars are, 0–100."""

    def warm_up_bars(self) -> Mapping[str, int]:
        """Return how many bars the session's indicators need before the day, by interval."""


class Listeners(Protocol):
    """The strategies (``dispatcher``)."""

    def notify_strategies(self, symbol: str, interval: str, data_type: str = "bars") -> None:
        """Tell whoever follows a pair."""

    def wait_for_strategies(self, timeout: float | None = None) -> bool:
        """Wait for whoever has work left."""

    def notify_quality(self, symbol: str, interval: str, quality: float) -> None:
        """Tell whoever follows a pair when its quality fell."""


class DataProcessor:
    """Works on bars. One thread; ``bars`` and ``lag`` may be read by any."""

    def __init__(self, config: SessionConfig, store: Store, strategies: Listeners) -> None:
        streaming = config.session_data_config.streaming
        self.bars = 0
        self.lag = LagControl(streaming.catchup_threshold_seconds, streaming.catchup_check_interval)
        self._measures_lag = config.run_mode is not RunMode.DATA_DRIVEN
        self._base = base_interval(config.session_data_config.streams)
        self._length_ns = parse_interval(self._base).seconds * SECOND_NS
        self._store, self._strategies = store, strategies
        self._light: set[str] = set()
        self._is_active = self._is_held = False

    # -- a day

    def begin_day(self, session: TradingSession) -> None:
        """Forget yesterday."""
        self._store.begin_day(session)
        self._light.clear()
        self.lag.clear()

    def activate(self) -> None:
        """Tell strategies from now on."""
        self._is_active = True

    def deactivate(self) -> None:
        """Tell strategies nothing any more."""
        self._is_active = False

    def hold(self, is_held: bool) -> None:
        """Take bars in without telling strategies, or tell them again."""
        self._is_held = is_held

    # -- symbols

    def add_symbol(
        self,
        symbol: str,
        intervals: Iterable[str],
        history: Mapping[str, BarSeries],
        today: Sequence[Bar],
        *,
        light: bool,
    ) -> None:
        """Take a symbol; nobody is told of bars that were before."""
        self._store.add_symbol(symbol, intervals, history, today, light=light)
        if light:
            self._light.add(symbol)
        else:
            self._light.discard(symbol)

    def remove_symbol(self, symbol: str) -> None:
        """Forget a symbol."""
        self._store.remove_symbol(symbol)
        self._light.discard(symbol)
        self.lag.forget(symbol)

    def warm_up_bars(self) -> Mapping[str, int]:
        """Return how many bars the session's indicators need before the day, by interval."""
        return self._store.warm_up_bars()

    # -- bars

    def process(self, now_ns: int, bars: Sequence[tuple[str, Bar]]) -> None:
        """Work on the bars that ended now, tell strategies, wait for them as the mode asks for."""
        fresh: dict[tuple[str, str], None] = {}
        for symbol, bar in bars:
            for interval in self._store.append(symbol, bar):
                fresh[symbol, interval] = None
            self.bars += 1
            if self._measures_lag:
                self.lag.note(symbol, bar.start_ns + self._length_ns, now_ns)
        told = self._tell(fresh)
        if told:
            self._strategies.wait_for_strategies()

    def _tell(self, fresh: Iterable[tuple[str, str]]) -> int:
        if not self._is_active or self._is_held:
            return 0
        pairs = [pair for pair in fresh if pair[0] not in self._light and not self.lag.is_late(pair[0])]
        for symbol, interval in pairs:
            self._strategies.notify_quality(symbol, interval, self._store.get_bar_quality(symbol, interval))
        for symbol, interval in pairs:
            self._strategies.notify_strategies(symbol, interval, "bars")
        return len(pairs)
