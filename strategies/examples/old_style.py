"""A file of the old template, as it runs unmodified: buy one SPY unless it is held already, then watch.

New strategies derive from BaseStrategy (``template_strategy.py``); this form is for files that exist already.
"""

import asyncio
import logging
from typing import Any

from ib_async import MarketOrder, Stock

logger = logging.getLogger(__name__)


class Strategy:
    """Owns one share of SPY."""

    def __init__(self, client_id: int, strategy_manager: Any) -> None:
        self.client_id = client_id
        self.strategy_manager = strategy_manager
        self.strategy_name = "OLD"
        self.ib_client = connect_to_IB(clientid=client_id)  # type: ignore[name-defined]  # noqa: F821 - MATS gives it

    async def run_strategy(self) -> None:
        """Buy once; the order belongs to the row that runs this file, whatever name stands here."""
        [contract] = await asyncio.wait_for(
            self.ib_client.qualifyContractsAsync(Stock("SPY", "SMART", "USD")), timeout=20
        )
        if not self.strategy_manager.portfolio_manager.get_positions():
            order = MarketOrder("BUY", 1)
            trade = self.strategy_manager.trade_manager.place_order(contract, order, self.strategy_name)
            while not trade.isDone():  # noqa: ASYNC110 - what old files do
                await asyncio.sleep(0.1)
            logger.info("Order for one SPY: %s", trade.orderStatus.status)
        while True:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(1)


def manage_strategy(client_id: int, strategy_manager: Any, strategy_loops: dict[int, Any]) -> None:
    """Run the strategy on a loop of this thread."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    strategy_loops[client_id] = loop
    strategy = Strategy(client_id, strategy_manager)
    loop.run_until_complete(strategy.run_strategy())
