"""Momentum: symbols that trade above their average on volume, with an up bar last."""

from __future__ import annotations

from typing import cast

from pydantic import Field

from trading.market.scanners.base import BaseScanner, ScanContext, ScannerParams, ScanResult
from trading.market.scanners.today import read_today


class MomentumParams(ScannerParams):
    """Bounds of the momentum scanner."""

    min_volume: float = Field(default=500_000, ge=0, description="Least volume today, shares.")
    period: int = Field(default=20, ge=2, le=500, description="Bars of the average.")
    interval: str = Field(default="5m", pattern=r"^[1-9]\d{0,2}m$", description="Bars that are read.")
    most: int = Field(default=20, ge=1, le=200, description="At most so many symbols, the farthest above first.")


class MomentumScanner(BaseScanner):
    """Finds strength."""

    Params = MomentumParams

    def setup(self, context: ScanContext) -> bool:
        """Ask for the average of every symbol."""
        params = cast(MomentumParams, self.params)
        for symbol in context.universe:
            context.add_indicator(symbol, params.interval, "sma", params.period)
        return True

    def scan(self, context: ScanContext) -> ScanResult:
        """Promote the symbols whose last bar went up and closed above the average."""
        params = cast(MomentumParams, self.params)
        found: dict[str, dict[str, float]] = {}
        for symbol in context.universe:
            average = context.get_indicator(symbol, params.interval, "sma", params.period).value
            today = read_today(context, symbol, params.interval)
            if average is None or today is None or today.volume < params.min_volume:
                continue
            bar = context.get_bars(symbol, params.interval)[-1]
            if bar.close > average and bar.close > bar.open:
                above = round((bar.close / average - 1) * 100, 4)
                found[symbol] = {"above_percent": above, "last": bar.close, "volume": today.volume}
        ranked = sorted(found, key=lambda symbol: (-found[symbol]["above_percent"], symbol))[: params.most]
        for symbol in ranked:
            context.add_symbol(symbol)
        return ScanResult(ranked, {symbol: found[symbol] for symbol in ranked})
