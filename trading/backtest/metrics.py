"""Figures of a finished run: returns and ratios by empyrical, trades by counting.

Owns: which figures there are, round trips out of fills. Leaves: formulas of returns (``portfolio.metrics``).
Rule: a figure that means nothing is None, with the reason beside it. Units: fractions of 1; money in the strategy's
currency. A day ends at midnight UTC; days without bars have no return.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np

from portfolio.metrics import Ratios, ratios_of
from strategies.bar_series import Floats, Nanos, moment_of
from trading.backtest.contracts import BacktestFill, BacktestResult, StrategyOutcome

ZERO = Decimal(0)
_DAY_NS = 86_400_000_000_000


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """From flat to flat, or to a change of sides. ``profit`` is net of fees; times in epoch nanoseconds UTC."""

    strategy: str
    symbol: str
    opened_ns: int
    closed_ns: int
    quantity: Decimal  # largest, signed
    profit: Decimal
    fees: Decimal


def round_trips(fills: Iterable[BacktestFill]) -> list[RoundTrip]:
    """Return the closed trades in order of their ends; what is still open is none yet.

    A fill that turns a position around ends one trade and begins the next, its fee divided by quantity.
    """
    found: list[RoundTrip] = []
    open_trips: dict[tuple[str, str], _Trip] = {}
    for fill in fills:
        key = fill.strategy, fill.symbol
        trip = open_trips.get(key)
        if trip is None:
            open_trips[key] = _Trip(fill.time_ns, fill.quantity, fill.quantity, fill.realized - fill.fee, fill.fee)
            continue
        left = trip.held + fill.quantity
        if left == 0 or (left > 0) == (trip.held > 0):
            trip.add(left, fill.realized, fill.fee)
            if left == 0:
                found.append(trip.ended(*key, fill.time_ns))
                del open_trips[key]
            continue
        share = abs(trip.held / fill.quantity)
        trip.add(ZERO, fill.realized, fill.fee * share)
        found.append(trip.ended(*key, fill.time_ns))
        rest = fill.fee * (1 - share)
        open_trips[key] = _Trip(fill.time_ns, left, left, -rest, rest)
    return found


@dataclass(slots=True)
class _Trip:
    opened_ns: int
    held: Decimal
    largest: Decimal
    profit: Decimal
    fees: Decimal

    def add(self, held: Decimal, realized: Decimal, fee: Decimal) -> None:
        self.held, self.profit, self.fees = held, self.profit + realized - fee, self.fees + fee
        if abs(held) > abs(self.largest):
            self.largest = held

    def ended(self, strategy: str, symbol: str, at_ns: int) -> RoundTrip:
        return RoundTrip(strategy, symbol, self.opened_ns, at_ns, self.largest, self.profit, self.fees)


def daily_returns(at: Nanos, equity: Floats, start: float) -> dict[date, float]:
    """Return the return of each day that has bars, from the last equity of the day before."""
    if not len(at):
        return {}
    days = at // _DAY_NS
    last = np.flatnonzero(np.append(days[1:] != days[:-1], True))
    closes = np.concatenate(([start], equity[last]))
    with np.errstate(divide="ignore", invalid="ignore"):
        returns = closes[1:] / closes[:-1] - 1
    names = [moment_of(int(at[n])).date() for n in last]
    return {day: float(one) for day, one in zip(names, returns, strict=True) if np.isfinite(one)}


def metrics_of(outcome: StrategyOutcome, fills: Iterable[BacktestFill]) -> dict[str, Any]:
    """Return the figures of one strategy, JSON-able: numbers, texts of money, None with ``reasons``."""
    own = [fill for fill in fills if fill.strategy == outcome.name]
    ratios = ratios_of(daily_returns(outcome.equity_ns, outcome.equity_curve, float(outcome.start_cash)))
    trips = round_trips(own)
    return {
        "start_cash": str(outcome.start_cash),
        "equity": str(outcome.equity),
        "profit": str(outcome.equity - outcome.start_cash),
        "realized": str(outcome.realized),
        "fees": str(outcome.fees),
        "dividends": str(outcome.dividends),
        "total_return": share_of(outcome.equity - outcome.start_cash, outcome.start_cash),
        **{name: value.isoformat() if isinstance(value, date) else value for name, value in ratios.values.items()},
        **trade_figures(trips, ratios),
        "fills": len(own),
        "signals": outcome.signals,
        "reasons": ratios.reasons,
    }


def trade_figures(trips: list[RoundTrip], ratios: Ratios) -> dict[str, Any]:
    """Return what the closed trades say; reasons for what they do not go into ``ratios``."""
    won = [trip.profit for trip in trips if trip.profit > 0]
    lost = [trip.profit for trip in trips if trip.profit < 0]
    figures: dict[str, Any] = {"trades": len(trips), "won": len(won), "lost": len(lost)}
    figures["win_rate"] = len(won) / len(trips) if trips else None
    figures["profit_factor"] = float(sum(won, ZERO) / -sum(lost, ZERO)) if lost else None
    figures["average_win"] = str(sum(won, ZERO) / len(won)) if won else None
    figures["average_loss"] = str(sum(lost, ZERO) / len(lost)) if lost else None
    if not trips:
        ratios.reasons["win_rate"] = "No trade was closed."
    if not lost:
        ratios.reasons["profit_factor"] = "No trade lost."
    return figures


def all_metrics(result: BacktestResult) -> dict[str, dict[str, Any]]:
    """Return the figures of every strategy by its name."""
    return {name: metrics_of(outcome, result.fills) for name, outcome in result.strategies.items()}


def share_of(part: Decimal, whole: Decimal) -> float | None:
    """Return a part of a whole as a fraction; None of nothing."""
    return float(part / whole) if whole else None
