"""The smallest useful strategy: buy one share once, then watch. Copy it and replace the two methods."""

from __future__ import annotations

from ib_async import Stock
from pydantic import Field

from strategies.base import BaseStrategy
from strategies.params import BaseParams


class Params(BaseParams):
    """What an operator can change; the fields every strategy has are inherited."""

    universe: str = Field(default="SPY", min_length=1, description="The symbol to buy.")


class TemplateStrategy(BaseStrategy):
    """Owns one share of one symbol."""

    async def initialize_strategy(self) -> None:
        """Find the contract: runs once, connected."""
        symbol = (await self.get_universe())[0]
        self.contract = await self.qualify(Stock(symbol, "SMART", str(self.params["currency"])))

    async def run_strategy(self) -> None:
        """Buy unless this strategy owns the share already, for example since before a restart."""
        if await self.get_position(self.contract) == 0:
            ticket = await self.place_order(self.contract, 1)
            self.log(f"Ordered one {self.contract.symbol}: {ticket.order_ref}")
        await self.until_stopped()

    async def on_reconnected(self) -> None:
        """Nothing to subscribe again: this strategy follows no market data."""
