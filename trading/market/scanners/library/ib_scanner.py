"""IB's own rankings: most active, top gainers, gaps and the rest of ``reqScannerParameters``.

Rule: it asks IB, so it runs live only; what IB does not answer is an error, never an empty list.
"""

from __future__ import annotations

from typing import cast

from pydantic import Field

from trading.market.scanners.base import BaseScanner, MarketScan, ScanContext, ScannerParams, ScanResult


class IbScannerParams(ScannerParams):
    """Which ranking, and what passes."""

    scan_code: str = Field(default="MOST_ACTIVE", pattern=r"^[A-Z0-9_]{2,60}$", description="IB's scan code.")
    location: str = Field(default="STK.US.MAJOR", pattern=r"^[A-Z0-9._]{2,60}$", description="IB's location code.")
    instrument: str = Field(default="STK", pattern=r"^[A-Z0-9._]{2,20}$", description="IB's instrument type.")
    most: int = Field(default=20, ge=1, le=50, description="Rows; IB gives 50 at most.")
    above_price: float | None = Field(default=None, ge=0, description="Least price.")
    below_price: float | None = Field(default=None, gt=0, description="Highest price.")
    above_volume: int | None = Field(default=None, ge=0, description="Least volume today.")


class IbScanner(BaseScanner):
    """Asks IB for one of its rankings."""

    Params = IbScannerParams
    needs_ib = True

    def scan(self, context: ScanContext) -> ScanResult:
        """Promote every symbol of the ranking; with a universe, only those in it."""
        params = cast(IbScannerParams, self.params)
        asked = MarketScan(
            params.scan_code,
            params.location,
            params.instrument,
            params.most,
            params.above_price,
            params.below_price,
            params.above_volume,
        )
        ranked = context.market_scan(asked)
        wanted = set(context.universe)
        found = [symbol for symbol in ranked if not wanted or symbol in wanted]
        for symbol in found:
            context.add_symbol(symbol)
        return ScanResult(found, {symbol: {"rank": ranked.index(symbol) + 1} for symbol in found})
