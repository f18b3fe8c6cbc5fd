"""One live series of one instrument: its bars, its indicators, who is told, and whether a bar follows on.

Owns: adding bars, whether one follows on the last. Leaves: where they come from (``live_bars``), windows
(``live_windows``), what follows from a bar (``session_pair``).
Rule: a series grows at its end only. One writer; indicators may be asked for from other threads.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from strategies.bar_series import Bar, BarSeries
from strategies.intervals import Interval
from trading.market.indicators.indicator import View
from trading.market.indicators.registry import make_request
from trading.market.live_windows import WindowBuilder, window_at
from trading.market.session_pair import Pair
from trading.market.session_table import SessionTable

Turn = Callable[[int, int, Sequence[str]], None]  # contract id, end of the instant in nanoseconds, intervals that grew
Trouble = Callable[[str], None]


@dataclass(slots=True, eq=False)
class Following:
    """One follower of one instrument; ``feeds`` by interval."""

    con_id: int
    on_turn: Turn
    on_trouble: Trouble
    feeds: dict[str, Feed] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Feed:
    """One series with its indicators, and who is told of it."""

    interval: Interval
    pair: Pair
    depth: int  # bars wanted before the first live one
    regular_hours: bool
    builder: WindowBuilder = field(default_factory=WindowBuilder)
    followers: list[Following] = field(default_factory=list)
    waiting: list[Bar] = field(default_factory=list)  # closed, behind a fill that is under way
    filling: asyncio.Task[None] | None = None
    has_history: bool = False
    was_tried: asyncio.Event = field(default_factory=asyncio.Event)  # history was asked for once, whatever came of it
    given_up_ns: int = 0  # windows up to here that are missing will not come any more
    shuts_at: int | None = None  # of days: when the session ends whose bar is fetched then
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def series(self) -> BarSeries:
        """Return the closed bars, a reference that grows."""
        return self.pair.series

    @property
    def name(self) -> str:
        """Return its name, for people."""
        return " ".join(self.pair.name)

    def indicator(self, name: str, period: int, params: Mapping[str, float | str]) -> View:
        """Return an indicator, computed over what is there when it is new. Thread-safe.

        Raises: ConfigError (unknown_indicator, bad_indicator).
        """
        request = make_request(name, self.interval.text, period, params)
        with self.lock:
            return self.pair.indicator(request)

    def append(self, bars: Sequence[Bar]) -> None:
        """Add closed bars at the end; those that are there already are left out."""
        with self.lock:
            for bar in bars:
                if not len(self.series) or bar.start_ns > int(self.series.starts[-1]):
                    self.pair.append(bar)

    def joins(self, bar: Bar, table: SessionTable) -> bool:
        """Tell whether a closed bar follows the last of the series, or begins a session."""
        if not len(self.series):
            return not self.has_history
        before = window_at(bar.start_ns - 1, self.interval, table, regular_hours=self.regular_hours)
        return before is None or before[1] <= self.given_up_ns or int(self.series.starts[-1]) >= before[0]
