"""Mean reversion: sell what ran too far above its rolling mean, buy what fell too far below, leave near the mean.

The distance is measured in standard deviations (z-score) of 5-second closes. Both directions are traded, so this
file also shows how a strategy turns its position around with one order.
"""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from statistics import fmean, pstdev

from ib_async import Contract, RealTimeBar, Stock
from pydantic import Field, ValidationInfo, field_validator

from strategies.base import BaseStrategy
from strategies.exceptions import OrderDeniedError
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


class MeanReversionStrategy(BaseStrategy):
    """Against the move when it is stretched, flat when it came back, each symbol by itself."""

    async def initialize_strategy(self) -> None:
        """Find the contracts, fill the window from history, subscribe to live bars."""
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
        """Take the new window and thresholds; a changed universe needs a restart."""
        self.settings = Params.model_validate(self.params)
        for contract in self.contracts:
            await self.warm_up(contract)

    async def follow_the_market(self) -> None:
        """Start every symbol from history, then follow it live."""
        for contract in self.contracts:
            await self.warm_up(contract)
            self.subscribe_bars(contract)

    async def warm_up(self, contract: Contract) -> None:
        """Fill the window with the latest closes."""
        closes = await self.recent_closes(contract, self.settings.window)
        self.closes[contract.conId] = deque(closes, maxlen=self.settings.window)

    async def on_bar(self, contract: Contract, bar: RealTimeBar) -> None:
        """Add the close, then move to the position that the distance from the mean asks for."""
        closes = self.closes[contract.conId]
        closes.append(bar.close)
        if len(closes) < self.settings.window or self.open_orders(contract):
            return  # not enough seen yet, or the last decision is still being worked
        held = await self.get_position(contract)  # this strategy's own, never the account's
        wanted = self.wanted_position(list(closes), held)
        if wanted == held:
            return
        try:
            await self.place_order(contract, wanted - held, urgency="Urgent")
        except OrderDeniedError as refusal:
            self.log(f"{contract.symbol}: {refusal.message}", "warning")

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
