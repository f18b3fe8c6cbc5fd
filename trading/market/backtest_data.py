"""Session data of a backtest: bars laid out before the run, longer ones made of them, indicators computed at once.

Owns: making what strategies want but nobody stored, and when each bar is over. Leaves: the run that moves the cursors
(``trading.backtest.engine``). Pure.
Rule: a bar is stamped with its interval's start and visible at its end; a derived bar ends with its last source bar.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from strategies.bar_series import BarSeries, Nanos
from strategies.exceptions import ConfigError
from strategies.intervals import parse_interval
from trading.market.derived import check_derivable, derive
from trading.market.indicators.registry import Request
from trading.market.session_data import SessionData
from trading.market.session_table import Indices

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that a run moves through.

    ``series`` are laid out whole; ``ends`` tells when each of their bars is over, epoch nanoseconds, never falling;
    ``derived_from`` names the interval that a made series was made of.
    """

    data: SessionData
    series: Mapping[Pair, BarSeries]
    ends: Mapping[Pair, Nanos]
    derived_from: Mapping[Pair, str]

    def counts_at(self, pair: Pair, moments: Nanos) -> Indices:
        """Return how many bars of a pair are over at each moment: what its cursor is then.

        A run that goes along the base bars takes ``counts_at(pair, ends[base])`` once and moves the cursor of ``pair``
        to element i when base bar i is over; where it differs from the element before, there is a new bar to tell of.
        """
        return np.searchsorted(self.ends[pair], moments, side="right").astype(np.int64)

    def show(self, now_ns: int) -> None:
        """Set every cursor to what is over at a moment."""
        for pair, series in self.series.items():
            series.count = int(np.searchsorted(self.ends[pair], now_ns, side="right"))


def prepare(
    data: SessionData,
    bars: Mapping[Pair, BarSeries],
    wanted: Iterable[Pair] = (),
    indicators: Iterable[tuple[str, Request]] = (),
    *,
    exchanges: Mapping[str, str] | None = None,
) -> Prepared:
    """Put laid-out bars into session data, make the wanted pairs that are missing, compute declared indicators.

    ``wanted`` pairs are made of the longest stored interval of their symbol that makes them up.
    ``indicators`` are (symbol, request); others are computed when a strategy first asks, over the whole run, too.
    ``exchanges`` by symbol, where it is not the data's own.
    Raises: ConfigError (no_bars) naming a pair that nothing makes up, (not_derivable, outside_calendar, bad_indicator,
    duplicate_indicator, unknown_interval).
    """
    where = exchanges or {}
    series: dict[Pair, BarSeries] = {}
    made_of: dict[Pair, str] = {}
    for pair, one in bars.items():
        if pair != (one.symbol, one.interval):
            raise ConfigError(f"The bars of {pair} are those of {one.symbol} {one.interval}.", code="bad_bars")
        data.add_series(one, exchange=where.get(one.symbol))
        series[pair] = one
    for pair in dict.fromkeys(wanted):
        if pair not in series:
            made_of[pair] = _make(data, bars, series, pair)
    for symbol, request in indicators:
        data.add_indicator(symbol, request)
    ends = {
        pair: data.table_of(pair[0]).bar_ends(parse_interval(pair[1]), one.whole()[0]) for pair, one in series.items()
    }
    return Prepared(data, series, ends, made_of)


def _make(data: SessionData, bars: Mapping[Pair, BarSeries], series: dict[Pair, BarSeries], pair: Pair) -> str:
    """Lay out a pair that is made of a stored one, as live ones are of what is streamed; return what it is made of."""
    symbol, text = pair
    target = parse_interval(text)
    stored = sorted((parse_interval(i) for s, i in bars if s == symbol), key=lambda one: -one.seconds)
    for source in stored:
        try:
            check_derivable(source, target)
        except ConfigError:
            continue
        starts, columns = derive(*bars[symbol, source.text].whole(), source, target, data.table_of(symbol))
        series[pair] = BarSeries.from_columns(symbol, text, starts, columns)
        data.add_series(series[pair], derived_from=source.text)
        return source.text
    raise ConfigError(
        f"There are no {text} bars of {symbol}, and none that make them up: it has "
        f"{', '.join(one.text for one in stored) or 'none at all'}.",
        code="no_bars",
        symbol=symbol,
        interval=text,
    )
