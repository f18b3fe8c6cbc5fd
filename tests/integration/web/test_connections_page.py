"""The Connections page and its API twin show what the engine told, and say so when there is none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from trading.models import Alert, EngineLease

pytestmark = pytest.mark.django_db

STATUS: dict[str, Any] = {
    "state": "waiting_for_gateway",
    "gate": "not_connected",
    "link": {
        "state": "needs_human",
        "since": "2026-12-06T06:45:00Z",
        "message": "Nothing listens on 127.0.0.1:4002.",
        "farms_down": [],
        "reset": {"kind": "nightly", "begins": "2026-12-07T05:15:00Z", "ends": "2026-12-07T06:45:00Z"},
        "hold": None,
        "reconciled_at": None,
    },
    "budget": {
        "sockets": {"used": 30, "most": 32},
        "lines": {"used": 3, "most": 100},
        "messages": {"used": 7, "most": 45},
        "history_open": {"used": 0, "most": 50},
        "history": {"used": 1, "most": 60},
        "held": {"used": 12, "most": 0},
    },
    "connections": [
        {"client_id": 0, "role": "master", "name": "Master", "connected": False, "message": "<b>down</b>"},
        {
            "client_id": 1,
            "role": "router",
            "name": "Shared by A, B",
            "connected": True,
            "message": "",
            "members": ["A", "B"],
            "budget": {"lines": 2, "messages": 1, "history_open": 0},
        },
    ],
    "channels": [
        {
            "name": "phone",
            "threshold": "critical",
            "last_sent": None,
            "failures": 4,
            "error": "No route to …",
            "held": 0,
        }
    ],
}


@pytest.fixture
def viewer(client: Client) -> Client:
    user = User.objects.create_user("viewer")
    user.groups.add(Group.objects.get(name="viewer"))
    client.force_login(user)
    return client


def engine_tells(status: dict[str, Any]) -> None:
    now = datetime.now(UTC)
    EngineLease.objects.create(
        name="engine", epoch=1, holder="h", heartbeat_at=now, expires_at=now + timedelta(minutes=1), status=status
    )


def test_the_page_shows_link_budget_connections_and_channels(viewer: Client) -> None:
    engine_tells(STATUS)
    Alert.objects.create(
        key="link",
        severity="critical",
        title="The link needs a person",
        opened_at=datetime.now(UTC),
        last_at=datetime.now(UTC),
        delivery={"phone": {"error": "No route to …", "tries": 4, "sent_at": None, "severity": "", "tried_at": None}},
    )
    page = viewer.get("/connections/").content.decode()
    for words in ("needs human", "Nothing listens on", "2026-12-07T05:15:00Z", "Shared by A, B", "No route to …"):
        assert words in page, words
    assert 'num warn">30' in page
    assert "<b>down</b>" not in page
    assert "phone: not delivered, 4 tries" in page


def test_without_an_engine_nothing_is_claimed(viewer: Client) -> None:
    page = viewer.get("/connections/").content.decode()
    assert page.count("No engine is running.") == 2
    told = viewer.get("/api/connection/ib-status").json()
    assert (told["link"], told["budget"], told["shared_connections"]) == (None, {}, [])


def test_the_api_tells_the_same(viewer: Client) -> None:
    engine_tells(STATUS)
    told = viewer.get("/api/connection/ib-status").json()
    assert told["link"]["state"] == "needs_human"
    assert told["budget"]["sockets"] == {"used": 30, "most": 32}
    assert "held" not in told["budget"]
    assert told["shared_connections"][0]["members"] == ["A", "B"]
