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
    """Return today's figures, pre-market included where there are bars of it; None before the first bar of today."""
    clock = context.time_manager
    day = clock.trading_day_of(context.get_current_time())
    session = clock.get_trading_session(day)
    begin = session.pre_open or session.regular_open
    if begin is None:
        return None
    bars = context.get_bars(symbol, interval)
    first = int(np.searchsorted(bars.starts, nanos_of(begin)))
    if first >= len(bars):
        return None
    last, volume = float(bars.close[-1]), float(bars.volume[first:].sum())
    return Today(float(bars.open[first]), last, volume, previous_close(context, symbol))


def previous_close(context: ScanContext, symbol: str) -> float | None:
    """Return the close of the last trading day before today that there is a daily bar of; None without one."""
    clock = context.time_manager
    days = context.get_bars(symbol, "1d")
    today = np.datetime64(clock.trading_day_of(context.get_current_time()), "D")
    before = int(np.searchsorted(clock.session_table().dates_of(days.starts), today)) if len(days) else 0
    return float(days.close[before - 1]) if before else None
