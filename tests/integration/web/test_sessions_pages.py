"""The Sessions and Scanners pages and their admin: who sees and may do what, live figures, empty and error states."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from strategies.models import AuditEntry
from tests.browser import seed
from trading.models import EngineCommand
from trading.session_models import ScannerConfig, ScanRun, SessionConfig, SessionRun

pytestmark = pytest.mark.django_db

LIVE: dict[str, Any] = {
    "mode": "live",
    "session_data_config": {
        "symbols": ["SPY"],
        "streams": ["1m", "5m"],
        "strategies": [
            {"module": "strategies.examples.simple_ma_cross", "config": {"symbols": ["SPY"], "interval": "5m"}}
        ],
    },
}
METRICS: dict[str, Any] = {
    "totals": {"bars": 1234, "signals": 12, "fills": 3, "denied": 1, "errors": 2, "overruns": 4, "notifications": 99},
    "strategies": [
        {
            "strategy_name": "simple_ma_cross",
            "running": True,
            "notifications_processed": 99,
            "signals_generated": 12,
            "errors": 2,
            "queue_size": 7,
            "overruns": 4,
            "avg_processing_time_ms": 0.25,
            "max_processing_time_ms": 3.5,
            "equity": "100123.45",
            "fills": 3,
            "denied": 1,
            "positions": {"SPY": "40", "QQQ": "-7.5"},
            "last_refusal": "BUY 100 SPY: Its bars are only 61.0 % complete. <b>",
        }
    ],
    "symbols": [
        {
            "symbol": "SPY",
            "added_by": "",
            "bars": 200,
            "quality": 98.5,
            "lag_s": 2.0,
            "is_poor": False,
            "is_late": False,
        },
        {
            "symbol": "QQQ",
            "added_by": "gap",
            "bars": 20,
            "quality": 61.0,
            "lag_s": 75.0,
            "is_poor": True,
            "is_late": True,
        },
    ],
    "scanners": [
        {
            "name": "gap",
            "state": "error",
            "error": "RuntimeError: <script>alert(1)</script>",
            "scans": 4,
            "skipped": 1,
            "last_ms": 12.5,
            "next_at": None,
            "promoted": ["QQQ"],
        }
    ],
}


def now() -> datetime:
    return datetime.now(UTC)


def run_of(name: str, phase: str = "streaming", **fields: Any) -> SessionRun:
    values = {
        "mode": "live",
        "phase": phase,
        "started_at": now(),
        "beat_at": now(),
        "process": "desk:77",
        "clock_at": now(),
        "day": date(2026, 11, 27),
        "metrics": METRICS,
    }
    return SessionRun.objects.create(name=name, **{**values, **fields})


def person(client: Client, group: str) -> Client:
    user = User.objects.create_user(group, is_staff=True)
    user.groups.add(Group.objects.get(name=group))
    client.force_login(user)
    return client


@pytest.fixture
def viewer(client: Client) -> Client:
    return person(client, "viewer")


@pytest.fixture
def operator(client: Client) -> Client:
    return person(client, "operator")


@pytest.mark.parametrize("path", ["/sessions/", "/scanners/", "/sessions/7/"])
def test_pages_send_strangers_to_the_login(client: Client, path: str) -> None:
    assert client.get(path)["Location"] == f"/login/?next={path}"


def test_empty_pages_say_what_to_do(operator: Client) -> None:
    page = operator.get("/sessions/").content.decode()
    for words in (
        "No session is configured",
        "manage.py run_session",
        "Nothing runs at the moment",
        "No session has run",
    ):
        assert words in page, words
    page = operator.get("/scanners/").content.decode()
    for words in ("No scanner is configured", "Nothing was scanned yet", "scanners.momentum", "live only"):
        assert words in page, words


def test_a_running_session_shows_all_its_figures_and_escapes_what_came_from_code(operator: Client) -> None:
    SessionConfig.objects.create(name="day", config=LIVE, active=True)
    run = run_of("day")
    for path in ("/sessions/", f"/sessions/{run.pk}/"):
        page = operator.get(path).content.decode()
        for words in ("streaming", "1,234", "98.50", "61.00", "no, it is late", "100,123.45", "2026-11-27", "desk:77"):
            assert words in page, (path, words)
        for words in ("Its bars are only 61.0 % complete. &lt;b&gt;", "40 SPY", "-7.5 QQQ"):
            assert words in page.replace("\N{MINUS SIGN}", "-"), (path, words)
        assert "<script>alert" not in page
    assert "by itself" in operator.get("/sessions/").content.decode()


def test_a_run_that_went_silent_says_so(viewer: Client) -> None:
    run_of("day", beat_at=now() - timedelta(minutes=5))
    assert "its process may be gone" in viewer.get("/sessions/").content.decode()


def test_a_failed_run_shows_why(viewer: Client) -> None:
    run = run_of("day", "failed", message="There are no stored bars.", error="Traceback: here", ended_at=now())
    page = viewer.get(f"/sessions/{run.pk}/").content.decode()
    assert "There are no stored bars." in page
    assert "Traceback: here" in page
    assert viewer.get("/sessions/999/").status_code == 404


def test_a_configuration_edited_past_every_form_does_not_take_the_page_down(viewer: Client) -> None:
    SessionConfig.objects.create(name="odd", config=[1, {"session_data_config": 7}])
    SessionConfig.objects.create(name="odder", config={"session_data_config": {"symbols": 3, "strategies": ["x"]}})
    ScannerConfig.objects.create(name="gone", module="scanners.none_such", config=[])
    assert viewer.get("/sessions/").status_code == 200
    assert "does not exist" in viewer.get("/scanners/").content.decode()


def test_a_viewer_is_offered_nothing_and_may_nothing(viewer: Client) -> None:
    seed.engine()
    SessionConfig.objects.create(name="day", config=LIVE)
    run_of("day")
    ScannerConfig.objects.create(name="gaps", module="scanners.gap")
    for path in ("/sessions/", "/scanners/"):
        page = viewer.get(path).content.decode()
        assert "/actions/" not in page
    for action in ("start-session", "stop-session", "run-scanner", "promote-symbol"):
        assert viewer.post(f"/actions/{action}/", {"session": "day", "confirm": "yes"}).status_code == 403
    assert not EngineCommand.objects.exists()


def test_starting_and_stopping_want_a_tick(operator: Client) -> None:
    seed.engine()
    for action in ("start-session", "stop-session", "resume-session"):
        answer = operator.post(f"/actions/{action}/", {"session": "day"}, headers={"accept": "application/json"})
        assert answer.status_code == 422
        assert answer.json()["error"]["errors"] == {"confirm": "Tick what is meant."}
    assert not EngineCommand.objects.exists()
    answer = operator.post(
        "/actions/start-session/", {"session": "day", "confirm": "yes"}, headers={"accept": "application/json"}
    )
    assert answer.status_code == 202
    assert EngineCommand.objects.get().args == {"session": "day"}


@pytest.mark.parametrize("session", ["", "../x", "a b", "x" * 65])
def test_a_name_that_is_none_is_refused(operator: Client, session: str) -> None:
    seed.engine()
    answer = operator.post("/actions/pause-session/", {"session": session}, headers={"accept": "application/json"})
    assert answer.status_code == 422
    assert not EngineCommand.objects.exists()


def test_a_scan_shows_what_it_found_and_offers_promotion_while_a_session_runs(operator: Client) -> None:
    ScannerConfig.objects.create(name="gaps", module="scanners.gap", config={"universe": ["SPY", "QQQ"]})
    details = {"promoted": ["QQQ"], "figures": {"SPY": {"gap_percent": 2.5}}}
    ScanRun.objects.create(scanner="gaps", at=now(), symbols=["SPY", "QQQ"], details=details, universe=2, ms=1.5)
    ScanRun.objects.create(scanner="gaps", at=now(), skipped=True)
    ScanRun.objects.create(scanner="other", at=now(), error="TransientError: no answer")
    page = operator.get("/scanners/").content.decode()
    for words in ("gap percent 2.5", "promoted", "left out: the scan before", "TransientError: no answer"):
        assert words in page, words
    assert "promote-symbol" not in page
    run_of("day")
    page = operator.get("/scanners/").content.decode()
    assert page.count("/actions/promote-symbol/") == 1
    only = operator.get("/scanners/?scanner=gaps").content.decode()
    assert "TransientError" not in only


# -- admin

ADD = "/admin/trading/sessionconfig/add/"


def errors_of(answer: Any) -> dict[str, list[str]]:
    return dict(answer.context["adminform"].form.errors)


def test_the_admin_saves_through_the_service(operator: Client) -> None:
    answer = operator.post(ADD, {"name": "day", "config": json.dumps(LIVE)})
    assert answer.status_code == 302, errors_of(answer)
    row = SessionConfig.objects.get()
    assert (row.updated_by, row.config["mode"]) == ("operator", "live")
    assert AuditEntry.objects.get(action="session.saved").source == "admin"


def test_the_admin_tells_every_mistake_with_its_place(operator: Client) -> None:
    bad = json.loads(json.dumps(LIVE))
    bad["session_data_config"]["streams"] = ["1m", "1h"]
    bad["trading_config"] = {"max_open_positions": 0}
    answer = operator.post(ADD, {"name": "day", "config": json.dumps(bad)})
    told = " ".join(errors_of(answer)["config"])
    assert "session_data_config.streams[1]: «1h»" in told
    assert "trading_config.max_open_positions: Input should be greater than 0" in told
    assert not SessionConfig.objects.exists()


def test_the_admin_form_shows_the_whole_configuration_and_keeps_it(operator: Client) -> None:
    row = SessionConfig.objects.create(name="day", config=LIVE)
    page = operator.get(f"/admin/trading/sessionconfig/{row.pk}/change/")
    form = page.context["adminform"].form
    shown = form.initial["config"]
    assert shown["trading_config"]["max_per_trade"] == 10_000
    answer = operator.post(
        f"/admin/trading/sessionconfig/{row.pk}/change/", {"name": "day", "config": json.dumps(shown)}
    )
    assert answer.status_code == 302, errors_of(answer)
    row.refresh_from_db()
    assert row.config["session_data_config"]["symbols"] == ["SPY"]
    strategies = row.config["session_data_config"]["strategies"]
    assert strategies[0]["config"] == {"symbols": ["SPY"], "interval": "5m"}


def test_a_viewer_sees_configurations_in_the_admin_and_changes_none(viewer: Client) -> None:
    row = SessionConfig.objects.create(name="day", config=LIVE)
    assert viewer.get(f"/admin/trading/sessionconfig/{row.pk}/change/").status_code == 200
    assert viewer.get(ADD).status_code == 403
    assert viewer.post(f"/admin/trading/sessionconfig/{row.pk}/delete/", {"post": "yes"}).status_code == 403


def test_a_session_that_runs_is_not_deleted_in_the_admin(operator: Client) -> None:
    row = SessionConfig.objects.create(name="day", config=LIVE)
    run_of("day")
    answer = operator.post(f"/admin/trading/sessionconfig/{row.pk}/delete/", {"post": "yes"}, follow=True)
    assert "stop it first" in answer.content.decode()
    assert SessionConfig.objects.exists()


def test_the_admin_checks_a_scanners_parameters(operator: Client) -> None:
    add = "/admin/trading/scannerconfig/add/"
    values = {"name": "gaps", "module": "scanners.gap", "schedule": "", "enabled": "on"}
    answer = operator.post(add, {**values, "config": json.dumps({"min_gap_percent": 0})})
    assert any("min_gap_percent" in text for text in errors_of(answer)["config"])
    answer = operator.post(add, {**values, "config": json.dumps({"universe": ["SPY"]})})
    assert answer.status_code == 302, errors_of(answer)
    row = ScannerConfig.objects.get()
    page = operator.get(f"/admin/trading/scannerconfig/{row.pk}/change/")
    assert page.context["adminform"].form.initial["config"]["min_volume"] == 1_000_000


def test_runs_and_scans_are_read_only_in_the_admin(operator: Client) -> None:
    run = run_of("day")
    assert operator.get(f"/admin/trading/sessionrun/{run.pk}/change/").status_code == 200
    assert operator.get("/admin/trading/sessionrun/add/").status_code == 403
    assert operator.get("/admin/trading/scanrun/").status_code == 200
