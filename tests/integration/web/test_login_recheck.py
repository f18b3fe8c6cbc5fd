"""A socket that is already open looks at its login again."""

from __future__ import annotations

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.contrib.auth import get_user_model
from django.test import Client

from mats_site.asgi import application
from tests.browser import seed
from trading.consumers import CLOSE_LOGIN, CLOSE_SLOW, LiveConsumer

pytestmark = pytest.mark.django_db(transaction=True)


def _session() -> bytes:
    seed.user()
    client = Client()
    assert client.login(username="operator", password=seed.PASSWORD)
    return f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}".encode()


def _dial(cookie: bytes, last: int = 0) -> WebsocketCommunicator:
    headers = [(b"origin", b"http://127.0.0.1"), (b"cookie", cookie)]
    return WebsocketCommunicator(application, f"/ws/live?last={last}", headers=headers)


async def _close_code(socket: WebsocketCommunicator) -> int:
    while True:
        message = await socket.receive_output(timeout=5)
        if message["type"] == "websocket.close":
            return int(message["code"])


async def test_open_socket_closes_when_its_user_is_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LiveConsumer, "heartbeat_s", 0.02)
    monkeypatch.setattr(LiveConsumer, "recheck_login_s", 0.05)
    socket = _dial(await sync_to_async(_session)())
    assert (await socket.connect())[0]
    await sync_to_async(get_user_model().objects.update)(is_active=False)
    assert await _close_code(socket) == CLOSE_LOGIN


async def test_open_socket_closes_when_the_password_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LiveConsumer, "heartbeat_s", 0.02)
    monkeypatch.setattr(LiveConsumer, "recheck_login_s", 0.05)
    socket = _dial(await sync_to_async(_session)())
    assert (await socket.connect())[0]
    await sync_to_async(get_user_model().objects.update)(password="another hash")
    assert await _close_code(socket) == CLOSE_LOGIN


async def test_client_without_acks_is_closed_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LiveConsumer, "heartbeat_s", 0.02)
    monkeypatch.setattr(LiveConsumer, "ack_timeout_s", 0.1)
    cookie = await sync_to_async(_session)()
    last = await sync_to_async(seed.tell)("log", {"text": "never acknowledged"})
    socket = _dial(cookie, last - 1)
    assert (await socket.connect())[0]
    assert await _close_code(socket) == CLOSE_SLOW
