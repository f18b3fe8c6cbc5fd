"""The figures of a compiled run without its rows: what a sweep needs of each of very many sets.

Owns: closed trades out of the loop's whole numbers. Leaves: ratios and what trades say (``metrics``), rows
(``compiled_result``). Rule: every figure is that of the rows (tests compare them). Where a fill turns a position around
its fee is divided between two trades, which whole numbers do not do exactly: then the rows are made.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np

from portfolio.metrics import ratios_of
from trading.backtest.compiled import ArrayRun
from trading.backtest.kernel import UNIT
from trading.backtest.metrics import ZERO, RoundTrip, share_of, trade_figures

_UNIT = Decimal(UNIT)


def trips_of(run: ArrayRun) -> list[RoundTrip] | None:
    """Return the closed trades with their profits alone; None where a fill turned the position around."""
    _, _, units, prices, fees = run.fills
    held = np.cumsum(units)
    before = np.concatenate(([0], held[:-1]))
    if (np.sign(before) * np.sign(held) < 0).any():
        return None
    flows = np.cumsum(-units * prices * run.market.terms.unit - fees)
    at_flat = flows[held == 0]
    profits = np.diff(at_flat, prepend=0).tolist()
    symbol = run.market.series.symbol
    return [RoundTrip("", symbol, 0, 0, ZERO, Decimal(profit) / _UNIT, ZERO) for profit in profits]


def metrics_of_run(run: ArrayRun, by_day: dict[Any, float]) -> dict[str, Any] | None:
    """Return the figures that ``metrics_of`` would tell of the run's rows; None where these are needed.

    ``by_day`` are its daily returns.
    """
    trips = trips_of(run)
    if trips is None:
        return None
    ratios, profit = ratios_of(by_day), run.equity - run.start_cash
    return {
        "equity": str(run.equity),
        "profit": str(profit),
        "fees": str(run.fees),
        "total_return": share_of(profit, run.start_cash),
        **ratios.values,
        **trade_figures(trips, ratios),
        "fills": run.filled,
        "reasons": ratios.reasons,
    }
