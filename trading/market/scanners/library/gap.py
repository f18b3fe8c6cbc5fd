"""Gap: symbols that opened away from yesterday's close, on volume.

Rule: the gap is today's first price against the last daily close before today, never against an average. Without one
of the two a symbol is left out.
"""

from __future__ import annotations

from typing import cast

from pydantic import Field

from trading.market.scanners.base import BaseScanner, ScanContext, ScannerParams, ScanResult
from trading.market.scanners.today import read_today

DAYS = 5  # back over weekends and a missing day


class GapParams(ScannerParams):
    """Bounds of the gap scanner."""

    min_gap_percent: float = Field(default=2.0, gt=0, le=1000, description="Smallest gap either way, per cent.")
    min_volume: float = Field(default=1_000_000, ge=0, description="Least volume today, shares.")
    max_price: float = Field(default=500.0, gt=0, description="Highest price.")
    interval: str = Field(default="1m", pattern=r"^[1-9]\d{0,2}m$", description="Bars of today that are read.")
    most: int = Field(default=20, ge=1, le=200, description="At most so many symbols, the largest gaps first.")


class GapScanner(BaseScanner):
    """Finds gaps up and down."""

    Params = GapParams

    def setup(self, context: ScanContext) -> bool:
        """Ask for a few daily bars and today's bars of every symbol."""
        params = cast(GapParams, self.params)
        for symbol in context.universe:
            context.add_bars(symbol, "1d", DAYS)
            context.add_bars(symbol, params.interval, 1)
        return True

    def scan(self, context: ScanContext) -> ScanResult:
        """Promote the symbols whose gap, volume and price are within the bounds."""
        params = cast(GapParams, self.params)
        found: dict[str, dict[str, float]] = {}
        for symbol in context.universe:
            today = read_today(context, symbol, params.interval)
            if today is None or today.previous_close is None:
                continue
            gap = (today.open / today.previous_close - 1) * 100
            is_traded = today.volume >= params.min_volume and today.last <= params.max_price
            if is_traded and abs(gap) >= params.min_gap_percent:
                found[symbol] = {"gap_percent": round(gap, 4), "last": today.last, "volume": today.volume}
        ranked = sorted(found, key=lambda symbol: (-abs(found[symbol]["gap_percent"]), symbol))[: params.most]
        for symbol in ranked:
            context.add_symbol(symbol)
        return ScanResult(ranked, {symbol: found[symbol] for symbol in ranked})
