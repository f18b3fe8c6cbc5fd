"""The bars of one symbol and interval with everything that follows from them: indicators, counts, derived bars.

Owns: the order in which a new bar is taken over, computing all anew after late bars. Leaves: which pairs there are,
locks between threads, the clock (``session_data``). Pure.
Rule: what follows from a bar is known before the bar becomes visible; each indicator is stepped here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from strategies.bar_series import Bar, BarSeries, Floats, Nanos, check_columns, moment_of
from strategies.exceptions import ConfigError
from strategies.intervals import Interval, parse_interval
from trading.market.derived import WEEK, Deriver, TableOf, derive, make_deriver
from trading.market.gaps import Gap, find_gaps
from trading.market.indicators.indicator import Indicator, View
from trading.market.indicators.registry import Request
from trading.market.quality import FULL, counts_as_bar, finished_weeks, quality_of, running_counts
from trading.market.session_table import SECOND_NS, SessionTable

_ROOM = 512
_NEVER = 2**63 - 1
Changed = list[tuple[str, str]]
Hours = tuple[int, int, list[tuple[int, int]]]


def _hours(table: SessionTable, now_ns: int) -> Hours:
    session = table.session_at(now_ns)
    until = int(table.pre[session + 1]) if session + 1 < len(table) else _NEVER
    if session < 0:
        return -_NEVER, until, []
    return int(table.pre[session]), until, table.segments_of(session)


class Pair:
    """One symbol and interval. ``source`` is the pair that its bars are derived from, None for bars from outside."""

    def __init__(self, series: BarSeries, table: TableOf, source: Pair | None = None) -> None:
        self.series, self.source = series, source
        self.interval: Interval = parse_interval(series.interval)
        self.name = (series.symbol, series.interval)
        self.children: list[Pair] = []
        self.indicators: dict[tuple[str, tuple[tuple[str, Any], ...]], Indicator] = {}
        self.views: dict[Any, View] = {}
        self.has_own_history = False
        self._table = table
        self._hours: Hours = (0, 0, [])
        self._hours_table: SessionTable | None = None
        self._deriver: Deriver | None = make_deriver(source.interval, self.interval, table) if source else None
        whole = series.whole()[0]
        # Bars that are laid out are counted when somebody asks; those that come are counted as they come.
        self._counts: Nanos | None = None
        if len(whole) == series.count:
            self._counts = running_counts(whole, self.interval, table()) if len(whole) else np.zeros(0, dtype=np.int64)
        if source is not None:
            source.children.append(self)

    # -- new bars

    def append(self, bar: Bar) -> Changed:
        """Take a closed bar at the end; return the pairs that got one, this one first.

        Raises: ConfigError (bad_bars) with the bar and the reason; nothing is changed then.
        """
        problem = self.series.problem_with(bar)
        if problem:
            raise ConfigError(
                f"{self.name[0]} {self.name[1]}: the bar of {bar.timestamp:%Y-%m-%d %H:%M:%S}Z {problem}.",
                code="bad_bars",
                symbol=self.name[0],
                interval=self.name[1],
            )
        table = self._table()
        try:
            for indicator in list(self.indicators.values()):
                indicator.step(bar, table)
        except Exception:
            self.recompute()  # none may have taken a bar that is not there
            raise
        self._count(bar, table)
        self.series.append(bar)
        changed = [self.name]
        for child in self.children:
            changed += child.take(bar)
        return changed

    def take(self, bar: Bar) -> Changed:
        """Take a bar of the source; return the pairs that got a bar of it."""
        made = self._deriver.step(bar) if self._deriver is not None else None
        return [] if made is None or self._is_old(made.start_ns) else self.append(made)

    def _is_old(self, start_ns: int) -> bool:
        """Tell whether a derived bar is there: a stored day is stamped at midnight, a derived one at the open."""
        if not self.series.count:
            return False
        last = int(self.series.starts[-1])
        if self.interval.is_intraday:
            return start_ns <= last
        dates = self._table().dates_of(np.array([last, start_ns], dtype=np.int64))
        return bool(dates[1] <= dates[0])

    def _count(self, bar: Bar, table: SessionTable) -> None:
        if self._counts is None:
            return
        place = self.series.count
        if place == len(self._counts):
            self._counts = np.concatenate([self._counts, np.zeros(max(place, _ROOM), dtype=np.int64)])
        before = 0
        if place and (
            not self.interval.is_intraday
            or table.session_at(int(self.series.starts[-1])) == table.session_at(bar.start_ns)
        ):
            before = int(self._counts[place - 1])
        self._counts[place] = before + counts_as_bar(bar.start_ns, self.interval, table)

    # -- bars that came late, or all at once

    def load(self, starts: Nanos, columns: Sequence[Floats]) -> Changed:
        """Put other bars in place of all; return the pairs that changed.

        Raises: ConfigError (bad_bars) with row and reason; nothing is changed then.
        """
        changed = self._put(starts, columns)
        self.has_own_history = True
        return changed

    def merge(self, bars: Sequence[Bar]) -> Changed:
        """Put late bars in their places; return the pairs that changed, none when all were there.

        Raises: ConfigError (bad_bars) with row and reason; nothing is changed then.
        """
        merged = self.series.merged(bars)
        return [] if merged is None else self._put(*merged)

    def recompute(self) -> Changed:
        """Compute everything anew from the bars that are there: the calendar changed."""
        starts, columns = self.series.whole()
        self._follow(starts, columns)
        if len(starts) != self.series.count:  # laid out for a backtest, whose derived bars are, too
            return [self.name]
        return [self.name, *(name for child in self.children for name in child.remake())]

    def _put(self, starts: Nanos, columns: Sequence[Floats]) -> Changed:
        """Compute what follows from bars, then show them: a reader never looks for a value that is not there."""
        check_columns(*self.name, starts, columns)
        self._follow(starts, columns)
        self.series.load(starts, columns)
        return [self.name, *(name for child in self.children for name in child.remake())]

    def _follow(self, starts: Nanos, columns: Sequence[Floats]) -> None:
        table = self._table()
        if self._counts is not None:
            self._counts = running_counts(starts, self.interval, table)
        for indicator in list(self.indicators.values()):
            indicator.recompute(starts, columns, table)

    def remake(self) -> Changed:
        """Make this pair's bars anew from its source; stored history stays, only what comes after it is made."""
        source = self.source
        if source is None:
            return []
        table = self._table()
        starts, columns = source.series.whole()
        made, values = derive(starts, columns, source.interval, self.interval, table)
        changed = self._put(*(self._beside_history(made, values) or (made, values)))
        self.rewind()
        return changed

    def _beside_history(self, made: Nanos, values: Sequence[Floats]) -> tuple[Nanos, Sequence[Floats]] | None:
        """Return the stored bars and what was derived after them; None without stored ones."""
        if not self.has_own_history or not self.series.count:
            return None
        starts = self.series.starts
        if self.interval.is_intraday:
            later = made > starts[-1]
        else:
            dates = self._table().dates_of
            later = dates(made) > dates(starts)[-1]
        rows = later | np.isin(made, starts)  # those that are there may be mended by late bars
        bars = [Bar(*row) for row in zip(made[rows].tolist(), *(one[rows].tolist() for one in values), strict=True)]
        series = self.series
        return series.merged(bars, replace=True) or series.whole()

    def rewind(self) -> None:
        """Make ready to go on after the source's last bar."""
        if self.source is None:
            return
        self._deriver = make_deriver(self.source.interval, self.interval, self._table)
        table, bars = self._table(), self.source.series
        if not bars.count or not len(table):
            return
        session = max(0, table.session_at(int(bars.starts[-1])))
        if self.interval == WEEK:
            session = int(np.searchsorted(table.weeks, table.weeks[session]))
            first = int(np.searchsorted(table.dates_of(bars.starts), table.days[session]))
        else:
            first = int(np.searchsorted(bars.starts, table.pre[session]))
        for bar in bars[first:]:
            self._deriver.step(bar)

    # -- indicators

    def indicator(self, request: Request) -> View:
        """Return an indicator's main output, computed over what is there when it is new."""
        place = (request.key, request.params)
        found = self.indicators.get(place)
        if found is None:
            found = self.indicators[place] = Indicator(request, self.series, self._table())
        return found.views[request.spec.outputs[0]]

    # -- quality

    def quality(self, now_ns: int) -> float:
        """Return how complete the bars of the present session are, the source's included; of days, all of them."""
        own = self._session_quality(now_ns) if self.interval.is_intraday else self._days_quality(now_ns)
        return own if self.source is None else min(own, self.source.quality(now_ns))

    def _session_quality(self, now_ns: int) -> float:
        begins, ends, segments = self._hours_at(now_ns)
        if not segments or now_ns < segments[0][0]:
            return FULL
        length = self.interval.seconds * SECOND_NS
        expected = 0
        for opens, closes in segments:
            expected += max(0, min(now_ns, closes) - opens) // length
        there = 0
        if begins <= self.series.last_start_ns < ends:
            counts = self._counts
            if counts is None:
                counts = self._counts = running_counts(self.series.whole()[0], self.interval, self._table())
            there = counts.item(min(self.series.count, len(counts)) - 1)
        return quality_of(there, expected)

    def _hours_at(self, now_ns: int) -> Hours:
        """Return when the present session's pre-market began, when the next one's does, and its open stretches.

        Kept until it is over: a backtest may ask at every bar.
        """
        table = self._table()
        if self._hours_table is not table or not self._hours[0] <= now_ns < self._hours[1]:
            self._hours_table, self._hours = table, _hours(table, now_ns)
        return self._hours

    def _days_quality(self, now_ns: int) -> float:
        """Days (or weeks) that are there ÷ those that are over since the first of them."""
        table, count = self._table(), self.series.count
        over = int(np.searchsorted(table.closes, now_ns, side="right"))
        if not count:
            return FULL if not over else 0.0
        starts = self.series.starts
        first = int(np.searchsorted(table.days, table.dates_of(starts[:1])[0]))
        early = 0  # bars that are there before their time is over
        while early < count and self.interval.unit == "d" and over < len(table):
            if table.dates_of(starts[count - early - 1 : count - early])[0] < table.days[over]:
                break
            early += 1
        there = (count - early) * self.interval.count
        if self.interval.unit == "d":
            return quality_of(there, over - first)
        return quality_of(there, len(finished_weeks(table, first, over)))

    def gaps(self, now_ns: int) -> list[Gap]:
        """Return what the present session lacks up to a moment; none for days and weeks."""
        if not self.interval.is_intraday:
            return []
        table = self._table()
        return find_gaps(self.series.starts, self.interval, table, table.session_at(now_ns), now_ns)

    # -- for people

    def figures(self, now_ns: int, *, with_quality: bool) -> dict[str, Any]:
        """Return what there is, JSON-able."""
        count = self.series.count
        return {
            "bars": count,
            "last": moment_of(self.series.last_start_ns).isoformat() if count else None,
            "quality": round(self.quality(now_ns), 2) if with_quality else FULL,
            "gaps": len(self.gaps(now_ns)),
            "derived_from": self.source.name[1] if self.source is not None else None,
            "indicators": sorted(key for key, _ in self.indicators),
        }
