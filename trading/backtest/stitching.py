"""Pieces of a walk-forward put together to one run, to the cent.

Owns: closing what a piece holds at its end, and one equity, one list of fills over all pieces.
Leaves: running a piece (``walk_forward``), figures (``metrics``).
Rule: what is held when a piece ends is sold, or bought back, at its last mark with the run's spread, slippage and fees,
because the next piece has other parameters and begins flat. Such a fill says so. Start cash and what each piece made of
it is the end: no money appears or goes between pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import numpy as np

from trading.backtest.arrays import terms_of_symbol
from trading.backtest.contracts import (
    BacktestFill,
    BacktestOrder,
    BacktestResult,
    BacktestSpec,
    OpenPosition,
    StrategyOutcome,
)
from trading.brokers.fees import Traded

CLOSED = "the window ended"
ORDER_TYPE = "MKT"


def closed(ran: BacktestResult, spec: BacktestSpec) -> BacktestResult:
    """Return a run of one strategy with its open positions closed at the last mark."""
    ((name, outcome),) = ran.strategies.items()
    if not outcome.positions or not len(outcome.equity_ns):
        return ran
    last = max((order.order_id for order in ran.orders), default=0)
    moment = int(outcome.equity_ns[-1])
    fills, cash = list(ran.fills), outcome.cash
    for number, position in enumerate(outcome.positions, last + 1):
        fill = _closing(position, spec, moment, number)
        fills.append(fill)
        cash += -fill.quantity * fill.price * terms_of_symbol(spec, position.symbol).multiplier - fill.fee
    added = fills[len(ran.fills) :]
    curve = outcome.equity_curve.copy()
    curve[-1] = float(cash)
    flat = replace(
        outcome,
        cash=cash,
        equity=cash,
        realized=outcome.realized + sum((fill.realized for fill in added), Decimal(0)),
        fees=outcome.fees + sum((fill.fee for fill in added), Decimal(0)),
        positions=[],
        equity_curve=curve,
    )
    return replace(ran, fills=fills, strategies={name: flat})


def _closing(position: OpenPosition, spec: BacktestSpec, moment: int, number: int) -> BacktestFill:
    terms, models = terms_of_symbol(spec, position.symbol), spec.models
    is_buy = position.quantity < 0
    half = models.half_spread if is_buy else -models.half_spread
    price = models.slippage.worsen(position.mark + half, is_buy)
    value = abs(position.quantity) * price * terms.multiplier
    fee = (terms.fees or models.fees).total(Traded(abs(position.quantity), abs(value), not is_buy))
    realized = (price - position.average_cost) * position.quantity * terms.multiplier
    return BacktestFill(
        moment,
        position.strategy,
        position.symbol,
        -position.quantity,
        price,
        fee,
        number,
        ORDER_TYPE,
        CLOSED,
        realized,
    )


def stitched(pieces: Sequence[BacktestResult], start_cash: Decimal) -> BacktestResult:
    """Return pieces that follow each other, each flat at both ends, as one run. ``pieces`` has one at least."""
    outcomes = [next(iter(piece.strategies.values())) for piece in pieces]
    fills: list[BacktestFill] = []
    orders: list[BacktestOrder] = []
    for piece in pieces:
        offset = max([0, *(fill.order_id for fill in fills), *(order.order_id for order in orders)])
        fills += [fill._replace(order_id=fill.order_id + offset) for fill in piece.fills]
        orders += [order._replace(order_id=order.order_id + offset) for order in piece.orders]
    last = outcomes[-1]
    whole = StrategyOutcome(
        name=last.name,
        start_cash=start_cash,
        cash=last.cash,
        equity=last.equity,
        realized=sum((one.realized for one in outcomes), Decimal(0)),
        fees=sum((one.fees for one in outcomes), Decimal(0)),
        positions=[],
        equity_ns=np.concatenate([one.equity_ns for one in outcomes]),
        equity_curve=np.concatenate([one.equity_curve for one in outcomes]),
        errors=[],
        signals=sum(one.signals for one in outcomes),
        bars_seen=sum(one.bars_seen for one in outcomes),
        dividends=sum((one.dividends for one in outcomes), Decimal(0)),
    )
    return BacktestResult(
        fills=fills,
        orders=orders,
        strategies={whole.name: whole},
        started=pieces[0].started,
        ended=pieces[-1].ended,
        bars=sum(piece.bars for piece in pieces),
        seconds=sum(piece.seconds for piece in pieces),
        warnings=list(dict.fromkeys(text for piece in pieces for text in piece.warnings)),
    )
