"""Many parameter sets of one strategy that declares arrays, over the same bars, one after the other.

Owns: one row of figures for each set. Leaves: the loop (``kernel``), choosing sets and spreading them over workers
(``sweep``), figures that need the curve (``metrics``).
Rule: bars are checked and laid out once. A set that the loop cannot run exactly is run by the engine; a set whose code
fails has its error in its row, and the others go on.
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np

from strategies.exceptions import ConfigError
from trading.backtest.arrays import Track, lay_out
from trading.backtest.checks import check_spec
from trading.backtest.compiled import ArrayRun, summarise
from trading.backtest.compiled_market import CompiledMarket, NotCompilableError, compile_market
from trading.backtest.contracts import BacktestResult, BacktestSpec, Progress, ShouldStop, StrategyEntry
from trading.backtest.engine import LOOK_EVERY_S, run_by_bars
from trading.backtest.targets import arrays_alone, check_causal, targets_of

_FEW = 4096
"""Bars that every set but the first is asked for once more, to see whether it knows the future."""


@dataclass(frozen=True, slots=True)
class SweepRow:
    """The figures of one parameter set.

    Returns are of one bar; ``exposure`` is the share of bars with a position; ``error`` says what failed, and then the
    figures are those of a strategy that did nothing.
    """

    config: Mapping[str, Any]
    equity: Decimal
    fees: Decimal
    fills: int
    denied: int
    total_return: float
    max_drawdown: float
    mean_return: float
    deviation: float
    exposure: float
    error: str = ""


def sweep_arrays(
    spec: BacktestSpec,
    configs: Sequence[Mapping[str, Any]],
    *,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> list[SweepRow]:
    """Run the spec's one strategy with each set laid over its parameters; rows in the order of the sets.

    Stopped, it returns the rows that are done. Every set is checked for knowing the future, the first in the middle of
    the bars, the others early on, which costs less.
    Raises: ConfigError when the spec cannot be run, or when it has more than one strategy or series.
    """
    if len(spec.strategies) != 1 or len(spec.bars) != 1:
        raise ConfigError("A sweep runs one strategy over one series.", code="bad_sweep")
    tracks = lay_out(spec)
    check_spec(spec, tracks)
    (entry,), (track,) = spec.strategies, tracks
    try:
        market: CompiledMarket | None = compile_market(spec, entry, track)
    except NotCompilableError:
        market = None
    rows: list[SweepRow] = []
    looked = time.perf_counter()
    for config in configs:
        mine = replace(entry, config={**entry.config, **config})
        rows.append(_row(spec, mine, config, market, track, is_first=not rows))
        now = time.perf_counter()
        if now - looked >= LOOK_EVERY_S:
            looked = now
            if progress is not None:
                progress(len(rows) / len(configs), f"{len(rows)} of {len(configs)}")
            if should_stop is not None and should_stop():
                break
    return rows


def _row(
    spec: BacktestSpec,
    entry: StrategyEntry,
    config: Mapping[str, Any],
    market: CompiledMarket | None,
    track: Track,
    *,
    is_first: bool,
) -> SweepRow:
    try:
        if market is None:
            return _by_bars(spec, entry, config, track)
        try:
            return _compiled(spec, entry, config, market, is_first=is_first)
        except NotCompilableError:
            return _by_bars(spec, entry, config, track)
    except Exception:  # noqa: BLE001 - the border of user code: the traceback is kept in the row
        return SweepRow(
            config, entry.cash, Decimal(0), 0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, error=traceback.format_exc()
        )  # fmt: skip


def _compiled(
    spec: BacktestSpec, entry: StrategyEntry, config: Mapping[str, Any], market: CompiledMarket, *, is_first: bool
) -> SweepRow:
    strategy = arrays_alone(entry.make(entry.name, dict(entry.config)))
    if strategy is None or list(strategy.get_subscriptions()) != [market.track.pair]:
        raise NotCompilableError("it declares more than arrays of the one series")
    market = market.for_entry(spec, entry)
    targets = targets_of(entry.name, strategy, market.series, len(market.track.starts))
    check_causal(entry.name, strategy, market.series, targets, at_most=None if is_first else _FEW)
    return row_of(summarise(market, targets, entry.cash, entry.name), config)


def row_of(run: ArrayRun, config: Mapping[str, Any]) -> SweepRow:
    """Return the figures of a compiled run."""
    mean = run.return_sum / run.bars
    return SweepRow(
        config,
        run.equity,
        run.fees,
        run.filled,
        run.denied,
        total_return=float(run.equity / run.start_cash) - 1.0 if run.start_cash else 0.0,
        max_drawdown=run.max_drawdown,
        mean_return=mean,
        deviation=math.sqrt(max(run.return_squares / run.bars - mean * mean, 0.0)),
        exposure=run.bars_inside / run.bars,
    )


def _by_bars(spec: BacktestSpec, entry: StrategyEntry, config: Mapping[str, Any], track: Track) -> SweepRow:
    result = run_by_bars(replace(spec, strategies=[entry]))
    outcome = result.strategies[entry.name]
    curve = np.concatenate(([float(entry.cash)], outcome.equity_curve))
    before = curve[:-1]
    returns = np.divide(np.diff(curve), before, out=np.zeros(len(before)), where=before != 0)
    highest = np.maximum.accumulate(curve)
    falls = np.divide(highest - curve, highest, out=np.zeros(len(curve)), where=highest > 0)
    return SweepRow(
        config,
        outcome.equity,
        outcome.fees,
        len(result.fills),
        sum(order.state == "denied" for order in result.orders),
        total_return=float(outcome.equity / entry.cash) - 1.0 if entry.cash else 0.0,
        max_drawdown=float(falls.max()),
        mean_return=float(returns.mean()),
        deviation=float(returns.std()),
        exposure=_exposure(result, track),
        error="\n".join(outcome.errors),
    )


def _exposure(result: BacktestResult, track: Track) -> float:
    """The share of bars at whose end something was held. Auctions fill at the end of a bar, all else at a start."""
    starts, ends = track.starts[track.first : track.last], track.ends[track.first : track.last]
    held = np.zeros(len(ends))
    for fill in result.fills:
        closing = fill.order_type in ("MOC", "LOC")
        row = (
            np.searchsorted(ends, fill.time_ns) if closing else np.searchsorted(starts, fill.time_ns, side="right") - 1
        )
        held[row] += float(fill.quantity)
    return float((np.abs(np.cumsum(held)) > 1e-9).mean())
