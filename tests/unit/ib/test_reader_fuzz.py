"""Whatever bytes a gateway sends, the reader ends, says what it could not read, and reads the next message.

``make prove`` says so of ``MATS_PROOF_FRAMES`` damaged messages (a million).
"""

from __future__ import annotations

import os
import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ib_async import IB

from strategies.events import QueueMessage
from tests.unit.gateway import wire_fake as venue
from tests.unit.ib import wire
from tests.unit.ib.test_reader import ready_ib
from trading.gateway import model
from trading.gateway import protocol_executions as executions_wire
from trading.gateway import protocol_open_order as orders_wire
from trading.gateway import protocol_responses as respond
from trading.ib.capture import Capture
from trading.ib.connection import MAX_FRAME, IBConnection
from trading.ib.drop_copy import DropCopy
from trading.ib.tap import WireTap

FRAMES = int(os.environ.get("MATS_PROOF_FRAMES", "1000000"))
SEED = int(os.environ.get("MATS_PROOF_SEED", "1"))
KINDS = [str(number).encode() for number in range(110)]


def real_frames() -> list[bytes]:
    """One message of every kind that matters, as our gateway writes it."""
    row = model.AccountRow("CashBalance", "1000.00", "USD")
    fee = model.Commission(venue.execution().exec_id, Decimal("1.05"), "USD", None, 1)
    return [
        executions_wire.execution_details(-1, executions_wire.execution_body(venue.execution()), 178),
        executions_wire.execution_details(9, executions_wire.execution_body(venue.execution(8)), 178),
        executions_wire.execution_details_end(9),
        executions_wire.order_status(venue.order()),
        executions_wire.order_status(venue.order(8, 4)),
        executions_wire.commission_report(fee),
        orders_wire.open_order(venue.order(), 178),
        orders_wire.open_order(venue.order(8), 178),
        orders_wire.completed_order(venue.order(status="Filled"), 178),
        respond.position(venue.held()),
        respond.position_end(),
        respond.account_value(row, "DU1"),
        respond.account_download_end("DU1"),
        respond.portfolio_value(venue.held()),
        respond.contract_details(7, venue.DETAILS, 178),
        respond.next_valid_id(4),
        respond.managed_accounts(["DU1"]),
        respond.error(-1, 1102, "Connectivity", 178),
        respond.error(3, 201, "Rejected", 178),
    ]


class Listener:
    """A master's line with everything attached that the engine attaches."""

    def __init__(self) -> None:
        self.ib: IB = ready_ib()
        self.heard: list[str] = []
        self.unreadable: list[str] = []
        tap = WireTap.of(self.ib)
        tap.decode_errors.append(self.unreadable.append)
        Capture(self.ib, self._hear)
        DropCopy(self.ib, is_live=lambda client_id: client_id == 8, has_heard=lambda exec_id, fee=None: True)
        tap.decode_errors.append(lambda text: None)
        wire.known_order(self.ib)

    def _hear(self, message: QueueMessage) -> None:
        if message["type"] == "fill":
            self.heard.append(message["fill"].exec_id)

    def take(self, data: bytes) -> None:
        """Get bytes as the socket gives them, without the net that catches what escapes."""
        reader: Any = WireTap.of(self.ib).reader
        reader._on_data(data)


def damaged(frame: bytes, chance: random.Random) -> bytes:
    """A message that went wrong on its way, in a frame whose length is right."""
    payload = bytearray(frame[4:])
    how = chance.randrange(6)
    if how == 0:
        for _ in range(chance.randint(1, 8)):
            payload[chance.randrange(len(payload))] = chance.randrange(256)
    elif how == 1:
        del payload[chance.randrange(len(payload)) :]
    else:
        fields = bytes(payload).split(b"\0")
        place = chance.randrange(len(fields))
        if how == 2:
            del fields[place]
        elif how == 3:
            fields.insert(place, chance.choice((b"", b"nan", b"-1", b"1e999", b"\xff\xfe", b"9" * 30, b"x")))
        elif how == 4:
            fields[place] = chance.choice((b"", b"nan", b"inf", b"-1", b"1e999", b"\xff\xfe", b"9" * 30, b"x"))
        else:
            fields[0] = chance.choice(KINDS)
        payload = bytearray(b"\0".join(fields))
    return len(payload).to_bytes(4, "big") + bytes(payload)


def survive(count: int, seed: int) -> Listener:
    """Read damaged messages, and after every ten a good execution, which must be heard."""
    chance, corpus, listener = random.Random(seed), real_frames(), Listener()
    for number in range(count):
        frame = damaged(chance.choice(corpus), chance)
        listener.take(frame)
        if number % 10 == 0:
            exec_id = f"good.{seed}.{number}.01"
            listener.take(wire.framed(*wire.execution(exec_id)))
            assert listener.heard[-1:] == [exec_id], frame
            listener.heard.clear()
            listener.unreadable.clear()
    return listener


async def test_damaged_messages_never_stop_the_ones_behind_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL")
    survive(2_000, 7)


@pytest.mark.proof
@pytest.mark.timeout(0)
async def test_a_million_damaged_messages_never_stop_the_ones_behind_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL")
    for start in range(0, FRAMES, 20_000):
        survive(min(20_000, FRAMES - start), SEED + start // 20_000)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=60), max_size=20))
def test_any_bytes_are_read_or_end_the_line(chunks: list[bytes]) -> None:
    connection = IBConnection(1, host="127.0.0.1", port=1, role="t", name="T", connect_timeout_s=1.0)
    client: Any = connection.ib.client
    client.decoder.serverVersion, client._apiReady, connection._announced = 178, True, True
    for chunk in chunks:
        client.conn.hasData.emit(chunk)
        if not connection._announced:
            return
        claimed = int.from_bytes(client._data[:4], "big") if len(client._data) >= 4 else 0
        assert claimed <= MAX_FRAME
        assert len(client._data) <= 4 + claimed or claimed == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(1, 300), min_size=1, max_size=12))
def test_good_and_damaged_messages_do_not_depend_on_the_cuts(seed: int, cuts: list[int]) -> None:
    chance, corpus = random.Random(seed), real_frames()
    frames = [damaged(chance.choice(corpus), chance) for _ in range(6)]
    stream = b"".join([*frames, wire.framed(*wire.execution("good.1.2.01"))])
    whole, pieces = Listener(), Listener()
    whole.take(stream)
    position = turn = 0
    while position < len(stream):
        pieces.take(stream[position : (position := position + cuts[turn % len(cuts)])])
        turn += 1
    assert whole.heard == pieces.heard
    assert whole.heard[-1:] == ["good.1.2.01"]
