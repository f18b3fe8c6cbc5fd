"""Connections of the engine's own that several strategies share: 98 strategies under IB's limit of 32 clients.

Owns: the routers (one IB client, one thread, one loop each), who is on which, what is left behind when one leaves.
Leaves: orders (each member's own broker on the shared connection), which strategies share (``Strategy.connection``).
Rule: members live on the router's loop, because an IB object belongs to one loop. Everything the connection hears of
orders goes to the ledger once, and to the member that the order's reference names. The router closes with its last
member, so that orders left working can be reached under its client id. See docs/adr/0011-router-connections.md.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any

from django.db import DatabaseError
from ib_async import IB

from strategies.attribution import current_strategy
from strategies.exceptions import ConfigError, StrategyError
from trading.engine.message_queue import MessageQueue
from trading.ib.capture import Capture
from trading.ib.connection import IBConnection
from trading.ib.resubscribe import Subscriptions
from trading.ib.silence import Streams
from trading.orders.db_threads import in_db_thread
from trading.orders.queries import first_free_order_id
from trading.orders.refs import owner_named

logger = logging.getLogger(__name__)

REFUSED_RETRY_S = 15.0
RETRY_S = 2.0
START_S = 10.0

RouterListener = Callable[[int, tuple[str, ...], bool, str], None]


class _OwnedTask(asyncio.Task[Any]):
    """A task that knows which strategy's code started it."""

    def __init__(self, coro: Any, **options: Any) -> None:
        self.owner = current_strategy()
        super().__init__(coro, **options)


def _owned(
    loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any] | Generator[Any, None, Any], **options: Any
) -> asyncio.Future[Any]:
    return _OwnedTask(coro, loop=loop, **options)


class Router:
    """One shared connection. ``loop`` is where its members live."""

    def __init__(
        self,
        client_id: int,
        queue: MessageQueue,
        make: Callable[..., IBConnection],
        on_state: RouterListener,
        on_end: Callable[[int], None],
        watch: Callable[[IB, str, Streams], object],
    ) -> None:
        self._watch = watch
        self.client_id = client_id
        self.loop = asyncio.new_event_loop()
        self.members: dict[str, Any] = {}  # symbol → its broker, None until it has one
        self.is_closing = False
        self._queue = queue
        self._make = make
        self._on_state = on_state
        self._on_end = on_end
        self._connection: IBConnection | None = None
        self._stops: dict[str, asyncio.Event] = {}
        self._thread = threading.Thread(target=self._run, name=f"mats-router-{client_id}", daemon=True)
        self._ready = threading.Event()

    def start(self) -> None:
        """Start thread and loop."""
        self._thread.start()
        self._ready.wait(START_S)

    # -- from other threads

    def status(self) -> dict[str, Any] | None:
        """Describe the connection for the heartbeat row; None before it was made."""
        if self._connection is None:
            return None
        return {**self._connection.status(), "name": self.name, "members": sorted(self.members)}

    @property
    def name(self) -> str:
        """Return who shares it."""
        return f"Shared by {', '.join(sorted(self.members)) or 'nobody'}"

    def close(self) -> None:
        """Disconnect and end the thread; returns at once."""
        self.is_closing = True
        self._soon(self._ended.set)

    def join(self, timeout_s: float) -> bool:
        """Wait until the thread ended; tell whether it did."""
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def interrupt(self, symbol: str) -> None:
        """End a member's wait for the connection."""

        def _stop() -> None:
            self._stop_of(symbol).set()

        self._soon(_stop)

    def leave(self, symbol: str, broker: Any) -> None:
        """Undo what an ended member left on the loop: its broker's ears and its own tasks."""

        def _clear() -> None:
            if broker is not None:
                broker.close()
            self._stops.pop(symbol, None)
            for task in asyncio.all_tasks(self.loop):
                if isinstance(task, _OwnedTask) and task.owner == symbol:
                    logger.info("task of an ended strategy cancelled strategy=%s task=%s", symbol, task.get_name())
                    task.cancel()

        self._soon(_clear)

    def _soon(self, work: Callable[[], Any]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nothing left to do
            self.loop.call_soon_threadsafe(work)

    # -- on the loop

    async def connect(self, symbol: str) -> IB:
        """Wait until the shared connection is up and return it.

        Raises: StrategyError (stopped) when the member is stopped meanwhile.
        """
        stop = self._stop_of(symbol)
        waits = [self.loop.create_task(event.wait()) for event in (self._up, stop)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if stop.is_set() or self._connection is None:
            raise StrategyError(f"{symbol} was stopped while it connected.", code="stopped")
        self._on_state(self.client_id, (symbol,), True, self._connection.message)
        return self._connection.ib

    def _stop_of(self, symbol: str) -> asyncio.Event:
        return self._stops.setdefault(symbol, asyncio.Event())

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.set_task_factory(_owned)
        self._up, self._ended = asyncio.Event(), asyncio.Event()
        work = self.loop.create_task(self._keep())
        work.add_done_callback(lambda _: self.loop.stop())
        self.loop.call_soon(self._ready.set)
        while not work.done():
            try:
                self.loop.run_forever()
            except SystemExit as error:  # sys.exit in one member's callback must not end the others
                logger.error("sys.exit(%s) on a shared loop was ignored client_id=%s", error.code, self.client_id)  # noqa: TRY400
        if not work.cancelled() and work.exception() is not None:
            logger.error("router died client_id=%s", self.client_id, exc_info=work.exception())
        self._finish()
        self._on_end(self.client_id)

    def _finish(self) -> None:
        left = asyncio.all_tasks(self.loop)  # of members that did not end in time
        for task in left:
            task.cancel()
        self.loop.run_until_complete(asyncio.wait(left, timeout=START_S) if left else asyncio.sleep(0))
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    async def _keep(self) -> None:
        """Keep the connection up until the router is closed: the one place that connects, however many wait."""
        lost = asyncio.Event()

        def _on_state(connected: bool, message: str) -> None:
            if connected:
                self._up.set()
            else:
                self._up.clear()
                lost.set()
            self._on_state(self.client_id, tuple(self.members), connected, message)

        first = await self._first_order_id()
        if first is None:
            return
        connection = self._connection = self._make(
            self.client_id, role="router", name="Shared", first_order_id=first, on_state=_on_state
        )
        Capture(
            connection.ib,
            self._queue.put,
            "",
            lambda order_ref: owner_named(order_ref) or "",
            lambda: self._queue.is_replay_ahead,
        )
        self._watch(connection.ib, f"client {self.client_id}", Subscriptions(connection.ib))
        try:
            while not self._ended.is_set():
                lost.clear()
                try:
                    await self._connected(connection, lost)
                except Exception:  # task border: a router that dies would leave its members waiting for ever
                    logger.exception("router failed and begins anew client_id=%s", self.client_id)
                    connection.disconnect()
                    await self._first_of(self._ended, RETRY_S)
        finally:
            connection.disconnect()

    async def _first_order_id(self) -> int | None:
        """Return the first order id that this client never used; None when the router is closed before it is known."""
        while not self._ended.is_set():
            try:
                return await in_db_thread(first_free_order_id, self.client_id)
            except DatabaseError as error:
                logger.warning("router waits for the ledger client_id=%s reason=%s", self.client_id, error)
                await self._first_of(self._ended, RETRY_S)
        return None

    async def _connected(self, connection: IBConnection, lost: asyncio.Event) -> None:
        try:
            if await connection.connect_forever(self._ended):
                lost.clear()  # set by the tries that failed before this one
                await self._first_of(lost, None)
        except ConfigError as error:
            logger.warning("router refused client_id=%s reason=%s", self.client_id, error.message)
            await self._first_of(self._ended, REFUSED_RETRY_S)

    async def _first_of(self, event: asyncio.Event, timeout_s: float | None) -> None:
        waits = [self.loop.create_task(one.wait()) for one in {event, self._ended}]
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()


class Routers:
    """All routers of an engine. Thread-safe."""

    def __init__(
        self,
        queue: MessageQueue,
        make: Callable[..., IBConnection],
        on_state: RouterListener,
        *,
        acquire: Callable[[], int],
        release: Callable[[int], None],
        size: int,
        watch: Callable[[IB, str, Streams], object],
    ) -> None:
        self._watch = watch
        self._queue = queue
        self._make = make
        self._on_state = on_state
        self._acquire, self._release = acquire, release
        self._size = size
        self._lock = threading.Lock()
        self._routers: dict[int, Router] = {}

    def join(self, symbol: str) -> int:
        """Give a strategy a place, on a new router if none is free; return the client id.

        Raises: StrategyError (client_limit) when no connection is left for a new router.
        """
        with self._lock:
            router = next(
                (one for one in self._routers.values() if not one.is_closing and len(one.members) < self._size), None
            )
            if router is None:
                client_id = self._acquire()
                router = Router(client_id, self._queue, self._make, self._on_state, self._forget, self._watch)
                self._routers[client_id] = router
                router.start()
            router.members[symbol] = None
            return router.client_id

    def of(self, symbol: str) -> Router | None:
        """Return the router that a strategy is on."""
        with self._lock:
            return next((one for one in self._routers.values() if symbol in one.members), None)

    def has(self, client_id: int) -> bool:
        """Tell whether a client id is a router's."""
        with self._lock:
            return client_id in self._routers

    def keep_broker(self, symbol: str, broker: Any) -> None:
        """Remember a member's broker, to be closed when it leaves."""
        router = self.of(symbol)
        if router is not None:
            router.members[symbol] = broker

    def leave(self, symbol: str) -> None:
        """Take an ended strategy off its router; the last one closes it."""
        router = self.of(symbol)
        if router is None:
            return
        with self._lock:
            broker = router.members.pop(symbol, None)
            is_last = not router.members
            if is_last:
                router.is_closing = True
        router.leave(symbol, broker)
        if is_last:
            router.close()

    def stop(self, timeout_s: float) -> bool:
        """Close all; tell whether every thread ended."""
        with self._lock:
            routers = list(self._routers.values())
        for router in routers:
            router.close()
        ended = [router.join(timeout_s) for router in routers]  # each gets its time
        return all(ended)

    def statuses(self) -> list[dict[str, Any]]:
        """Return the shared connections as the heartbeat shows them, by client id."""
        with self._lock:
            routers = [self._routers[client_id] for client_id in sorted(self._routers)]
        return [status for status in (router.status() for router in routers) if status is not None]

    def _forget(self, client_id: int) -> None:
        with self._lock:
            self._routers.pop(client_id, None)
        self._release(client_id)
