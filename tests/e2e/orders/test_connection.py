"""Connecting to a real paper gateway: fast when it works, plain about why when it does not."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

import pytest
from ib_async import Stock

from strategies.exceptions import ConfigError, NotFoundError, TransientError
from tests.e2e.orders.conftest import until
from tests.e2e.orders.proxy import Proxy
from tests.unit.ib import wire
from trading.gateway.testing import RunningGateway, running_gateway
from trading.ib import connection as module
from trading.ib import requests
from trading.ib.connection import IBConnection

pytestmark = pytest.mark.e2e
Connect = Callable[..., IBConnection]


async def test_connects_checks_the_account_and_says_so(connect: Connect) -> None:
    said: list[tuple[bool, str]] = []
    connection = connect(1, on_state=lambda up, text: said.append((up, text)), expected_account="DU1000001")
    await connection.connect_once()
    assert (connection.connected, connection.account, said[0][0]) == (True, "DU1000001", True)
    connection.disconnect()
    assert (connection.connected, said[-1]) == (False, (False, "Disconnected."))


async def test_no_positions_are_asked_for(connect: Connect) -> None:
    """Every connection that asks makes TWS send it every position change of the account."""
    connection = connect(1)
    await connection.connect_once()
    assert connection.ib.client.conn.numMsgSent == 2  # the greeting and startApi
    connection.disconnect()


async def test_client_id_in_use_is_told_at_once(connect: Connect) -> None:
    first, second = connect(1), connect(1, connect_timeout_s=30.0)
    await first.connect_once()
    began = time.monotonic()
    with pytest.raises(TransientError) as caught:
        await second.connect_once()
    assert caught.value.code == "client_id_in_use"
    assert time.monotonic() - began < 5
    assert first.connected
    first.disconnect()


async def test_wrong_account_is_refused(connect: Connect) -> None:
    connection = connect(1, expected_account="DU999")
    with pytest.raises(ConfigError) as caught:
        await connection.connect_once()
    assert (caught.value.code, connection.connected) == ("wrong_account", False)


async def test_real_money_is_refused_unless_allowed(connect: Connect) -> None:
    with running_gateway(market="synthetic", account="U7654321") as live:
        refused = connect(1, port=live.port)
        with pytest.raises(ConfigError) as caught:
            await refused.connect_once()
        assert caught.value.code == "not_a_paper_account"
        allowed = connect(1, port=live.port, paper_only=False, expected_account="U7654321")
        await allowed.connect_once()
        assert allowed.account == "U7654321"
        allowed.disconnect()


async def test_nobody_listening_is_told_and_tried_again_until_stopped(connect: Connect, free_port: int) -> None:
    said: list[str] = []
    stop = asyncio.Event()

    def _on_state(connected: bool, message: str) -> None:
        said.append(message)
        if len(said) == 2:
            stop.set()

    connection = connect(1, port=free_port, on_state=_on_state)
    assert await connection.connect_forever(stop) is False
    assert len(said) == 2
    assert all("Nothing listens" in message and "Next try" in message for message in said)


async def test_silent_server_is_a_timeout(connect: Connect, free_port: int) -> None:
    async def _ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(_ignore, "127.0.0.1", free_port)
    connection = connect(1, port=free_port, connect_timeout_s=0.2)
    with pytest.raises(TransientError) as caught:
        await connection.connect_once()
    assert caught.value.code == "connect_timeout"
    server.close()


async def test_order_ids_never_go_back(connect: Connect) -> None:
    connection = connect(1, first_order_id=5_000)
    await connection.connect_once()
    assert [connection.ib.client.getReqId() for _ in range(2)] == [5_000, 5_001]
    connection.disconnect()
    await connection.connect_once()
    assert connection.ib.client.getReqId() == 5_002
    connection.disconnect()


async def test_lost_line_is_told_once_and_can_be_connected_again(connect: Connect) -> None:
    said: list[bool] = []
    connection = connect(1, on_state=lambda up, _: said.append(up))
    await connection.connect_once()
    transport = connection.ib.client.conn.transport
    assert transport is not None
    transport.abort()
    await until(lambda: not connection.connected, "the loss was noticed")
    await connection.connect_once()
    assert said == [True, False, True]
    connection.disconnect()


async def test_unknown_contract_and_unanswered_request_are_errors(connect: Connect, gateway: RunningGateway) -> None:
    connection = connect(1)
    await connection.connect_once()
    with pytest.raises(NotFoundError) as caught:
        await requests.qualify(connection.ib, Stock("NOPE123", "SMART", "USD"))
    assert caught.value.code == "unknown_contract"
    with pytest.raises(TransientError) as late:
        await requests.ask(asyncio.get_running_loop().create_future(), "nothing", timeout_s=0.05)
    assert late.value.code == "no_answer"
    connection.disconnect()


async def test_line_that_only_falls_silent_is_noticed(
    connect: Connect, gateway: RunningGateway, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROBE_AFTER_S", 0.2)
    monkeypatch.setattr(module, "PROBE_TIMEOUT_S", 0.3)
    proxy = Proxy(gateway.host, gateway.port)
    await proxy.start(free_port)
    said: list[str] = []
    connection = connect(1, port=free_port, on_state=lambda _, text: said.append(text))
    await connection.connect_once()
    await until(lambda: connection.ib.client.conn.numMsgSent > 3, "the line was probed and answered")
    assert connection.connected
    proxy.silent = True
    await until(lambda: not connection.connected, "the silence was noticed")
    assert "silent" in said[-1]
    await proxy.stop()


async def test_loss_of_ibs_own_servers_is_known(connect: Connect) -> None:
    told: list[int] = []
    connection = connect(1, on_error=lambda code, text, req_id: told.append(code))
    await connection.connect_once()
    heard: list[bool] = []
    for code in (1100, 1102):
        wire.say(connection.ib, *wire.error(code, "Connectivity between IB and TWS", req_id=-1))
        heard.append(connection.upstream_ok)
    assert heard == [False, True]
    assert told[-2:] == [1100, 1102]
    connection.disconnect()


async def test_absurd_message_length_drops_the_line(connect: Connect) -> None:
    said: list[str] = []
    unreadable: list[str] = []
    connection = connect(1, on_state=lambda _, text: said.append(text), on_decode_error=unreadable.append)
    await connection.connect_once()
    connection.ib.client.conn.hasData.emit(b"\xff\xff\xff\xff11")
    assert not connection.connected
    assert "unreadable" in said[-1]
    assert len(unreadable) == 1


async def test_what_was_asked_on_a_line_that_we_drop_fails_at_once(connect: Connect, gateway: RunningGateway) -> None:
    """Else a check of the books would wait out its whole limit on a line that is gone, and orders with it."""
    connection = connect(1)
    await connection.connect_once()
    await asyncio.to_thread(gateway.fault, "lose positionEnd")
    asked = asyncio.create_task(
        requests.ask_in_turn(connection.ib, connection.ib.reqPositionsAsync, "positions", timeout_s=60.0)
    )
    await until(lambda: connection.ib.wrapper._futures, "positions are asked for")
    connection._lose_line("The gateway was silent.")
    async with asyncio.timeout(5):
        with pytest.raises(TransientError) as caught:
            await asked
    assert caught.value.code == "not_connected"
    await asyncio.to_thread(gateway.fault, "clear")
