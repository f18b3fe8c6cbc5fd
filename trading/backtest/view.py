"""What a strategy sees of a run: bars and indicators through the cursor, and the clock.

Owns: the ports that a strategy's context is made of. Leaves: moving the cursors (``engine``).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from strategies.bar_series import BarSeries, Nanos
from strategies.exceptions import ConfigError, ConflictError
from strategies.reactive import IndicatorView
from trading.backtest.arrays import Pair, plain_view
from trading.market.calendars import Overrides
from trading.market.time_manager import BACKTEST, TimeManager

_NO_STARTS = np.empty(0, dtype=np.int64)
_NO_VALUES = np.empty(0, dtype=np.float64)


class RunClock(TimeManager):
    """The session clock of a run; ``at`` is the index of the present moment."""

    def __init__(self, moments: Nanos, overrides: Overrides) -> None:
        super().__init__(BACKTEST, overrides=overrides)
        self._moments = plain_view(moments)
        self.at = 0

    def now_ns(self) -> int:
        """Return the present in epoch nanoseconds."""
        now: int = self._moments[self.at]
        return now

    def set_time_ns(self, nanos: int) -> None:
        """Refuse: the bars move this clock.

        Raises: ConflictError (run_clock).
        """
        raise ConflictError("The clock of a backtest goes from bar to bar; nobody sets it.", code="run_clock")


class RunData:
    """Bars and indicators of a run."""

    def __init__(self, bars: Mapping[Pair, BarSeries]) -> None:
        self._bars = bars
        self._unknown: dict[Pair, BarSeries] = {}

    def get_bars_ref(self, symbol: str, interval: str) -> BarSeries:
        """Return the closed bars; an unknown pair is an empty series."""
        pair = symbol, interval
        found = self._bars.get(pair)
        if found is None:
            found = self._unknown.get(pair)
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
