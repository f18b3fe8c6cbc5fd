"""Past a loop that hangs: whole messages written to its socket from another thread, each exactly once.

A connection belongs to its strategy's loop, because strategies use it. When that loop is blocked, nobody could cancel
its orders: IB takes a cancel only from the client that placed the order, and the loop is the only one that writes.
Owns: the lock under which everybody writes whole messages, encoding without a loop, cutting the line.
Leaves: when to write past a loop (``orders.overtaking``).
Rule: nothing is written beside bytes that the loop has yet to write, and a message that went out in part is followed by
nothing: its line is cut, and IB drops the torn end.
Source: docs/adr/0012-cancel-past-a-hung-strategy.md
"""

from __future__ import annotations

import contextlib
import copy
import logging
import select
import socket
import threading
import time
from typing import Any

from ib_async import IB, Contract, Order
from ib_async.client import Client

from trading.ib.paced import PacedSender

logger = logging.getLogger(__name__)

_ATTRIBUTE = "mats_line"
_LOCK_S = 0.05
_WRITABLE_S = 0.05


class _Scribe(Client):
    """Writes messages down instead of sending them; has neither socket nor loop."""

    def __init__(self, server_version: int) -> None:
        self.frames: list[bytes] = []
        self._version = server_version

    def isConnected(self) -> bool:  # noqa: N802 - ib_async's name
        return True

    def serverVersion(self) -> int:  # noqa: N802 - ib_async's name
        return self._version

    def sendMsg(self, msg: str) -> None:  # noqa: N802 - ib_async's name
        untyped: Any = self
        self.frames.append(untyped._prefix(msg.encode()))


class Line:
    """The sending side of one connection; survives its reconnects. ``push`` and ``cut`` may come from any thread."""

    def __init__(self, ib: IB) -> None:
        self.pushed = 0
        client: Any = ib.client
        self._client = client
        conn: Any = ib.client.conn
        self._conn = conn
        self._lock = threading.Lock()
        self._sender = PacedSender.of(ib)
        self._send = conn.sendMsg
        conn.sendMsg = self._send_whole  # an instance attribute over the method
        setattr(ib.wrapper, _ATTRIBUTE, self)

    @classmethod
    def of(cls, ib: IB) -> Line:
        """Return the connection's line; make it on first use."""
        known: Line | None = getattr(ib.wrapper, _ATTRIBUTE, None)
        return cls(ib) if known is None else known

    def _send_whole(self, message: bytes) -> None:
        with self._lock:
            self._send(message)

    def cancel_frame(self, order_id: int) -> bytes:
        """Return the message that cancels an order of this client."""
        scribe: Any = _Scribe(self._client.serverVersion())
        scribe.cancelOrder(order_id, "")
        return b"".join(scribe.frames)

    def place_frame(self, contract: Contract, order: Order) -> bytes:
        """Return the message that places an order, or changes the one with its id."""
        scribe: Any = _Scribe(self._client.serverVersion())
        scribe.placeOrder(order.orderId, contract, copy.copy(order))
        return b"".join(scribe.frames)

    def wait_turn(self, count: int) -> None:
        """Wait until IB takes so many more messages of this client; most often it does at once."""
        for _ in range(count):
            while self._sender is not None and (wait_s := self._sender.turn_s(time.monotonic())):
                time.sleep(wait_s)

    def push(self, frames: bytes) -> bool:
        """Write whole messages now; tell False when nothing of them reached IB, because the loop has bytes waiting.

        False means: the line is of no use while its loop hangs, ``cut`` it.
        """
        if not self._lock.acquire(timeout=_LOCK_S):
            return False
        try:
            own = self._free_socket()
            if own is None:
                return False
            with own:
                done = self._write(own, frames)
            self.pushed += done
            return done
        finally:
            self._lock.release()

    def _free_socket(self) -> socket.socket | None:
        """Return a handle of our own on the socket, if nothing waits to be written before us."""
        transport = self._conn.transport
        if transport is None or transport.is_closing():
            return None
        # What is held back for its pace may be orders: with the line they go, and are never sent.
        if transport.get_write_buffer_size() or self._client._msgQ or (self._sender and self._sender.orders_wait):
            return None
        try:
            own: socket.socket = transport.get_extra_info("socket").dup()
        except (OSError, AttributeError):
            return None
        return own

    def _write(self, own: socket.socket, frames: bytes) -> bool:
        left = memoryview(frames)
        while left:
            try:
                left = left[own.send(left) :]
            except BlockingIOError:
                if _is_writable(own):
                    continue
                if len(left) < len(frames):
                    _shut(own)
                return False
            except OSError as error:
                logger.warning("line not written reason=%s", error)
                return False
        return True

    def cut(self) -> None:
        """End the socket at once: IB gives the client id free, and what the loop held back is never sent."""
        transport = self._conn.transport
        if transport is None:
            return
        try:
            with transport.get_extra_info("socket").dup() as own:
                _shut(own)
        except (OSError, AttributeError) as error:
            logger.warning("line not cut reason=%s", error)


def _is_writable(own: socket.socket) -> bool:
    """Wait a moment until the socket takes bytes; tell whether it does."""
    room = select.poll()  # select() knows no descriptor above 1023
    room.register(own, select.POLLOUT)
    return bool(room.poll(_WRITABLE_S * 1000))


def _shut(own: socket.socket) -> None:
    with contextlib.suppress(OSError):
        own.shutdown(socket.SHUT_RDWR)
