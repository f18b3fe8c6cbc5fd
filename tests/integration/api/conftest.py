"""Users of each role, clients of each kind, and an engine's lease."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from mats_site.services import create_api_key
from trading.models import EngineLease

CSRF = "a" * 32


class Api:
    """A caller of the API: sends JSON, shows its credentials, reads JSON."""

    def __init__(self, *, key: str = "", user: User | None = None, csrf: bool = True) -> None:
        self.client = Client(enforce_csrf_checks=True, raise_request_exception=False)
        self.headers: dict[str, str] = {}
        if key:
            self.headers["authorization"] = f"Bearer {key}"
        if user is not None:
            self.client.force_login(user)
        if user is not None and csrf:
            self.client.cookies["csrftoken"] = CSRF
            self.headers["x-csrftoken"] = CSRF

    def get(self, path: str, **query: Any) -> Any:
        """GET /api<path>."""
        return self.client.get(f"/api{path}", query, headers=self.headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        """POST /api<path> with a JSON body; keywords are headers with underscores for dashes."""
        extra = {name.replace("_", "-"): value for name, value in headers.items()}
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return self.client.generic(
            "POST", f"/api{path}", content, content_type="application/json", headers={**self.headers, **extra}
        )

    def send(self, method: str, path: str, body: bytes | None = None) -> Any:
        """Send a request by any method, an empty one without ``body``."""
        if body is None:
            return self.client.generic(method.upper(), f"/api{path}", headers=self.headers)
        return self.client.generic(
            method.upper(), f"/api{path}", body, content_type="application/json", headers=self.headers
        )


def error_of(response: Any, status: int) -> dict[str, Any]:
    """Return the error of a response after checking status and shape."""
    assert response.status_code == status, (response.status_code, response.content[:500])
    assert response["Content-Type"] == "application/json"
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "fields"}
    return dict(body["error"])


def _user(name: str, group: str) -> User:
    user = User.objects.create_user(name, password="correct horse 7")
    user.groups.add(Group.objects.get(name=group))
    return user


@pytest.fixture(autouse=True)
def _fresh_counters() -> None:
    """Wrong keys of other tests do not count."""
    cache.clear()


@pytest.fixture
def viewer(db: None) -> User:
    """Who may only read."""
    return _user("vera", "viewer")


@pytest.fixture
def operator(db: None) -> User:
    """Who may start and stop."""
    return _user("otto", "operator")


@pytest.fixture
def anonymous(db: None) -> Api:
    """Nobody."""
    return Api()


@pytest.fixture
def reader(viewer: User) -> Api:
    """The viewer's session."""
    return Api(user=viewer)


@pytest.fixture
def api(operator: User) -> Api:
    """The operator's key that writes: the ordinary caller of these tests."""
    return Api(key=create_api_key(operator, "tests", can_write=True)[1])


@pytest.fixture
def engine(db: None) -> EngineLease:
    """A lease as a running engine holds it."""
    now = timezone.now()
    return EngineLease.objects.create(
        name="engine",
        epoch=3,
        holder="host:1:token",
        heartbeat_at=now,
        expires_at=now + timedelta(minutes=10),
        status={"state": "running"},
    )


@pytest.fixture
def make_user(db: None) -> Callable[[str, str], User]:
    """Make a user in a group."""
    return _user
