"""API keys: shown once, stored as a digest, refused as soon as anything about them is wrong."""

from __future__ import annotations

import logging
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.admin.sites import site
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from mats_site.api_auth import MAX_WRONG_KEYS
from mats_site.models import ApiKey
from mats_site.services import KEY_FORM, create_api_key, revoke_api_keys, verify_api_key
from strategies.exceptions import ConfigError
from tests.integration.api.conftest import Api, error_of


def test_fresh_key_is_accepted_by_either_header(viewer: User) -> None:
    _row, key = create_api_key(viewer, "notebook")
    assert Api(key=key).get("/strategies").status_code == 200
    assert Client().get("/api/strategies", headers={"x-api-key": key}).status_code == 200


@pytest.mark.parametrize("position", [5, 21, 22, -1])
def test_key_with_one_changed_character_is_refused(viewer: User, position: int) -> None:
    _row, key = create_api_key(viewer, "notebook")
    wrong = "0" if key[position] != "0" else "1"
    changed = list(key)
    changed[position] = wrong
    assert error_of(Api(key="".join(changed)).get("/strategies"), 401)["code"] == "unauthenticated"


@pytest.mark.parametrize("text", ["", "mats_", "mats__", "é" * 86, "mats_" + "0" * 16 + "_" + "0" * 64, "x" * 100_000])
def test_junk_is_no_key(db: None, text: str) -> None:
    assert verify_api_key(text) is None


def test_secret_of_one_key_does_not_fit_another(viewer: User) -> None:
    first, second = create_api_key(viewer, "a")[1], create_api_key(viewer, "b")[1]
    assert verify_api_key(f"{first[:22]}{second[22:]}") is None


def test_expired_key_is_refused_from_the_very_moment(viewer: User) -> None:
    row, key = create_api_key(viewer, "notebook", expires_days=1)
    assert row.expires_at is not None
    assert verify_api_key(key, now=row.expires_at - timedelta(microseconds=1)) == row
    assert verify_api_key(key, now=row.expires_at) is None


def test_revoked_key_is_refused_and_revoking_twice_counts_once(viewer: User) -> None:
    _row, key = create_api_key(viewer, "notebook")
    assert revoke_api_keys(ApiKey.objects.all(), by="otto") == 1
    assert revoke_api_keys(ApiKey.objects.all(), by="otto") == 0
    error_of(Api(key=key).get("/strategies"), 401)


def test_key_of_a_deactivated_user_is_refused(viewer: User) -> None:
    _row, key = create_api_key(viewer, "notebook")
    User.objects.filter(pk=viewer.pk).update(is_active=False)
    error_of(Api(key=key).get("/strategies"), 401)


def test_key_loses_the_right_to_write_with_its_user(operator: User, engine: object) -> None:
    _row, key = create_api_key(operator, "bot", can_write=True)
    operator.groups.clear()
    assert error_of(Api(key=key).post("/strategies/stop-all"), 403)["code"] == "not_operator"


def test_bad_key_is_not_saved_by_a_good_session(viewer: User) -> None:
    caller = Api(user=viewer)
    caller.headers["authorization"] = "Bearer mats_nonsense"
    error_of(caller.get("/strategies"), 401)


def test_too_many_wrong_keys_are_held_off_and_sessions_are_not(viewer: User) -> None:
    wrong = Api(key="mats_" + "1" * 16 + "_" + "2" * 64)
    for _try in range(MAX_WRONG_KEYS):
        error_of(wrong.get("/engine/state"), 401)
    response = wrong.get("/engine/state")
    assert error_of(response, 429)["code"] == "too_many_requests"
    assert int(response["Retry-After"]) > 0
    assert Api(user=viewer).get("/engine/state").status_code == 200


def test_answers_are_never_cached(reader: Api) -> None:
    assert reader.get("/engine/state")["Cache-Control"] == "no-store"
    assert reader.get("/nothing")["Cache-Control"] == "no-store"


def test_use_is_noted_at_most_once_a_minute(viewer: User) -> None:
    row, key = create_api_key(viewer, "notebook")
    now = timezone.now()
    for seconds, expected in ((0, 0), (59, 0), (60, 60)):
        verify_api_key(key, now=now + timedelta(seconds=seconds))
        row.refresh_from_db()
        assert row.last_used_at == now + timedelta(seconds=expected)


def test_changing_the_sites_secret_revokes_every_key(viewer: User, settings: pytest.FixtureRequest) -> None:
    _row, key = create_api_key(viewer, "notebook")
    settings.SECRET_KEY = "another secret key of at least fifty characters, as they must be"  # type: ignore[attr-defined]
    assert verify_api_key(key) is None


@pytest.mark.parametrize("name", ["", "   ", "a" * 81, "two\nlines"])
def test_key_needs_a_printable_name(viewer: User, name: str) -> None:
    with pytest.raises(ConfigError):
        create_api_key(viewer, name)
    assert not ApiKey.objects.exists()


def test_command_prints_the_key_alone_on_standard_output(operator: User) -> None:
    out, err = StringIO(), StringIO()
    call_command("create_api_key", user="otto", name="ci", write=True, expires_days=7, stdout=out, stderr=err)
    key = out.getvalue().strip()
    row = verify_api_key(key)
    assert row is not None
    assert (row.name, row.can_write, row.user) == ("ci", True, operator)
    assert row.expires_at is not None
    assert key not in err.getvalue()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"user": "nobody", "name": "x"}, "no user 'nobody'"),
        ({"user": "vera", "name": "x", "write": True}, "operator group"),
        ({"user": "vera", "name": "x", "expires_days": -1}, "1 to 3650 days"),
    ],
)
def test_command_says_what_is_wrong(viewer: User, options: dict[str, object], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        call_command("create_api_key", **options)
    assert not ApiKey.objects.exists()


def test_secret_half_is_in_no_table_and_no_log(
    operator: User, engine: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    out = StringIO()
    call_command("create_api_key", user="otto", name="canary", write=True, stdout=out, stderr=StringIO())
    key = out.getvalue().strip()
    match = KEY_FORM.fullmatch(key)
    assert match is not None
    secret = match.group(2)
    caller = Api(key=key)
    caller.get("/strategies")
    caller.post("/strategies/stop-all")
    caller.post("/strategies/save", b"{not json")
    caller.send("delete", "/strategies")
    Api(key=key[:-1] + "g").get("/strategies")
    assert secret not in caplog.text
    assert secret not in _whole_database()
    log = Path(settings.MATS.mats_home) / "log" / "mats.log"
    assert not log.exists() or secret not in log.read_text()


def _whole_database() -> str:
    parts = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")  # noqa: S608 - names from the schema
            parts.append(repr(cursor.fetchall()))
    text = "\n".join(parts)
    assert "canary" in text
    return text


def test_admin_shows_keys_without_their_digest_and_revokes_them(operator: User) -> None:
    boss = User.objects.create_superuser("boss", password="correct horse 7")
    row, key = create_api_key(operator, "bot", can_write=True)
    browser = Client()
    browser.force_login(boss)
    for address in ("/admin/mats_site/apikey/", f"/admin/mats_site/apikey/{row.pk}/change/"):
        page = browser.get(address)
        assert page.status_code == 200
        text = page.content.decode()
        assert row.public_id in text
        assert row.digest not in text
    browser.post("/admin/mats_site/apikey/", {"action": "revoke", "_selected_action": [str(row.pk)]}, follow=True)
    assert verify_api_key(key) is None
    assert browser.get("/admin/mats_site/apikey/add/").status_code == 403
    assert ApiKey in site._registry
