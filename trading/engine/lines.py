"""The strategies' lines to IB: an own connection each, or a place on a shared one, within the gateway's limit.

Owns: which strategy reaches IB how, client ids, who hears its own orders at this moment.
Leaves: connecting (``links``, ``routers``), the limit of sockets (``trading.ib.pacing``), what the pages show (engine).
Rule: an id is free again only when nobody is connected under it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from ib_async import IB

from strategies.exceptions import ConfigError
from strategies.legacy import OldStyleStrategy
from strategies.models import ConnectionKind, Strategy
from trading.engine.links import StrategyLinks
from trading.engine.message_queue import MessageQueue
from trading.engine.routers import Routers
from trading.ib.client_ids import ClientIdPool
from trading.ib.connection import IBConnection
from trading.ib.silence import Streams


class LinesHost(Protocol):
    """What the lines need of the engine."""

    def make_connection(self, client_id: int, **options: Any) -> IBConnection:
        """Return an unconnected IBConnection with the engine's host, port and account rules."""

    def note_unreadable(self, what: str) -> None:
        """Have the day asked for again: a message of a strategy's line could not be read."""

    def line_changed(self, client_id: int, role: str, name: str, connected: bool, message: str) -> None:
        """Show a connection that came or went."""

    def strategy_line_changed(self, symbol: str, connected: bool, message: str) -> None:
        """Show that a strategy's connection came or went."""


class StrategyLines:
    """All lines of strategies. Thread-safe."""

    def __init__(
        self,
        host: LinesHost,
        queue: MessageQueue,
        *,
        max_clients: int,
        router_size: int,
        watch: Callable[[IB, str, Streams], object] = lambda ib, name, streams: None,
    ) -> None:
        self.pool = ClientIdPool(max_clients)
        make = partial(host.make_connection, on_decode_error=host.note_unreadable)
        self.links = StrategyLinks(queue, make, self._on_link_state, watch)
        self.routers = Routers(
            queue,
            make,
            self._on_router_state,
            watch=watch,
            acquire=self.pool.acquire,
            release=self.pool.release,
            size=router_size,
        )
        self._host = host
        self._lock = threading.Lock()
        self._live: frozenset[int] = frozenset()

    def is_live(self, client_id: int) -> bool:
        """Tell whether a strategy is connected as that client and so hears its own orders."""
        return client_id in self._live

    def acquire(self, row: Strategy) -> int:
        """Take the lowest free client id, or a place on a shared connection.

        Raises: StrategyError (client_limit) when the gateway would accept no further client.
        """
        return self.routers.join(row.symbol) if row.connection == ConnectionKind.SHARED else self.pool.acquire()

    def release(self, client_id: int) -> None:
        """Give a client id back; that of a shared connection goes with its last strategy."""
        if not self.routers.has(client_id):
            self.pool.release(client_id)

    def settle(self, strategy: Any) -> None:
        """Tell a strategy on which loop it lives.

        Raises: ConfigError (needs_own_connection) for a file of the old template on a shared connection.
        """
        router = self.routers.of(strategy.symbol)
        if router is None:
            return
        if isinstance(strategy, OldStyleStrategy):
            raise ConfigError(
                f"{strategy.symbol} is of the old template, which runs a loop of its own: give it its own connection.",
                code="needs_own_connection",
            )
        strategy.home = router.loop

    async def connect(self, strategy: Any) -> IB:
        """Connect, or wait for the shared connection, on the calling loop."""
        router = self.routers.of(strategy.symbol)
        return await (self.links.connect(strategy) if router is None else router.connect(strategy.symbol))

    def interrupt(self, symbol: str) -> None:
        """End a strategy's attempts to connect."""
        self.links.interrupt(symbol)
        router = self.routers.of(symbol)
        if router is not None:
            router.interrupt(symbol)

    def forget(self, symbol: str) -> None:
        """Forget the line of a strategy that has ended."""
        self.links.drop(symbol)
        self.routers.leave(symbol)

    def statuses(self) -> list[dict[str, Any]]:
        """Return the lines as the heartbeat shows them."""
        return [*self.routers.statuses(), *self.links.statuses()]

    def _note(self, client_id: int, connected: bool) -> None:
        with self._lock:
            others = self._live - {client_id}
            self._live = others | {client_id} if connected else others

    def _on_link_state(self, symbol: str, client_id: int, connected: bool, message: str) -> None:
        self._note(client_id, connected)
        self._host.strategy_line_changed(symbol, connected, message)
        self._host.line_changed(client_id, "strategy", symbol, connected, message)

    def _on_router_state(self, client_id: int, symbols: tuple[str, ...], connected: bool, message: str) -> None:
        self._note(client_id, connected)
        for symbol in symbols:
            self._host.strategy_line_changed(symbol, connected, message)
        self._host.line_changed(client_id, "router", "Shared", connected, message)
