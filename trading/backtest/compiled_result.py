"""A compiled run as a result like the engine's: the same rows, the same books.

Owns: when ``run_backtest`` takes the compiled way, and turning columns into rows. Leaves: the loop (``kernel``).
Rule: every row is the engine's (tests compare them); what the loop cannot do exactly, or a strategy whose code fails,
is left to the engine, which also tells what is wrong.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from portfolio.ledger.money import exact
from portfolio.ledger.positions import FLAT, apply_fill, average_cost
from strategies.bar_series import moment_of
from strategies.exceptions import MatsError
from strategies.reactive import ArrayStrategy
from trading.backtest import kernel
from trading.backtest.arrays import lay_out
from trading.backtest.checks import check_spec
from trading.backtest.compiled import ArrayRun, run_targets
from trading.backtest.compiled_market import CompiledMarket, NotCompilableError, compile_market
from trading.backtest.contracts import (
    BacktestFill,
    BacktestOrder,
    BacktestResult,
    BacktestSpec,
    OpenPosition,
    StrategyOutcome,
)
from trading.backtest.kernel import UNIT
from trading.backtest.lane import warnings_of
from trading.backtest.outcome import collector_resting
from trading.backtest.targets import check_causal, targets_of

logger = logging.getLogger(__name__)
_UNIT = Decimal(UNIT)
_STATES = {
    kernel.OPEN: ("open", ""),
    kernel.FILLED: ("filled", ""),
    kernel.EXPIRED: ("expired", ""),
    kernel.CANCELLED: ("cancelled", "the target changed"),
}


def run_compiled(spec: BacktestSpec, strategy: ArrayStrategy) -> BacktestResult | None:
    """Run a spec of one strategy over one series; None when that is the engine's to do.

    Raises: ConfigError for a spec that cannot be run.
    """
    began = time.perf_counter()
    market = market_of(spec)
    run = None if market is None else run_on(market, spec, strategy)
    return None if run is None else result_of(spec, run, time.perf_counter() - began)


def market_of(spec: BacktestSpec) -> CompiledMarket | None:
    """Check and lay out a spec of one strategy over one series; None when it is the engine's to run.

    Raises: ConfigError for a spec that cannot be run.
    """
    (entry,) = spec.strategies
    tracks = lay_out(spec)
    check_spec(spec, tracks)
    (track,) = tracks
    try:
        return compile_market(spec, entry, track)
    except NotCompilableError as reason:
        logger.info("a backtest is not compiled strategy=%s reason=%s", entry.name, reason)
        return None
    except MatsError:
        return None  # the engine meets it again


def run_on(market: CompiledMarket, spec: BacktestSpec, strategy: ArrayStrategy) -> ArrayRun | None:
    """Run a spec's one strategy over bars that are laid out already; None when that is the engine's to do."""
    (entry,), track = spec.strategies, market.track
    try:
        if list(strategy.get_subscriptions()) != [track.pair]:
            return None
        market = market.for_entry(spec, entry)
        targets = targets_of(entry.name, strategy, track.series, len(track.starts))
        check_causal(entry.name, strategy, track.series, targets)
        run = run_targets(market, targets, entry.cash, entry.name)
    except NotCompilableError as reason:
        logger.info("a backtest is not compiled strategy=%s reason=%s", entry.name, reason)
        return None
    except (MatsError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None  # the engine meets it again, and keeps the traceback
    track.series.count = track.last
    return run


def result_of(spec: BacktestSpec, run: ArrayRun, seconds: float) -> BacktestResult:
    """Return a run's columns as the rows of a result."""
    (entry,) = spec.strategies
    track = run.market.track
    with collector_resting():
        fills = list(_fills(entry.name, run))
        orders = [tuple.__new__(BacktestOrder, row) for row in _orders(entry.name, run)]
    return BacktestResult(
        fills=fills,
        orders=orders,
        strategies={entry.name: _outcome(entry.name, run, fills)},
        started=spec.start,
        ended=moment_of(int(track.ends[track.last - 1])),
        bars=run.bars,
        seconds=seconds,
        warnings=warnings_of(track, spec.models),
    )


def _fills(name: str, run: ArrayRun) -> Iterator[BacktestFill]:
    track, multiplier = run.market.track, Decimal(run.market.terms.unit * run.market.scale) / _UNIT
    symbol, state = track.series.symbol, FLAT
    paid_units, paid = 0, Decimal(0)
    times = track.starts[run.fills[0]].tolist()
    prices = _prices(run)
    for when, price, row in zip(times, prices, run.fills[1:].T.tolist(), strict=True):
        order, units, _, fee = row
        size = Decimal(units)
        # The flow is exact already, so that nothing is to be rounded.
        step = apply_fill(state, size, price, None, multiplier, -size * price * multiplier)
        state = step.position
        if fee != paid_units:
            paid_units, paid = fee, Decimal(fee) / _UNIT
        yield BacktestFill(when, name, symbol, size, price, paid, order + 1, "MKT", "", step.realized_pnl)


def _prices(run: ArrayRun) -> list[Decimal]:
    """The prices as their floats are written, the spread added as the engine does."""
    _, (opens, *_) = run.market.series.whole()
    half = Decimal(run.market.terms.half) / run.market.scale
    written = [Decimal(repr(price)) for price in opens[run.fills[0]].tolist()]
    if not half:
        return written
    sides = run.fills[2].tolist()
    return [price + half if units > 0 else price - half for price, units in zip(written, sides, strict=True)]


def _orders(name: str, run: ArrayRun) -> Iterator[tuple[Any, ...]]:
    track = run.market.track
    symbol, ends = track.series.symbol, track.ends
    for number, (row, units, filled, how, ended, cost, free) in enumerate(run.orders.T.tolist(), 1):
        placed = int(ends[row])
        side = "BUY" if units > 0 else "SELL"
        if how in _STATES:
            state, why = _STATES[how]
            last = None if how == kernel.OPEN else ended
        else:
            state, why, last = "denied", _denial(symbol, how, filled, cost, free), placed
            filled = 0
        size, done = Decimal(abs(units)), Decimal(filled)
        yield number, name, symbol, placed, last, side, size, done, "MKT", None, None, state, why


def _denial(symbol: str, how: int, opens: int, cost: int, free: int) -> str:
    if how == kernel.NO_SHORT:
        return f"A sale of {symbol} from flat goes short, which is not allowed here."
    return f"{opens} {symbol} cost about {Decimal(cost) / _UNIT:.2f}; {Decimal(free) / _UNIT:.2f} is free."


def _outcome(name: str, run: ArrayRun, fills: list[BacktestFill]) -> StrategyOutcome:
    track = run.market.track
    realized = sum((fill.realized for fill in fills), Decimal(0))
    positions = []
    if run.held:
        multiplier = Decimal(run.market.terms.unit * run.market.scale) / _UNIT
        held, value = Decimal(run.held), run.equity - run.cash
        # Cash and basis together are what was there, earned and paid: see the rule of ``book``.
        basis = exact(run.start_cash + realized - run.fees - run.cash)
        mark = value / held / multiplier
        average = average_cost(held, basis, multiplier)
        positions.append(OpenPosition(name, track.series.symbol, held, average, mark, value - basis))
    return StrategyOutcome(
        name=name,
        start_cash=run.start_cash,
        cash=run.cash,
        equity=run.equity,
        realized=realized,
        fees=run.fees,
        positions=positions,
        equity_ns=run.equity_ns.copy(),
        equity_curve=run.curve,
        errors=[],
        signals=run.placed,
        bars_seen=run.bars,
    )
