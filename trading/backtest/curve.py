"""The equity curve of a strategy, made after the run from what moved and the closes.

Owns: one point per moment at which a base bar of its symbols ended. Leaves: the books, which are exact (``book``).
Rule: a point has every fill of the bars that ended by then, at the last closes by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from strategies.bar_series import Floats, Nanos
from trading.backtest.book import Steps

Places = npt.NDArray[np.intp]
_BLOCK = 65_536  # moments at a time, so that what is made on the way stays small


@dataclass(frozen=True, slots=True)
class Leg:
    """One symbol of a strategy. Rows ``first`` to ``last`` (excluded) of its base series ended during the run."""

    ends: Nanos
    closes: Floats
    first: int
    last: int
    multiplier: Decimal
    steps: Steps


def equity_curve(clock: Nanos, start_cash: Decimal, cash: Steps, legs: Sequence[Leg]) -> tuple[Nanos, Floats]:
    """Return moments and equity; empty without legs. ``clock`` are the moments that steps index.

    Shape: int64 epoch nanoseconds strictly increasing, float64 in the strategy's currency, equally long.
    """
    ends = [leg.ends[leg.first : leg.last] for leg in legs]
    if not ends:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float64)
    moments = ends[0] if len(ends) == 1 else np.unique(np.concatenate(ends))
    equity = np.empty(len(moments), dtype=np.float64)
    for begin in range(0, len(moments), _BLOCK):
        part = moments[begin : begin + _BLOCK]
        # As many moments as the clock has are the clock's.
        at = np.arange(begin, begin + len(part)) if len(moments) == len(clock) else np.searchsorted(clock, part)
        value = _after(cash, at, float(start_cash))
        for leg in legs:
            if leg.steps.at:
                value += _after(leg.steps, at, 0.0) * _closes(leg, part) * float(leg.multiplier)
        equity[begin : begin + _BLOCK] = value
    return moments, equity


def _after(steps: Steps, at: Places, before: float) -> Floats:
    """The figure at each moment."""
    if not steps.at:
        return np.full(len(at), before)
    places = np.searchsorted(np.frombuffer(steps.at, dtype=np.int64), at, side="right") - 1
    found: Floats = np.where(places < 0, before, np.frombuffer(steps.after)[np.maximum(places, 0)])
    return found


def _closes(leg: Leg, moments: Nanos) -> Floats:
    """The last close by each moment; the first one before there was any, when nothing is held."""
    known = np.searchsorted(leg.ends, moments, side="right") - 1
    closes: Floats = leg.closes[np.maximum(known, 0)]
    return closes
