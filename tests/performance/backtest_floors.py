"""Bars that backtests are measured on, and floors: the same work with nothing around it.

A floor has no orders, no fees and no books but cash and a count of shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from strategies.bar_series import BarSeries
from strategies.reactive import ArrayStrategy, SignalArrays
from tests.performance.backtest_strategies import CASH, FAST, NEAR, SHARES, SLOW
from trading.market.calendars import build_table

MINUTE_NS = 60_000_000_000
Floats = npt.NDArray[np.float64]


def minute_starts(count: int) -> npt.NDArray[np.int64]:
    """Return the starts of so many minutes of New York's sessions from 2010 on."""
    table = build_table("US_EQUITY", date(2010, 1, 1), date(2010 + count // 90_000 + 1, 12, 31))
    spans = zip(table.opens.tolist(), table.closes.tolist(), strict=True)
    return np.concatenate([np.arange(begin, end, MINUTE_NS) for begin, end in spans])[:count]


def walk_columns(count: int, seed: int) -> list[Floats]:
    """Return open, high, low, close, volume of a walk in whole cents."""
    rng = np.random.default_rng(seed)
    close = np.abs(9_000 + np.cumsum(rng.integers(-5, 6, count))) + 1_000
    open_ = np.concatenate(([close[0]], close[:-1])) + rng.integers(-2, 3, count)
    high = np.maximum(open_, close) + rng.integers(0, 4, count)
    low = np.minimum(open_, close) - rng.integers(0, 4, count)
    return [*(column / 100 for column in (open_, high, low, close)), rng.integers(1_000, 9_000, count).astype(float)]


def minute_bars(symbol: str, count: int, seed: int) -> BarSeries:
    """Return so many minute bars."""
    return BarSeries.from_columns(symbol, "1m", minute_starts(count), walk_columns(count, seed))


@njit(cache=True)
def cross_targets(close: Floats, fast: int, slow: int) -> Floats:
    """Return the position that two averages want after each bar."""
    targets = np.full(len(close), np.nan)
    short = long = 0.0
    is_long = False
    for row in range(len(close)):
        short += close[row] - (close[row - fast] if row >= fast else 0.0)
        long += close[row] - (close[row - slow] if row >= slow else 0.0)
        if row < slow:
            continue
        above = short / fast - long / slow
        if above > NEAR and not is_long:
            is_long = True
            targets[row] = SHARES
        elif above < -NEAR and is_long:
            is_long = False
            targets[row] = 0.0
    return targets


class CrossInArrays(ArrayStrategy):
    """Two averages as arrays."""

    def get_subscriptions(self) -> Sequence[tuple[str, str]]:
        return [(self.config["symbol"], "1m")]

    def signals_as_arrays(self, bars: BarSeries) -> SignalArrays:
        return SignalArrays(cross_targets(bars.close, self.config.get("fast", FAST), self.config.get("slow", SLOW)))


class FloorBar:
    """One bar as an object."""

    __slots__ = ("close", "high", "low", "open", "start", "volume")

    def __init__(self, start: int, open_: float, high: float, low: float, close: float, volume: float) -> None:
        self.start, self.open, self.high, self.low, self.close, self.volume = start, open_, high, low, close, volume


class FloorCross:
    """The rule of ``Cross`` on bar objects; +1 buys, −1 sells, 0 nothing."""

    def __init__(self) -> None:
        self.seen = 0
        self.fast = self.slow = self.before = 0.0
        self.window = [0.0] * SLOW
        self.is_long = False

    def on_bar(self, bar: FloorBar) -> int:
        """React to a bar."""
        close, seen, window = bar.close, self.seen, self.window
        self.seen = seen + 1
        place = seen % SLOW
        self.fast += close - window[(seen - FAST) % SLOW]
        self.slow += close - window[place]
        window[place] = close
        if seen < SLOW:
            return 0
        above, before = self.fast / FAST - self.slow / SLOW, self.before
        self.before = above
        if above > NEAR and before <= NEAR and not self.is_long:
            self.is_long = True
            return 1
        if above < -NEAR and self.is_long:
            self.is_long = False
            return -1
        return 0


def python_floor(columns: Sequence[Sequence[list[Any]]]) -> list[float]:
    """Run one rule on each of the symbols (lists of start, open, high, low, close, volume) on one clock: bar object,
    rule, fill at the next open, a point of equity. Return the last equities."""
    rules = [FloorCross() for _ in columns]
    cash, held, waiting = [float(CASH)] * len(columns), [0] * len(columns), [0] * len(columns)
    curves: list[list[float]] = [[] for _ in columns]
    fills: list[tuple[int, int, float]] = []
    for rows in zip(*(zip(*each, strict=True) for each in columns), strict=True):
        for place, row in enumerate(rows):
            bar = FloorBar(*row)
            if waiting[place]:
                cash[place] -= waiting[place] * SHARES * bar.open
                held[place] += waiting[place] * SHARES
                fills.append((bar.start, waiting[place], bar.open))
            waiting[place] = rules[place].on_bar(bar)
            curves[place].append(cash[place] + held[place] * bar.close)
    return [curve[-1] for curve in curves]


@njit(cache=True)
def compiled_floor(opens: Floats, closes: Floats, targets: Floats, curve: Floats) -> float:
    """The same in a compiled loop, floats only: follow the targets at the next open, a point of equity a bar."""
    cash, held, wanted = 0.0, 0.0, np.nan
    for row in range(len(closes)):
        if wanted == wanted:
            cash -= (wanted - held) * opens[row]
            held, wanted = wanted, np.nan
        if targets[row] == targets[row] and targets[row] != held:
            wanted = targets[row]
        curve[row] = cash + held * closes[row]
    return cash


def numpy_floor(closes: Floats) -> float:
    """Both averages and the sign of their difference with numpy alone."""
    sums = np.cumsum(closes)
    fast = (sums[SLOW:] - sums[SLOW - FAST : -FAST]) / FAST
    slow = (sums[SLOW:] - sums[:-SLOW]) / SLOW
    return float(np.sign(fast - slow).sum())
