"""Signals that are declared as arrays: asking a strategy for them, checking them, following them bar by bar.

Owns: what an ``ArrayStrategy`` answers, and the engine's way to go along with it. Leaves: the compiled way (``kernel``,
``compiled``), which does the same.
Rule: where position and target differ, working orders are taken back and a market order for the difference is placed. A
target that was refused is not tried again until it changes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from strategies.bar_series import BarSeries, Floats
from strategies.exceptions import ConfigError, StrategyError
from strategies.reactive import ArrayStrategy, ReactiveStrategy
from trading.backtest.arrays import plain_view
from trading.backtest.executor import Executor


def targets_of(name: str, strategy: ArrayStrategy, bars: BarSeries, count: int) -> Floats:
    """Return what a strategy wants at each of the first ``count`` bars.

    Raises: StrategyError for an answer that is not one finite number, or NaN, for each bar; whatever its code raises.
    """
    answer: Any = strategy.signals_as_arrays(bars.prefix(count))
    found = getattr(answer, "targets", None)
    if not isinstance(found, np.ndarray) or found.shape != (count,) or found.dtype != np.float64:
        what = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
        raise StrategyError(
            f"signals_as_arrays of {name} answered with {what}; targets are one float64 for each of {count} bars."
        )
    if np.isinf(found).any():
        raise StrategyError(f"signals_as_arrays of {name} answered with an infinite target.")
    return found


def arrays_alone(strategy: object) -> ArrayStrategy | None:
    """Return a strategy that declares arrays and nothing else; None where hooks of its own would have to be called."""
    if not isinstance(strategy, ArrayStrategy):
        return None
    own = type(strategy)
    hooks = own.setup, own.teardown, own.on_bars
    return strategy if hooks == (ReactiveStrategy.setup, ReactiveStrategy.teardown, ArrayStrategy.on_bars) else None


def check_causal(
    name: str, strategy: ArrayStrategy, bars: BarSeries, targets: Floats, *, at_most: int | None = None
) -> None:
    """Refuse signals that are others when the later half of the bars is taken away: they know the future.

    ``at_most`` bars are left, where that is less than half: less work.
    Raises: ConfigError (look_ahead) naming the first bar that differs.
    """
    cut = len(targets) // 2 + 1 if at_most is None else min(len(targets) // 2 + 1, at_most)
    if cut >= len(targets):
        return
    before, after = targets_of(name, strategy, bars, cut), targets[:cut]
    differs = (before != after) & ~(np.isnan(before) & np.isnan(after))
    if not differs.any():
        return
    row = int(np.flatnonzero(differs)[0])
    moment = bars.prefix(row + 1)[-1].timestamp
    raise ConfigError(
        f"{name}: the target at the bar of {moment:%Y-%m-%d %H:%M}Z (row {row}) is {before[row]:g} without the bars "
        f"from row {cut} on, and {after[row]:g} with them: it knows the future.",
        code="look_ahead",
        row=row,
    )


class Follower:
    """Leads one strategy's position after its targets."""

    def __init__(self, executor: Executor, bars: BarSeries, targets: Floats) -> None:
        self._executor, self._bars = executor, bars
        self._targets = plain_view(np.ascontiguousarray(targets))
        self._refused: float | None = None

    def on_bars(self, symbol: str, interval: str) -> None:
        """Order what leads to the target at the bar that ended."""
        target = self._targets[self._bars.count - 1]
        if target != target or target == self._refused:
            return
        self._refused = None
        if not self._executor.aim(symbol, target):
            self._refused = target
