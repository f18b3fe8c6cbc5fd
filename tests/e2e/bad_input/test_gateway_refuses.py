"""What listens at the gateway's port is no gateway, or not ours: the reason is told at once and names the setting."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from strategies.exceptions import ConfigError, TransientError
from trading.gateway.testing import running_gateway
from trading.ib.connection import IBConnection

pytestmark = pytest.mark.e2e
PATIENCE_S = 5.0


def connection(host: str, port: int, **options: object) -> IBConnection:
    options = {"connect_timeout_s": 30.0, **options}
    return IBConnection(0, host=host, port=port, role="master", name="Master", **options)  # type: ignore[arg-type]


@contextmanager
def listener(behave: Callable[[socket.socket], object]) -> Iterator[int]:
    """Serve one connection the given way; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            peer, _ = server.accept()
            with peer:
                behave(peer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(PATIENCE_S)


def close_at_once(peer: socket.socket) -> None:
    peer.recv(100)


def answer_http(peer: socket.socket) -> None:
    peer.recv(100)
    peer.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    peer.recv(1)  # until the other side hangs up


async def failure(one: IBConnection) -> TransientError:
    began = time.monotonic()
    with pytest.raises(TransientError) as caught:
        await one.connect_once()
    assert time.monotonic() - began < PATIENCE_S
    assert not one.connected
    return caught.value


async def test_line_closed_before_the_greeting_is_told_at_once() -> None:
    with listener(close_at_once) as port:
        error = await failure(connection("127.0.0.1", port))
    assert error.code == "connection_closed"


async def test_another_program_on_the_port_is_told_at_once() -> None:
    with listener(answer_http) as port:
        error = await failure(connection("127.0.0.1", port))
    assert error.code == "not_a_gateway"
    assert "MATS_IB_PORT" in error.message


async def test_host_that_does_not_exist_is_not_called_a_closed_line() -> None:
    error = await failure(connection("no.such.host.invalid", 7497))
    assert error.code == "unreachable"
    assert "MATS_IB_HOST" in error.message


async def test_silent_listener_is_given_up_after_the_timeout() -> None:
    gone = threading.Event()
    with listener(lambda _: gone.wait(PATIENCE_S)) as port:
        error = await failure(connection("127.0.0.1", port, connect_timeout_s=0.3))
        gone.set()
    assert error.code == "connect_timeout"


async def test_gateway_that_comes_back_with_another_account_is_refused(free_port: int) -> None:
    ours = connection("127.0.0.1", free_port)
    lost = asyncio.Event()
    ours._on_state = lambda up, _: None if up else lost.set()
    with running_gateway(market="synthetic", port=free_port):
        await ours.connect_once()
    async with asyncio.timeout(PATIENCE_S):
        await lost.wait()
    with running_gateway(market="synthetic", port=free_port, account="DU2222222"):
        with pytest.raises(ConfigError) as caught:
            await ours.connect_once()
    assert caught.value.code == "wrong_account"
    assert "DU2222222" in caught.value.message
