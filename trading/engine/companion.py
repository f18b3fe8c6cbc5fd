"""IB client 99, on the message thread's own loop: a second, independent line to the broker.

Owns: keeping it connected. Leaves: when it is first wanted (after the master is connected, ``core``).
Rule: it carries no orders and no drop copy; nothing of the ledger waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from strategies.exceptions import ConfigError
from trading.ib.connection import IBConnection

logger = logging.getLogger(__name__)

REFUSED_RETRY_S = 15.0


class QueueConnection:
    """Client 99. ``keep`` runs on the message thread's loop until it is cancelled."""

    def __init__(self, make: Callable[..., IBConnection], on_state: Callable[[bool, str], None]) -> None:
        self._make = make
        self._on_state = on_state
        self.connection: IBConnection | None = None

    @property
    def ib(self) -> Any:
        """Return the IB object; None before the first connect."""
        return self.connection.ib if self.connection is not None else None

    async def keep(self) -> None:
        """Connect, and connect again whenever the line is lost."""
        lost, never = asyncio.Event(), asyncio.Event()

        def _on_state(connected: bool, message: str) -> None:
            if not connected:
                lost.set()
            self._on_state(connected, message)

        connection = self.connection = self._make(99, role="queue", name="Message queue", on_state=_on_state)
        try:
            while True:
                lost.clear()
                try:
                    await connection.connect_forever(never)
                    await lost.wait()
                except ConfigError as error:
                    logger.warning("client 99 not connected reason=%s", error.message)
                    await asyncio.sleep(REFUSED_RETRY_S)
        finally:
            connection.disconnect()
