"""The recorded bars of a strategy's life, as a run that can be replayed.

Owns: how much history there is before the start, bars of regular hours, what is missing. Leaves: reading (``data``).
Rule: as at a start of the engine there are so many bars of each subscription as the strategy declares, and all of the
session that runs; a day whose bars are not whole can tell nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import numpy as np

from strategies.bar_series import BarSeries, Nanos, moment_of
from strategies.exceptions import ConfigError
from strategies.intervals import parse_interval
from strategies.reactive import ReactiveStrategy
from trading.backtest.arrays import Pair
from trading.backtest.contracts import BacktestSpec, InstrumentTerms, StrategyEntry
from trading.backtest.cuts import Cutter
from trading.backtest.data import BarSource
from trading.backtest.sessions import sessions_around
from trading.backtest.shadow import Life
from trading.backtest.wish import MARKET_DATA
from trading.market.calendar_rows import load_overrides
from trading.market.derived import derive
from trading.market.session_table import SessionTable

_TRADED = 5.5  # a week of minutes to one of regular sessions, and days to trading days, with room for holidays
_SPARE = timedelta(days=7)
_MISSING = 0.02  # of the bars of a day; more of them and decisions may be others


class DayBars:
    """Reads the bars of one strategy; ``versions`` and ``reasons`` say afterwards what was read and what is missing."""

    def __init__(self, entry: StrategyEntry, kind: type[ReactiveStrategy]) -> None:
        self._entry, self._kind = entry, kind
        self._source = BarSource(MARKET_DATA, "splits")
        self._overrides = load_overrides()
        self._tables: dict[str, SessionTable] = {}
        self.reasons: list[str] = []

    @property
    def versions(self) -> Mapping[str, str]:
        """Return the version of each series that was read."""
        return self._source.versions

    def spec_of(self, life: Life, config: Mapping[str, Any]) -> BacktestSpec:
        """Return the bars of a life with its warm-up before it.

        Raises: ConfigError (bad_interval) for bars that nobody records; NotFoundError (no_bars).
        """
        made = self._kind(self._entry.name, dict(config))
        pairs = list(dict.fromkeys((symbol, interval) for symbol, interval in made.get_subscriptions()))
        if not pairs:
            raise ConfigError(f"{self._entry.name} subscribes to nothing.", code="no_subscription")
        is_regular = bool(config.get("regular_hours", True))
        bars: dict[Pair, BarSeries] = {}
        for symbol in dict.fromkeys(symbol for symbol, _ in pairs):
            bars |= self._series(
                symbol, [interval for name, interval in pairs if name == symbol], made, life, is_regular
            )
        spec = BacktestSpec(
            strategies=[self._entry],
            bars=bars,
            start=moment_of(life.begin_ns),
            end=moment_of(life.end_ns),
            instruments={symbol: InstrumentTerms(symbol) for symbol, _ in pairs},
            overrides=self._overrides,
        )
        today_ns = self._today(life.begin_ns, is_regular=is_regular)
        return Cutter(spec, pairs).from_moment(life.begin_ns, made.warm_up_bars, today_ns)

    def _today(self, begin_ns: int, *, is_regular: bool) -> int:
        """Return when the session began in which the life begins; the start itself outside of one."""
        found = begin_ns
        for table in self._tables.values():
            session = table.session_at(begin_ns)
            if session >= 0 and begin_ns < table.post[session]:
                found = min(found, int(table.opens[session] if is_regular else table.pre[session]))
        return found

    def _series(
        self, symbol: str, intervals: list[str], made: ReactiveStrategy, life: Life, is_regular: bool
    ) -> dict[Pair, BarSeries]:
        """The recorded bars of a symbol and what is made of them."""
        base = self._base(symbol, intervals)
        longest = max(parse_interval(one).seconds for one in intervals)
        begin = moment_of(life.begin_ns)
        first = begin - timedelta(seconds=longest * made.warm_up_bars * _TRADED) - _SPARE
        read = self._source.series(symbol, base, first, moment_of(life.end_ns))
        starts, columns = read.whole()
        table = self._tables[symbol] = sessions_around(InstrumentTerms(symbol).exchange, starts, self._overrides)
        if is_regular and parse_interval(base).is_intraday:
            inside = in_regular_hours(starts, table)
            starts, columns = starts[inside], tuple(column[inside] for column in columns)
        self._look_for_gaps(symbol, base, starts, table, life)
        found = {(symbol, base): BarSeries.from_columns(symbol, base, starts, list(columns))}
        for interval in intervals:
            if (symbol, interval) not in found:
                derived = derive(starts, columns, parse_interval(base), parse_interval(interval), table)
                found[symbol, interval] = BarSeries.from_columns(symbol, interval, *derived)
        return found

    def _base(self, symbol: str, intervals: list[str]) -> str:
        """The finest interval that is followed, or what it is made of where that alone is stored."""
        finest = min((parse_interval(one) for one in intervals), key=lambda one: one.seconds)
        if finest.seconds < 60:
            raise ConfigError(
                f"{self._entry.name} follows {symbol} by bars of {finest.text}, which are not recorded.",
                code="bad_interval",
            )
        return finest.text if self._source.has(symbol, finest.text) else finest.base

    def _look_for_gaps(self, symbol: str, base: str, starts: Nanos, table: SessionTable, life: Life) -> None:
        """Hold what is there against the sessions of the life."""
        step = parse_interval(base)
        if not step.is_intraday:
            return
        opens, closes = np.maximum(table.segment_opens, life.begin_ns), np.minimum(table.segment_closes, life.end_ns)
        wanted = int(np.maximum(closes - opens, 0).sum() // (step.seconds * 1_000_000_000))
        inside = in_regular_hours(starts, table) & (starts >= life.begin_ns) & (starts < life.end_ns)
        missing = wanted - int(inside.sum())
        if missing > max(1, _MISSING * wanted):
            self.reasons.append(
                f"{missing} of {wanted} bars of {symbol} {base} are missing while it ran; «manage.py ingest_bars» "
                "fetches them from IB."
            )


def in_regular_hours(starts: Nanos, table: SessionTable) -> Any:
    """Tell of each bar whether it begins in a regular session."""
    place = np.searchsorted(table.segment_opens, starts, side="right") - 1
    return (place >= 0) & (starts < table.segment_closes[place])
