"""Bytes become the same messages as in ib_async, however the socket cuts them; repetition is skipped, news never."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ib_async import IB

from tests.unit.ib import wire
from trading.ib import reader
from trading.ib.capture import Capture
from trading.ib.tap import WireTap


def ready_ib() -> IB:
    """Return an IB past its handshake that reads bytes; nothing is connected."""
    ib = wire.listening_ib()
    client: Any = ib.client
    client._apiReady = True
    return ib


def read_fields(ib: IB) -> list[list[str]]:
    """Note what reaches the decoder instead of decoding it."""
    found: list[list[str]] = []
    decoder: Any = ib.client.decoder
    decoder.interpret = found.append
    return found


def open_order(order_id: int, client_id: int = wire.CLIENT_ID, limit: str = "10.5") -> list[Any]:
    """Return the beginning of an openOrder message."""
    contract = [265598, "AAPL", "STK", "", "0", "", "", "SMART", "USD", "AAPL", "NMS"]
    return [5, order_id, *contract, "BUY", 100, "LMT", limit, 0, "DAY", "", "DU1", "", 0, "T/x", client_id, 903, 0]


@given(cuts=st.lists(st.integers(min_value=1, max_value=40), min_size=1, max_size=30))
def test_messages_do_not_depend_on_how_the_socket_cuts_them(cuts: list[int]) -> None:
    messages = [[49, 1, number] for number in range(20)] + [[4, 2, -1, 2104, "café", ""]]
    stream = b"".join(wire.framed(*message) for message in messages)
    ib = ready_ib()
    WireTap.of(ib)
    found = read_fields(ib)
    position = turn = 0
    while position < len(stream):
        size = cuts[turn % len(cuts)]
        ib.client.conn.hasData.emit(stream[position : position + size])
        position, turn = position + size, turn + 1
    assert found == [[str(part) for part in message] for message in messages]
    assert ib.client.connectionStats().numMsgRecv == len(messages)


async def test_nothing_is_read_past_a_message_that_closes_the_connection() -> None:
    ib = ready_ib()
    WireTap.of(ib)
    found: list[list[str]] = []
    client: Any = ib.client

    def _close(fields: list[str]) -> None:
        found.append(fields)
        client.reset()

    client.decoder.interpret = _close
    client.conn.hasData.emit(wire.framed(49, 1, 1) + wire.framed(49, 1, 2))
    assert found == [["49", "1", "1"]]
    assert client._data == b""


@pytest.mark.parametrize("message", [open_order(3), wire.status("Submitted", "40", "60")], ids=["order", "status"])
async def test_an_order_message_that_repeats_the_last_one_is_not_decoded(message: list[Any]) -> None:
    ib = ready_ib()
    WireTap.of(ib)
    found = read_fields(ib)
    for _ in range(3):
        wire.receive(ib, *message)
    assert len(found) == 1


async def test_changed_order_messages_are_decoded_each() -> None:
    ib = ready_ib()
    WireTap.of(ib)
    found = read_fields(ib)
    for limit in ("10.5", "10.6", "10.5"):
        wire.receive(ib, *open_order(3, limit=limit))
    wire.receive(ib, *wire.status("Submitted", "40", "60"))
    wire.receive(ib, *wire.status("Submitted", "41", "59"))
    assert len(found) == 5


async def test_executions_are_never_taken_for_repetition() -> None:
    ib = ready_ib()
    WireTap.of(ib)
    found = read_fields(ib)
    for _ in range(2):
        wire.receive(ib, *wire.execution())
    assert len(found) == 2


async def test_an_answer_to_a_request_for_open_orders_is_decoded_completely() -> None:
    ib = ready_ib()
    WireTap.of(ib)
    found = read_fields(ib)
    wire.receive(ib, *open_order(3))
    wrapper: Any = ib.wrapper
    wrapper.startReq("openOrders")
    wire.receive(ib, *open_order(3))
    assert len(found) == 2


async def test_the_same_status_counts_again_after_a_refused_cancel() -> None:
    ib = ready_ib()
    heard: list[Any] = []
    Capture(ib, heard.append, "T")
    trade = wire.known_order(ib)
    working = wire.status("Submitted", "40", "60")
    wire.receive(ib, *working)
    trade.orderStatus.status = "PendingCancel"  # as ib_async's cancelOrder sets it
    ib.cancelOrderEvent.emit(trade)
    wire.receive(ib, *working)
    assert trade.orderStatus.status == "Submitted"
    assert [message["status"].status for message in heard] == ["Submitted", "Submitted"]


@asynccontextmanager
async def flooded(count: int, is_full: Callable[[], bool]) -> AsyncIterator[tuple[WireTap, list[list[str]]]]:
    """Give a connection that ``count`` messages are sent to at once, and what it has read of them."""
    ended = asyncio.get_running_loop().create_future()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(wire.framed(49, 1, 1_700_000_000) * count)
        await writer.drain()
        await ended
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    ib = IB()
    tap = WireTap.of(ib)
    client: Any = ib.client
    seen: list[list[str]] = []
    client.decoder.interpret = seen.append
    client._apiReady = True
    tap.reader.pause_while(is_full)
    try:
        async with asyncio.timeout(20):
            await client.conn.connectAsync("127.0.0.1", server.sockets[0].getsockname()[1])
            yield tap, seen
    finally:
        ended.set_result(None)
        client._apiReady = False
        client.conn.disconnect()
        server.close()
        await server.wait_closed()


async def test_nothing_is_read_while_those_who_take_the_messages_are_behind() -> None:
    count, full = 60_000, True
    async with flooded(count, lambda: full) as (tap, seen):
        while not tap.reader.is_paused:
            await asyncio.sleep(0)
        read = len(seen)
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert (len(seen), tap.reader.pauses) == (read, 1)
        assert 0 < read < count
        full = False
        while len(seen) < count:
            await asyncio.sleep(0)
        assert not tap.reader.is_paused


async def test_a_pause_ends_before_the_gateway_drops_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "LONGEST_PAUSE_S", 0.02)
    async with flooded(60_000, lambda: True) as (tap, seen):
        while len(seen) < 60_000:
            await asyncio.sleep(0)
        assert tap.reader.pauses > 1
