"""Trades of a run with the orders that began and ended them.

Owns: walking from fills to trades. Leaves: their figures (``metrics``). Rule: a trade goes from flat to flat, or to a
change of sides; one that is open at the end has no exit. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from trading.backtest.contracts import BacktestFill


class Trade(NamedTuple):
    """From an entry to an exit; times in epoch nanoseconds UTC. Open ones have ``exit_order`` None, ``closed_ns`` 0."""

    strategy: str
    symbol: str
    opened_ns: int
    entry_order: int
    closed_ns: int = 0
    exit_order: int | None = None


def trades_of(fills: Iterable[BacktestFill]) -> list[Trade]:
    """Return the trades in order of their entries."""
    found: list[Trade] = []
    held: dict[tuple[str, str], Decimal] = {}
    places: dict[tuple[str, str], int] = {}
    for fill in fills:
        key = fill.strategy, fill.symbol
        before = held.get(key, Decimal(0))
        after = held[key] = before + fill.quantity
        is_turn = bool(before) and bool(after) and (after > 0) is not (before > 0)
        if before and (not after or is_turn):
            place = places[key]
            found[place] = found[place]._replace(closed_ns=fill.time_ns, exit_order=fill.order_id)
        if not before or is_turn:
            places[key] = len(found)
            found.append(Trade(fill.strategy, fill.symbol, fill.time_ns, fill.order_id))
    return found
