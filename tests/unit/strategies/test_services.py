"""The one door through which strategy rows are written."""

from __future__ import annotations

from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from strategies import queries, services
from strategies.exceptions import ConfigError, ConflictError, NotFoundError
from strategies.loader import load_strategy_class
from strategies.models import Strategy
from strategies.signals import strategy_deleted, strategy_saved
from tests.unit.strategies.conftest import PLAIN, TYPED, FileWriter

pytestmark = pytest.mark.django_db


@pytest.fixture
def typed(write_file: FileWriter) -> Path:
    return write_file("typed.py", TYPED)


def save(**fields: Any) -> Strategy:
    return services.save_strategy({"symbol": "ONE", "filename": "typed.py", **fields}, None)


def errors_of(**fields: Any) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        save(**fields)
    assert not Strategy.objects.filter(symbol="ONE").exists()
    return dict(caught.value.fields["errors"])


def test_save_creates_then_changes_only_what_is_given(typed: Path) -> None:
    save(name="First", target_weight="0.25")
    row = services.save_strategy({"symbol": "ONE", "max_weight": 0.5}, None)
    assert (row.name, row.target_weight, row.max_weight) == ("First", Decimal("0.25"), Decimal("0.5"))
    assert row.revision == 2
    assert not row.is_synced


def test_params_revision_counts_parameter_changes_only(typed: Path) -> None:
    save(params={"length": 5})
    before = Strategy.objects.get().params_revision
    services.save_strategy({"symbol": "ONE", "name": "x"}, None)
    assert Strategy.objects.get().params_revision == before
    services.save_strategy({"symbol": "ONE", "params": {"length": 6}}, None)
    assert Strategy.objects.get().params_revision == before + 1


def test_saving_records_hash_and_kind_and_mirrors_the_weights(typed: Path) -> None:
    row = save(params={"length": 5, "target_weight": 0.9}, target_weight="0.2")
    assert row.code_hash == load_strategy_class("typed.py").sha256
    assert (row.kind, row.load_error) == ("imperative", "")
    assert row.params["target_weight"] == 0.2


def test_unloadable_file_is_recorded_on_the_row(write_file: FileWriter) -> None:
    write_file("typed.py", "1/0")
    row = save()
    assert "ZeroDivisionError" in row.load_error
    assert row.code_hash == ""


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"symbol": "1bad"}, "symbol"),
        ({"symbol": "Discretionary"}, "symbol"),
        ({"symbol": ""}, "symbol"),
        ({"filename": "../x.py"}, "filename"),
        ({"min_weight": "0.5"}, "min_weight"),
        ({"target_weight": "1.5"}, "target_weight"),
        ({"target_weight": "x"}, "target_weight"),
        ({"currency": "usd"}, "currency"),
        ({"params": [1]}, "params"),
        ({"params": {"length": 99}}, "length"),
        ({"params": {"cap": float("nan")}}, "params"),
        ({"params": {"universe": "\ud800"}}, "params"),
        ({"params": {"universe": "a\0b"}}, "params"),
        ({"revision": 7}, "revision"),
        ({"load_error": ""}, "load_error"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_bad_values_are_refused_by_field_and_nothing_is_written(
    typed: Path, fields: dict[str, Any], where: str
) -> None:
    assert where in errors_of(**fields)


def test_author_and_reason_stand_in_the_history(typed: Path) -> None:
    user = User.objects.create_user("ann")
    services.save_strategy({"symbol": "ONE", "filename": "typed.py"}, user)
    services.set_active("ONE", True, user)
    newest, first = Strategy.objects.get().history.all()
    assert (newest.history_user, newest.history_change_reason, newest.active) == (user, "activated", True)
    assert (first.history_type, first.active) == ("+", False)


def test_setting_what_is_set_writes_nothing(typed: Path) -> None:
    save()
    services.set_active("ONE", False, None)
    assert Strategy.objects.get().revision == 1


def test_unknown_strategy_is_a_clear_error() -> None:
    with pytest.raises(NotFoundError) as caught:
        services.set_active("NOPE", True, None)
    assert caught.value.code == "unknown_strategy"


def test_files_defaults_are_stored_when_the_engine_asks(typed: Path) -> None:
    save(target_weight="0.3")
    loaded = load_strategy_class("typed.py")
    row = services.store_params("ONE", loaded.params, "file")
    assert (row.params["length"], row.params["target_weight"]) == (10, 0.3)
    assert row.history.first().history_change_reason == "params from file"


def test_effective_params_fall_back_to_the_file(typed: Path) -> None:
    row = save()
    loaded = load_strategy_class("typed.py")
    assert row.params == {}
    assert services.effective_params(row, loaded)["length"] == 10


def test_saving_and_deleting_are_announced_after_commit(typed: Path, django_capture_on_commit_callbacks: Any) -> None:
    heard: list[tuple[str, bool | None]] = []

    def on_saved(strategy: Strategy, created: bool, **_: Any) -> None:
        heard.append((strategy.symbol, created))

    def on_deleted(symbol: str, **_: Any) -> None:
        heard.append((symbol, None))

    strategy_saved.connect(on_saved)
    strategy_deleted.connect(on_deleted)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            save()
            assert heard == []
        with django_capture_on_commit_callbacks(execute=True):
            services.delete_strategy("ONE", None)
    finally:
        strategy_saved.disconnect(on_saved)
        strategy_deleted.disconnect(on_deleted)
    assert heard == [("ONE", True), ("ONE", None)]


def test_guards_forbid_deletion_with_every_reason(typed: Path) -> None:
    save()
    guards = [lambda symbol: f"{symbol} owns fills.", lambda _: None, lambda _: "It runs."]
    services.delete_guards.extend(guards)
    try:
        with pytest.raises(ConflictError, match=r"ONE owns fills\. It runs\."):
            services.delete_strategy("ONE", None)
    finally:
        del services.delete_guards[-3:]
    assert Strategy.objects.exists()


def test_target_weights_are_added_up(typed: Path) -> None:
    assert queries.target_weight_total() == 0
    save(target_weight="0.7")
    services.save_strategy({"symbol": "TWO", "filename": "typed.py", "target_weight": "0.6"}, None)
    assert queries.target_weight_total() == Decimal("1.3")
    assert [row.symbol for row in queries.list_strategies()] == ["ONE", "TWO"]
    assert not queries.list_strategies(active_only=True).exists()


def test_check_command_passes_on_good_files(typed: Path) -> None:
    save()
    out = StringIO()
    call_command("check_strategies", stdout=out)
    assert "strategy ONE: typed.py" in out.getvalue()
    assert "file ma_cross.py" in out.getvalue()


def test_check_command_fails_and_records_when_asked(write_file: FileWriter) -> None:
    write_file("plain.py", PLAIN)
    services.save_strategy({"symbol": "ONE", "filename": "plain.py"}, None)
    write_file("plain.py", "import nothing_there")
    out = StringIO()
    with pytest.raises(CommandError, match="2 problem"):
        call_command("check_strategies", "--save", stdout=out)
    assert "nothing_there" in Strategy.objects.get().load_error


def test_database_itself_refuses_weights_out_of_order() -> None:
    from django.db import IntegrityError

    with pytest.raises(IntegrityError):
        Strategy.objects.create(symbol="ONE", filename="x.py", min_weight=Decimal("0.5"))
