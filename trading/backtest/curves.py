"""Curves of a result for pages and reports: thinned, on one axis, JSON-able. Pure.

Rule: of each stretch the first, the lowest and the highest point stay, so that no turn is lost. Shapes: ``at`` epoch
seconds, rising; ``equity`` and ``drawdown`` one list a strategy, None before it has a point.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from strategies.bar_series import BarSeries, Floats, Nanos
from trading.backtest.contracts import BacktestResult, StrategyOutcome

POINTS = 2_000
_SECOND = 1_000_000_000


def thin(values: Floats, points: int = POINTS) -> npt.NDArray[np.int64]:
    """Return which rows to draw: of each stretch the first, the lowest and the highest, and the last of all."""
    count = len(values)
    if count <= points:
        return np.arange(count)
    edges = np.linspace(0, count, points // 3 + 1).astype(np.int64)
    kept = [0, count - 1]
    for first, last in pairwise(edges.tolist()):
        if last > first:
            part = values[first:last]
            kept += [first, first + int(np.argmin(part)), first + int(np.argmax(part))]
    return np.unique(np.array(kept))


def drawdown(equity: Floats, start: float) -> Floats:
    """Return how far each equity lies below the highest so far, as a fraction at most 0."""
    peak = np.maximum(np.maximum.accumulate(equity), start)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(peak > 0, equity / peak - 1, 0.0)


def curves_of(outcomes: Mapping[str, StrategyOutcome], points: int = POINTS) -> dict[str, Any]:
    """Return equity and drawdown of all strategies on one axis of seconds, thinned; None where one has no point."""
    chosen: list[Nanos] = []
    for outcome in outcomes.values():
        chosen.append(outcome.equity_ns[thin(outcome.equity_curve, points)])
    at = np.unique(np.concatenate(chosen)) if chosen else np.array([], dtype=np.int64)
    equity, fallen = [], []
    for outcome in outcomes.values():
        below = drawdown(outcome.equity_curve, float(outcome.start_cash))
        equity.append(_on(at, outcome.equity_ns, outcome.equity_curve))
        fallen.append(_on(at, outcome.equity_ns, below))
    return {"at": (at // _SECOND).tolist(), "equity": equity, "drawdown": fallen, "names": list(outcomes)}


def _on(at: Nanos, stamps: Nanos, values: Floats) -> list[float | None]:
    if not len(stamps):
        return [None] * len(at)
    place = np.searchsorted(stamps, at, side="right") - 1
    return [round(float(values[n]), 6) if n >= 0 else None for n in place.tolist()]


def price_chart(series: BarSeries, result: BacktestResult) -> dict[str, Any]:
    """Return a symbol's closes with its fills marked, on one axis of seconds."""
    starts, columns = series.whole()
    closes = columns[3]
    inside = (starts >= int(result.started.timestamp() * 1e9)) & (starts <= int(result.ended.timestamp() * 1e9))
    starts, closes = starts[inside], closes[inside]
    rows = thin(closes)
    fills = [fill for fill in result.fills if fill.symbol == series.symbol]
    at = np.unique(np.concatenate((starts[rows], np.array([fill.time_ns for fill in fills], dtype=np.int64))))
    bought, sold = (
        {f.time_ns: float(f.price) for f in fills if (f.quantity > 0) is wanted} for wanted in (True, False)
    )
    return {
        "symbol": series.symbol,
        "at": (at // _SECOND).tolist(),
        "close": _on(at, starts, closes),
        "bought": [bought.get(one) for one in at.tolist()],
        "sold": [sold.get(one) for one in at.tolist()],
    }
