"""What the master hears of orders that other connections of this engine hear as well, skipped before it is decoded.

Client 0 is told of every client's orders. Decoding that a second time costs as much as the first, and all threads share
one interpreter; but it is the safety net for a strategy whose loop is blocked or whose line just died. So the messages
are kept raw until the owner's connection has brought the same, and decoded when it does not.
Owns: which messages wait, how long, and when they are decoded after all.
Leaves: reading (``reader``), what was heard (the queue), which clients are connected (the engine).
Rule: nothing is dropped that the queue has not seen; of orders the last message of each kind is kept, for the day the
owner falls silent. Same loop only. Units: seconds.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from ib_async import IB

from strategies.events import CommissionSnapshot
from trading.ib import mapping
from trading.ib.reader import COMMISSION, EXECUTION, OPEN_ORDER, ORDER_STATUS
from trading.ib.tap import WireTap

GRACE_S = 0.15  # a healthy owner is behind by some milliseconds; in a burst it keeps moving, which counts as well
_CHUNK = 200  # decoded in one go, so that the master's loop still breathes
_COPIES_KEPT = 50_000
_ORDERS_KEPT = 500  # of each client

# where IB's messages carry what the gates look at
_EXEC_REQUEST, _EXEC_ID, _EXEC_CLIENT = 1, 14, 22
_FEE_EXEC_ID, _FEE_AMOUNT, _FEE_CURRENCY = 2, 3, 4
_OPEN_CLIENT, _STATUS_CLIENT = 24, 9
_LIVE = b"-1"


class Heard(Protocol):
    """Tells whether an execution, or the fee of one, has come on any connection."""

    def __call__(self, exec_id: str, fee: CommissionSnapshot | None = None) -> bool:
        """Return True when the queue has taken it."""


@dataclass(frozen=True, slots=True)
class _Held:
    message: bytes
    exec_id: str
    fee: CommissionSnapshot | None


@dataclass(slots=True)
class _Line:
    """What one client's own connection has yet to bring, and since when it brings nothing."""

    held: deque[_Held] = field(default_factory=deque)
    quiet_since: float = 0.0


class DropCopy:
    """The gates of the master's connection. ``is_live`` says which clients hear their own orders."""

    def __init__(
        self,
        ib: IB,
        *,
        is_live: Callable[[int], bool],
        has_heard: Heard,
        is_watched: Callable[[], bool] = lambda: False,
        grace_s: float = GRACE_S,
    ) -> None:
        self.skipped = 0
        self.taken_over = 0
        self._is_live = is_live
        self._has_heard = has_heard
        self._is_watched = is_watched
        self._grace_s = grace_s
        self._client: Any = ib.client
        self._wrapper: Any = ib.wrapper
        self._reader = WireTap.of(ib).reader
        self._lines: dict[int, _Line] = {}
        self._copies: OrderedDict[str, int] = OrderedDict()  # exec id → client, since a fee names no client
        self._orders: dict[int, OrderedDict[bytes, dict[bytes, bytes]]] = {}  # client → order id → kind → message
        self._released: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        gates = {
            EXECUTION: self._skip_execution,
            COMMISSION: self._skip_commission,
            OPEN_ORDER: self._skip_open_order,
            ORDER_STATUS: self._skip_status,
        }
        for kind, gate in gates.items():
            self._reader.gates.setdefault(kind, []).insert(0, gate)
        ib.disconnectedEvent += self._on_disconnected

    def is_copy(self, client_id: int) -> bool:
        """Tell whether a decoded order message of this client is to be ignored: its own connection brings it."""
        return client_id != self._released and self._is_live(client_id)

    def release(self) -> None:
        """Decode what was kept of clients that are not connected any more."""
        for client_id in list(self._orders):
            if not self._is_live(client_id):
                self._release_orders(client_id)
        if self._timer is not None:
            self._look()

    # -- executions and fees

    def _skip_execution(self, message: bytes) -> bool:
        fields = message.split(b"\0", _EXEC_CLIENT + 1)
        if len(fields) <= _EXEC_CLIENT or fields[_EXEC_REQUEST] != _LIVE:
            return False  # an answer to our own question is waited for
        client_id = _number(fields[_EXEC_CLIENT])
        if client_id is None or not self._is_live(client_id) or self._is_watched():
            return False
        exec_id = fields[_EXEC_ID].decode(errors="backslashreplace")
        self._copies[exec_id] = client_id
        if len(self._copies) > _COPIES_KEPT:
            self._copies.popitem(last=False)
        return self._skip(client_id, _Held(message, exec_id, None))

    def _skip_commission(self, message: bytes) -> bool:
        fields = message.split(b"\0", _FEE_CURRENCY + 1)
        if len(fields) <= _FEE_CURRENCY:
            return False
        exec_id = fields[_FEE_EXEC_ID].decode(errors="backslashreplace")
        client_id = self._copies.get(exec_id)
        if client_id is None or not self._is_live(client_id) or self._is_watched():
            return False
        fee = mapping.commission_of(exec_id, fields[_FEE_AMOUNT].decode(), fields[_FEE_CURRENCY].decode())
        return fee is not None and self._skip(client_id, _Held(message, exec_id, fee))

    def _skip(self, client_id: int, held: _Held) -> bool:
        """Drop what the owner has brought, hold what it has not; always takes the message out of the stream."""
        self.skipped += 1
        line = self._lines.get(client_id)
        if line is None:
            line = self._lines[client_id] = _Line()
        now = asyncio.get_running_loop().time()
        if self._has_heard(held.exec_id, held.fee):
            line.quiet_since = now
            return True
        if not line.held:
            line.quiet_since = now
        line.held.append(held)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._grace_s / 3, self._look)
        return True

    def _look(self) -> None:
        """Drop what owners brought meanwhile; decode for owners that are gone or have been quiet for too long."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        pause: float | None = None
        for client_id, line in self._lines.items():
            self._drop_heard(line, loop.time())
            if not line.held:
                continue
            if loop.time() - line.quiet_since >= self._grace_s or not self._is_live(client_id) or self._is_watched():
                self._take_over(client_id, line)
                pause = 0.0
            elif pause is None:
                pause = self._grace_s / 3
        if pause is not None:
            self._timer = loop.call_later(pause, self._look)

    def _drop_heard(self, line: _Line, now: float) -> None:
        while line.held and self._has_heard(line.held[0].exec_id, line.held[0].fee):
            line.held.popleft()
            line.quiet_since = now

    def _take_over(self, client_id: int, line: _Line) -> None:
        self._release_orders(client_id)  # first, so that the executions find their order
        for _ in range(min(_CHUNK, len(line.held))):
            held = line.held.popleft()
            if not self._has_heard(held.exec_id, held.fee):
                self.taken_over += 1
                self._reader.decode(held.message)

    # -- orders

    def _skip_open_order(self, message: bytes) -> bool:
        return self._skip_order(message, OPEN_ORDER, _OPEN_CLIENT)

    def _skip_status(self, message: bytes) -> bool:
        return self._skip_order(message, ORDER_STATUS, _STATUS_CLIENT)

    def _skip_order(self, message: bytes, kind: bytes, place: int) -> bool:
        if "openOrders" in self._wrapper._results:
            return False  # an answer to our own question, in which every order counts
        fields = message.split(b"\0", place + 1)
        client_id = _number(fields[place]) if len(fields) > place else None
        order_id = _number(fields[1])
        if client_id is None or order_id is None:
            return False
        if not self._is_live(client_id):
            self._release_orders(client_id)
            return False
        self.skipped += 1
        self._client.updateReqId(order_id + 1)  # as ib_async does with every order that it sees
        orders = self._orders.setdefault(client_id, OrderedDict())
        orders.setdefault(fields[1], {})[kind] = message
        orders.move_to_end(fields[1])
        if len(orders) > _ORDERS_KEPT:
            orders.popitem(last=False)
        return True

    def _release_orders(self, client_id: int) -> None:
        """Decode the last messages of a client's orders."""
        orders = self._orders.pop(client_id, None)
        if not orders:
            return
        self._released = client_id
        try:
            for kept in orders.values():
                for kind in (OPEN_ORDER, ORDER_STATUS):
                    if kind in kept:
                        self._reader.decode(kept[kind])
        finally:
            self._released = None

    def _on_disconnected(self) -> None:
        """Decode executions that still wait: nobody else may bring them. Of orders the next session is told anew."""
        self._orders.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for client_id, line in self._lines.items():
            while line.held:
                self._take_over(client_id, line)
        self._lines.clear()


def _number(text: bytes) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
