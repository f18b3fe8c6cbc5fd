"""What a strategy sees of a run: bars and indicators through the cursor, and the clock.

Owns: the ports that a strategy's context is made of. Leaves: moving the cursors (``engine``), session data and
indicators themselves (``market.session_data``), which are the same live.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any

from strategies.bar_series import BarSeries, Floats, Nanos
from strategies.exceptions import ConflictError
from strategies.reactive import IndicatorView
from trading.backtest.arrays import plain_view
from trading.market.calendars import EQUITY, Overrides
from trading.market.indicators.indicator import Nothing, View
from trading.market.session_data import SessionData
from trading.market.session_table import SessionTable
from trading.market.time_manager import BACKTEST, TimeManager


class RunClock(TimeManager):
    """The session clock of a run; ``at`` is the index of the present moment."""

    def __init__(self, overrides: Overrides, tables: Iterable[SessionTable] = ()) -> None:
        super().__init__(BACKTEST, overrides=overrides)
        self._given = {table.group: table for table in tables}
        self._moments: Any = [0]
        self.at = 0

    def follow(self, moments: Nanos) -> None:
        """Take the moments that the run goes through."""
        self._moments, self.at = plain_view(moments), 0

    def now_ns(self) -> int:
        """Return the present in epoch nanoseconds."""
        now: int = self._moments[self.at]
        return now

    def set_time_ns(self, nanos: int) -> None:
        """Refuse: the bars move this clock.

        Raises: ConflictError (run_clock).
        """
        raise ConflictError("The clock of a backtest goes from bar to bar; nobody sets it.", code="run_clock")

    def session_table(
        self,
        exchange: str | None = None,
        first: date | None = None,
        last: date | None = None,
        *,
        asset_class: str = EQUITY,
    ) -> SessionTable:
        """Return the run's own table where it reaches, else what the calendar says."""
        given = self._given.get(self._group(exchange))
        if given is None or first is None or last is None or asset_class != EQUITY:
            return super().session_table(exchange, first, last, asset_class=asset_class)
        if given.first_day <= first and last <= given.last_day:
            return given
        return super().session_table(exchange, first, last, asset_class=asset_class)


class RunData(SessionData):
    """Session data of a run, with indicators that are read at a third of the cost: all their values are there."""

    def __init__(self, calendar: TimeManager) -> None:
        super().__init__(calendar)
        self._fast: dict[tuple[Any, ...], IndicatorView] = {}

    def get_indicator(  # type: ignore[override]  # the port says what is promised
        self, symbol: str, interval: str, name: str, period: int = 0, **params: float | str
    ) -> IndicatorView:
        """Return an indicator, computed once over all bars.

        Raises: ConfigError (unknown_indicator, bad_indicator, unknown_interval).
        """
        place = (symbol, interval, name, period, *sorted(params.items()))
        found = self._fast.get(place)
        if found is None:
            made = super().get_indicator(symbol, interval, name, period, **params)
            found = self._fast[place] = made if isinstance(made, Nothing) else RunView(made)
        return found


class RunView:
    """One output of an indicator whose values are all laid out."""

    __slots__ = ("_bars", "_numbers", "_view")

    def __init__(self, view: View) -> None:
        self._view = view
        self._bars: BarSeries = view.bars
        self._numbers = plain_view(view.whole)

    @property
    def key(self) -> str:
        """Return the indicator's name in its session."""
        return self._view.key

    @property
    def value(self) -> float | None:
        """Return the latest value, None while it warms up."""
        place = self._bars.count
        if place < 1:
            return None
        found: float = self._numbers[place - 1]
        return found if found == found else None

    @property
    def previous(self) -> float | None:
        """Return the value one bar before, None while it warmed up."""
        place = self._bars.count
        if place < 2:
            return None
        found: float = self._numbers[place - 2]
        return found if found == found else None

    @property
    def values(self) -> Floats:
        """Return the visible values, a read-only view as long as the bars."""
        return self._view.values

    def output(self, name: str) -> RunView:
        """Return another output, such as the signal of macd.

        Raises: ConfigError (bad_indicator) naming the outputs.
        """
        return RunView(self._view.output(name))
