"""Moving-average cross: hold a symbol while its fast average is above its slow one, else be flat.

Trades 5-second bars. The averages start from IB's history, so the first decision falls with the first live bar.
Copy this file to begin your own: parameters, how many bars, and the decision are all that a bar strategy needs.
"""

from __future__ import annotations

from decimal import Decimal
from statistics import fmean

from ib_async import Contract
from pydantic import Field, ValidationInfo, field_validator

from strategies.bars import BarStrategy
from strategies.params import BaseParams


class Params(BaseParams):
    """What an operator can change, with bounds; the admin builds its form from this."""

    universe: str = Field(default="SPY,TNA", min_length=1, description="Symbols to trade, comma-separated.")
    fast: int = Field(default=5, ge=2, le=500, description="Length of the fast average, in 5-second bars.")
    slow: int = Field(default=20, ge=3, le=1000, description="Length of the slow average, in 5-second bars.")
    quantity: int | None = Field(
        default=100, ge=1, le=100_000, description="Shares per position; empty sizes by equity instead."
    )
    position_size: float = Field(
        default=0.4, gt=0, le=1, description="Fraction of the strategy's equity per position, when quantity is empty."
    )

    @field_validator("slow")
    @classmethod
    def slower_than_fast(cls, slow: int, info: ValidationInfo) -> int:
        """Refuse a slow average that is not slower."""
        if slow <= info.data.get("fast", 0):
            raise ValueError("The slow average must be longer than the fast one.")
        return slow


class MaCrossStrategy(BarStrategy):
    """Long above the cross, flat below it, each symbol by itself."""

    params_model = Params
    settings: Params

    def bars_needed(self) -> int:
        """Look at as many closes as the slow average is long."""
        return self.settings.slow

    async def decide(self, contract: Contract, closes: list[float]) -> None:
        """Hold what the averages say."""
        is_up = fmean(closes[-self.settings.fast :]) > fmean(closes)
        held = await self.get_position(contract)  # this strategy's own, never the account's
        if is_up and held <= 0:
            await self.move_to(contract, await self.size_of(contract))
        elif not is_up and held > 0:
            await self.move_to(contract, Decimal(0))

    async def size_of(self, contract: Contract) -> Decimal:
        """Return the shares of a full position."""
        if self.settings.quantity is not None:
            return Decimal(self.settings.quantity)
        return await self.calculate_quantity(contract, self.settings.position_size)
