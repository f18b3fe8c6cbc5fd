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
    moments = ends[0].copy() if len(ends) == 1 else np.unique(np.concatenate(ends))
    at = np.searchsorted(clock, moments)
    equity = _after(cash, at, float(start_cash))
    for leg in legs:
        if leg.steps.at:
            equity += _after(leg.steps, at, 0.0) * _closes(leg, moments) * float(leg.multiplier)
    return moments, equity


def _after(steps: Steps, at: Places, before: float) -> Floats:
    """The figure at each moment."""
    values = np.concatenate(([before], np.asarray(steps.after, dtype=np.float64)))
    found: Floats = values[np.searchsorted(np.asarray(steps.at, dtype=np.int64), at, side="right")]
    return found


def _closes(leg: Leg, moments: Nanos) -> Floats:
    """The last close by each moment; the first one before there was any, when nothing is held."""
    if len(moments) == leg.last - leg.first:
        return leg.closes[leg.first : leg.last]
    known = np.searchsorted(leg.ends, moments, side="right") - 1
    closes: Floats = leg.closes[np.maximum(known, 0)]
    return closes
