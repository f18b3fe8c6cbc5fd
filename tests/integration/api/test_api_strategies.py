"""Saving, activating and deleting strategies through the API; reading files without running them."""

from __future__ import annotations

import dataclasses
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User

from strategies.models import Strategy
from tests.integration.api.conftest import Api, error_of
from trading.engine.lifecycle import StrategyState
from trading.models import EngineLease, StrategyRun

MA_CROSS = {
    "symbol": "AAA",
    "filename": "ma_cross.py",
    "name": "Cross",
    "min_weight": "0.1",
    "target_weight": "0.3",
    "max_weight": "0.5",
}


@pytest.fixture
def folder(tmp_path: Path, settings: Any) -> Path:
    """A registered strategy folder of the test's own."""
    settings.MATS = dataclasses.replace(django_settings.MATS, strategy_path=(tmp_path,))
    return tmp_path


def test_saving_creates_then_changes_only_what_is_given(api: Api, operator: User) -> None:
    created = api.post("/strategies/save", MA_CROSS)
    assert created.status_code == 200, created.content
    body = created.json()
    assert (body["created"], body["warnings"]) == (True, [])
    assert (body["strategy"]["target_weight"], body["strategy"]["load_error"]) == ("0.3", "")
    assert len(body["strategy"]["code_hash"]) == 64
    changed = api.post("/strategies/save", {"symbol": "AAA", "description": "slow"}).json()
    assert (changed["created"], changed["strategy"]["name"]) == (False, "Cross")
    row = Strategy.objects.get()
    assert (row.description, row.target_weight, row.min_weight) == ("slow", Decimal("0.3"), Decimal("0.1"))
    assert row.history.first().history_user == operator


def test_weights_beyond_the_account_are_saved_with_a_warning(api: Api) -> None:
    api.post("/strategies/save", MA_CROSS | {"target_weight": "0.5"})
    body = api.post("/strategies/save", MA_CROSS | {"symbol": "BBB", "max_weight": "1", "target_weight": "0.7"}).json()
    assert any("1.2" in text for text in body["warnings"])


def test_missing_file_is_saved_with_a_warning(api: Api) -> None:
    body = api.post("/strategies/save", {"symbol": "AAA", "filename": "nowhere.py"}).json()
    assert any("nowhere.py" in text for text in body["warnings"])
    assert body["strategy"]["load_error"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"min_weight": "0.4"}, None),
        ({"symbol": "Discretionary"}, None),
        ({"params": {"fast": "many"}}, "fast"),
        ({"params": {"fast": 50, "slow": 20}}, "slow"),
        ({"params": {"no_such": 1}}, "no_such"),
    ],
)
def test_refused_values_store_nothing(api: Api, change: dict[str, Any], field: str | None) -> None:
    error = error_of(api.post("/strategies/save", MA_CROSS | change), 422)
    assert error["fields"]["errors"]
    assert field is None or field in error["fields"]["errors"]
    assert not Strategy.objects.exists()


def test_new_strategy_needs_a_file(api: Api) -> None:
    assert "filename" in error_of(api.post("/strategies/save", {"symbol": "AAA"}), 422)["fields"]["errors"]


def test_activating_and_deactivating_twice_is_once(api: Api) -> None:
    api.post("/strategies/save", MA_CROSS)
    for verb, active in (("activate", True), ("activate", True), ("deactivate", False), ("deactivate", False)):
        assert api.post(f"/strategies/AAA/{verb}").json()["active"] is active
    assert Strategy.objects.get().revision == 3


def test_list_shows_state_and_filters_active(api: Api) -> None:
    for symbol in ("CCC", "AAA", "BBB"):
        api.post("/strategies/save", MA_CROSS | {"symbol": symbol, "target_weight": "0.1"})
    api.post("/strategies/BBB/activate")
    rows = api.get("/strategies").json()["items"]
    assert [(row["symbol"], row["state"], row["active"]) for row in rows] == [
        ("AAA", "stopped", False),
        ("BBB", "stopped", True),
        ("CCC", "stopped", False),
    ]
    assert [row["symbol"] for row in api.get("/strategies", active_only=True).json()["items"]] == ["BBB"]
    first = api.get("/strategies", limit=2).json()
    assert first["next"] == "BBB"
    assert [row["symbol"] for row in api.get("/strategies", cursor="BBB").json()["items"]] == ["CCC"]


def test_running_strategy_is_not_deleted(api: Api, engine: EngineLease) -> None:
    api.post("/strategies/save", MA_CROSS)
    StrategyRun.objects.create(symbol="AAA", state=StrategyState.RUNNING)
    error_of(api.post("/strategies/AAA/delete"), 409)
    StrategyRun.objects.update(state=StrategyState.STOPPED)
    assert api.post("/strategies/AAA/delete").json() == {"deleted": "AAA"}
    assert not Strategy.objects.exists()
    error_of(api.post("/strategies/AAA/delete"), 404)


def test_files_of_registered_folders_are_listed(reader: Api, folder: Path) -> None:
    (folder / "mine.py").write_text("")
    files = {row["filename"]: row["folder"] for row in reader.get("/strategies/files").json()["items"]}
    assert files["mine.py"] == folder.name
    assert files["ma_cross.py"] == "library"


def test_reading_a_file_tells_its_parameters_and_runs_nothing(reader: Api, folder: Path) -> None:
    ran = folder / "ran"
    (folder / "trap.py").write_text(
        f"import pathlib\npathlib.Path({str(ran)!r}).write_text('x')\nPARAMS = {{'fast': 5}}\n"
    )
    before = set(sys.modules)
    facts = reader.get("/strategies/params-from-file", filename="trap.py").json()
    assert facts["params"] == {"fast": 5}
    assert not ran.exists()
    assert not {name for name in set(sys.modules) - before if "trap" in name}


@pytest.mark.parametrize(
    ("filename", "status"), [("nowhere.py", 404), ("../mine.py", 422), ("/etc/passwd", 422), ("broken.py", 422)]
)
def test_unreadable_file_is_a_clear_error(reader: Api, folder: Path, filename: str, status: int) -> None:
    (folder / "broken.py").write_text("def (")
    error = error_of(reader.get("/strategies/params-from-file", filename=filename), status)
    assert status != 422 or "passwd" not in error["message"]
