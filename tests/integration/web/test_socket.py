"""The live socket by a plain client: who gets in, what arrives, and what a slow or rude client costs."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.test import Client
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.browser import seed
from tests.browser.server import Site

pytestmark = pytest.mark.django_db(transaction=True)


def _free_port() -> int:
    for port in random.sample(range(20_000, 32_000), 200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    pytest.fail("no free port between 20000 and 32000")


@pytest.fixture(scope="module")
def site(django_db_setup: None) -> Iterator[Site]:
    site = Site(_free_port())
    site.start()
    yield site
    site.stop()


@pytest.fixture
def cookie(transactional_db: None) -> str:
    seed.user()
    client = Client()
    assert client.login(username="operator", password=seed.PASSWORD)
    return f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"


def dial(
    site: Site, cookie: str = "", query: str = "last=0", path: str = "/ws/live", **options: Any
) -> ClientConnection:
    origin = options.pop("origin", site.origin)
    headers = {"Cookie": cookie} if cookie else {}
    address = f"ws://127.0.0.1:{site.port}{path}?{query}"
    client: ClientConnection = connect(address, origin=origin, additional_headers=headers, **options)
    return client


def frames(client: ClientConnection, kind: str, until: int, *, ack: bool = True) -> list[dict[str, Any]]:
    """Read events frames until an id was seen."""
    found: list[dict[str, Any]] = []
    while not found or found[-1]["last"] < until:
        frame = json.loads(client.recv(timeout=10))
        if frame["type"] != kind:
            continue
        found.append(frame)
        if ack:
            client.send(json.dumps({"type": "ack", "last": frame["last"]}))
    return found


def close_code(client: ClientConnection, timeout: float = 10) -> int:
    with contextlib.suppress(ConnectionClosed):
        while True:
            client.recv(timeout=timeout)
    assert client.close_code is not None
    return client.close_code


def log_events(count: int) -> list[int]:
    return [seed.tell("log", {"text": str(number), "level": "info", "strategy": ""}) for number in range(count)]


def test_stranger_is_closed_with_4401(site: Site, transactional_db: None) -> None:
    with dial(site) as client:
        assert close_code(client) == 4401


@pytest.mark.parametrize("origin", ["http://evil.example", None])
def test_foreign_or_missing_origin_is_refused(site: Site, cookie: str, origin: str | None) -> None:
    with pytest.raises(InvalidStatus) as refused:
        dial(site, cookie, origin=origin)
    assert refused.value.response.status_code == 403


def test_unknown_path_is_refused(site: Site, cookie: str) -> None:
    with pytest.raises(InvalidStatus):
        dial(site, cookie, path="/ws/other")


@pytest.mark.parametrize("query", ["last=x", "last=-1", "last=9" * 30, "last=0&strategy=../etc"])
def test_junk_query_is_closed_with_4400(site: Site, cookie: str, query: str) -> None:
    with dial(site, cookie, query=query) as client:
        assert close_code(client) == 4400


@pytest.mark.parametrize(
    "message", ["", "[]", "not json", '{"type":"ack"}', '{"type":"ack","last":true}', "[" * 900, "x" * 5_000]
)
def test_junk_message_is_closed_with_4400(site: Site, cookie: str, message: str) -> None:
    with dial(site, cookie) as client:
        client.send(message)
        assert close_code(client) == 4400


def test_every_event_arrives_once_and_in_order_from_table_then_ring(site: Site, cookie: str) -> None:
    before = log_events(600)
    with dial(site, cookie, query=f"last={before[0] - 1}") as client:
        after = log_events(200)
        seen = [event["id"] for frame in frames(client, "events", after[-1]) for event in frame["events"]]
    assert seen == before + after


def test_event_arrives_within_half_a_second(site: Site, cookie: str) -> None:
    last = log_events(1)[0]
    with dial(site, cookie, query=f"last={last}") as client:
        frames(client, "heartbeat", last)
        started = time.monotonic()
        event = log_events(1)[0]
        frames(client, "events", event)
        assert time.monotonic() - started < 0.5


def test_heartbeat_carries_engine_and_cursor(site: Site, cookie: str) -> None:
    seed.engine()
    last = log_events(1)[0]
    with dial(site, cookie, query=f"last={last}") as client:
        deadline = time.monotonic() + 5
        while True:
            beat = frames(client, "heartbeat", last)[-1]
            if beat["engine"]["epoch"] == 7 or time.monotonic() > deadline:
                break
    assert beat["engine"]["running"] is True
    assert beat["last"] == last
    assert beat["server_time"].endswith("Z")


def test_strategy_page_gets_no_foreign_events(site: Site, cookie: str) -> None:
    first = seed.tell("log", {"text": "a"}, "A")
    seed.tell("log", {"text": "b"}, "B")
    last = seed.tell("log", {"text": "common"})
    with dial(site, cookie, query=f"last={first - 1}&strategy=B") as client:
        events = [event for frame in frames(client, "events", last) for event in frame["events"]]
    assert [event["strategy"] for event in events] == ["B", ""]


def test_pruned_cursor_is_told_to_reset(site: Site, cookie: str) -> None:
    ids = log_events(5)
    seed.prune_up_to(ids[3])
    with dial(site, cookie, query=f"last={ids[0]}") as client:
        frame = json.loads(client.recv(timeout=10))
        while frame["type"] == "heartbeat":
            frame = json.loads(client.recv(timeout=10))
    assert frame == {"type": "reset"}


def test_client_that_never_acks_gets_a_window_and_no_more(site: Site, cookie: str) -> None:
    last = log_events(1)[0]
    with dial(site, cookie, query=f"last={last}") as silent, dial(site, cookie, query=f"last={last}") as lively:
        ids = log_events(60)
        seen = [event["id"] for frame in frames(lively, "events", ids[-1]) for event in frame["events"]]
        got = 0
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            try:
                got += json.loads(silent.recv(timeout=0.3))["type"] == "events"
            except TimeoutError:
                break
        assert got <= 8
        silent.send(json.dumps({"type": "ack", "last": ids[-1]}))
        rest = frames(silent, "events", ids[-1]) if got >= 8 else []
    assert seen == ids
    assert not rest or rest[-1]["last"] == ids[-1]


def test_disabled_user_gets_no_new_socket(site: Site, cookie: str) -> None:
    get_user_model().objects.update(is_active=False)
    with dial(site, cookie) as client:
        assert close_code(client) == 4401
