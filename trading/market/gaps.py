"""Missing bars: which they are, how a longer interval is mended from a shorter one, and asking for them again.

Owns: grouping, filling from shorter bars, the tries of the live filler. Leaves: quality (``quality``), storing
(``session_data.merge_bars``), the request itself (``BarRequests``). Pure.
Rule: missing stamps are one gap while each follows the last by the interval. History is mended from a shorter interval
that is complete; during a session only live bars are asked for again, ``max_retries`` times, ``retry_interval_s``
apart. A backtest never mends its session: the strategy would see what nobody saw.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from strategies.bar_series import Bar, BarSeries, Nanos, moment_of
from strategies.data import SAME_PRICE
from strategies.exceptions import ConfigError, ConflictError, MatsError
from strategies.intervals import Interval, parse_interval
from trading.market.derived import Columns, derive, on_grid
from trading.market.quality import expected_starts
from trading.market.session_table import SECOND_NS, Days, SessionTable

logger = logging.getLogger(__name__)

_FIELDS = ("open", "high", "low", "close", "volume")
GRACE_S = 5
"""A bar may be on its way for so long after its end."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Consecutive missing bars: stamps from ``start_ns`` up to ``end_ns``, which is no longer missing."""

    start_ns: int
    end_ns: int
    missing: int


def find_gaps(starts: Nanos, interval: Interval, table: SessionTable, session: int, now_ns: int) -> list[Gap]:
    """Return the gaps of a session up to a moment."""
    missing = missing_starts(starts, interval, table, session, now_ns)
    return group_gaps(missing, interval)


def missing_starts(starts: Nanos, interval: Interval, table: SessionTable, session: int, now_ns: int) -> Nanos:
    """Return the stamps that a session lacks up to a moment, ascending."""
    return np.setdiff1d(expected_starts(table, interval, session, now_ns), starts, assume_unique=True)


def group_gaps(missing: Nanos, interval: Interval) -> list[Gap]:
    """Group ascending stamps: each gap goes on while the next stamp follows by the interval."""
    if not len(missing):
        return []
    length = interval.seconds * SECOND_NS
    first = np.flatnonzero(np.concatenate(([True], np.diff(missing) != length)))
    last = np.append(first[1:], len(missing)) - 1
    return [
        Gap(int(missing[a]), int(missing[b]) + length, int(b - a) + 1)
        for a, b in zip(first.tolist(), last.tolist(), strict=True)
    ]


def fill_from_shorter(
    starts: Nanos,
    interval: Interval,
    shorter_starts: Nanos,
    shorter_columns: Columns,
    shorter: Interval,
    table: SessionTable,
) -> list[Bar]:
    """Return the bars that ``starts`` lacks and a shorter interval makes up in full.

    For history, whose days are over: all that the shorter bars cover is looked at. A day counts only with every one of
    its shorter bars: a hole that the day's own bar would not have hides highs, lows and volume.
    Raises: ConfigError (not_derivable).
    """
    if not interval.is_intraday and shorter.is_intraday:
        shorter_starts, shorter_columns = _whole_days(shorter_starts, shorter_columns, shorter, table)
    made, columns = derive(shorter_starts, shorter_columns, shorter, interval, table)

    def key(stamps: Nanos) -> Any:
        return stamps if interval.is_intraday else table.dates_of(stamps)

    lacking = ~np.isin(key(made), key(starts))
    return [
        Bar(*row) for row in zip(made[lacking].tolist(), *(column[lacking].tolist() for column in columns), strict=True)
    ]


def _whole_days(starts: Nanos, columns: Columns, interval: Interval, table: SessionTable) -> tuple[Nanos, Columns]:
    """Return the bars of the sessions that lack none."""
    rows, segments = on_grid(starts, interval, table)
    sessions = table.segment_sessions[segments[rows]]
    found, counts = np.unique(sessions, return_counts=True)
    wanted = [len(expected_starts(table, interval, int(one), int(table.closes[one]))) for one in found]
    keep = rows[np.isin(sessions, found[counts == np.array(wanted, dtype=np.int64)])]
    return starts[keep], tuple(column[keep] for column in columns)


def mend_days(daily: BarSeries, lacking: Days, shorter: BarSeries, table: SessionTable) -> tuple[BarSeries, int]:
    """Return stored days with those that are lacking put in from shorter bars, and how many could be.

    Raises: ConflictError (other_scale) when a day that both have closes otherwise: a split may lie between.
    """
    day, source = parse_interval("1d"), parse_interval(shorter.interval)
    columns = tuple(getattr(shorter, name) for name in _FIELDS)
    made = fill_from_shorter(np.empty(0, dtype=np.int64), day, shorter.starts, columns, source, table)
    known = dict(zip(table.dates_of(daily.starts).tolist(), daily.close.tolist(), strict=True))
    dates = table.dates_of(np.array([bar.start_ns for bar in made], dtype=np.int64)).tolist()
    both = [(known[date], bar.close) for date, bar in zip(dates, made, strict=True) if date in known]
    wanted = set(lacking.tolist())
    news = [bar for date, bar in zip(dates, made, strict=True) if date in wanted]
    if not news:
        return daily, 0
    if not both or any(abs(theirs - ours) > SAME_PRICE * abs(ours) for ours, theirs in both):
        raise ConflictError(
            f"The days that {daily.symbol} lacks are not made of {shorter.interval} bars: "
            + ("no day is there both ways." if not both else "the days that are there both ways close otherwise."),
            code="other_scale",
        )
    rows = sorted([*daily, *news], key=lambda bar: bar.start_ns)
    starts = np.array([bar.start_ns for bar in rows], dtype=np.int64)
    merged = [np.array([getattr(bar, name) for bar in rows], dtype=np.float64) for name in _FIELDS]
    return BarSeries.from_columns(daily.symbol, daily.interval, starts, merged, len(rows)), len(news)


class BarRequests(Protocol):
    """Where missing bars are asked for: IB, or a store."""

    def request_bars(self, symbol: str, interval: str, start_ns: int, end_ns: int) -> Sequence[Bar]:
        """Return the bars with stamps in [start_ns, end_ns); none when there are none.

        Raises: MatsError when they cannot be had now.
        """


class GapStore(Protocol):
    """What the filler needs of the session's data."""

    def get_gaps(self, symbol: str, interval: str) -> list[Gap]:
        """Return today's gaps."""

    def streamed_pairs(self) -> list[tuple[str, str]]:
        """Return the pairs that come from outside, not derived ones."""

    def merge_bars(self, symbol: str, interval: str, bars: Sequence[Bar]) -> list[tuple[str, str]]:
        """Put late bars in their places; return the pairs that changed."""


@dataclass(slots=True)
class _Tries:
    made: int = 0
    last_ns: int = 0


class GapFiller:
    """Asks again for what is missing while a live session runs; call ``run`` now and then from the session's thread."""

    def __init__(
        self, store: GapStore, requests: BarRequests, *, mode: str, max_retries: int = 5, retry_interval_s: int = 60
    ) -> None:
        """Raises: ConflictError in a backtest; ConfigError for counts out of bounds (1–20 tries, at least 1 s)."""
        if mode != "live":
            raise ConflictError("A backtest's session is not mended; its gaps are what it had.", code="no_gap_filling")
        if not 1 <= max_retries <= 20 or retry_interval_s < 1:
            raise ConfigError(
                f"A gap is tried 1 to 20 times, 1 s apart at least, not {max_retries} times, {retry_interval_s} s.",
                code="bad_gap_filler",
            )
        self._store, self._requests = store, requests
        self._max_retries, self._apart_ns = max_retries, retry_interval_s * SECOND_NS
        self._tries: dict[tuple[str, str, int], _Tries] = {}
        self.filled = self.asked = 0

    def run(self, now_ns: int) -> list[tuple[str, str]]:
        """Ask for every gap that is due; return the pairs that changed, each once.

        A gap counts from some seconds after its last bar on. A request that fails is a try, too.
        """
        changed: dict[tuple[str, str], None] = {}
        for symbol, interval in self._store.streamed_pairs():
            for gap in self._store.get_gaps(symbol, interval):
                if now_ns - gap.end_ns < GRACE_S * SECOND_NS:
                    continue
                start_ns = self._due_from(symbol, interval, gap, now_ns)
                if start_ns is not None:
                    changed.update(dict.fromkeys(self._fill(symbol, interval, gap, start_ns, now_ns)))
        return list(changed)

    def given_up(self) -> int:
        """Return for how many stamps every try is used up."""
        return sum(one.made >= self._max_retries for one in self._tries.values())

    def reset(self) -> None:
        """Forget the tries: a new session begins."""
        self._tries.clear()

    def _tries_of(self, symbol: str, interval: str, gap: Gap) -> dict[int, _Tries]:
        length = (gap.end_ns - gap.start_ns) // gap.missing
        return {
            start: self._tries.setdefault((symbol, interval, start), _Tries())
            for start in range(gap.start_ns, gap.end_ns, length)
        }

    def _due_from(self, symbol: str, interval: str, gap: Gap, now_ns: int) -> int | None:
        """Return from which stamp on a gap is to be asked for; None for not now, or never again."""
        tries = self._tries_of(symbol, interval, gap)
        open_stamps = [start for start, one in tries.items() if one.made < self._max_retries]
        rested = all(one.made == 0 or now_ns - one.last_ns >= self._apart_ns for one in tries.values())
        return open_stamps[0] if open_stamps and rested else None

    def _fill(self, symbol: str, interval: str, gap: Gap, start_ns: int, now_ns: int) -> list[tuple[str, str]]:
        for start, one in self._tries_of(symbol, interval, gap).items():
            if start >= start_ns:
                one.made, one.last_ns = one.made + 1, now_ns
        self.asked += 1
        try:
            found = self._requests.request_bars(symbol, interval, start_ns, gap.end_ns)
            fitting = [bar for bar in found if start_ns <= bar.start_ns < gap.end_ns]
            changed = self._store.merge_bars(symbol, interval, fitting) if fitting else []
        except MatsError as error:
            logger.warning(
                "gap not filled symbol=%s interval=%s from=%s missing=%d reason=%s",
                symbol,
                interval,
                moment_of(gap.start_ns),
                gap.missing,
                error.message,
            )
            return []
        self.filled += len(fitting)
        for bar in fitting:
            self._tries.pop((symbol, interval, bar.start_ns), None)
        return changed
