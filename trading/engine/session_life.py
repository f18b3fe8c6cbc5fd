"""The way of a session's strategy to its orders: a connection, the strategy's own books, an executor of signals.

Owns: carrying out signals that a session's strategy thread hands over, one after the other, on the connection's loop.
Leaves: the strategy's code, its thread and its bars (``market.dispatcher``, the session), what signals mean
(``signal_executor``), its start and stop like any strategy's (``supervisor``).
Rule: the books, limits and states are those of the strategy's row; a signal that comes while the line is away is
refused and counted, never kept for later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from strategies.base import BaseStrategy
from strategies.ports import EnginePort
from strategies.reactive import Signal
from trading.engine.live_market import LiveMarket
from trading.engine.live_orders import Canceller, LiveOrders
from trading.market.signal_executor import SignalExecutor
from trading.market.signal_rules import Gates


class SessionLife(BaseStrategy):
    """One session strategy's orders."""

    def __init__(
        self,
        client_id: int,
        strategy_manager: EnginePort,
        params: Mapping[str, Any],
        *,
        strategy_symbol: str,
        market: LiveMarket,
        canceller: Canceller,
        data: Any,
        gates: Gates,
        allow_repeats: bool,
    ) -> None:
        super().__init__(client_id, strategy_manager, params, strategy_symbol=strategy_symbol)
        orders = LiveOrders(self, market, canceller, data)
        self.executor = SignalExecutor(self.symbol, orders, gates, self.log, allow_repeats=allow_repeats)

    async def initialize_strategy(self) -> None:
        """Be ready: the session's own thread decides."""

    async def run_strategy(self) -> None:
        """Wait: every signal comes from the session."""
        await self.until_stopped()

    def take(self, interval: str, signals: Sequence[Signal]) -> bool:
        """Have signals carried out; False when nobody is there to do it. Thread-safe, returns at once."""
        loop = self._loop
        if loop is None or not self.is_running:
            return False
        with suppress(RuntimeError):  # closed meanwhile
            loop.call_soon_threadsafe(self._enqueue, self.executor.execute, interval, list(signals))
            return True
        return False

    def get_status(self) -> dict[str, Any]:
        """Return what status pages show; safe to call from any thread."""
        return {**super().get_status(), "kind": "session", "signals": self.executor.figures.as_dict()}
