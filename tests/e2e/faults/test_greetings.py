"""A greeting that is damaged in any way ends in a clear refusal in time, never in a hang or a session."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from strategies.exceptions import ConfigError, TransientError
from tests.unit.ib.test_reader_fuzz import damaged
from trading.gateway.protocol import handshake_reply
from trading.gateway.protocol_responses import managed_accounts, next_valid_id
from trading.gateway.testing import free_port
from trading.ib.connection import IBConnection

pytestmark = pytest.mark.e2e
GREETING = handshake_reply(178, "20260302 15:00:00 UTC")
LOGIN = (managed_accounts(["DU1"]), next_valid_id(1))


def greeting(chance: random.Random) -> bytes:
    """What a gateway says first, damaged somewhere."""
    frames = [GREETING, *LOGIN]
    how = chance.randrange(4)
    if how == 0:
        place = chance.randrange(3)
        frames[place] = damaged(frames[place], chance)
    elif how == 1:
        return b"".join(frames)[: chance.randrange(1, len(b"".join(frames)))]
    elif how == 2:
        frames.insert(chance.randrange(3), chance.randbytes(chance.randrange(1, 60)))
    else:
        return chance.randbytes(chance.randrange(1, 100))
    return b"".join(frames)


async def test_damaged_greetings_are_refused_in_time_or_carry_a_whole_login() -> None:
    chance, port = random.Random(7), free_port()
    said: list[bytes] = []

    async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        said.append(greeting(chance))
        writer.write(said[-1])
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(_serve, "127.0.0.1", port):
        for _ in range(60):
            connection = IBConnection(1, host="127.0.0.1", port=port, role="t", name="T", connect_timeout_s=0.3)
            began = time.monotonic()
            try:
                await connection.connect_once()
                assert all(frame in said[-1] for frame in LOGIN), said[-1]
            except (TransientError, ConfigError) as error:
                assert error.message  # noqa: PT017 - one of many outcomes, each told in words
            assert time.monotonic() - began < 10
            connection.disconnect()
