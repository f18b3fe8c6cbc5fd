"""All bars of a run on one clock, laid out before the loop.

Owns: checks of what came in, when each bar may be seen, which moments there are and what happens at each.
Leaves: moving cursors (``engine``), matching (``lane``), sessions (``sessions``).
Rule: a bar is seen at its end, and of one moment all bars are seen before anybody is told. Moments with the same set of
new bars share one code, so that the loop looks up what is to be done instead of finding it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from strategies.bar_series import BarSeries, Nanos, moment_of, nanos_of
from strategies.exceptions import ConfigError
from strategies.intervals import Interval, parse_interval
from trading.backtest.contracts import BacktestSpec, InstrumentTerms
from trading.backtest.sessions import edges, sessions_around
from trading.market.derived import derive
from trading.market.session_table import SessionTable

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Track:
    """One series on the clock. Rows ``first`` to ``last`` (excluded) become visible during the run."""

    series: BarSeries
    interval: Interval
    sessions: SessionTable
    starts: Nanos  # when each bar began to trade
    ends: Nanos  # when each bar may be seen
    first: int
    last: int
    is_base: bool

    @property
    def pair(self) -> Pair:
        """Return symbol and interval."""
        return self.series.symbol, self.series.interval


@dataclass(frozen=True, slots=True)
class Clock:
    """The moments of a run.

    Shape: ``moments`` int64 strictly increasing; ``codes`` whole numbers, one a moment, into ``sets``.
    ``sets`` holds the tracks (by index) that have a new bar: base series first, then by length.
    """

    moments: Nanos
    codes: npt.NDArray[np.integer[Any]]
    sets: Sequence[tuple[int, ...]]


def lay_out(spec: BacktestSpec, wanted: Iterable[Pair] = ()) -> list[Track]:
    """Return the tracks in the order of the run: base series in the spec's order, then the others by length.

    ``wanted`` pairs that the spec lacks are made of the symbol's base bars.

    Raises: ConfigError naming pair, row and reason.
    """
    start, end = nanos_of(spec.start), nanos_of(spec.end)
    if start > end:
        raise ConfigError(
            f"The run would start at {_text(start)}, after its end at {_text(end)}.",
            code="bad_period",
        )
    if not spec.bars:
        raise ConfigError("The run has no bars.", code="no_bars")
    bases = base_pairs(spec.bars)
    tracks = [_track(spec, pair, series, start, end, pair in bases) for pair, series in spec.bars.items()]
    by_symbol = {track.series.symbol: track for track in tracks if track.is_base}
    for symbol, interval in dict.fromkeys(wanted):
        if (symbol, interval) not in spec.bars and symbol in by_symbol:
            made = _made(by_symbol[symbol], interval)
            tracks.append(_track(spec, (symbol, interval), made, start, end, False))
    if not any(track.first < track.last for track in tracks):
        raise ConfigError(
            f"No bar ends between {_text(start)} and {_text(end)}.",
            code="no_bars",
        )
    return sorted(tracks, key=lambda track: (not track.is_base, 0 if track.is_base else track.interval.seconds))


def _made(base: Track, interval: str) -> BarSeries:
    """Longer bars of base bars.

    Raises: ConfigError (not_derivable, unknown_interval).
    """
    starts, columns = derive(*base.series.whole(), base.interval, parse_interval(interval), base.sessions)
    return BarSeries.from_columns(base.series.symbol, interval, starts, columns)


def base_pairs(bars: Mapping[Pair, BarSeries]) -> set[Pair]:
    """Return the finest interval of each symbol: the one that orders meet."""
    finest: dict[str, Pair] = {}
    for symbol, interval in bars:
        known = finest.get(symbol)
        if known is None or parse_interval(interval).seconds < parse_interval(known[1]).seconds:
            finest[symbol] = (symbol, interval)
    return set(finest.values())


def terms_of_symbol(spec: BacktestSpec, symbol: str) -> InstrumentTerms:
    """Return what the books need to know; what the spec leaves out is a US stock."""
    return spec.instruments.get(symbol) or InstrumentTerms(symbol)


def _track(spec: BacktestSpec, pair: Pair, series: BarSeries, start: int, end: int, is_base: bool) -> Track:
    symbol, text = pair
    if (series.symbol, series.interval) != pair:
        raise ConfigError(
            f"The bars given as {symbol} {text} are those of {series.symbol} {series.interval}.", code="bad_bars"
        )
    interval = parse_interval(text)
    stamps, columns = series.whole()
    if not series.is_laid_out:  # it grew bar by bar, and may go on: the run has its own cursor
        series = BarSeries.from_columns(symbol, text, stamps, columns)
    if not len(stamps):
        raise ConfigError(f"{symbol} {text} has no bars.", code="no_bars")
    table = sessions_around(terms_of_symbol(spec, symbol).exchange, stamps, spec.overrides)
    starts, ends = edges(interval, stamps, table)
    again = np.flatnonzero(np.diff(ends) <= 0)
    if len(again):
        row = int(again[0]) + 1
        raise ConfigError(
            f"{symbol} {text}: the bar of {moment_of(int(stamps[row])):%Y-%m-%d %H:%M:%S}Z (row {row}) ends no later "
            "than the one before it; two bars stand for one period.",
            code="bad_bars",
            row=row,
        )
    first, last = np.searchsorted(ends, start, side="left"), np.searchsorted(ends, end, side="right")
    return Track(series, interval, table, starts, ends, int(first), int(last), is_base)


def _text(nanos: int) -> str:
    return f"{moment_of(nanos):%Y-%m-%d %H:%M}Z"


def plain_view(array: npt.NDArray[Any]) -> Any:
    """Return an array as a view that gives plain numbers, several times faster than the array's own scalars."""
    return memoryview(array)  # type: ignore[arg-type]  # numpy's stubs do not tell that arrays are buffers


def merge(tracks: Sequence[Track]) -> Clock:
    """Merge the tracks into one clock."""
    ends = [track.ends[track.first : track.last] for track in tracks]
    moments = ends[0] if len(tracks) == 1 else np.unique(np.concatenate(ends))
    if len(tracks) == 1:
        return Clock(moments, np.zeros(len(moments), dtype=np.uint8), [(0,)])
    words = np.zeros((len(moments), (len(tracks) + 62) // 63), dtype=np.int64)
    for place, some in enumerate(ends):
        words[np.searchsorted(moments, some), place // 63] |= np.int64(1) << np.int64(place % 63)
    found, codes = np.unique(words, axis=0, return_inverse=True)
    sets = [tuple(place for place in range(len(tracks)) if int(row[place // 63]) >> (place % 63) & 1) for row in found]
    return Clock(moments, codes.reshape(-1).astype(np.uint8 if len(sets) < 256 else np.int64), sets)
