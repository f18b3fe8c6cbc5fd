"""Whose order, and so whose fill, it is.

Rule: our reference → its row's owner; the bare symbol of a strategy → that strategy; an order known by its permId → its
owner; anything else is Discretionary until an operator assigns it. IB's permId is unique in an account's life, but a
gateway that was reset begins anew: the number alone names an order only while that order can still trade, in the same
account, contract and direction.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta

from strategies.events import FillSnapshot
from strategies.models import DISCRETIONARY, Strategy
from trading.models import Order
from trading.orders.refs import owner_named
from trading.orders.state import FINAL, OrderState

_REFRESH_S = 2.0  # strategies are saved in other processes; a name made now is known this much later
_KEPT = 50_000
_LATE_FILL = timedelta(minutes=10)  # a fill and the end of its order may overtake each other
_LOST_ORDER = timedelta(days=1)  # nobody knows whether it still works
_CLOCKS_APART = timedelta(minutes=5)


class Owners:
    """Looks owners up, mostly from memory. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_ref: dict[str, str] = {}
        self._symbols: frozenset[str] = frozenset()
        self._symbols_read = float("-inf")

    def forget(self) -> None:
        """Drop everything remembered."""
        with self._lock:
            self._by_ref.clear()
            self._symbols_read = float("-inf")

    def learn(self, order_ref: str, owner: str) -> None:
        """Remember what an order's row says, so that its fills need no query."""
        if self._by_ref.get(order_ref) is None:
            self._remember(order_ref, owner)

    def of_ref(self, order_ref: str) -> str:
        """Return the owner of a reference; Discretionary when it names none."""
        known = self._by_ref.get(order_ref)
        if known is None and order_ref:
            known = self._find_ref(order_ref)
        return known or DISCRETIONARY

    def of_new_ref(self, order_ref: str) -> str:
        """Return the owner of a reference under which no order is kept: the strategy that it names."""
        known = self._by_ref.get(order_ref)
        if known is not None:
            return known
        named = owner_named(order_ref) or order_ref
        return named if named in self._strategies() else DISCRETIONARY

    def of_fill(self, fill: FillSnapshot) -> str:
        """Return the owner of an execution."""
        return self._named_by_ref(fill) or _of_perm_id(fill, _same_perm_id(fill))

    def for_batch(self, before_reading: Callable[[], object] = lambda: None) -> Callable[[FillSnapshot], str]:
        """Return ``of_fill`` for one batch: an order that is found by its permId is looked up once.

        No longer than a batch: the next one may begin with the order that a permId belongs to. ``before_reading``
        is called before such a look: it writes the orders of this batch.
        """
        found: dict[tuple[object, ...], list[Order]] = {}

        def of_fill(fill: FillSnapshot) -> str:
            named = self._named_by_ref(fill)
            if named is not None:
                return named
            key = (fill.perm_id, fill.contract.con_id, fill.side, fill.account)
            if key not in found:
                before_reading()
                found[key] = _same_perm_id(fill)
            return _of_perm_id(fill, found[key])

        return of_fill

    def _named_by_ref(self, fill: FillSnapshot) -> str | None:
        """Return the owner that the reference names; None when only the permId may tell."""
        owner = self.of_ref(fill.order_ref)
        return owner if owner != DISCRETIONARY or not fill.perm_id or owner_named(fill.order_ref) else None

    def _find_ref(self, order_ref: str) -> str | None:
        named = owner_named(order_ref)
        if named is None:
            return order_ref if order_ref in self._strategies() else None
        owner = Order.objects.filter(order_ref=order_ref).values_list("owner", flat=True).first()
        if owner is None:
            owner = named if named in self._strategies() else None
        return self._remember(order_ref, owner)

    def _remember(self, order_ref: str, owner: str | None) -> str | None:
        if owner is not None:
            with self._lock:
                if len(self._by_ref) >= _KEPT:
                    self._by_ref.clear()
                self._by_ref[order_ref] = owner
        return owner

    def _strategies(self) -> frozenset[str]:
        now = time.monotonic()
        if now - self._symbols_read > _REFRESH_S:
            self._symbols = frozenset(Strategy.objects.values_list("symbol", flat=True))
            self._symbols_read = now
        return self._symbols


def _same_perm_id(fill: FillSnapshot) -> list[Order]:
    """Return the orders with a fill's permId, account, contract and direction, the newest first."""
    return list(
        Order.objects.filter(
            perm_id=fill.perm_id,
            con_id=fill.contract.con_id,
            side="BUY" if fill.side == "BOT" else "SELL",
            account_id__in=("", fill.account),
        ).order_by("-id")
    )


def _of_perm_id(fill: FillSnapshot, rows: list[Order]) -> str:
    """Return the owner of the newest of these orders that can be the one it filled."""
    for row in rows:
        if row.client_id not in (None, fill.client_id) or row.created_at > fill.executed_at + _CLOCKS_APART:
            continue
        late = _LATE_FILL if row.state in FINAL else _LOST_ORDER if row.state == OrderState.UNKNOWN else None
        if late is None or fill.executed_at - row.updated_at <= late:
            return row.owner
    return DISCRETIONARY
