"""The price path: minute bars expanded into a continuous, deterministic line that any interval can be cut from.

Owns: the arithmetic of one instrument's path, from minutes of market time to prices, ranges and volumes.
Leaves: which minute a moment is (``market_time``), ticks, spreads and bars for people (``market``).
Rule: within a minute the path runs open → low → high → close when the bar rose, open → high → low → close when it
fell, three equal straight legs, its volume spread evenly; past either end it turns round and runs back, so it is
defined for every minute, however early or late, and every bar of every size is a cut of the same line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_FEW = 4  # ranges that are not worth a table
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Spans:
    """Open, high, low, close and volume of several intervals. Shape: equal one-dimensional arrays."""

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats


class PricePath:
    """One instrument's path. Units: ``u`` in minutes of market time from the first bar's start, any real number."""

    def __init__(self, opens: Floats, highs: Floats, lows: Floats, closes: Floats, volumes: Floats) -> None:
        if len(opens) == 0:
            raise ValueError("a price path needs at least one bar")
        rising = closes >= opens
        self.length = len(opens)
        self._knots = np.column_stack(
            (opens, np.where(rising, lows, highs), np.where(rising, highs, lows), closes)
        ).astype(np.float64)
        # Rows that quotes have read, as plain lists: an element of a list is much cheaper than one of an array.
        # Making lists of all rows at once would take longer than all else of a new path.
        self._knot_rows: dict[int, list[float]] = {}
        self._highs, self._lows = highs.astype(np.float64), lows.astype(np.float64)
        self._cumulative = np.concatenate(([0.0], np.cumsum(volumes.astype(np.float64))))
        self._tables: tuple[list[Floats], list[Floats]] | None = None

    # one moment

    def price(self, u: float, *, left: bool = False) -> float:
        """The price at ``u``; with ``left`` the one just before it (the two differ where a minute gaps)."""
        index, fraction = self._locate(u, left=left)
        return _on_legs(self._row(index), fraction)

    def extremes(self, start: float, end: float) -> tuple[float, float]:
        """Highest and lowest price in [start, end]: the cheap way for the short slices of a running market."""
        first, last = self._locate(start, left=False), self._locate(end, left=True)
        if first[0] != last[0] or end - start >= 1 or start // self.length != math.ceil(end / self.length) - 1:
            spans = self.spans(np.array([start]), np.array([end]))
            return float(spans.high[0]), float(spans.low[0])
        row = self._row(first[0])
        low_f, high_f = sorted((first[1], last[1]))
        seen = [_on_legs(row, low_f), _on_legs(row, high_f)]
        seen.extend(row[k] for k in (1, 2) if low_f < k / 3 < high_f)
        return max(seen), min(seen)

    def _row(self, index: int) -> list[float]:
        row = self._knot_rows.get(index)
        if row is None:
            row = self._knot_rows[index] = self._knots[index].tolist()
        return row

    def volume(self, start: float, end: float) -> float:
        """Volume traded between two moments."""
        return self._volume_to(end) - self._volume_to(start)

    def _locate(self, u: float, *, left: bool) -> tuple[int, float]:
        """The minute and the fraction of it where ``u`` lies after folding."""
        size = self.length
        m = u % (2 * size)
        if left and m == 0:
            m = 2.0 * size
        # Running back, «just after» means the minute below an edge, so both edges swap their sides.
        backward = m > size or (m == size and not left)
        x = 2 * size - m if backward else m
        index = math.ceil(x) - 1 if left != backward else math.floor(x)
        index = min(max(index, 0), size - 1)
        return index, x - index

    def _volume_to(self, u: float) -> float:
        size, total = self.length, float(self._cumulative[-1])
        passes, m = divmod(u, size)
        index = min(int(m), size - 1)
        inside = float(self._cumulative[index] + (m - index) * (self._cumulative[index + 1] - self._cumulative[index]))
        if int(passes) % 2:
            index = min(int(size - m), size - 1)
            x = size - m
            inside = total - float(
                self._cumulative[index] + (x - index) * (self._cumulative[index + 1] - self._cumulative[index])
            )
        return passes * total + inside

    # many intervals at once

    def spans(self, starts: Floats, ends: Floats) -> Spans:
        """Bars of the intervals [start, end). Shape: equal one-dimensional arrays, start < end."""
        open_ = self._legs(*self._locate_all(starts, left=False))
        close = self._legs(*self._locate_all(ends, left=True))
        high, low = np.maximum(open_, close), np.minimum(open_, close)
        bottom, top = self._folded_range(starts, ends)
        first = np.minimum(np.floor(bottom), self.length - 1).astype(np.int64)
        last = np.maximum(np.ceil(top) - 1, first).astype(np.int64)
        in_first = (bottom - first, np.where(first == last, top - last, 1.0))
        in_last = (np.where(first == last, bottom - first, 0.0), top - last)
        for index, (begin, stop) in ((first, in_first), (last, in_last)):
            for knot in (0, 1, 2, 3):
                inside = (begin <= knot / 3) & (knot / 3 <= stop)
                value = self._knots[index, knot]
                high = np.where(inside, np.maximum(high, value), high)
                low = np.where(inside, np.minimum(low, value), low)
        whole = last - first >= 2
        if whole.any():
            peak, trough = self._range_of(first + 1, last - 1, whole)
            high, low = np.maximum(high, peak), np.minimum(low, trough)
        return Spans(open_, high, low, close, self.volumes_to(ends) - self.volumes_to(starts))

    def _folded_range(self, starts: Floats, ends: Floats) -> tuple[Floats, Floats]:
        """The stretch of the bars that each interval covers: always one, for a turn lies at an end of the bars."""
        size = self.length
        first = np.floor(starts / size)
        turns = np.ceil(ends / size) - 1 - first
        x0, x1 = self._fold(starts), self._fold(ends)
        turns_at_top = first % 2 == 0
        bottom = np.where((turns >= 1) & ((turns >= 2) | ~turns_at_top), 0.0, np.minimum(x0, x1))
        top = np.where((turns >= 1) & ((turns >= 2) | turns_at_top), float(size), np.maximum(x0, x1))
        return bottom, top

    def _fold(self, u: Floats) -> Floats:
        m = np.mod(u, 2 * self.length)
        result: Floats = np.minimum(m, 2 * self.length - m)
        return result

    def _locate_all(self, u: Floats, *, left: bool) -> tuple[Ints, Floats]:
        size = self.length
        m = np.mod(u, 2 * size)
        if left:
            m = np.where(m == 0, 2.0 * size, m)
        backward = (m > size) if left else (m >= size)
        x = np.where(backward, 2 * size - m, m)
        up, down = np.ceil(x) - 1, np.floor(x)
        index = np.where(backward, down, up) if left else np.where(backward, up, down)
        clipped = np.clip(index, 0, size - 1).astype(np.int64)
        return clipped, x - clipped

    def _legs(self, index: Ints, fraction: Floats) -> Floats:
        scaled = np.clip(fraction, 0.0, 1.0) * 3
        leg = np.minimum(scaled.astype(np.int64), 2)
        start, end = self._knots[index, leg], self._knots[index, leg + 1]
        result: Floats = start + (end - start) * (scaled - leg)
        return result

    def _range_of(self, first: Ints, last: Ints, valid: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Highest high and lowest low of the whole minutes first..last, where valid."""
        first, last = np.where(valid, first, 0), np.where(valid, last, 0)
        if self._tables is None and len(first) <= _FEW:
            return self._few_ranges(first, last, valid)
        if self._tables is None:
            self._tables = _sparse(self._highs, np.maximum), _sparse(self._lows, np.minimum)
        level = np.floor(np.log2(last - first + 1)).astype(np.int64)
        top, bottom = np.full(len(first), -np.inf), np.full(len(first), np.inf)
        for step in np.unique(level[valid]):
            pick = valid & (level == step)
            a, b = first[pick], last[pick] - (1 << int(step)) + 1
            top[pick] = np.maximum(self._tables[0][step][a], self._tables[0][step][b])
            bottom[pick] = np.minimum(self._tables[1][step][a], self._tables[1][step][b])
        return top, bottom

    def _few_ranges(self, first: Ints, last: Ints, valid: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """The same without tables, which take megabytes: most instruments are only ever asked for their day's range."""
        top, bottom = np.full(len(first), -np.inf), np.full(len(first), np.inf)
        for n in np.flatnonzero(valid).tolist():
            minutes = slice(int(first[n]), int(last[n]) + 1)
            top[n], bottom[n] = self._highs[minutes].max(), self._lows[minutes].min()
        return top, bottom

    def volumes_to(self, u: Floats) -> Floats:
        """Volume traded from minute 0 to each ``u``, negative before it."""
        size, total = self.length, self._cumulative[-1]
        passes = np.floor(u / size)
        m = u - passes * size
        backward = passes.astype(np.int64) % 2 == 1
        x = np.where(backward, size - m, m)
        index = np.clip(x.astype(np.int64), 0, size - 1)
        inside = self._cumulative[index] + (x - index) * (self._cumulative[index + 1] - self._cumulative[index])
        result: Floats = passes * total + np.where(backward, total - inside, inside)
        return result


def _on_legs(row: list[float], fraction: float) -> float:
    scaled = min(max(fraction, 0.0), 1.0) * 3
    leg = min(int(scaled), 2)
    return row[leg] + (row[leg + 1] - row[leg]) * (scaled - leg)


def _sparse(values: Floats, pick: np.ufunc) -> list[Floats]:
    """Ranges of every power of two, so that any range is the better of two overlapping ones."""
    levels = [values]
    width = 1
    while 2 * width <= len(values):
        previous = levels[-1]
        levels.append(pick(previous[:-width], previous[width:]))
        width *= 2
    return levels
