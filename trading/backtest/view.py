"""What a strategy sees of a run: bars and indicators through the cursor, and the clock.

Owns: the ports that a strategy's context is made of. Leaves: moving the cursors (``engine``).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import numpy as np

from strategies.bar_series import BarSeries, Nanos, moment_of
from strategies.exceptions import ConfigError
from strategies.reactive import IndicatorView
from trading.backtest.arrays import Pair

_NO_STARTS = np.empty(0, dtype=np.int64)
_NO_VALUES = np.empty(0, dtype=np.float64)


class RunClock:
    """The present of a run; ``at`` is the index of the moment."""

    __slots__ = ("_moments", "at")

    def __init__(self, moments: Nanos) -> None:
        self._moments = memoryview(moments)
        self.at = 0

    @property
    def now_ns(self) -> int:
        """Return the present in epoch nanoseconds."""
        now: int = self._moments[self.at]
        return now

    def get_current_time(self) -> datetime:
        """Return the present, aware UTC."""
        return moment_of(self.now_ns)


class RunData:
    """Bars and indicators of a run."""

    def __init__(self, bars: Mapping[Pair, BarSeries]) -> None:
        self._bars = bars
        self._unknown: dict[Pair, BarSeries] = {}

    def get_bars_ref(self, symbol: str, interval: str) -> BarSeries:
        """Return the closed bars; an unknown pair is an empty series."""
        pair = symbol, interval
        found = self._bars.get(pair) or self._unknown.get(pair)
        if found is None:
            found = BarSeries.from_columns(symbol, interval, _NO_STARTS.copy(), [_NO_VALUES.copy() for _ in range(5)])
            self._unknown[pair] = found
        return found

    def get_bar_quality(self, symbol: str, interval: str) -> float:
        """Return how complete the bars are; 0.0 for an unknown pair."""
        return 100.0 if (symbol, interval) in self._bars else 0.0

    def get_indicator(self, symbol: str, interval: str, name: str, period: int = 0, **params: float) -> IndicatorView:
        """Return an indicator, computed once over all bars.

        Raises: ConfigError (unknown_indicator).
        """
        raise ConfigError(f"The indicator «{name}» is not known.", code="unknown_indicator")
