"""Real sockets against the server: order, pace, junk, crowds and readers that do not read."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.unit.gateway.wire_fake import CONTRACT_FIELDS, FakeVenue, execution, order
from trading.gateway import model
from trading.gateway.protocol import frame
from trading.gateway.server import SPARE_SOCKETS, GatewayServer
from trading.gateway.testing import free_port

DEADLINE_S = 10.0


class Client:
    """A raw API client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def read(self) -> list[str]:
        """The next message, as fields."""
        async with asyncio.timeout(DEADLINE_S):
            (length,) = struct.unpack(">I", await self.reader.readexactly(4))
            return (await self.reader.readexactly(length))[:-1].decode().split("\0")

    async def until(self, message_id: str) -> list[str]:
        """The next message of a kind."""
        while True:
            fields = await self.read()
            if fields[0] == message_id:
                return fields

    def say(self, *fields: str) -> None:
        """Send one message."""
        self.writer.write(frame(("\0".join(fields) + "\0").encode()))

    async def closed(self) -> bool:
        """Whether the server closes the socket within the deadline."""
        async with asyncio.timeout(DEADLINE_S):
            try:
                while await self.reader.read(65536):
                    pass
            except ConnectionError:
                pass
        return True


@asynccontextmanager
async def serving(venue: FakeVenue | None = None, **options: Any) -> AsyncIterator[GatewayServer]:
    """A server on a free port."""
    server = GatewayServer(
        venue or FakeVenue(), port=free_port(), **{"clock": lambda: datetime.now(UTC), "tick_s": 0.01, **options}
    )
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def plug(server: GatewayServer) -> Client:
    """Open a bare socket."""
    return Client(*await asyncio.open_connection("127.0.0.1", server.port))


async def join(server: GatewayServer, client_id: int, versions: bytes = b"v157..178") -> Client:
    """Connect and start a session."""
    client = await plug(server)
    client.writer.write(b"API\0" + frame(versions))
    await client.read()
    client.say("71", "2", str(client_id), "")
    return client


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, or fail."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)


async def test_several_versions_are_served_at_once() -> None:
    async with serving() as server:
        new, old = await join(server, 1), await join(server, 2, b"v100..157")
        assert (await new.until("9"))[2] == "101"
        assert (await old.until("9"))[2] == "102"
        assert {peer._session.version for peer in server.peers} == {157, 178}


@pytest.mark.parametrize(
    "junk",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"API\0\xff\xff\xff\xff",
        b"API\0" + frame(b"v1..2"),
        b"API\0" + frame(b"v157..178") + b"\x7f\xff\xff\xff",
        b"API\0" + frame(b"v157..178") + frame(b"no terminator"),
    ],
)
async def test_junk_closes_its_own_socket_only(junk: bytes) -> None:
    async with serving() as server:
        good = await join(server, 1)
        bad = await plug(server)
        bad.writer.write(junk)
        assert await bad.closed()
        good.say("49", "1")
        assert (await good.until("49"))[0] == "49"


async def test_orders_and_answers_cross_the_socket() -> None:
    venue = FakeVenue()
    async with serving(venue) as server:
        client = await join(server, 1)
        client.say("4", "1", "9", "")
        while (fields := await client.until("4"))[3] != "202":
            pass
        assert fields[2] == "9"


async def test_clients_up_to_the_limit_are_in_and_the_next_is_told_why_not() -> None:
    async with serving() as server:
        clients = [await join(server, number) for number in range(32)]
        for client in clients:
            await client.until("9")
        late = await join(server, 99)
        assert (await late.until("4"))[3] == "502"
        assert await late.closed()
        clients[5].writer.close()
        await eventually(lambda: len(server.hub.context.sessions) == 31)
        assert (await (await join(server, 99)).until("9"))[2] == "199"


async def test_sockets_that_never_start_cannot_crowd_the_others_out() -> None:
    async with serving(max_clients=2) as server:
        silent = [await plug(server) for _ in range(2 + SPARE_SOCKETS)]
        await eventually(lambda: len(server.peers) == 2 + SPARE_SOCKETS)
        assert await (await plug(server)).closed()
        for client in silent:
            client.writer.close()
        await eventually(lambda: not server.peers)
        await (await join(server, 1)).until("9")


async def test_queue_mode_holds_messages_back_and_loses_none() -> None:
    async with serving(max_messages_per_s=20) as server:
        client = await join(server, 1)
        started = asyncio.get_running_loop().time()
        for _ in range(30):
            client.say("49", "1")
        for _ in range(30):
            await client.until("49")
        assert asyncio.get_running_loop().time() - started > 0.9


async def test_reject_mode_refuses_with_100_and_ends_at_the_third_break() -> None:
    async with serving(max_messages_per_s=5, pacing="reject") as server:
        client = await join(server, 1)
        await client.until("9")
        for number in (1, 2, 3):
            for _ in range(8):
                client.say("49", "1")
            while not (fields := await client.until("4"))[4].endswith(f"({number})"):
                pass
            assert fields[3] == "100"
            assert fields[4].startswith("Max rate of messages per second has been exceeded:max=5 rec=6")
            if number < 3:
                await eventually(
                    lambda: all(peer._pacer.wait_s(asyncio.get_running_loop().time()) == 0 for peer in server.peers)
                )
        assert await client.closed()


async def test_reader_that_stops_reading_is_dropped_and_the_others_are_not() -> None:
    venue = FakeVenue()
    async with serving(venue, stall_s=0.2) as server:
        deaf = await join(server, 1)
        await deaf.until("9")
        deaf.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.reader._transport.pause_reading()  # type: ignore[attr-defined]  # what a hung client looks like from outside
        good = await join(server, 2)
        await good.until("9")
        burst = [model.OrderChanged(order(1))] * 2000
        for _ in range(10):
            server.publish(burst)
        await eventually(lambda: 1 not in server.hub.context.sessions)
        good.say("49", "1")
        await good.until("49")


async def test_burst_beyond_the_hard_limit_drops_the_reader_at_once() -> None:
    async with serving(buffer_bytes=1 << 20) as server:
        deaf = await join(server, 1)
        await deaf.until("9")
        deaf.reader._transport.pause_reading()  # type: ignore[attr-defined]  # what a hung client looks like from outside
        for _ in range(10):
            server.publish([model.OrderChanged(order(1))] * 2000)
        await eventually(lambda: 1 not in server.hub.context.sessions)


async def test_ten_thousand_fills_arrive_complete_and_in_order() -> None:
    async with serving() as server:
        client = await join(server, 1)
        await client.until("9")
        server.publish([model.Executed(execution(1, number)) for number in range(10_000)])
        for number in range(10_000):
            assert (await client.until("11"))[14] == f"0000abcd.{number:08x}.01.01"


async def test_failing_tick_is_logged_once_and_the_server_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    venue = FakeVenue()
    async with serving(venue) as server:
        client = await join(server, 1)
        client.say("1", "11", "5", *CONTRACT_FIELDS, "0", "", "0", "0", "")
        await client.until("58")
        venue.broken = True
        await eventually(lambda: "a tick failed" in caplog.text)
        client.say("49", "1")
        await client.until("49")
        venue.broken = False
        assert caplog.text.count("a tick failed") == 1


async def test_stop_saves_the_venue_and_closes_the_clients() -> None:
    venue = FakeVenue()
    async with serving(venue) as server:
        client = await join(server, 1)
        await client.until("9")
        await server.stop()
        assert await client.closed()
    assert venue.saves == 1


async def test_taken_port_is_an_os_error() -> None:
    async with serving() as server:
        second = GatewayServer(FakeVenue(), port=server.port, clock=lambda: datetime.now(UTC))
        with pytest.raises(OSError, match="address already in use"):
            await second.start()


async def test_long_answer_leaves_other_clients_their_turn_and_its_own_next_request_waits() -> None:
    venue = FakeVenue()
    venue.executions = lambda filter_: [(execution(1, number), None) for number in range(60_000)]  # type: ignore[method-assign]
    async with serving(venue) as server:
        asker, other = await join(server, 1), await join(server, 2)
        await asker.until("9")
        await other.until("9")
        asker.say("7", "3", "1", "0", "", "", "", "", "", "")
        asker.say("49", "1")
        await asker.until("11")
        other.say("49", "1")
        await other.until("49")
        assert any(peer._session.backlog is not None for peer in server.peers), "it was written in one piece"
        rest = [fields async for fields in _until_time(asker)]
        assert [fields[0] for fields in rest[-2:]] == ["11", "55"]
        assert len(rest) == 60_000


async def _until_time(client: Client) -> AsyncIterator[list[str]]:
    while (fields := await client.read())[0] != "49":
        yield fields
