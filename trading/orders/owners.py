"""Whose order, and so whose fill, it is.

Rule: our reference → its row's owner; the bare symbol of a strategy → that strategy; an order known by its permId → its
owner; anything else is Discretionary until an operator assigns it.
"""

from __future__ import annotations

import threading
import time
from typing import TypeVar

from strategies.events import FillSnapshot
from strategies.models import DISCRETIONARY, Strategy
from trading.models import Order
from trading.orders.refs import owner_named

_REFRESH_S = 2.0  # strategies are saved in other processes; a name made now is known this much later
_KEPT = 50_000

Key = TypeVar("Key", str, int)


class Owners:
    """Looks owners up, mostly from memory. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_ref: dict[str, str] = {}
        self._by_perm_id: dict[int, str] = {}
        self._symbols: frozenset[str] = frozenset()
        self._symbols_read = float("-inf")

    def forget(self) -> None:
        """Drop everything remembered."""
        with self._lock:
            self._by_ref.clear()
            self._by_perm_id.clear()
            self._symbols_read = float("-inf")

    def learn(self, order_ref: str, owner: str, perm_id: int | None) -> None:
        """Remember what an order's row says, so that its fills need no query."""
        if self._by_ref.get(order_ref) is None:
            self._remember(self._by_ref, order_ref, owner)
        if perm_id and self._by_perm_id.get(perm_id) is None:
            self._remember(self._by_perm_id, perm_id, owner)

    def of_ref(self, order_ref: str) -> str:
        """Return the owner of a reference; Discretionary when it names none."""
        known = self._by_ref.get(order_ref)
        if known is None and order_ref:
            known = self._find_ref(order_ref)
        return known or DISCRETIONARY

    def of_fill(self, fill: FillSnapshot) -> str:
        """Return the owner of an execution."""
        owner = self.of_ref(fill.order_ref)
        if owner != DISCRETIONARY or not fill.perm_id or owner_named(fill.order_ref):
            return owner
        return self._of_perm_id(fill.perm_id)

    def _find_ref(self, order_ref: str) -> str | None:
        named = owner_named(order_ref)
        if named is None:
            return order_ref if order_ref in self._strategies() else None
        owner = Order.objects.filter(order_ref=order_ref).values_list("owner", flat=True).first()
        if owner is None:
            owner = named if named in self._strategies() else None
        return self._remember(self._by_ref, order_ref, owner)

    def _of_perm_id(self, perm_id: int) -> str:
        known = self._by_perm_id.get(perm_id)
        if known is None:
            known = Order.objects.filter(perm_id=perm_id).values_list("owner", flat=True).first()
            self._remember(self._by_perm_id, perm_id, known)
        return known or DISCRETIONARY

    def _remember(self, cache: dict[Key, str], key: Key, owner: str | None) -> str | None:
        if owner is not None:
            with self._lock:
                if len(cache) >= _KEPT:
                    cache.clear()
                cache[key] = owner
        return owner

    def _strategies(self) -> frozenset[str]:
        now = time.monotonic()
        if now - self._symbols_read > _REFRESH_S:
            self._symbols = frozenset(Strategy.objects.values_list("symbol", flat=True))
            self._symbols_read = now
        return self._symbols
