"""Mean reversion: sell what ran too far above its rolling mean, buy what fell too far below, leave near the mean.

The distance is measured in standard deviations (z-score) of 5-second closes. Both directions are traded, so this
file also shows how a strategy turns its position around with one order.
"""

from __future__ import annotations

from decimal import Decimal
from statistics import fmean, pstdev

from ib_async import Contract
from pydantic import Field, ValidationInfo, field_validator

from strategies.bars import BarStrategy
from strategies.params import BaseParams


class Params(BaseParams):
    """What an operator can change, with bounds; the admin builds its form from this."""

    universe: str = Field(default="SPY,TLT", min_length=1, description="Symbols to trade, comma-separated.")
    window: int = Field(default=20, ge=5, le=1000, description="Length of the rolling mean, in 5-second bars.")
    entry_z: float = Field(default=1.0, gt=0, le=10, description="Enter beyond this many standard deviations.")
    exit_z: float = Field(default=0.25, ge=0, le=10, description="Leave within this many standard deviations.")
    quantity: int = Field(default=50, ge=1, le=100_000, description="Shares per position, long or short.")
    allow_short: bool = Field(default=True, description="Also sell short what ran too far up.")

    @field_validator("exit_z")
    @classmethod
    def nearer_than_entry(cls, exit_z: float, info: ValidationInfo) -> float:
        """Refuse an exit that lies outside the entry."""
        if exit_z >= info.data.get("entry_z", float("inf")):
            raise ValueError("The exit must lie nearer to the mean than the entry.")
        return exit_z


class MeanReversionStrategy(BarStrategy):
    """Against the move when it is stretched, flat when it came back, each symbol by itself."""

    params_model = Params
    settings: Params

    def bars_needed(self) -> int:
        """Look at the rolling window."""
        return self.settings.window

    async def decide(self, contract: Contract, closes: list[float]) -> None:
        """Move to the position that the distance from the mean asks for."""
        held = await self.get_position(contract)  # this strategy's own, never the account's
        await self.move_to(contract, self.wanted_position(closes, held))

    def wanted_position(self, closes: list[float], held: Decimal) -> Decimal:
        """Return the shares to hold; a pure function, so that it can be tested without a market."""
        deviation = pstdev(closes)
        if deviation == 0:
            return held
        z = (closes[-1] - fmean(closes)) / deviation
        if z <= -self.settings.entry_z:
            return Decimal(self.settings.quantity)
        if z >= self.settings.entry_z:
            return Decimal(-self.settings.quantity if self.settings.allow_short else 0)
        has_returned = abs(z) <= self.settings.exit_z
        return Decimal(0) if has_returned else held
