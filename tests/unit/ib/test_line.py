"""Messages past a loop: whole, once, or not at all."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from trading.ib.line import Line


class Transport:
    """What a line uses of asyncio's transport, over one end of a pair."""

    def __init__(self, own: socket.socket) -> None:
        self.own = own
        self.waiting = 0
        self.written: list[bytes] = []

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def get_extra_info(self, _: str) -> socket.socket:
        return self.own


class Pair:
    """A line with its transport, and the gateway's end of the socket."""

    def __init__(self) -> None:
        own, self.gateway = socket.socketpair()
        own.setblocking(False)
        self.gateway.settimeout(5.0)
        self.transport = Transport(own)
        conn = SimpleNamespace(transport=self.transport, sendMsg=self.transport.written.append)
        client = SimpleNamespace(conn=conn, _msgQ=deque(), serverVersion=lambda: 178)
        self.client = client
        ib: Any = SimpleNamespace(client=client, wrapper=SimpleNamespace())
        self.line = Line.of(ib)
        assert Line.of(ib) is self.line

    def close(self) -> None:
        self.transport.own.close()
        self.gateway.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


def test_cancel_message_is_ibs_own_and_arrives_whole(pair: Pair) -> None:
    frame = pair.line.cancel_frame(17)
    assert pair.line.push(frame + pair.line.cancel_frame(18))
    assert pair.gateway.recv(100) == b"\0\0\0\x084\x001\x0017\0\0" + b"\0\0\0\x084\x001\x0018\0\0"


def test_nothing_is_written_beside_bytes_that_the_loop_has_yet_to_write(pair: Pair) -> None:
    pair.transport.waiting = 1
    assert not pair.line.push(b"x")
    pair.transport.waiting = 0
    pair.client._msgQ.append("an order held back for ib_async's pace")
    assert not pair.line.push(b"x")
    pair.client._msgQ.clear()
    assert pair.line.push(b"x")
    assert pair.gateway.recv(10) == b"x"


def test_nothing_is_written_while_somebody_else_writes(pair: Pair) -> None:
    with pair.line._lock:
        assert not pair.line.push(b"x")
    pair.client.conn.sendMsg(b"by the loop")
    assert pair.transport.written == [b"by the loop"]


def test_message_that_went_out_in_part_is_followed_by_nothing(pair: Pair) -> None:
    large = b"y" * 8_000_000  # more than the socket takes while nobody reads
    assert not pair.line.push(large)
    received = b""
    while part := pair.gateway.recv(1_000_000):
        received += part
    assert 0 < len(received) < len(large), "the line ended behind the torn message"


def test_line_that_is_cut_ends_for_both_sides(pair: Pair) -> None:
    pair.line.cut()
    assert pair.gateway.recv(10) == b""
    assert not pair.line.push(b"x")
