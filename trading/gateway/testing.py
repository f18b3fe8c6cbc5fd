"""Run a whole paper gateway inside a test: own thread, own loop, a free port, state in memory unless asked otherwise.

Owns: starting, reaching into and stopping a gateway from synchronous code. Used by scenario tests and benchmarks.
"""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from .exchange import Exchange, VenueOptions, build_venue
from .server import GatewayServer

T = TypeVar("T")
_VENUE_OPTIONS = {option.name for option in fields(VenueOptions)}
_LOW_PORT, _HIGH_PORT = 20_000, 32_000  # below the ephemeral range, where a client's own port could be ours


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nobody listens on right now.

    Raises: OSError when a thousand tries find none.
    """
    for _ in range(1000):
        port = random.randint(_LOW_PORT, _HIGH_PORT)  # noqa: S311 - spreads parallel tests, guards nothing
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise OSError(f"No free port between {_LOW_PORT} and {_HIGH_PORT}.")


@dataclass(slots=True)
class RunningGateway:
    """A gateway that runs in another thread."""

    host: str
    port: int
    server: GatewayServer
    venue: Exchange
    loop: asyncio.AbstractEventLoop

    def fault(self, line: str) -> str:
        """Have trouble: one line of the language of ``faults``. Returns what came of it.

        Raises: FaultError when the line is no fault or cannot be had now.
        """
        return self.call(lambda: self.server.faults.ask(line))

    def fired(self, line: str) -> int:
        """How often the wire fault of that line has happened."""
        return self.call(lambda: self.server.faults.wire.fired[line])

    def call(self, function: Callable[[], T], timeout_s: float = 30.0) -> T:
        """Run ``function`` on the gateway's loop and return its result; exceptions come back as they are."""

        async def run() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(timeout_s)


@contextmanager
def running_gateway(*, venue: Exchange | None = None, port: int = 0, **options: Any) -> Iterator[RunningGateway]:
    """Run a gateway for the length of a ``with`` block.

    Shape: ``options`` are those of VenueOptions (state in memory unless ``state_file`` is given) and of GatewayServer,
    and ``shift``, a timedelta by which the venue's clock is off.
    """
    shift = options.pop("shift", timedelta(0))
    venue_options = {name: options.pop(name) for name in _VENUE_OPTIONS & options.keys()}
    exchange = venue if venue is not None else build_venue(VenueOptions(**venue_options))
    server = GatewayServer(
        exchange,
        port=port or free_port(),
        clock=lambda: exchange.market_now(datetime.now(UTC) + shift),
        **{"tick_s": 0.02, **options},
    )
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=_run_loop, args=(loop,), name="gateway", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(30)
        yield RunningGateway(server.host, server.port, server, exchange, loop)
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
        if venue is None:
            exchange.close()


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
