"""A run's bars as they were at a moment: nothing that ends later is there.

Owns: cutting a spec. Leaves: why (``lookahead``, ``warm_up``). Rule: columns are copied, so that no view of a cut
series leads back to what lies beyond it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from strategies.bar_series import BarSeries, Nanos, moment_of
from trading.backtest.arrays import Pair, Track, lay_out, merge
from trading.backtest.contracts import BacktestSpec


class Cutter:
    """Cuts one spec at moments. ``moments`` are those of the run, int64 epoch nanoseconds.

    Raises: ConfigError as ``lay_out`` does.
    """

    def __init__(self, spec: BacktestSpec, wanted: Iterable[Pair]) -> None:
        self._spec = spec
        self._tracks = lay_out(spec, wanted)
        self.moments: Nanos = merge(self._tracks).moments
        self.ready_ns = max(int(track.ends[0]) for track in self._tracks)
        """From here on every series has a bar."""

    def whole(self) -> BacktestSpec:
        """Return the spec with every series laid out that is wanted, so that both sides of a comparison have the
        same ones.
        """
        return replace(self._spec, bars={track.pair: track.series for track in self._tracks})

    def until(self, moment_ns: int) -> BacktestSpec | None:
        """Return the spec without the bars that end after a moment; None when a series has none by then."""
        bars = {}
        for track in self._tracks:
            count = int(np.searchsorted(track.ends, moment_ns, side="right"))
            if not count:
                return None
            bars[track.pair] = _copied(track, 0, count)
        return replace(self._spec, bars=bars)

    def last_moments(self, pairs: Iterable[Pair], count: int) -> Nanos:
        """Return the last moments of the run at which a bar of some pairs ends."""
        wanted = set(pairs)
        ends = [track.ends[track.first : track.last] for track in self._tracks if track.pair in wanted]
        found: Nanos = np.unique(np.concatenate(ends))[-count:]
        return found

    def history(self, pairs: Iterable[Pair], moment_ns: int) -> int:
        """Return how many bars end before a moment, of the pair that has fewest."""
        wanted = set(pairs)
        return min(self._before(track, moment_ns) for track in self._tracks if track.pair in wanted)

    def from_moment(self, moment_ns: int, bars: int | None = None, since_ns: int | None = None) -> BacktestSpec:
        """Return the spec with the moment as its start and so many bars of each series before it; None: all.

        Bars that begin at ``since_ns`` or later are there in any case.
        """
        kept = {}
        for track in self._tracks:
            first = 0 if bars is None else max(self._before(track, moment_ns) - bars, 0)
            if since_ns is not None:
                first = min(first, int(np.searchsorted(track.starts, since_ns)))
            kept[track.pair] = _copied(track, first, track.last)
        return replace(self._spec, bars=kept, start=moment_of(moment_ns))

    @staticmethod
    def _before(track: Track, moment_ns: int) -> int:
        return int(np.searchsorted(track.ends, moment_ns, side="left"))

    def end_of(self, pair: Pair, row: int) -> int:
        """Return when a bar is seen."""
        return next(int(track.ends[row]) for track in self._tracks if track.pair == pair)

    def moment_from(self, at_ns: int) -> int | None:
        """Return the first moment of the run at or after another; None after the last."""
        place = int(np.searchsorted(self.moments, at_ns))
        return int(self.moments[place]) if place < len(self.moments) else None

    def seen_at(self, symbol: str, time_ns: int) -> int:
        """Return when the bar is over in which something happened: the first moment that knows of it."""
        for track in self._tracks:
            if track.is_base and track.series.symbol == symbol:
                # The close of one bar and the open of the next can be one moment: the later bar knows of both.
                row = max(int(np.searchsorted(track.starts, time_ns, side="right")) - 1, 0)
                return int(track.ends[row])
        return time_ns


def _copied(track: Track, first: int, last: int) -> BarSeries:
    starts, columns = track.series.whole()
    return BarSeries.from_columns(
        track.series.symbol,
        track.series.interval,
        starts[first:last].copy(),
        [column[first:last].copy() for column in columns],
    )
