"""The admin of strategies, through Django's test client."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from strategies import services
from strategies.models import Strategy
from tests.unit.strategies.conftest import PLAIN, TYPED, FileWriter

pytestmark = pytest.mark.django_db

ADD = "/admin/strategies/strategy/add/"
LIST = "/admin/strategies/strategy/"


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("boss", password="x" * 12))
    return client


@pytest.fixture
def typed(write_file: FileWriter) -> Strategy:
    write_file("typed.py", TYPED)
    return services.save_strategy({"symbol": "ONE", "filename": "typed.py"}, None)


def form(**changes: Any) -> dict[str, Any]:
    values = {
        "symbol": "ONE",
        "name": "",
        "description": "",
        "color": "#112233",
        "filename": "typed.py",
        "min_weight": "0",
        "target_weight": "0.2",
        "max_weight": "1",
        "currency": "USD",
        "params": "{}",
        "restart_policy": "on_failure",
        "connection": "own",
        "max_restarts_per_hour": "3",
    }
    return {**values, **changes}


def change_url(strategy: Strategy) -> str:
    return f"{LIST}{strategy.pk}/change/"


def errors_of(response: Any) -> dict[str, list[str]]:
    return dict(response.context["adminform"].form.errors)


def test_adding_a_strategy_validates_the_file_and_records_the_author(operator: Client, write_file: FileWriter) -> None:
    write_file("typed.py", TYPED)
    response = operator.post(ADD, form())
    assert response.status_code == 302
    row = Strategy.objects.get(symbol="ONE")
    assert (row.load_error, row.revision, len(row.code_hash)) == ("", 1, 64)
    assert row.history.get().history_user.username == "boss"


def test_form_shows_typed_parameters_and_no_option_lists(operator: Client, typed: Strategy) -> None:
    page = operator.get(change_url(typed))
    config = json.loads(_unescape(re.search(r'data-django-jsonform="([^"]+)"', page.content.decode())[1]))  # type: ignore[index]
    properties = config["schema"]["properties"]
    assert list(properties)[:3] == ["universe", "length", "cap"]
    assert properties["cap"]["type"] == ["number", "null"]
    assert "anyOf" not in json.dumps(config["schema"])
    assert "target_weight" not in properties


def test_bad_parameter_is_told_beside_its_field(operator: Client, typed: Strategy) -> None:
    response = operator.post(change_url(typed), form(params='{"length": 1, "cap": null}'))
    assert response.status_code == 200
    assert errors_of(response) == {"params": ["length: Input should be greater than or equal to 2"]}
    typed.refresh_from_db()
    assert typed.params == {}


def test_saved_parameters_are_complete_and_carry_the_rows_weights(operator: Client, typed: Strategy) -> None:
    assert operator.post(change_url(typed), form(params='{"length": 7}')).status_code == 302
    typed.refresh_from_db()
    assert typed.params["length"] == 7
    assert typed.params["target_weight"] == 0.2
    assert typed.params_revision == 1


def test_parameters_that_are_not_json_are_refused(operator: Client, typed: Strategy) -> None:
    response = operator.post(change_url(typed), form(params="{nonsense"))
    assert errors_of(response) == {"params": ["Enter a valid JSON."]}


@pytest.mark.parametrize("text", ["[1]", '"text"', "5"])
def test_parameters_must_be_an_object(operator: Client, typed: Strategy, text: str) -> None:
    response = operator.post(change_url(typed), form(params=text))
    assert errors_of(response) == {"params": ['Write an object: {"name": value}.']}


def test_file_without_typed_parameters_is_edited_as_json_text(operator: Client, write_file: FileWriter) -> None:
    write_file("plain.py", PLAIN)
    row = services.save_strategy({"symbol": "TWO", "filename": "plain.py"}, None)
    page = operator.get(change_url(row)).content.decode()
    assert "&quot;length&quot;: 10" in page
    response = operator.post(change_url(row), form(filename="plain.py", params='{"length": "ten"}'))
    assert errors_of(response) == {"params": ["length: Give a whole number, not text."]}


def test_weights_out_of_order_are_told_beside_the_field(operator: Client, typed: Strategy) -> None:
    response = operator.post(change_url(typed), form(min_weight="0.5", target_weight="0.2", max_weight="0.1"))
    assert set(errors_of(response)) == {"min_weight", "max_weight"}


def test_targets_above_one_are_warned_not_refused(operator: Client, typed: Strategy) -> None:
    services.save_strategy({"symbol": "TWO", "filename": "typed.py", "target_weight": Decimal("0.9")}, None)
    response = operator.post(change_url(typed), form(target_weight="0.3"), follow=True)
    assert "Target weights add up to 1.2" in response.content.decode()


def test_new_row_with_a_broken_file_is_refused_beside_the_file(operator: Client, write_file: FileWriter) -> None:
    write_file("broken.py", "def (:")
    response = operator.post(ADD, form(filename="broken.py"))
    assert errors_of(response)["filename"][0].startswith("broken.py, line 1")
    assert not Strategy.objects.exists()


def test_row_whose_file_broke_later_can_still_be_edited(operator: Client, typed: Strategy, folder: Path) -> None:
    (folder / "typed.py").write_text("1/0")
    response = operator.post(change_url(typed), form(name="Renamed"), follow=True)
    typed.refresh_from_db()
    assert typed.name == "Renamed"
    assert "ZeroDivisionError" in typed.load_error
    assert "cannot start" in response.content.decode()


def test_showing_the_form_does_not_run_code_that_no_save_has_seen(
    operator: Client, typed: Strategy, folder: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "ran"
    (folder / "typed.py").write_text(TYPED + f"\nopen({str(trace)!r}, 'w').close()\n")
    page = operator.get(change_url(typed))
    assert page.status_code == 200
    assert not trace.exists()
    assert "was edited since it was checked" in page.content.decode()


@pytest.mark.parametrize("name", ["../manage.py", "/etc/passwd", "nothere.py"])
def test_file_that_is_not_offered_is_refused(operator: Client, typed: Strategy, name: str) -> None:
    assert "filename" in errors_of(operator.post(change_url(typed), form(filename=name)))


def test_stale_form_does_not_overwrite_a_newer_save(operator: Client, typed: Strategy) -> None:
    services.save_strategy({"symbol": "ONE", "name": "Newer"}, None)
    response = operator.post(change_url(typed), form(name="Older", seen_revision=typed.revision))
    assert "was changed after you opened" in str(errors_of(response))
    typed.refresh_from_db()
    assert typed.name == "Newer"


def test_history_tells_who_changed_what_from_what(operator: Client, typed: Strategy) -> None:
    operator.post(change_url(typed), form(target_weight="0.25"))
    page = operator.get(f"{LIST}{typed.pk}/history/").content.decode()
    assert "boss" in page
    assert re.search(r"Target weight:.*?0\.000000.*?0\.250000", page, re.DOTALL)


def test_history_words_parameters_one_by_one(operator: Client, typed: Strategy) -> None:
    for length in (7, 8):
        services.save_strategy({"symbol": "ONE", "params": {"length": length}}, None)
    page = operator.get(f"{LIST}{typed.pk}/history/").content.decode()
    assert re.search(r"Parameter length:.*?7.*?8", page, re.DOTALL)


def test_guard_forbids_deletion_and_says_why(operator: Client, typed: Strategy) -> None:
    services.delete_guards.append(lambda symbol: f"{symbol} owns 3 executions.")
    try:
        page = operator.post(f"{LIST}{typed.pk}/delete/", {"post": "yes"})
    finally:
        services.delete_guards.pop()
    assert "owns 3 executions" in page.content.decode()
    assert Strategy.objects.filter(symbol="ONE").exists()


def test_deletion_without_objection_deletes(operator: Client, typed: Strategy) -> None:
    operator.post(f"{LIST}{typed.pk}/delete/", {"post": "yes"})
    assert not Strategy.objects.exists()


def test_list_filters_and_finds(operator: Client, typed: Strategy) -> None:
    Strategy.objects.create(symbol="BAD", filename="gone.py", load_error="gone.py does not exist.")
    page = operator.get(LIST + "?file=error").content.decode()
    assert "gone.py does not exist." in page
    assert ">ONE<" not in page
    assert ">ONE<" in operator.get(LIST + "?q=typed").content.decode()


def test_activation_needs_the_right_to_operate(client: Client, typed: Strategy) -> None:
    viewer = User.objects.create_user("eye", password="x" * 12, is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_strategy"))
    client.force_login(viewer)
    page = client.get(LIST).content.decode()
    assert ">ONE<" in page
    assert "activate" not in page
    client.post(LIST, {"action": "activate", "_selected_action": [typed.pk]})
    typed.refresh_from_db()
    assert not typed.active
    assert client.get(change_url(typed)).status_code == 200
    viewer.user_permissions.add(Permission.objects.get(codename="operate"))
    client.force_login(User.objects.get(username="eye"))
    client.post(LIST, {"action": "activate", "_selected_action": [typed.pk]})
    typed.refresh_from_db()
    assert typed.active


def _unescape(text: str) -> str:
    from html import unescape

    return unescape(text)


def test_emptied_optional_field_means_none(operator: Client, typed: Strategy) -> None:
    assert operator.post(change_url(typed), form(params='{"length": 7, "cap": ""}')).status_code == 302
    typed.refresh_from_db()
    assert typed.params["cap"] is None
