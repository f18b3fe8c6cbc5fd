"""Bars as columns with a cursor: what ``get_bars`` returns, the same object in a backtest, a session and live.

Owns: the columns of one symbol and interval, and how much of them is visible. Leaves: who moves the cursor (backtest,
data processor), what the bars mean (intervals, calendars). Pure.
Rule: a bar is stamped with its interval's start and visible at its end. Strategies hold a reference, not a copy: the
series grows under them, at its end only. Views of columns are read-only, so that nobody changes history for others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from strategies.exceptions import ConfigError

Floats = npt.NDArray[np.float64]
Nanos = npt.NDArray[np.int64]
FIELDS = ("open", "high", "low", "close", "volume")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_CAPACITY = 512
_BEFORE_ALL = -(2**63)
_BLOCK = 65_536  # bars that are checked at a time


class Bar(NamedTuple):
    """One closed bar. Units: ``start_ns`` epoch nanoseconds UTC of its start; prices in the instrument's currency."""

    start_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: float

    @property
    def timestamp(self) -> datetime:
        """Return its start, aware UTC."""
        return moment_of(self.start_ns)


def moment_of(nanos: int) -> datetime:
    """Return epoch nanoseconds as an aware UTC moment; what lies below a microsecond is cut."""
    return _EPOCH + timedelta(microseconds=nanos // 1000)


def nanos_of(moment: datetime) -> int:
    """Return an aware moment in epoch nanoseconds.

    Raises: ConfigError (naive_time) for a naive one.
    """
    if moment.tzinfo is None:
        raise ConfigError(f"{moment.isoformat()} has no time zone.", code="naive_time")
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


class BarSeries(Sequence[Bar]):
    """The closed bars of one symbol and interval, oldest first.

    Shape: equal one-dimensional columns, ``starts`` int64 epoch nanoseconds UTC strictly increasing, prices float64.
    ``count`` is the cursor: only bars before it are visible. One writer; readers of other threads see whole bars.
    """

    __slots__ = ("_columns", "count", "interval", "symbol")
    count: int  # type: ignore[assignment]  # the cursor, not Sequence.count, which no one needs of bars

    def __init__(self, symbol: str, interval: str) -> None:
        self.symbol = symbol
        self.interval = interval
        self.count = 0
        # One tuple, replaced as a whole: a reader of another thread never mixes columns from before and after a change.
        self._columns: tuple[Nanos, Floats, Floats, Floats, Floats, Floats] = _empty(_FIRST_CAPACITY)

    @classmethod
    def from_columns(
        cls, symbol: str, interval: str, starts: Nanos, columns: Sequence[Floats], count: int = 0
    ) -> BarSeries:
        """Lay out all bars of a run; ``count`` of them are visible until the cursor is moved.

        ``columns``: open, high, low, close, volume; arrays of the right dtype are taken as they are, without a copy.
        Raises: ConfigError (bad_bars) naming the row and the reason: unequal lengths, unsorted or duplicate starts,
        NaN or infinite prices, a high below or a low above open or close, a negative volume; a count beyond the bars.
        """
        series = cls.__new__(cls)
        series.symbol, series.interval, series.count = symbol, interval, count
        series._lay_out(np.ascontiguousarray(starts, dtype=np.int64), columns)
        if not 0 <= count <= series.capacity:
            raise ConfigError(f"{symbol} {interval}: {series.capacity} bars, not {count}.", code="bad_bars")
        return series

    def _lay_out(self, starts: Nanos, columns: Sequence[Floats]) -> None:
        open_, high, low, close, volume = (np.ascontiguousarray(column, dtype=np.float64) for column in columns)
        check_columns(self.symbol, self.interval, starts, (open_, high, low, close, volume))
        for array in (starts, open_, high, low, close, volume):
            array.flags.writeable = False
        self._columns = (starts, open_, high, low, close, volume)

    # -- writing

    def append(self, bar: Bar) -> None:
        """Add a closed bar at the end.

        Raises: ConfigError (bad_bars) for one at or before the last, with numbers that no market prints, or into a
        series whose bars are laid out beyond the cursor.
        """
        problem = self.problem_with(bar)
        if problem:
            raise ConfigError(
                f"{self.symbol} {self.interval}: the bar of {bar.timestamp:%Y-%m-%d %H:%M:%S}Z {problem}.",
                code="bad_bars",
            )
        index = self.count
        if index == self.capacity:
            self._grow()
        for column, value in zip(self._columns, bar, strict=True):
            column[index] = value
        self.count = index + 1  # last: a reader of another thread never sees half a bar

    def load(self, starts: Nanos, columns: Sequence[Floats]) -> None:
        """Put other bars in place of all that are there; references stay good.

        Raises: ConfigError (bad_bars) as ``from_columns`` does, in which case nothing is changed.
        """
        before = self.count
        self.count = min(before, len(starts))  # no reader looks beyond what comes
        try:
            self._lay_out(np.array(starts, dtype=np.int64), [np.array(column, dtype=np.float64) for column in columns])
        except ConfigError:
            self.count = before
            raise
        self.count = self.capacity

    def problem_with(self, bar: Bar) -> str:
        """Return why a bar cannot be added at the end, empty when it can."""
        index, starts = self.count, self._columns[0]
        if index < len(starts) and not starts.flags.writeable:
            return "meets bars that are laid out already"
        if index and bar.start_ns <= int(starts[index - 1]):
            return "is not after the last"
        problem = problem_with_bar(bar)
        return f"has {problem}" if problem else ""

    def _grow(self) -> None:
        more = _empty(max(self.capacity, _FIRST_CAPACITY))
        starts, *prices = (np.concatenate(pair) for pair in zip(self._columns, more, strict=True))
        self._columns = (starts, *prices)  # type: ignore[assignment]  # five columns of prices, as there were

    def merged(self, bars: Sequence[Bar], *, replace: bool = False) -> tuple[Nanos, list[Floats]] | None:
        """Return starts and columns with bars that came late in their places, for ``load``; None when none is new.

        A bar that is there already stays as it is, unless ``replace`` says otherwise.
        """
        known = {bar.start_ns: bar for bar in self}
        late = {
            bar.start_ns: bar for bar in bars if bar.start_ns not in known or (replace and known[bar.start_ns] != bar)
        }
        if not late:
            return None
        rows = sorted({**known, **late}.values())
        starts, *columns = zip(*rows, strict=True)
        return np.array(starts, dtype=np.int64), [np.array(column, dtype=np.float64) for column in columns]

    # -- reading

    @property
    def capacity(self) -> int:
        """Return how many bars there is room for, or are laid out, visible or not."""
        return len(self._columns[0])

    def whole(self) -> tuple[Nanos, tuple[Floats, Floats, Floats, Floats, Floats]]:
        """Return starts and columns of every bar that is laid out, beyond the cursor too: for those who prepare a run.

        Strategies never call it: what lies beyond the cursor is the future.
        """
        starts, open_, high, low, close, volume = self._columns
        end = self.count if starts.flags.writeable else len(starts)
        return _visible(starts, end), (
            _visible(open_, end),
            _visible(high, end),
            _visible(low, end),
            _visible(close, end),
            _visible(volume, end),
        )

    def prefix(self, count: int) -> BarSeries:
        """Return the first bars, visible or not, as a series of its own that shares the columns.

        Raises: ConfigError (bad_bars) for more than there are.
        """
        starts, columns = self.whole()
        if not 0 <= count <= len(starts):
            raise ConfigError(f"{self.symbol} {self.interval}: {len(starts)} bars, not {count}.", code="bad_bars")
        made = BarSeries.__new__(BarSeries)
        made.symbol, made.interval, made.count = self.symbol, self.interval, count
        open_, high, low, close, volume = (column[:count] for column in columns)
        made._columns = (starts[:count], open_, high, low, close, volume)
        return made

    @property
    def is_laid_out(self) -> bool:
        """Tell whether all bars are there, behind the cursor too; else the series grows."""
        return not self._columns[0].flags.writeable

    @property
    def starts(self) -> Nanos:
        """Return the starts of the visible bars, a read-only view."""
        return _visible(self._columns[0], self.count)

    @property
    def last_start_ns(self) -> int:
        """Return the start of the newest visible bar, epoch nanoseconds; before all time when there is none."""
        return self._columns[0].item(self.count - 1) if self.count else _BEFORE_ALL

    @property
    def open(self) -> Floats:
        """Return the visible opens, a read-only view."""
        return _visible(self._columns[1], self.count)

    @property
    def high(self) -> Floats:
        """Return the visible highs, a read-only view."""
        return _visible(self._columns[2], self.count)

    @property
    def low(self) -> Floats:
        """Return the visible lows, a read-only view."""
        return _visible(self._columns[3], self.count)

    @property
    def close(self) -> Floats:
        """Return the visible closes, a read-only view."""
        return _visible(self._columns[4], self.count)

    @property
    def volume(self) -> Floats:
        """Return the visible volumes, a read-only view."""
        return _visible(self._columns[5], self.count)

    # One number of the last visible bar, in a sixth of the time that the column's view would take; a part that they
    # share would cost a third more.

    @property
    def last_open(self) -> float:
        """Return the last open; an IndexError without bars."""
        count = self.count
        return self._columns[1].item(count - 1) if count > 0 else self._no_bars()

    @property
    def last_high(self) -> float:
        """Return the last high; an IndexError without bars."""
        count = self.count
        return self._columns[2].item(count - 1) if count > 0 else self._no_bars()

    @property
    def last_low(self) -> float:
        """Return the last low; an IndexError without bars."""
        count = self.count
        return self._columns[3].item(count - 1) if count > 0 else self._no_bars()

    @property
    def last_close(self) -> float:
        """Return the last close; an IndexError without bars."""
        count = self.count
        return self._columns[4].item(count - 1) if count > 0 else self._no_bars()

    @property
    def last_volume(self) -> float:
        """Return the last volume; an IndexError without bars."""
        count = self.count
        return self._columns[5].item(count - 1) if count > 0 else self._no_bars()

    def _no_bars(self) -> float:
        raise IndexError(f"{self.symbol} {self.interval} has no bars")

    def __len__(self) -> int:
        return self.count

    @overload
    def __getitem__(self, index: int) -> Bar: ...

    @overload
    def __getitem__(self, index: slice) -> list[Bar]: ...

    def __getitem__(self, index: int | slice) -> Bar | list[Bar]:
        count = self.count
        if isinstance(index, slice):
            return [self._bar(n) for n in range(*index.indices(count))]
        place = index + count if index < 0 else index
        if not 0 <= place < count:
            raise IndexError(f"{self.symbol} {self.interval} has {count} bars")
        return self._bar(place)

    def __iter__(self) -> Iterator[Bar]:
        """Walk over the bars that are visible now; what comes meanwhile is left out."""
        for index in range(self.count):
            yield self._bar(index)

    def _bar(self, index: int) -> Bar:
        starts, open_, high, low, close, volume = self._columns
        return Bar(
            int(starts[index]),
            float(open_[index]),
            float(high[index]),
            float(low[index]),
            float(close[index]),
            float(volume[index]),
        )


def _empty(capacity: int) -> tuple[Nanos, Floats, Floats, Floats, Floats, Floats]:
    open_, high, low, close, volume = (np.empty(capacity, dtype=np.float64) for _ in FIELDS)
    return np.empty(capacity, dtype=np.int64), open_, high, low, close, volume


def _visible(array: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    view = array[:count]
    if view.flags.writeable:
        view.flags.writeable = False
    return view


def problem_with_bar(bar: Bar) -> str:
    """Return what is wrong with a bar, empty when nothing is."""
    values = bar[1:]
    if not all(np.isfinite(value) for value in values):
        return "an unset number"
    if bar.high < max(bar.open, bar.close) or bar.low > min(bar.open, bar.close):
        return "a high below or a low above its open or close"
    return "a negative volume" if bar.volume < 0 else ""


def check_columns(symbol: str, interval: str, starts: Nanos, columns: Sequence[Floats]) -> None:
    """Refuse bars that no market prints: a wrong bar would become a wrong fill.

    Raises: ConfigError (bad_bars) naming the first bad row.
    """
    if any(len(column) != len(starts) for column in columns):
        raise ConfigError(f"{symbol} {interval}: columns of different lengths.", code="bad_bars")
    # In blocks, each with the bar before it, so that what is made on the way stays small.
    for begin in range(0, len(starts), _BLOCK):
        first = max(begin - 1, 0)
        part = slice(first, begin + _BLOCK)
        problem = _problem_in(starts[part], [column[part] for column in columns])
        if problem is not None:
            row, text = first + problem[0], problem[1]
            raise ConfigError(
                f"{symbol} {interval}: the bar of {moment_of(int(starts[row])):%Y-%m-%d %H:%M:%S}Z (row {row}) {text}.",
                code="bad_bars",
                row=row,
            )


def _problem_in(starts: Nanos, columns: Sequence[Floats]) -> tuple[int, str] | None:
    """The first row of some bars with the problem that comes first in the list, None when all are fine."""
    open_, high, low, close, volume = columns
    steps = np.diff(starts)
    problems = (
        ("does not come after the bar before it", np.concatenate(([False], steps < 0))),
        ("is there twice", np.concatenate(([False], steps == 0))),
        ("has an unset number", ~np.logical_and.reduce([np.isfinite(column) for column in columns])),
        (
            "has a high below or a low above its open or close",
            (high < np.maximum(open_, close)) | (low > np.minimum(open_, close)),
        ),
        ("has a negative volume", volume < 0),
    )
    for text, wrong in problems:
        if wrong.any():
            return int(np.flatnonzero(wrong)[0]), text
    return None
