"""What came out of a run: books, curves, open orders.

Owns: putting the result together. Leaves: figures about it (``metrics``).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from trading.backtest.arrays import Clock, Track
from trading.backtest.contracts import BacktestFill, BacktestOrder, OpenPosition, StrategyOutcome
from trading.backtest.curve import Leg, equity_curve
from trading.backtest.desk import Desk
from trading.backtest.lane import Lane

if TYPE_CHECKING:
    from trading.backtest.imperative import ImperativeRunner
    from trading.backtest.runner import Runner


def outcome_of(
    runner: Runner | ImperativeRunner, clock: Clock, done: int, tracks: Sequence[Track], lanes: Mapping[str, Lane]
) -> StrategyOutcome:
    """Return one strategy's books after the first ``done`` moments of the clock."""
    book = runner.executor.book
    at_ns, curve = equity_curve(clock.moments[:done], book.start_cash, book.steps, _legs(runner, lanes))
    return StrategyOutcome(
        name=runner.entry.name,
        start_cash=book.start_cash,
        cash=book.cash,
        equity=book.equity(),
        realized=book.realized,
        fees=book.fees,
        positions=_positions(runner),
        equity_ns=at_ns,
        equity_curve=curve,
        errors=runner.errors,
        signals=runner.executor.signals,
        bars_seen=_bars_seen(runner, clock, done, tracks),
        dividends=book.dividends,
    )


@contextmanager
def collector_resting() -> Iterator[None]:
    """Keep the collector of garbage from looking at each row several times while many are made; for no foreign code."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def named_rows(desk: Desk) -> tuple[list[BacktestFill], list[BacktestOrder]]:
    """Return the desk's rows under the names of their columns."""
    make = tuple.__new__
    with collector_resting():
        for kind, rows in ((BacktestFill, desk.fills), (BacktestOrder, desk.orders)):
            for place, row in enumerate(rows):  # in place: a second list would double what a run holds at most
                rows[place] = make(kind, row)
    return desk.fills, desk.orders  # type: ignore[return-value]  # they are what they were made into


def _legs(runner: Runner | ImperativeRunner, lanes: Mapping[str, Lane]) -> list[Leg]:
    """The symbols that a strategy followed or held, in the order of the run."""
    holdings = runner.executor.book.holdings
    followed = {symbol for symbol, _ in runner.subscriptions}
    legs = []
    for symbol, lane in lanes.items():
        holding = holdings[symbol]
        if symbol in followed or len(holding.steps.at):
            closes = lane.series.whole()[1][3]
            legs.append(
                Leg(lane.track.ends, closes, lane.track.first, lane.series.count, holding.multiplier, holding.steps)
            )
    return legs


def _positions(runner: Runner | ImperativeRunner) -> list[OpenPosition]:
    found = []
    for symbol, holding in runner.executor.book.holdings.items():
        mark = holding.price
        if holding.held and mark is not None:
            unrealized = holding.held * mark * holding.multiplier - holding.basis
            found.append(OpenPosition(runner.entry.name, symbol, holding.held, holding.average, mark, unrealized))
    return found


def _bars_seen(runner: Runner | ImperativeRunner, clock: Clock, done: int, tracks: Sequence[Track]) -> int:
    """How often the strategy was told of a bar."""
    until = done if runner.stopped_at is None else min(done, runner.stopped_at)
    counts = np.bincount(clock.codes[:until], minlength=len(clock.sets))
    wanted = set(runner.subscriptions)
    return sum(
        int(count) * sum(tracks[place].pair in wanted for place in places)
        for count, places in zip(counts.tolist(), clock.sets, strict=True)
    )
