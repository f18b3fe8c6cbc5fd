"""What a symbol did today, read from a session's bars. Pure."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from strategies.bar_series import nanos_of
from trading.market.scanners.base import ScanContext


class Today(NamedTuple):
    """Figures of the session day. ``previous_close`` None: no daily bar before today. Units: prices, shares."""

    open: float
    last: float
    volume: float
    previous_close: float | None


def read_today(context: ScanContext, symbol: str, interval: str) -> Today | None:
    """Return today's figures; None before the first bar of today."""
    start = nanos_of(context.day_start())
    bars = context.get_bars(symbol, interval)
    first = int(np.searchsorted(bars.starts, start))
    if first >= len(bars):
        return None
    days = context.get_bars(symbol, "1d")
    before = int(np.searchsorted(days.starts, start))
    previous = float(days.close[before - 1]) if before else None
    return Today(float(bars.open[first]), float(bars.close[-1]), float(bars.volume[first:].sum()), previous)
