"""Steps that formulas are made of: each over a whole column at once, or bar by bar with the state that it keeps.

Owns: moving windows, TA-Lib's functions, sums of a session, what a session before left. Leaves: which formula uses
which (``trend`` and its neighbours), warm-up (``indicator``). Pure.
Rule: both ways do the same operations in the same order, so that they agree to the last bit, which ``tests/properties``
proves. A site belongs to one run of one indicator of one symbol. NaN stands for «not known yet».
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from strategies.bar_series import Floats
from trading.market.indicators.talib_door import functions, streams, too_short
from trading.market.session_table import Indices

NAN = math.nan
Number = Any
"""A whole column (float64 array), or its value at one bar (float)."""


class Moment(Protocol):
    """Where in its sessions the bar is that a site is stepped by, and where all bars are in a whole run."""

    starts_group: bool
    starts_day: bool
    is_regular: bool
    day: int
    slot: int
    group_edges: Indices
    day_edges: Indices
    regular: Any
    days: Indices
    slots: Indices


class Site(Protocol):
    """One place in a formula: ``whole(at, *columns)`` once, then ``step(at, *values)`` at each bar."""

    @property
    def whole(self) -> Callable[..., Number]:
        """Return the column of results, and be ready to go on after its last bar."""

    @property
    def step(self) -> Callable[..., Number]:
        """Return the result of the next bar."""


def _stretches(edges: Indices, length: int) -> list[tuple[int, int]]:
    """Return where each stretch begins and ends."""
    starts = edges.tolist()
    return list(zip(starts, [*starts[1:], length], strict=False))


class Talib:
    """A function of TA-Lib. Source: https://ta-lib.org; its streams give the same bits as its arrays."""

    def __init__(self, function: str, **parameters: float) -> None:
        self._function, self._parameters = function, parameters
        self._stream: Any = None
        self._waiting: list[tuple[float, ...]] = []
        self._width = 1

    def whole(self, at: Moment, *columns: Floats) -> Number:
        found = getattr(functions(), self._function)(*columns, **self._parameters)
        self._width = len(found) if isinstance(found, tuple) else 1
        if not self._open(columns):
            self._waiting = list(zip(*(column.tolist() for column in columns), strict=True))
        return found

    def step(self, at: Moment, *values: float) -> Number:
        if self._stream is not None:
            return self._stream.update(*values)
        self._waiting.append(values)
        if self._open([np.array(column) for column in zip(*self._waiting, strict=True)]):
            self._waiting = []
            return self._stream_value()
        return NAN if self._width == 1 else (NAN,) * self._width

    def _stream_value(self) -> Number:
        return self._stream.value

    def _open(self, columns: Sequence[Floats]) -> bool:
        try:
            self._stream = getattr(streams(), self._function)(*columns, **self._parameters)
        except too_short():
            return False
        return True


class Lag:
    """The value some bars before."""

    def __init__(self, bars: int) -> None:
        self._kept: deque[float] = deque(maxlen=bars)
        self._bars = bars

    def whole(self, at: Moment, column: Floats) -> Floats:
        found = np.full(len(column), NAN)
        found[self._bars :] = column[: -self._bars]
        self._kept.extend(column[-self._bars :].tolist())
        return found

    def step(self, at: Moment, value: float) -> float:
        found = self._kept[0] if len(self._kept) == self._bars else NAN
        self._kept.append(value)
        return found


class WindowSum:
    """The sum of the last bars, added from the oldest on, anew at each bar: a running sum never gets rid of its dust,
    and dust decides whether a flat market rose."""

    def __init__(self, bars: int) -> None:
        self._kept: deque[float] = deque(maxlen=bars)
        self._bars = bars

    def whole(self, at: Moment, column: Floats) -> Floats:
        found = np.full(len(column), NAN)
        room = len(column) - self._bars + 1
        if room > 0:
            total = column[:room].copy()
            for offset in range(1, self._bars):
                total += column[offset : offset + room]
            found[self._bars - 1 :] = total
        self._kept.extend(column[-self._bars :].tolist())
        return found

    def step(self, at: Moment, value: float) -> float:
        self._kept.append(value)
        if len(self._kept) < self._bars:
            return NAN
        total = self._kept[0]
        for place in range(1, self._bars):
            total += self._kept[place]
        return total


class Extreme:
    """The highest (or lowest) of the last bars; the values are never NaN."""

    def __init__(self, bars: int, *, highest: bool) -> None:
        self._kept: deque[float] = deque(maxlen=bars)
        self._bars = bars
        self._function = functions().MAX if highest else functions().MIN
        self._pick: Callable[[deque[float]], float] = max if highest else min

    def whole(self, at: Moment, column: Floats) -> Floats:
        self._kept.extend(column[-self._bars :].tolist())
        if self._bars == 1:
            return column
        found: Floats = self._function(column, timeperiod=self._bars)
        return found

    def step(self, at: Moment, value: float) -> float:
        self._kept.append(value)
        return self._pick(self._kept) if len(self._kept) == self._bars else NAN


class GroupSum:
    """The sum since the session began."""

    def __init__(self) -> None:
        self._total = 0.0

    def whole(self, at: Moment, column: Floats) -> Floats:
        found = np.empty(len(column))
        for first, last in _stretches(at.group_edges, len(column)):
            np.cumsum(column[first:last], out=found[first:last])
        if len(found):
            self._total = float(found[-1])
        return found

    def step(self, at: Moment, value: float) -> float:
        self._total = value if at.starts_group else self._total + value
        return self._total


class GroupLag:
    """The value one bar before in the same session; NaN at its first bar."""

    def __init__(self) -> None:
        self._last = NAN

    def whole(self, at: Moment, column: Floats) -> Floats:
        found = np.full(len(column), NAN)
        found[1:] = column[:-1]
        found[at.group_edges] = NAN
        if len(column):
            self._last = float(column[-1])
        return found

    def step(self, at: Moment, value: float) -> float:
        found, self._last = NAN if at.starts_group else self._last, value
        return found


class DayBefore:
    """The highest, lowest or last value of the regular session before that of the bar's day."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._before = self._current = NAN

    def whole(self, at: Moment, column: Floats) -> Floats:
        found = np.full(len(column), NAN)
        for first, last in _stretches(at.day_edges, len(column)):
            self._turn()
            found[first:last] = self._before
            traded = column[first:last][at.regular[first:last]]
            if len(traded):
                last = self._kind == "last"
                self._take(float(traded[-1] if last else traded.max() if self._kind == "highest" else traded.min()))
        return found

    def step(self, at: Moment, value: float) -> float:
        if at.starts_day:
            self._turn()
        if at.is_regular:
            self._take(value)
        return self._before

    def _turn(self) -> None:
        if not math.isnan(self._current):
            self._before, self._current = self._current, NAN

    def _take(self, value: float) -> None:
        if self._kind == "last" or math.isnan(self._current):
            self._current = value
        else:
            self._current = max(self._current, value) if self._kind == "highest" else min(self._current, value)


class Hold:
    """The last value that was known."""

    def __init__(self) -> None:
        self._last = NAN

    def whole(self, at: Moment, column: Floats) -> Floats:
        known = np.where(np.isnan(column), 0, np.arange(len(column)))
        found: Floats = column[np.maximum.accumulate(known)] if len(column) else column
        if len(found):
            self._last = float(found[-1])
        return found

    def step(self, at: Moment, value: float) -> float:
        if not math.isnan(value):
            self._last = value
        return self._last


class SameSlot:
    """The mean, highest or lowest value at the same time of day in the last days, today left out.

    A day without a bar at that time counts as a day, and its value is left out; NaN where no day has one.
    """

    def __init__(self, days: int, kind: str) -> None:
        self._days, self._kind = days, kind
        self._seen: deque[int] = deque(maxlen=days + 1)  # days with bars, the present one last
        self._values: dict[int, deque[tuple[int, float]]] = {}

    def whole(self, at: Moment, column: Floats) -> Floats:
        order = np.argsort(at.slots, kind="stable")  # bars of one time of day together, older days first
        edges = np.zeros(len(column), dtype=np.int64)
        edges[at.day_edges] = 1
        ordinal = np.cumsum(edges)  # 1 for the first day that has bars
        day, slot, value = ordinal[order], at.slots[order], column[order]
        total = np.zeros(len(column))
        best, there = np.full(len(column), NAN), np.zeros(len(column), dtype=np.int64)
        pick = np.fmax if self._kind == "highest" else np.fmin
        for back in range(min(self._days, len(column) - 1), 0, -1):  # the oldest first, as in steps
            fits = (slot[back:] == slot[:-back]) & (day[back:] - day[:-back] <= self._days)
            older = value[:-back]
            total[back:] += np.where(fits, older, 0.0)
            best[back:] = pick(best[back:], np.where(fits, older, NAN))
            there[back:] += fits
        made = np.divide(total, there, out=np.full(len(column), NAN), where=there > 0) if self._kind == "mean" else best
        found = np.empty(len(column))
        found[order] = np.where((there > 0) & (day > self._days), made, NAN)
        self._remember(at, column, ordinal)
        return found

    def _remember(self, at: Moment, column: Floats, ordinal: Indices) -> None:
        """Keep what steps need of the last days."""
        if not len(column):
            return
        self._seen.extend(at.days[at.day_edges][-self._days - 1 :].tolist())
        recent = slice(int(np.searchsorted(ordinal, ordinal[-1] - self._days)), None)
        rows = zip(at.days[recent].tolist(), at.slots[recent].tolist(), column[recent].tolist(), strict=True)
        for day, slot, value in rows:
            self._values.setdefault(slot, deque(maxlen=self._days)).append((day, value))

    def step(self, at: Moment, value: float) -> float:
        if at.starts_day:
            self._seen.append(at.day)
        kept = self._values.setdefault(at.slot, deque(maxlen=self._days))
        found = NAN
        if len(self._seen) > self._days:
            values = [old for on, old in kept if on >= self._seen[0]]
            found = self._of(values) if values else NAN
        kept.append((at.day, value))
        return found

    def _of(self, values: list[float]) -> float:
        if self._kind == "mean":
            total = 0.0
            for value in values:
                total += value
            return total / len(values)
        return max(values) if self._kind == "highest" else min(values)
