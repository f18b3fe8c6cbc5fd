"""BarStrategy: a strategy that decides on the latest closes of 5-second bars, each symbol by itself.

Owns: contracts of the universe, warm-up from history, subscriptions, and what a reconnect or new parameters ask for.
Leaves: the decision. A subclass says how many closes it needs (``bars_needed``) and what to do with them (``decide``).
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from decimal import Decimal

from ib_async import Contract, RealTimeBar, Stock

from strategies.base import BaseStrategy
from strategies.exceptions import OrderDeniedError
from strategies.params import BaseParams


class BarStrategy(BaseStrategy):
    """Keeps a window of closes for every symbol of the universe and asks for a decision at each new bar."""

    params_model: type[BaseParams] = BaseParams
    settings: BaseParams

    @abstractmethod
    def bars_needed(self) -> int:
        """Return how many closes a decision looks at."""

    @abstractmethod
    async def decide(self, contract: Contract, closes: list[float]) -> None:
        """Act on the latest ``bars_needed`` closes, oldest first; no order of the contract is being worked.

        A denied order is logged and the next bar decides anew.
        """

    async def initialize_strategy(self) -> None:
        """Find the contracts, fill the windows from history, subscribe to live bars."""
        self.settings = self.params_model.model_validate(self.params)
        self.closes: dict[int, deque[float]] = {}
        self.contracts = [
            await self.qualify(Stock(symbol, "SMART", self.settings.currency)) for symbol in await self.get_universe()
        ]
        await self.follow_the_market()

    async def run_strategy(self) -> None:
        """Wait: every decision is made at a bar."""
        await self.until_stopped()

    async def on_reconnected(self) -> None:
        """Fill the gap that the lost connection left, and subscribe again."""
        await self.follow_the_market()

    async def on_params_changed(self) -> None:
        """Take the new parameters; a changed universe needs a restart."""
        self.settings = self.params_model.model_validate(self.params)
        for contract in self.contracts:
            await self.warm_up(contract)

    async def follow_the_market(self) -> None:
        """Start every symbol from history, then follow it live."""
        for contract in self.contracts:
            await self.warm_up(contract)
            self.subscribe_bars(contract)

    async def warm_up(self, contract: Contract) -> None:
        """Fill a symbol's window with its latest closes."""
        closes = await self.recent_closes(contract, self.bars_needed())
        self.closes[contract.conId] = deque(closes, maxlen=self.bars_needed())

    async def on_bar(self, contract: Contract, bar: RealTimeBar) -> None:
        """Add the close and ask for a decision, once enough was seen and the last order is done."""
        closes = self.closes[contract.conId]
        closes.append(bar.close)
        if len(closes) < self.bars_needed() or self.open_orders(contract):
            return
        try:
            await self.decide(contract, list(closes))
        except OrderDeniedError as refusal:
            self.log(f"{contract.symbol}: {refusal.message}", "warning")

    async def move_to(self, contract: Contract, wanted: Decimal) -> None:
        """Order the difference between this strategy's own position and ``wanted`` shares, if there is one.

        Raises: OrderDeniedError when MATS does not send it.
        """
        difference = wanted - await self.get_position(contract)
        if difference:
            await self.place_order(contract, difference, urgency="Urgent")
