"""Moving-average cross: hold a symbol while its fast average is above its slow one, else be flat.

Trades 5-second bars. The averages start from IB's history, so the first decision falls with the first live bar.
Copy this file to begin your own: everything a strategy needs is here, and nothing else.
"""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from statistics import fmean

from ib_async import Contract, RealTimeBar, Stock
from pydantic import Field, ValidationInfo, field_validator

from strategies.base import BaseStrategy
from strategies.exceptions import OrderDeniedError
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


class MaCrossStrategy(BaseStrategy):
    """Long above the cross, flat below it, each symbol by itself."""

    async def initialize_strategy(self) -> None:
        """Find the contracts, fill the averages from history, subscribe to live bars."""
        self.settings = Params.model_validate(self.params)
        self.closes: dict[int, deque[float]] = {}
        self.contracts = [
            await self.qualify(Stock(symbol, "SMART", self.settings.currency)) for symbol in await self.get_universe()
        ]
        await self.follow_the_market()

    async def run_strategy(self) -> None:
        """Wait: every decision is made in ``on_bar``."""
        await self.until_stopped()

    async def on_reconnected(self) -> None:
        """Fill the gap that the lost connection left, and subscribe again."""
        await self.follow_the_market()

    async def on_params_changed(self) -> None:
        """Take the new lengths; a changed universe needs a restart."""
        self.settings = Params.model_validate(self.params)
        for contract in self.contracts:
            await self.warm_up(contract)

    async def follow_the_market(self) -> None:
        """Start every symbol from history, then follow it live."""
        for contract in self.contracts:
            await self.warm_up(contract)
            self.subscribe_bars(contract)

    async def warm_up(self, contract: Contract) -> None:
        """Fill the averages with the latest closes."""
        closes = await self.recent_closes(contract, self.settings.slow)
        self.closes[contract.conId] = deque(closes, maxlen=self.settings.slow)

    async def on_bar(self, contract: Contract, bar: RealTimeBar) -> None:
        """Add the close, then hold what the averages say."""
        closes = self.closes[contract.conId]
        closes.append(bar.close)
        if len(closes) < self.settings.slow or self.open_orders(contract):
            return  # not enough seen yet, or the last decision is still being worked
        is_up = fmean(list(closes)[-self.settings.fast :]) > fmean(closes)
        held = await self.get_position(contract)  # this strategy's own, never the account's
        try:
            if is_up and held <= 0:
                await self.place_order(contract, await self.size_of(contract) - held, urgency="Urgent")
            elif not is_up and held > 0:
                await self.place_order(contract, -held, urgency="Urgent")
        except OrderDeniedError as refusal:
            self.log(f"{contract.symbol}: {refusal.message}", "warning")

    async def size_of(self, contract: Contract) -> Decimal:
        """Return the shares of a full position."""
        if self.settings.quantity is not None:
            return Decimal(self.settings.quantity)
        return await self.calculate_quantity(contract, self.settings.position_size)
