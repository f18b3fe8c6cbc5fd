"""Strategies that declare their signals as arrays, run by the compiled loop: what came out, as columns and as a result.

Owns: one run of one strategy of one symbol. Leaves: the loop (``kernel``), what it may run (``compiled_market``), many
parameter sets (``compiled_sweep``), everything else that a run may have (``engine``).
Rule: the result is the engine's, row by row and cent by cent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property

import numpy as np
import numpy.typing as npt

from strategies.bar_series import Floats, Nanos
from trading.backtest import kernel
from trading.backtest.compiled_market import CompiledMarket, money_units
from trading.backtest.kernel import UNIT, walk

_UNIT = Decimal(UNIT)
_ROOM = 4096


@dataclass(frozen=True)
class ArrayRun:
    """What the loop left.

    Shape: ``orders`` int64 (7, n): row placed at, units, filled, state, end, cost and free cash of a check; ``fills``
    int64 (5, n): row, order, units, price in the market's scale, fee in hundred-millionths; ``curve`` float64, one
    point a row of the run, or empty.
    """

    market: CompiledMarket
    start_cash: Decimal
    cash: Decimal
    held: int
    fees: Decimal
    placed: int
    filled: int
    denied: int
    bars_inside: int
    final_equity: float
    max_drawdown: float
    return_sum: float
    return_squares: float
    orders: npt.NDArray[np.int64] = field(repr=False)
    fills: npt.NDArray[np.int64] = field(repr=False)
    curve: Floats = field(repr=False)

    @property
    def bars(self) -> int:
        """Return how many bars the run went through."""
        return self.market.track.last - self.market.track.first

    @cached_property
    def equity(self) -> Decimal:
        """Return cash and position at the last close, exactly."""
        _, (_, _, _, closes, _) = self.market.series.whole()
        mark = Decimal(repr(float(closes[self.market.track.last - 1])))
        return self.cash + self.held * mark * self.market.terms.unit * self.market.scale / _UNIT

    @property
    def equity_ns(self) -> Nanos:
        """Return the moments of the curve."""
        track = self.market.track
        return track.ends[track.first : track.last]


def run_targets(market: CompiledMarket, targets: Floats, cash: Decimal, name: str, *, curve: bool = True) -> ArrayRun:
    """Run targets through the loop, keeping orders and fills.

    Raises: ConfigError (bad_targets), NotCompilableError.
    """
    market.check_targets(targets, name)
    return _run(market, targets, cash, record=True, curve=curve)


def _run(market: CompiledMarket, targets: Floats, cash: Decimal, *, record: bool, curve: bool) -> ArrayRun:
    track = market.track
    first, last = track.first, track.last
    points = np.empty(last - first if curve else 0, dtype=np.float64)
    orders, fills = (np.empty((rows, _ROOM if record else 0), dtype=np.int64) for rows in (7, 5))
    state, figures = np.zeros(kernel.STATES, dtype=np.int64), np.zeros(5, dtype=np.float64)
    state[kernel.CASH] = money_units(cash)
    figures[:2] = state[kernel.CASH]
    row = first
    while row < last:
        row = walk(targets, *market.bars, market.terms, (first, row, last), state, figures, orders, fills, points)
        if row < last:
            orders, fills = (np.concatenate([rows, np.empty_like(rows)], axis=1) for rows in (orders, fills))
    market.check_equity(*figures[:3].tolist())
    return ArrayRun(
        market,
        start_cash=cash,
        cash=Decimal(int(state[kernel.CASH])) / _UNIT,
        held=int(state[kernel.HELD]),
        fees=Decimal(int(state[kernel.FEES])) / _UNIT,
        placed=int(state[kernel.PLACED]),
        filled=int(state[kernel.FILLS]),
        denied=int(state[kernel.DENIED]),
        bars_inside=int(state[kernel.INSIDE]),
        final_equity=float(figures[0]) / UNIT,
        max_drawdown=float(figures[2]),
        return_sum=float(figures[3]),
        return_squares=float(figures[4]),
        orders=orders[:, : state[kernel.PLACED]],
        fills=fills[:, : state[kernel.FILLS]],
        curve=points,
    )


def summarise(market: CompiledMarket, targets: Floats, cash: Decimal, name: str) -> ArrayRun:
    """Run targets through the loop for their figures alone.

    Raises: ConfigError (bad_targets), NotCompilableError.
    """
    market.check_targets(targets, name)
    return _run(market, targets, cash, record=False, curve=False)
