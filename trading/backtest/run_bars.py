"""Bars of a run as an imperative strategy asks for them: any timeframe that the base bars make up, to the cursor.

Owns: deriving longer bars once, cutting them at the present. Leaves: which bars there are (``arrays``), the request's
dates (``strategies.data``). Rule: a bar is there once it ended; whatever end a strategy names, nothing later is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING

import numpy as np
from ib_async import Contract

from strategies.bar_series import Floats, Nanos, nanos_of
from strategies.data import COLUMNS, moment_meant
from strategies.exceptions import ConfigError, NotFoundError
from strategies.intervals import Interval, parse_interval
from strategies.timeframes import Timeframe, parse_timeframe
from trading.backtest.arrays import Track
from trading.backtest.sessions import edges
from trading.market.derived import derive

if TYPE_CHECKING:
    import pandas as pd

Whole = tuple[Nanos, Nanos, tuple[Floats, ...]]
"""Starts, ends and columns of all bars of the run, those to come included."""


class RunBars:
    """The bars of a run; implements ``market_access.Bars``."""

    def __init__(
        self,
        bases: Mapping[str, Track],
        symbol_of: Callable[[Contract], str | None],
        now: Callable[[], datetime],
    ) -> None:
        self._bases, self._symbol_of, self._now = bases, symbol_of, now
        self._made: dict[tuple[str, str], Whole] = {}

    def interval_of(self, symbol: str) -> Interval:
        """Return the length of the bars that orders in a symbol meet."""
        return self._bases[symbol].interval

    async def read(
        self,
        contract: Contract,
        timeframe: str,
        start: str | date | datetime,
        end: str | date | datetime,
        *,
        use_rth: bool = True,
        force_download: bool = False,
    ) -> pd.DataFrame:
        """Return the bars that ended by now within [start, end]; hours are those of the run's bars.

        Shape: index UTC, the bar's start; columns open, high, low, close, volume as float.
        Raises: ConfigError (unknown_timeframe, not_derivable, bad_date); NotFoundError (no_bars).
        """
        import pandas as pd

        frame, now = parse_timeframe(timeframe), self._now()
        starts, columns = self._visible(contract, frame, now)
        until = nanos_of(moment_meant(end, now, is_end=True))
        first = 0 if start == "max" else int(np.searchsorted(starts, nanos_of(moment_meant(start, now, is_end=False))))
        last = int(np.searchsorted(starts, until, side="right"))
        if first >= last:
            raise NotFoundError(f"The run has no {frame.key} bars of {contract.symbol} there.", code="no_bars")
        index = pd.DatetimeIndex(starts[first:last].view("datetime64[ns]"), tz="UTC", name="ts")
        values = {name: column[first:last].copy() for name, column in zip(COLUMNS, columns, strict=True)}
        return pd.DataFrame(values, index=index)

    def _visible(self, contract: Contract, frame: Timeframe, now: datetime) -> tuple[Nanos, tuple[Floats, ...]]:
        symbol = self._symbol_of(contract)
        if symbol is None:
            raise NotFoundError(f"The run has no bars of {contract.symbol}.", code="no_bars")
        starts, ends, columns = self._whole(symbol, frame)
        seen = int(np.searchsorted(ends, nanos_of(now), side="right"))
        base = self._bases[symbol]
        if frame.key == base.interval.key:
            seen = min(seen, base.series.count)  # at this very moment the cursor decides
        return starts[:seen], tuple(column[:seen] for column in columns)

    def _whole(self, symbol: str, frame: Timeframe) -> Whole:
        found = self._made.get((symbol, frame.key))
        if found is None:
            found = self._made[symbol, frame.key] = self._make(self._bases[symbol], _interval_of(frame))
        return found

    def _make(self, base: Track, interval: Interval) -> Whole:
        starts, columns = base.series.whole()
        if interval == base.interval:
            return starts, base.ends, columns
        made, cut = derive(starts, columns, base.interval, interval, base.sessions)
        return made, edges(interval, made, base.sessions)[1], cut


def _interval_of(frame: Timeframe) -> Interval:
    count, unit = frame.key.split("_")
    if unit == "hour":
        return parse_interval(f"{int(count) * 60}m")
    return parse_interval(f"{count}{unit[0]}")


def timeframe_of(interval: Interval) -> str:
    """Return the store's name of an interval that is one of IB's bar lengths.

    Raises: ConfigError (unknown_timeframe).
    """
    key = parse_timeframe(interval.key).key
    if key != interval.key:
        raise ConfigError(f"IB has no bars of {interval.text}.", code="unknown_timeframe")
    return key
