"""The references that this process is sending right now: committed, perhaps on the wire, perhaps not yet answered.

Rule: one registry a process, because recovery and brokers run on different threads of it. After a restart it is empty,
and rightly so: what an earlier process was sending is settled by asking the broker.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

ANSWERED_AFTER_S = 30.0  # by then IB's lists know an order that was handed to the socket


class InFlight:
    """A set whose members leave some time after they were settled. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._members: dict[str, float | None] = {}

    def add(self, order_ref: str) -> None:
        """Take note that the reference is about to be committed."""
        with self._lock:
            self._members[order_ref] = None
            for ref in [ref for ref, until in self._members.items() if until is not None and until < self._clock()]:
                del self._members[ref]

    def settle(self, order_ref: str) -> None:
        """Take note that the order was handed to the socket, or never will be."""
        with self._lock:
            if order_ref in self._members:
                self._members[order_ref] = self._clock() + ANSWERED_AFTER_S

    def has(self, order_ref: str) -> bool:
        """Tell whether the broker's lists may be older than the order."""
        with self._lock:
            if order_ref not in self._members:
                return False
            until = self._members[order_ref]
            return until is None or until >= self._clock()


in_flight = InFlight()
