"""The first administrator's printed password opens one page only."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from mats_site.passwords import require_password_change

pytestmark = pytest.mark.django_db
NEW = "a-much-better-secret-7"


@pytest.fixture
def first_admin() -> User:
    user = User.objects.create_superuser("admin", password="printed-once-123")
    require_password_change(user)
    return user


@pytest.fixture
def session(first_admin: User) -> Client:
    client = Client()
    assert client.login(username="admin", password="printed-once-123")
    return client


@pytest.mark.parametrize("path", ["/", "/admin/", "/admin/strategies/strategy/", "/api/docs"])
def test_nothing_but_the_password_page_opens(session: Client, path: str) -> None:
    answer = session.get(path)
    if path.startswith("/api/"):
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "password_change_required"
    else:
        assert (answer.status_code, answer["Location"]) == (302, "/password/")


def test_new_password_opens_the_console(session: Client) -> None:
    form = {"old_password": "printed-once-123", "new_password1": NEW, "new_password2": NEW}
    assert session.post("/password/", form)["Location"] == "/"
    assert session.get("/").status_code == 200


def test_weak_new_password_is_refused_with_the_reason(session: Client) -> None:
    form = {"old_password": "printed-once-123", "new_password1": "short", "new_password2": "short"}
    answer = session.post("/password/", form)
    assert answer.status_code == 200
    assert b"at least 10 characters" in answer.content.split(b"<form")[0]
    assert session.get("/")["Location"] == "/password/"


def test_password_changed_on_the_command_line_lifts_the_mark(first_admin: User) -> None:
    first_admin.set_password(NEW)
    first_admin.save()
    client = Client()
    assert client.login(username="admin", password=NEW)
    assert client.get("/").status_code == 200
