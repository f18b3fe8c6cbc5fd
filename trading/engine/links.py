"""The strategies' own IB connections: made on the strategy's loop, captured for the ledger, shown on the pages.

Rule: one connection object for the life of a strategy instance, so that its capture and its order ids survive
reconnects. Everything of a connection happens on its strategy's loop; only ``status`` is read from other threads.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ib_async import IB

from strategies.exceptions import StrategyError
from trading.engine.message_queue import MessageQueue
from trading.ib.capture import Capture
from trading.ib.connection import IBConnection
from trading.ib.resubscribe import Subscriptions
from trading.ib.silence import Streams
from trading.orders.db_threads import in_db_thread
from trading.orders.queries import first_free_order_id


@dataclass(slots=True)
class Link:
    """One strategy's connection, its loop and the signal that ends its attempts to connect."""

    connection: IBConnection
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event


class StrategyLinks:
    """All strategy connections by symbol. ``settings`` is the typed environment; ``make`` fills in common options."""

    def __init__(
        self,
        queue: MessageQueue,
        make: Callable[..., IBConnection],
        on_state: Callable[[str, int, bool, str], None],
        watch: Callable[[IB, str, Streams], object],
    ) -> None:
        self._watch = watch
        self._queue = queue
        self._make = make
        self._on_state = on_state
        self._links: dict[str, tuple[Any, Link]] = {}
        self._lock = threading.Lock()

    async def connect(self, strategy: Any) -> IB:
        """Connect, or connect again, on the calling loop.

        Raises: StrategyError when the strategy is stopped meanwhile; ConfigError when the account must not be used.
        """
        link = await self._link(strategy)
        if not await link.connection.connect_forever(link.stop):
            raise StrategyError(f"{strategy.symbol} was stopped while it connected.", code="stopped")
        return link.connection.ib

    async def _link(self, strategy: Any) -> Link:
        with self._lock:
            owner, link = self._links.get(strategy.symbol, (None, None))
        if link is not None and owner is strategy:
            return link
        first = await in_db_thread(first_free_order_id, strategy.client_id)
        symbol, client_id = strategy.symbol, strategy.client_id
        connection = self._make(
            client_id,
            role="strategy",
            name=symbol,
            first_order_id=first,
            on_state=lambda connected, message: self._on_state(symbol, client_id, connected, message),
        )
        Capture(connection.ib, self._queue.put, symbol, is_replay_ahead=lambda: self._queue.is_replay_ahead)
        self._watch(connection.ib, symbol, Subscriptions(connection.ib))
        link = Link(connection, asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._links[symbol] = (strategy, link)
        return link

    def interrupt(self, symbol: str) -> None:
        """End a strategy's attempts to connect. Thread-safe."""
        with self._lock:
            _, link = self._links.get(symbol, (None, None))
        if link is not None:
            with suppress(RuntimeError):  # its loop is closed: nothing to interrupt
                link.loop.call_soon_threadsafe(link.stop.set)

    def drop(self, symbol: str) -> None:
        """Forget a connection whose strategy has ended."""
        with self._lock:
            self._links.pop(symbol, None)

    def statuses(self) -> list[dict[str, Any]]:
        """Return the connections as the heartbeat shows them, by client id."""
        with self._lock:
            found = [link.connection.status() for _, link in self._links.values()]
        return sorted(found, key=lambda status: int(status["client_id"]))
