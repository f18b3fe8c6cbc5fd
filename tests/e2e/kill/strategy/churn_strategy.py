"""Trades as fast as the broker answers, so that a kill at any moment meets orders on their way."""

import asyncio
import itertools
from typing import Any

from ib_async import Stock

from strategies.base import BaseStrategy
from strategies.exceptions import OrderRefusedError

PARAMS: dict[str, Any] = {"universe": "SPY,TLT", "pause_s": 0.01}


class ChurnStrategy(BaseStrategy):
    """Alternates small buys and sells on two symbols, market and limit."""

    async def initialize_strategy(self) -> None:
        symbols = self.params["universe"].split(",")
        self.contracts = [await self.qualify(Stock(symbol, "SMART", "USD")) for symbol in symbols]

    async def run_strategy(self) -> None:
        for turn in itertools.count():
            if not self.is_running:
                return
            quantity = (1 + turn % 3) * (1 if turn % 2 else -1)
            try:
                await self.place_order(self.contracts[turn // 2 % 2], quantity, "MKT", algo=False)
            except OrderRefusedError:
                await asyncio.sleep(0.05)
            await asyncio.sleep(float(self.params["pause_s"]))
