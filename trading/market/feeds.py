"""Where a session's bars come from: stored ones (ArcticDB, the sample, a Parquet file) and the live market, one port.

Owns: the port, reading stored series once for a whole session, handing them out day by day.
Leaves: the live side (``engine.session_feed``), what is made of bars (``processor``).
Rule: a feed hands out closed bars of the base interval, in order, each when it ends and never before; a stored feed
never fills a gap. Pre- and post-market bars are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from strategies.bar_series import Bar, BarSeries, Floats, Nanos, nanos_of
from strategies.exceptions import ConfigError, MatsError, NotFoundError
from strategies.intervals import parse_interval
from trading.market.session_table import TradingSession

MARKET_DATA, SAMPLE, PARQUET = "market_data", "sample", "parquet:"
FIELDS = ("open", "high", "low", "close", "volume")
_ZONED = re.compile(r"(?:Z|[+-]\d{2}:?\d{2})$", re.ASCII)
Columns = tuple[Nanos, Sequence[Floats]]
Read = Callable[[str, str, datetime, datetime], pd.DataFrame]
"""Reads stored bars of (symbol, interval) that start in [first, until]; an unknown series is an empty frame."""


class BarStream(Protocol):
    """The bars of one symbol on one day, as they come."""

    @property
    def next_end(self) -> int | None:
        """Return when the next bar that is known already may be seen, epoch nanoseconds; None when none is known."""

    def take(self, until_ns: int) -> list[Bar]:
        """Return the bars that ended by then and were not taken yet, oldest first."""

    def close(self) -> None:
        """Want no more."""


class BarFeed(Protocol):
    """A source of bars."""

    def problem(self, symbol: str, interval: str) -> str:
        """Return why a symbol cannot be had; empty when it can."""

    def history(self, symbol: str, interval: str, first: datetime, until: datetime) -> BarSeries:
        """Return the closed bars that start in [first, until), all visible; none is an empty series.

        Raises: MatsError where they cannot be read.
        """

    def stream(self, symbol: str, interval: str, session: TradingSession) -> BarStream:
        """Return the bars of a session day from its open on.

        Raises: MatsError where they cannot be had.
        """

    def wait(self, timeout_s: float) -> None:
        """Return when a bar came, or the time is over; at once where all bars are there."""


class StoredStream:
    """A day of stored bars."""

    def __init__(self, bars: BarSeries, first: int, ends: Nanos) -> None:
        self._bars, self._first, self._ends = bars, first, ends
        self._at = 0

    @property
    def next_end(self) -> int | None:
        """Return when the next bar may be seen; None when the day has no more."""
        return int(self._ends[self._at]) if self._at < len(self._ends) else None

    def take(self, until_ns: int) -> list[Bar]:
        """Return the bars that ended by then."""
        end = int(np.searchsorted(self._ends, until_ns, side="right"))
        begin, self._at = self._at, max(end, self._at)
        return self._bars[self._first + begin : self._first + self._at]

    def close(self) -> None:
        """Hand out nothing more."""
        self._at = len(self._ends)


class StoredFeed:
    """Stored bars from ``first`` (of days and weeks ``daily_first``) to ``until``; each series is read once."""

    def __init__(self, read: Read, first: datetime, until: datetime, *, daily_first: datetime | None = None) -> None:
        self._read, self._first, self._until = read, first, until
        self._daily_first = daily_first or first
        self._series: dict[tuple[str, str], BarSeries] = {}

    def whole(self, symbol: str, interval: str) -> BarSeries:
        """Return all stored bars of the stretch, all visible.

        Raises: ConfigError (bad_bars) for bars that no market prints; MatsError where they cannot be read.
        """
        found = self._series.get((symbol, interval))
        if found is None:
            first = self._first if parse_interval(interval).is_intraday else self._daily_first
            frame = self._read(symbol, interval, first, self._until)
            found = self._series[symbol, interval] = series_of(symbol, interval, frame)
        return found

    def problem(self, symbol: str, interval: str) -> str:
        """Return why a symbol cannot be had."""
        try:
            bars = self.whole(symbol, interval)
        except MatsError as error:
            return error.message
        if len(bars):
            return ""
        return f"There are no stored bars of {symbol} {interval} from {self._first:%Y-%m-%d} to {self._until:%Y-%m-%d}."

    def history(self, symbol: str, interval: str, first: datetime, until: datetime) -> BarSeries:
        """Return the bars that start in [first, until)."""
        bars = self.whole(symbol, interval)
        low, high = np.searchsorted(bars.starts, [nanos_of(first), nanos_of(until)])
        return part_of(bars, int(low), int(high))

    def stream(self, symbol: str, interval: str, session: TradingSession) -> StoredStream:
        """Return the bars of a day that begin in [open, close)."""
        bars = self.whole(symbol, interval)
        if session.regular_open is None or session.regular_close is None:
            raise ConfigError(f"{session.day} has no session.", code="no_session")
        opens, closes = nanos_of(session.regular_open), nanos_of(session.regular_close)
        low, high = (int(n) for n in np.searchsorted(bars.starts, [opens, closes]))
        ends = np.minimum(bars.starts[low:high] + parse_interval(interval).seconds * 1_000_000_000, closes)
        return StoredStream(bars, low, ends)

    def wait(self, timeout_s: float) -> None:
        """Return at once: every bar is there."""


def series_of(symbol: str, interval: str, frame: pd.DataFrame) -> BarSeries:
    """Return a frame as a series, all of it visible.

    Shape: index UTC bar starts, columns open, high, low, close, volume.
    Raises: ConfigError (bad_bars).
    """
    index = pd.DatetimeIndex(frame.index)
    if index.tz is None and len(index):
        raise ConfigError(f"The bars of {symbol} {interval} have no time zone.", code="bad_bars")
    starts = index.as_unit("ns").astype("int64").to_numpy()
    columns = [frame[name].to_numpy(dtype=np.float64) for name in FIELDS]
    return BarSeries.from_columns(symbol, interval, starts, columns, len(starts))


def part_of(bars: BarSeries, low: int, high: int) -> BarSeries:
    """Return some of the visible bars as a series, without a copy."""
    columns = [column[low:high] for column in (bars.open, bars.high, bars.low, bars.close, bars.volume)]
    return BarSeries.from_columns(bars.symbol, bars.interval, bars.starts[low:high], columns, max(high - low, 0))


# -- stored sources


def stored_reader(source: str, folder: Path | None = None) -> Read:
    """Return the reader of a source: ``market_data``, ``sample``, or ``parquet:NAME.parquet`` in a folder.

    Raises: ConfigError (unknown_source), NotFoundError (no_file).
    """
    if source == MARKET_DATA:
        return read_market_data
    if source == SAMPLE:
        return frames_reader(read_shipped())
    name = source.removeprefix(PARQUET)
    if not source.startswith(PARQUET) or Path(name).name != name or folder is None:
        raise ConfigError(
            f"«{source}» is no source of bars; write market_data, sample or parquet:NAME.parquet.",
            code="unknown_source",
        )
    return frames_reader(read_parquet(folder / name))


def read_market_data(symbol: str, interval: str, first: datetime, until: datetime) -> pd.DataFrame:
    """Read ``market_data`` of ArcticDB with splits applied: a split is no crash to strategies and books."""
    from portfolio.arctic.client import get_ac
    from trading.market.adjustments import read_adjusted

    return read_adjusted(get_ac(), symbol, parse_interval(interval).key, start=first, end=until)


Frames = dict[tuple[str, str], pd.DataFrame]


def read_shipped() -> Frames:
    """Return the shipped minute bars by symbol and interval."""
    from trading.market.sample_data import read_sample

    return {(symbol, "1m"): frame for symbol, frame in read_sample().items()}


def read_parquet(path: Path) -> Frames:
    """Return the bars of a Parquet file by symbol and interval.

    Shape: columns symbol, interval, ts (UTC starts), open, high, low, close, volume; without ``interval`` all are 1m.
    Raises: NotFoundError (no_file); ConfigError (bad_bars) for other columns, (naive_time) for times without a zone.
    Rows keep their order: bars that are not sorted are refused where they are used.
    """
    if not path.is_file():
        raise NotFoundError(f"There is no file {path.name} in {path.parent}.", code="no_file")
    try:
        table = pd.read_parquet(path)
        _require_zone(path, table["ts"])
        table["ts"] = pd.to_datetime(table["ts"], utc=True)
        table["interval"] = table.get("interval", "1m")
        rows = table.set_index("ts")
        return {
            (str(symbol), str(interval)): part[list(FIELDS)].astype("float64")
            for (symbol, interval), part in rows.groupby(["symbol", "interval"])
        }
    except (KeyError, ValueError, TypeError, OSError) as error:
        raise ConfigError(
            f"{path.name} needs the columns symbol, ts (UTC), {', '.join(FIELDS)}: {error}", code="bad_bars"
        ) from error


def _require_zone(path: Path, times: pd.Series[Any]) -> None:
    if isinstance(times.dtype, pd.DatetimeTZDtype):
        return
    naive = [place for place, text in enumerate(times.astype(str), start=1) if not _ZONED.search(text)]
    if naive:
        raise ConfigError(
            f"{path.name}: row {naive[0]} is at {times.iloc[naive[0] - 1]}, which names no zone; times are UTC, with a "
            "zone that says so.",
            code="naive_time",
            row=naive[0],
        )


def frames_reader(frames: Frames) -> Read:
    """Return a reader of frames that are at hand."""

    def read(symbol: str, interval: str, first: datetime, until: datetime) -> pd.DataFrame:
        frame = frames.get((symbol, interval))
        if frame is None:
            return pd.DataFrame(columns=list(FIELDS), index=pd.DatetimeIndex([], tz="UTC"), dtype="float64")
        return frame[(frame.index >= first) & (frame.index <= until)]

    return read
