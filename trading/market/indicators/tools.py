"""What a formula is written with: columns and steps that mean a whole run or one bar, whichever is computed.

Owns: which sites a formula passes and in which order, the places of bars in their sessions, arithmetic with NaN.
Leaves: the steps themselves (``sites``), formulas, warm-up. Pure.
Rule: a formula passes the same sites in the same order at every bar; it may branch on parameters, never on prices.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from strategies.bar_series import Bar, Floats, Nanos
from strategies.intervals import Interval
from trading.market.indicators import sites
from trading.market.indicators.sites import NAN, Number, Site
from trading.market.session_table import REGULAR, Indices, SessionTable

_TRADING_DAYS, _WEEKS, _REGULAR_S = 252, 52, 23_400.0  # a year's days and weeks, the seconds of 6½ hours


@dataclass(frozen=True, slots=True)
class Places:
    """Where bars are in their sessions.

    Shape: equally long. ``days``: one number for each session's day; ``groups``: one for each pre-market, regular
    session and post-market, over which sums run; ``regular``: within regular hours; ``slots``: nanoseconds since the
    open. Days and weeks have no sessions within: each is a day of its own, all are one group.
    """

    days: Indices
    groups: Indices
    regular: npt.NDArray[np.bool_]
    slots: Indices

    @classmethod
    def of(cls, interval: Interval, starts: Nanos, table: SessionTable) -> Places:
        """Find the places of many bars."""
        if not interval.is_intraday:
            return cls(starts, np.zeros_like(starts), np.ones(len(starts), dtype=bool), np.zeros_like(starts))
        days, phases, opens = table.places(starts)
        return cls(days, days * 4 + phases, phases == REGULAR, starts - opens)


class Tools:
    """One run of one formula over the bars of one symbol.

    ``whole`` first, over the bars that are there, none at the least; then ``step`` by step.
    """

    def __init__(self, interval: Interval) -> None:
        self.interval = interval
        self.open: Number = NAN
        self.high: Number = NAN
        self.low: Number = NAN
        self.close: Number = NAN
        self.volume: Number = NAN
        self.starts_group = self.starts_day = self.is_regular = False
        self.day = self.slot = 0
        self.days: Indices = np.empty(0, dtype=np.int64)
        self.slots = self.group_edges = self.day_edges = self.days
        self.regular: Any = np.empty(0, dtype=bool)
        self._group = 0
        self._seen = False
        self._sites: list[Site] = []
        self._at = -1

    # -- driving

    def begin(self, places: Places, columns: tuple[Floats, ...]) -> None:
        """Set whole columns; the formula is called once after it."""
        self.open, self.high, self.low, self.close, self.volume = columns
        self.days, self.slots, self.regular = places.days, places.slots, places.regular
        self.group_edges, self.day_edges = _edges(places.groups), _edges(places.days)
        self._at = -1
        if len(places.days):
            self.day, self._group, self._seen = int(places.days[-1]), int(places.groups[-1]), True

    def forget(self) -> None:
        """Let go of the columns, which the formula has been through."""
        self.open = self.high = self.low = self.close = self.volume = NAN
        self.days = self.slots = self.group_edges = self.day_edges = np.empty(0, dtype=np.int64)
        self.regular = np.empty(0, dtype=bool)

    def next(self, bar: Bar, table: SessionTable) -> None:
        """Set one bar; the formula is called once after it."""
        _, self.open, self.high, self.low, self.close, self.volume = bar
        day, group, slot, self.is_regular = bar.start_ns, 0, 0, True
        if self.interval.is_intraday:
            day, phase, opens = table.place(bar.start_ns)
            group, slot, self.is_regular = day * 4 + phase, bar.start_ns - opens, phase == REGULAR
        self.starts_group = not self._seen or group != self._group
        self.starts_day = not self._seen or day != self.day
        self.day, self._group, self.slot, self._seen = day, group, slot, True
        self._at = 0

    def _pass(self, make: Callable[[], Site], *inputs: Number) -> Number:
        if self._at < 0:
            site = make()
            self._sites.append(site)
            return site.whole(self, *inputs)
        site = self._sites[self._at]
        self._at += 1
        return site.step(self, *inputs)

    # -- steps

    @property
    def typical(self) -> Number:
        """Return (high + low + close) / 3."""
        return (self.high + self.low + self.close) / 3.0

    @property
    def bars_a_year(self) -> float:
        """Return how many bars of the interval a year of US regular hours has."""
        if self.interval.is_intraday:
            return _TRADING_DAYS * _REGULAR_S / self.interval.seconds
        return (_TRADING_DAYS if self.interval.unit == "d" else _WEEKS) / self.interval.count

    def ta(self, function: str, *inputs: Number, **parameters: float) -> Number:
        """Return a function of TA-Lib; inputs may begin with NaN."""
        return self._pass(lambda: sites.Talib(function, **parameters), *inputs)

    def lag(self, x: Number, bars: int = 1) -> Number:
        """Return the value some bars before."""
        return self._pass(lambda: sites.Lag(bars), x)

    def total(self, x: Number, bars: int) -> Number:
        """Return the sum of the last bars."""
        return self._pass(lambda: sites.WindowSum(bars), x)

    def highest(self, x: Number, bars: int) -> Number:
        """Return the highest value of the last bars."""
        return self._pass(lambda: sites.Extreme(bars, highest=True), x)

    def lowest(self, x: Number, bars: int) -> Number:
        """Return the lowest value of the last bars."""
        return self._pass(lambda: sites.Extreme(bars, highest=False), x)

    def session_total(self, x: Number) -> Number:
        """Return the sum since the session began; pre-market, regular session and post-market each begin anew."""
        return self._pass(sites.GroupSum, x)

    def session_lag(self, x: Number) -> Number:
        """Return the value one bar before in the same session."""
        return self._pass(sites.GroupLag, x)

    def day_before(self, x: Number, kind: str) -> Number:
        """Return the highest, lowest or last value of the regular session before."""
        return self._pass(lambda: sites.DayBefore(kind), x)

    def hold(self, x: Number) -> Number:
        """Return the last value that was known."""
        return self._pass(sites.Hold, x)

    def same_slot(self, x: Number, days: int, kind: str) -> Number:
        """Return the mean, highest or lowest value at the same time of the last days."""
        return self._pass(lambda: sites.SameSlot(days, kind), x)

    def nothing(self) -> Number:
        """Return zeros for all bars."""
        return self.close * 0.0


def _edges(numbers: Indices) -> Indices:
    """Return the places at which a new number begins."""
    if not len(numbers):
        return numbers
    return np.flatnonzero(np.concatenate(([True], numbers[1:] != numbers[:-1])))


# -- arithmetic that means the same for a column and for one value


def ratio(a: Number, b: Number) -> Number:
    """Return a / b; NaN where b is 0 or unknown: what has no size has no share."""
    if isinstance(b, np.ndarray):
        return np.divide(a, b, out=np.full(len(b), NAN), where=b != 0)
    return a / b if b != 0 else NAN


def unless(condition: Number, x: Number) -> Number:
    """Return x, NaN where the condition holds."""
    if isinstance(x, np.ndarray):
        return np.where(condition, NAN, x)
    return NAN if condition else x


def where(condition: Number, x: Number, y: Number) -> Number:
    """Return x where the condition holds, else y."""
    if isinstance(condition, np.ndarray):
        return np.where(condition, x, y)
    return x if condition else y


def known_or(x: Number, default: float) -> Number:
    """Return x, the default where it is unknown."""
    if isinstance(x, np.ndarray):
        return np.where(np.isnan(x), default, x)
    return default if math.isnan(x) else x


def log(x: Number) -> Number:
    """Return the natural logarithm, by numpy in both cases: ``math.log`` rounds differently."""
    if isinstance(x, np.ndarray):
        return np.log(x, out=np.full(len(x), NAN), where=x > 0)
    return float(np.log(x)) if x > 0 else NAN


def rise(x: Number) -> Number:
    """Return x where it is above 0, else 0; unknown stays unknown."""
    return where(x <= 0, 0.0, x)
