"""Reactive files in the admin: their kind, their parameters as a form, the connection that is theirs by default."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from strategies import services
from strategies.models import ConnectionKind, Strategy, StrategyKind
from tests.unit.strategies.conftest import TYPED, FileWriter
from tests.unit.strategies.test_admin import ADD, change_url, errors_of, form

pytestmark = pytest.mark.django_db

FILE = "simple_ma_cross.py"


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("boss", password="x" * 12))
    return client


def added(operator: Client, **changes: Any) -> Strategy:
    response = operator.post(ADD, form(**{"filename": FILE, **changes}))
    assert response.status_code == 302, errors_of(response)
    return Strategy.objects.get(symbol="ONE")


def test_reactive_file_is_told_by_its_base_class_and_shares_a_connection(operator: Client) -> None:
    row = added(operator)
    assert (row.kind, row.connection, row.load_error) == (StrategyKind.REACTIVE, ConnectionKind.SHARED, "")


def test_connection_that_was_chosen_is_kept(operator: Client) -> None:
    row = added(operator, connection="shared")
    assert operator.post(change_url(row), form(filename=FILE, connection="own")).status_code == 302
    row.refresh_from_db()
    assert row.connection == ConnectionKind.OWN
    assert operator.post(change_url(row), form(filename=FILE, connection="own", name="Again")).status_code == 302
    row.refresh_from_db()
    assert (row.name, row.connection) == ("Again", ConnectionKind.OWN)


def test_imperative_files_have_a_connection_of_their_own_as_ever(operator: Client, write_file: FileWriter) -> None:
    write_file("typed.py", TYPED)
    row = added(operator, filename="typed.py")
    assert (row.kind, row.connection) == (StrategyKind.IMPERATIVE, ConnectionKind.OWN)


def test_form_shows_what_it_follows_and_its_gates(operator: Client) -> None:
    row = added(operator)
    page = operator.get(change_url(row)).content.decode()
    config = json.loads(unescape(re.search(r'data-django-jsonform="([^"]+)"', page)[1]))  # type: ignore[index]
    properties = config["schema"]["properties"]
    assert properties["symbols"]["type"] == "array"
    assert {"interval", "fast_period", "slow_period", "min_quality", "allow_short", "regular_hours"} <= set(properties)


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"min_quality": 101}, "min_quality"),
        ({"interval": "7 moons"}, "interval"),
        ({"fast_period": 20, "slow_period": 10}, "slow_period"),
        ({"no_such": 1}, "no_such"),
    ],
)
def test_parameters_are_checked_by_the_files_own_model(operator: Client, params: dict[str, Any], field: str) -> None:
    response = operator.post(ADD, form(filename=FILE, params=json.dumps(params)))
    assert response.status_code == 200
    [text] = errors_of(response)["params"]
    assert text.startswith(f"{field}: ")
    assert not Strategy.objects.exists()


def test_services_share_by_default_too_and_never_change_a_row_that_is_there() -> None:
    row = services.save_strategy({"symbol": "TWO", "filename": FILE}, None)
    assert row.connection == ConnectionKind.SHARED
    services.save_strategy({"symbol": "TWO", "connection": "own"}, None)
    services.save_strategy({"symbol": "TWO", "params": {"quantity": 3}}, None)
    row.refresh_from_db()
    assert row.connection == ConnectionKind.OWN
