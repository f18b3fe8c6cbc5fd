"""From the socket's bytes to messages: one pass over every chunk, and a look at each message before it is decoded.

ib_async copies the rest of its buffer for every message and decodes everything, though most of what a busy account
hears is repetition: the whole order with every partial fill, and on a drop copy what other connections hear as well.
Owns: cutting bytes into messages, gates that may take one out of the stream, the gate for repeated order messages,
pauses while those who take the messages are behind.
Leaves: the handshake (ib_async), what a drop copy skips (``drop_copy``), meanings (``tap`` and above).
Rule: without a gate that takes a message, the decoder gets exactly what ib_async would give it. Same loop only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from ib_async import IB, Trade

logger = logging.getLogger(__name__)

Gate = Callable[[bytes], bool]  # gets a message without its length; True takes it out of the stream

OPEN_ORDER, ORDER_STATUS, EXECUTION, COMMISSION = b"5", b"3", b"11", b"59"
_REMEMBERED = 2_000
_LOOK_S = 0.01
LONGEST_PAUSE_S = 1.0  # a gateway drops a client that takes nothing for some seconds


class FrameReader:
    """Stands in for ib_async's reading of one connection; survives its reconnects."""

    def __init__(self, ib: IB) -> None:
        self.gates: dict[bytes, list[Gate]] = {}
        self.pauses = 0
        self._is_full: Callable[[], bool] | None = None
        self._held: Any = None  # the transport that does not read at the moment
        self._held_until = 0.0
        self._client: Any = ib.client
        self._original: Callable[[bytes], object] = self._client._onSocketHasData
        self._client.conn.hasData.disconnect(self._original)
        self._client.conn.hasData.connect(self._on_data)

    def _on_data(self, data: bytes) -> None:
        client = self._client
        if not client._apiReady or client._logger.isEnabledFor(logging.DEBUG):
            self._original(data)
            return
        client._numBytesRecv += len(data)
        if client._tcpDataArrived:
            client._tcpDataArrived()
        buffer = client._data + data if client._data else data
        position = self._read(client, buffer)
        if client._apiReady:  # else a message closed the connection, which has emptied the buffer
            client._data = buffer[position:]
        if client._tcpDataProcessed:
            client._tcpDataProcessed()
        self._hold_when_full()

    def pause_while(self, is_full: Callable[[], bool]) -> None:
        """Leave bytes in the socket while ``is_full`` says so: a day's replay must not pile up in memory.

        A pause ends after a while in any case: one more piece is read then, so that the line lives.
        """
        self._is_full = is_full

    @property
    def is_paused(self) -> bool:
        """Tell whether nothing is read at the moment, whatever the gateway sends."""
        return self._held is not None and not self._held.is_closing()

    def _hold_when_full(self) -> None:
        transport = self._client.conn.transport
        if self._is_full is None or transport is None or transport.is_closing() or not self._is_full():
            return
        transport.pause_reading()
        self._held = transport
        self.pauses += 1
        loop = asyncio.get_running_loop()
        self._held_until = loop.time() + LONGEST_PAUSE_S
        loop.call_later(_LOOK_S, self._go_on)

    def _go_on(self) -> None:
        transport, loop = self._held, asyncio.get_running_loop()
        if transport is None or transport.is_closing():
            self._held = None
        elif self._is_full is not None and loop.time() < self._held_until and self._is_full():
            loop.call_later(_LOOK_S, self._go_on)
        else:
            self._held = None
            transport.resume_reading()

    def _read(self, client: Any, buffer: bytes) -> int:
        """Handle the complete messages; return where the incomplete one begins."""
        position, size = 0, len(buffer)
        while size - position > 4 and client._apiReady:
            start = position + 4
            end = start + int.from_bytes(buffer[position:start], "big")
            if end > size:
                break
            position = end
            client._numMsgRecv += 1
            self._handle(buffer[start:end])
        return position

    def _handle(self, message: bytes) -> None:
        for gate in self.gates.get(message[: message.find(0)], ()):
            if self._takes(gate, message):
                return
        self.decode(message)

    @staticmethod
    def _takes(gate: Gate, message: bytes) -> bool:
        """Ask a gate; a message that it cannot read goes to the decoder, which says what is wrong with it.

        An error that escaped from here would take the rest of the chunk with it, and the place in the stream.
        """
        try:
            return gate(message)
        except (ValueError, IndexError, ArithmeticError) as error:
            logger.warning("gate cannot read a message kind=%r error=%r", message[:8], error)
            return False

    def decode(self, message: bytes) -> None:
        """Have ib_async decode a message now."""
        fields = message.decode(errors="backslashreplace").split("\0")
        fields.pop()
        self._client.decoder.interpret(fields)


class Repeats:
    """Takes out an order message that equals the last one of its kind and order byte for byte: it says nothing new.

    Answers to a request for open orders pass: their number matters. So does what follows our own placing, modifying or
    cancelling and IB's errors: ib_async changes its picture of the order then, and the repetition corrects it.
    """

    def __init__(self, ib: IB, reader: FrameReader) -> None:
        self.skipped = 0
        self._last: dict[bytes, bytes] = {}
        self._wrapper: Any = ib.wrapper
        for kind in (OPEN_ORDER, ORDER_STATUS):
            reader.gates.setdefault(kind, []).append(self._is_repeat)
        for event in (ib.newOrderEvent, ib.orderModifyEvent, ib.cancelOrderEvent):
            event += self.forget
        ib.disconnectedEvent += self._clear

    def forget(self, trade: Trade) -> None:
        """Let the next messages of an order pass."""
        order_id = str(trade.order.orderId).encode()
        for kind in (OPEN_ORDER, ORDER_STATUS):
            self._last.pop(kind + b"\0" + order_id, None)

    def _clear(self) -> None:
        self._last.clear()

    def _is_repeat(self, message: bytes) -> bool:
        if "openOrders" in self._wrapper._results:
            return False
        key = message[: message.find(0, message.find(0) + 1)]  # kind and order id; of several clients at worst mixed up
        if self._last.get(key) == message:
            self.skipped += 1
            return True
        if len(self._last) >= _REMEMBERED:
            self._last.clear()
        self._last[key] = message
        return False
