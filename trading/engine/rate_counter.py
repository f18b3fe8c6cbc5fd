"""How many orders an owner sent within a minute, and the account within a second. Thread-safe, in memory.

Rule: looking and counting are one step, so that two threads cannot both take the last place.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable

from trading.orders.checking import deny
from trading.orders.limits import Limit

MINUTE_S, SECOND_S = 60.0, 1.0


class RateCounter:
    """Times of the orders that were let through."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._by_owner: dict[str, deque[float]] = defaultdict(deque)
        self._account: deque[float] = deque()

    def take_turn(self, owner: str, by_minute: Limit | None, by_second: Limit | None) -> None:
        """Count an order, unless it would be one too many; None limits nothing.

        Raises: OrderDeniedError (orders_per_minute, orders_per_second).
        """
        now = self._clock()
        with self._lock:
            mine, everybody = self._by_owner[owner], self._account
            _forget(mine, now - MINUTE_S)
            _forget(everybody, now - SECOND_S)
            if by_minute is not None and len(mine) >= by_minute.value:
                text = f"{owner} sent {len(mine)} orders within a minute."
                raise deny("orders_per_minute", text, limit=by_minute, value=len(mine))
            if by_second is not None and len(everybody) >= by_second.value:
                text = f"The account sent {len(everybody)} orders within a second."
                raise deny("orders_per_second", text, limit=by_second, value=len(everybody))
            mine.append(now)
            everybody.append(now)

    def within_minute(self, owner: str) -> int:
        """Return how many orders an owner sent within the last minute."""
        with self._lock:
            _forget(self._by_owner[owner], self._clock() - MINUTE_S)
            return len(self._by_owner[owner])


def _forget(times: deque[float], before: float) -> None:
    while times and times[0] <= before:
        times.popleft()
