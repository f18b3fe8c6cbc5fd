"""Which client id a strategy's connection gets: 1–98, the lowest free one, given back after cleanup.

Rule: IB accepts 32 API clients; two of them are the engine's own (0 and 99), so ``max_clients`` − 2 are for strategies.
A held id is one that IB still believes connected (error 326): it is not handed out again until released.
"""

from __future__ import annotations

import threading

from strategies.exceptions import StrategyError

MASTER_CLIENT_ID = 0
QUEUE_CLIENT_ID = 99
_FIRST, _LAST = 1, 98
_ENGINE_OWN = 2


class ClientIdPool:
    """Hands out strategy client ids. Thread-safe."""

    def __init__(self, max_clients: int) -> None:
        self.budget = max(0, min(max_clients - _ENGINE_OWN, _LAST - _FIRST + 1))
        self._lock = threading.Lock()
        self._used: set[int] = set()
        self._held: set[int] = set()

    def acquire(self) -> int:
        """Take the lowest free id.

        Raises: StrategyError (client_limit) when the gateway's client budget is used up.
        """
        with self._lock:
            free = self._lowest_free()
            if free is None or len(self._used) >= self.budget:
                raise StrategyError(
                    f"All {self.budget} client connections of the gateway are in use. "
                    "Stop another strategy, let this or others share a connection (connection: shared), or raise "
                    "MATS_MAX_CLIENTS if your gateway accepts more.",
                    code="client_limit",
                    budget=self.budget,
                )
            self._used.add(free)
            return free

    def release(self, client_id: int) -> None:
        """Give an id back, in use or held; releasing a free one is harmless."""
        with self._lock:
            self._used.discard(client_id)
            self._held.discard(client_id)

    def hold(self, client_id: int) -> None:
        """Keep an id out of circulation because IB still counts it as connected."""
        with self._lock:
            self._used.discard(client_id)
            self._held.add(client_id)

    @property
    def next_client_id(self) -> int | None:
        """Return the id that ``acquire`` would give now; None when the budget is used up."""
        with self._lock:
            return self._lowest_free() if len(self._used) < self.budget else None

    @property
    def in_use(self) -> frozenset[int]:
        """Return the ids that are handed out."""
        with self._lock:
            return frozenset(self._used)

    def _lowest_free(self) -> int | None:
        taken = self._used | self._held
        return next((number for number in range(_FIRST, _LAST + 1) if number not in taken), None)
