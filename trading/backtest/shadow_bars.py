"""The bars that a strategy saw in a life, out of the store: put together as the live ones were.

Owns: which stored series an interval is made of, how much history there is before the start, what is missing.
Leaves: windows (``live_windows``), reading (``shadow_store``).
Rule: recorded 5-second bars make up windows; a window that lacks a part is that of the history, as it is live. At a
start there are so many bars of each subscription as the strategy declares, and all of the session that runs. A day
whose bars are not whole can tell nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from strategies.bar_series import FIELDS, Bar, BarSeries, moment_of
from strategies.exceptions import ConfigError
from strategies.intervals import Interval, parse_interval
from strategies.reactive import ReactiveStrategy
from strategies.timeframes import TIMEFRAMES
from trading.backtest.arrays import Pair
from trading.backtest.contracts import BacktestSpec, InstrumentTerms, StrategyEntry
from trading.backtest.cuts import Cutter
from trading.backtest.sessions import sessions_around
from trading.backtest.shadow import Life
from trading.backtest.shadow_record import LiveOrder
from trading.backtest.shadow_store import StoredBars
from trading.market.calendar_rows import load_overrides
from trading.market.derived import DAY, derive
from trading.market.live_history import live_interval, reach_of, source_of
from trading.market.live_windows import closed_from, window_at
from trading.market.quality import expected_starts
from trading.market.session_table import SECOND_NS, SessionTable

RECORDED = "5_secs"
_RIGHT_AFTER_NS = 60 * SECOND_NS
_MISSING = 0.02  # of the bars of a life; more of them and decisions may be others
_SPARE = timedelta(days=7)


class DayBars:
    """Reads the bars of one strategy; ``versions`` and ``reasons`` say afterwards what was read and what is missing."""

    def __init__(self, entry: StrategyEntry, kind: type[ReactiveStrategy]) -> None:
        self._entry, self._kind = entry, kind
        self._overrides = load_overrides()
        self._table: SessionTable
        self._is_regular = True
        self._store = StoredBars()
        self.reasons: list[str] = []

    @property
    def versions(self) -> Mapping[str, str]:
        """Return the version of each series that was read."""
        return self._store.versions

    @property
    def notes(self) -> Sequence[str]:
        """Return what a reader must know of the series."""
        return self._store.notes

    def spec_of(self, life: Life, config: Mapping[str, Any]) -> BacktestSpec | None:
        """Return the bars of a life with its warm-up before it; None when no bar ended in it.

        Raises: ConfigError (no_subscription, unknown_interval).
        """
        made = self._kind(self._entry.name, dict(config))
        pairs = list(dict.fromkeys((symbol, interval) for symbol, interval in made.get_subscriptions()))
        if not pairs:
            raise ConfigError(f"{self._entry.name} subscribes to nothing.", code="no_subscription")
        is_regular = self._is_regular = bool(config.get("regular_hours", True))
        intervals = {text: live_interval(text) for _, text in pairs}
        reach = max(reach_of(one, made.warm_up_bars, regular_hours=is_regular) for one in intervals.values()) + _SPARE
        around = np.array([life.begin_ns - nanos_in(reach), life.end_ns], dtype=np.int64)
        self._table = sessions_around(InstrumentTerms("").exchange, around, self._overrides)
        bars: dict[Pair, BarSeries] = {}
        for symbol, text in pairs:
            found = self._series(symbol, intervals[text], moment_of(life.begin_ns) - reach, life, is_regular)
            if found is None:
                return None
            bars[symbol, text] = found
        spec = BacktestSpec(
            strategies=[self._entry],
            bars=bars,
            start=moment_of(life.begin_ns),
            end=moment_of(life.end_ns),
            instruments={symbol: InstrumentTerms(symbol) for symbol, _ in pairs},
            overrides=self._overrides,
        )
        return Cutter(spec, pairs).from_moment(life.begin_ns, made.warm_up_bars, self._today(life.begin_ns, is_regular))

    def _today(self, begin_ns: int, is_regular: bool) -> int:
        """Return when the session began in which the life begins; the start itself outside of one."""
        table = self._table
        session = table.session_at(begin_ns)
        if session < 0 or begin_ns >= table.post[session]:
            return begin_ns
        return min(begin_ns, int(table.opens[session] if is_regular else table.pre[session]))

    def _series(
        self, symbol: str, interval: Interval, first: datetime, life: Life, is_regular: bool
    ) -> BarSeries | None:
        """The bars of one subscription, or None when none ended in the life; what lacks is among the reasons."""
        end = moment_of(life.end_ns)
        today = moment_of(self._today(life.begin_ns, is_regular))
        bars: dict[int, Bar] = {}
        # Of two bars of one window the one of the later series counts: it is nearer to what was seen.
        for key in dict.fromkeys(("1_min", source_of(interval).key, RECORDED)):
            length = TIMEFRAMES[key].length
            if length.total_seconds() <= interval.seconds:
                parts = self._store.read(symbol, key, today if key == RECORDED and interval.seconds > 5 else first, end)
                bars |= {bar.start_ns: bar for bar in self._closed(parts, length, interval, is_regular)}
        series = _series_of(symbol, interval.text, [bars[start] for start in sorted(bars) if start < life.end_ns])
        return series if self._is_whole(series, interval, life) else None

    def _closed(self, parts: list[Bar], length: timedelta, interval: Interval, is_regular: bool) -> list[Bar]:
        """The bars of an interval that lie whole in shorter ones, or are these."""
        if interval.is_intraday:
            return closed_from(parts, nanos_in(length), interval, self._table, is_regular)
        return parts if length >= timedelta(days=1) else _days_of(parts, length, self._table)

    def look_behind(self, orders: Iterable[LiveOrder], specs: Iterable[tuple[Life, BacktestSpec]]) -> None:
        """Note the bars that are not on record although an order was placed right after them."""
        gone: list[str] = []
        for life, spec in specs:
            for symbol, text in spec.bars:
                starts = set(spec.bars[symbol, text].whole()[0].tolist())
                of_life = (
                    one for one in orders if one.symbol == symbol and life.begin_ns < one.placed_ns <= life.end_ns
                )
                before = (self._window_before(one, live_interval(text)) for one in of_life)
                gone += [f"{symbol} {text} of {_text(start)}" for start in before if start not in starts and start]
        if gone:
            self.reasons.append(
                f"Bars that are not on record although an order was placed right after them: {len(gone)}; "
                f"{', '.join(gone[:3])}{' …' if len(gone) > 3 else ''}."
            )

    def _window_before(self, order: LiveOrder, interval: Interval) -> int | None:
        """The start of the bar that ended right before an order; None where none did."""
        if not interval.is_intraday:
            return None
        now = window_at(order.placed_ns, interval, self._table, regular_hours=self._is_regular)
        if now is None or order.placed_ns - now[0] > _RIGHT_AFTER_NS:
            return None
        before = window_at(now[0] - 1, interval, self._table, regular_hours=self._is_regular)
        return None if before is None else before[0]

    def _is_whole(self, series: BarSeries, interval: Interval, life: Life) -> bool:
        """Hold what is there against the sessions of the life; tell whether any bar ended in it at all."""
        starts, table = series.whole()[0], self._table
        ends = table.bar_ends(interval, starts) if len(starts) else starts
        seen = int(((ends >= life.begin_ns) & (ends <= life.end_ns)).sum())
        wanted = _wanted(interval, table, life)
        missing = int((~np.isin(wanted, starts)).sum())
        name = f"{series.symbol} {interval.text}"
        if missing > max(1, _MISSING * len(wanted)):
            self.reasons.append(
                f"{missing} of {len(wanted)} bars of {name} are missing from {_text(life.begin_ns)} to "
                f"{_text(life.end_ns)}, while it ran; «manage.py ingest_bars» fetches them from IB."
            )
        elif not seen and life.end_ns - life.begin_ns > 2 * interval.seconds * SECOND_NS:
            self.reasons.append(f"No bar of {name} is on record from {_text(life.begin_ns)} to {_text(life.end_ns)}.")
        return bool(seen)


def _wanted(interval: Interval, table: SessionTable, life: Life) -> Any:
    """The starts of the bars of regular sessions that ended in the life."""
    if not interval.is_intraday:
        return np.empty(0, dtype=np.int64)
    first, last = max(table.session_at(life.begin_ns), 0), table.session_at(life.end_ns)
    starts = [expected_starts(table, interval, session, life.end_ns) for session in range(first, last + 1)]
    found = np.concatenate([np.empty(0, dtype=np.int64), *starts]).astype(np.int64)
    return found[table.bar_ends(interval, found) > life.begin_ns] if len(found) else found


def _days_of(parts: Sequence[Bar], length: timedelta, table: SessionTable) -> list[Bar]:
    """Days that shorter bars make up."""
    if not parts:
        return []
    source = parse_interval("5s" if length < timedelta(minutes=1) else "1m")
    starts, values = derive(*_columns(parts), source, DAY, table)
    midnights = table.dates_of(starts).astype("datetime64[ns]").astype(np.int64)
    rows = zip(*(column.tolist() for column in values), strict=True)
    return [Bar(start, *row) for start, row in zip(midnights.tolist(), rows, strict=True)]


def nanos_in(span: timedelta) -> int:
    """Return a span in nanoseconds."""
    return int(span.total_seconds()) * SECOND_NS


def _columns(bars: Sequence[Bar]) -> tuple[Any, list[Any]]:
    starts = np.array([bar.start_ns for bar in bars], dtype=np.int64)
    return starts, [np.array([getattr(bar, field) for bar in bars], dtype=np.float64) for field in FIELDS]


def _series_of(symbol: str, interval: str, bars: Sequence[Bar]) -> BarSeries:
    return BarSeries.from_columns(symbol, interval, *_columns(bars))


def _text(nanos: int) -> str:
    return f"{moment_of(nanos):%Y-%m-%d %H:%M}Z"
