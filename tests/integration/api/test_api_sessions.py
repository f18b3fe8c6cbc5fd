"""Routes of sessions and scanners: saving with every mistake told, asking the engine, reading runs and scans."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User

from mats_site.services import create_api_key
from strategies.models import AuditEntry
from tests.integration.api.conftest import Api, error_of
from trading.market.session_status import Phase
from trading.models import EngineCommand, EngineLease
from trading.session_models import ScannerConfig, ScanRun, SessionConfig, SessionRun

LIVE: dict[str, Any] = {
    "mode": "live",
    "session_data_config": {
        "symbols": ["SPY"],
        "streams": ["1m", "5m"],
        "scanners": [{"module": "scanners.momentum", "pre_session": True, "config": {"universe": ["QQQ"]}}],
        "strategies": [
            {"module": "strategies.examples.simple_ma_cross", "config": {"symbols": ["SPY"], "interval": "5m"}}
        ],
    },
}


def now() -> datetime:
    return datetime.now(UTC)


def run_of(name: str, phase: str = "streaming", **fields: Any) -> SessionRun:
    return SessionRun.objects.create(
        name=name, **{"mode": "live", "phase": phase, "started_at": now(), "beat_at": now(), **fields}
    )


@pytest.fixture
def day(api: Api) -> SessionConfig:
    assert api.post("/sessions/save", {"name": "day", "config": LIVE}).status_code == 200
    return SessionConfig.objects.get(name="day")


# -- saving


def test_a_session_is_saved_with_author_history_and_audit(api: Api, day: SessionConfig) -> None:
    assert (day.updated_by, day.active, day.config) == ("otto", False, LIVE)
    assert day.history.count() == 1
    entry = AuditEntry.objects.get(action="session.saved")
    assert (entry.actor, entry.source, entry.subject) == ("otto", "api", "day")
    assert api.get("/sessions/day").json() == {"name": "day", "active": False, "config": LIVE}
    [row] = api.get("/sessions").json()
    assert (row["mode"], row["symbols"], row["strategies"], row["scanners"], row["run"]) == (
        "live",
        ["SPY"],
        ["simple_ma_cross"],
        ["momentum"],
        None,
    )


@pytest.mark.parametrize(
    ("change", "place", "words"),
    [
        ({"oops": 1}, "oops", "no such key"),
        ({"session_name": "other"}, "session_name", "saved as day"),
        (
            {"session_data_config": {"symbols": ["SPY"], "streams": ["1h"]}},
            "session_data_config.streams[0]",
            "no bar interval",
        ),
        (
            {
                "session_data_config": {
                    "symbols": ["SPY"],
                    "streams": ["1m"],
                    "strategies": [{"module": "strategies.examples.none_such"}],
                }
            },
            "session_data_config.strategies[0].module",
            "does not exist",
        ),
        (
            {
                "session_data_config": {
                    "symbols": ["SPY"],
                    "streams": ["1m"],
                    "scanners": [{"module": "scanners.gap", "pre_session": True, "config": {"most": 0}}],
                }
            },
            "session_data_config.scanners[0].config.most",
            "greater than or equal to 1",
        ),
    ],
)
def test_a_mistake_is_a_422_with_its_place(api: Api, change: dict[str, Any], place: str, words: str) -> None:
    error = error_of(api.post("/sessions/save", {"name": "day", "config": {**LIVE, **change}}), 422)
    assert error["code"] == "bad_session_config"
    assert words in error["fields"]["errors"][place]
    assert not SessionConfig.objects.exists()


def test_a_scanner_that_asks_ib_is_refused_in_a_backtest(api: Api) -> None:
    config = {
        "mode": "backtest",
        "backtest_config": {"start_date": "2024-01-02", "end_date": "2024-01-02"},
        "session_data_config": {
            "streams": ["1m"],
            "scanners": [{"module": "scanners.ib_scanner", "pre_session": True}],
        },
    }
    error = error_of(api.post("/sessions/save", {"name": "past", "config": config}), 422)
    assert "no past" in error["fields"]["errors"]["session_data_config.scanners[0].module"]


def test_only_a_live_session_can_be_active(api: Api) -> None:
    config = {**LIVE, "mode": "backtest", "backtest_config": {"start_date": "2024-01-02", "end_date": "2024-01-02"}}
    error = error_of(api.post("/sessions/save", {"name": "past", "config": config, "active": True}), 422)
    assert "run_session" in error["fields"]["errors"]["active"]
    assert api.post("/sessions/save", {"name": "day", "config": LIVE, "active": True}).status_code == 200


def test_a_session_that_runs_is_not_deleted(api: Api, day: SessionConfig) -> None:
    run = run_of("day")
    assert error_of(api.post("/sessions/day/delete"), 409)["code"] == "session_runs"
    run.phase = Phase.ENDED
    run.save()
    assert api.post("/sessions/day/delete").json() == {"name": "day"}
    assert SessionRun.objects.count() == 1
    assert AuditEntry.objects.filter(action="session.deleted", subject="day").exists()


# -- asking the engine


@pytest.mark.parametrize("deed", ["start", "pause", "resume", "stop"])
def test_a_deed_becomes_one_command(api: Api, day: SessionConfig, engine: EngineLease, deed: str) -> None:
    answer = api.post(f"/sessions/day/{deed}", idempotency_key="k1")
    assert answer.status_code == 202
    assert api.post(f"/sessions/day/{deed}", idempotency_key="k1").json() == answer.json()
    command = EngineCommand.objects.get()
    assert (command.kind, command.args, command.source) == (f"{deed}_session", {"session": "day"}, "api")


def test_a_symbol_is_promoted_by_a_command(api: Api, day: SessionConfig, engine: EngineLease) -> None:
    assert api.post("/sessions/day/promote", {"symbol": "QQQ"}).status_code == 202
    assert EngineCommand.objects.get().args == {"session": "day", "ticker": "QQQ"}
    error_of(api.post("/sessions/day/promote", {"symbol": "../x"}), 422)


def test_without_an_engine_nothing_is_queued(api: Api, day: SessionConfig) -> None:
    assert error_of(api.post("/sessions/day/start"), 503)["code"] == "engine_down"
    assert not EngineCommand.objects.exists()


def test_an_unknown_session_is_a_404(api: Api, engine: EngineLease) -> None:
    assert error_of(api.post("/sessions/none/start"), 404)["code"] == "unknown_session"
    assert error_of(api.get("/sessions/none"), 404)["code"] == "unknown_session"
    assert error_of(api.get("/sessions/runs/7"), 404)["code"] == "unknown_run"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/sessions/save", {"name": "x", "config": LIVE}),
        ("/sessions/day/start", None),
        ("/sessions/day/delete", None),
        ("/sessions/day/promote", {"symbol": "QQQ"}),
        ("/scanner/scan", {"scanner": "gaps"}),
        ("/scanner/save", {"name": "x", "module": "scanners.gap"}),
        ("/scanner/gaps/delete", None),
    ],
)
def test_operating_alone_is_not_the_right_to_run_sessions(
    day: SessionConfig, engine: EngineLease, path: str, body: Any
) -> None:
    user = User.objects.create_user("half")
    user.user_permissions.add(Permission.objects.get(codename="operate"))
    half = Api(key=create_api_key(user, "half", can_write=True)[1])
    assert half.get("/sessions").status_code == 200
    error_of(half.post(path, body), 403)
    assert not EngineCommand.objects.exists()


def test_the_operators_group_has_the_right(make_user: Any, day: SessionConfig, engine: EngineLease) -> None:
    user = make_user("olga", "operator")
    assert Group.objects.get(name="operator").permissions.filter(codename="run_session").exists()
    olga = Api(key=create_api_key(user, "k", can_write=True)[1])
    assert olga.post("/sessions/day/start").status_code == 202


# -- reading


def test_runs_are_pages_and_a_run_tells_its_figures(reader: Api) -> None:
    for number in range(3):
        run_of(f"s{number}", "ended", ended_at=now())
    running = run_of("now", metrics={"totals": {"bars": 7}}, clock_at=now(), beat_at=now() - timedelta(minutes=2))
    first = reader.get("/sessions/runs", limit=2).json()
    assert [row["name"] for row in first["items"]] == ["now", "s2"]
    rest = reader.get("/sessions/runs", limit=2, cursor=first["next"]).json()
    assert ([row["name"] for row in rest["items"]], rest["next"]) == (["s1", "s0"], None)
    told = reader.get(f"/sessions/runs/{running.pk}").json()
    assert (told["metrics"], told["is_over"], told["is_silent"]) == ({"totals": {"bars": 7}}, False, True)


def test_states_of_scanners_of_sessions_under_way(reader: Api) -> None:
    run_of("now", metrics={"scanners": [{"name": "gap", "state": "scan_complete"}]})
    run_of("old", "ended", metrics={"scanners": [{"name": "gap", "state": "error"}]})
    assert reader.get("/sessions/scanners").json()["items"] == [
        {"session": "now", "name": "gap", "state": "scan_complete"}
    ]


# -- scanners


def test_a_scanner_is_saved_offered_run_and_deleted(api: Api, engine: EngineLease) -> None:
    body = {"name": "gaps", "module": "scanners.gap", "config": {"universe": ["SPY"]}, "schedule": "35 9 * * 1-5"}
    assert api.post("/scanner/save", body).status_code == 200
    options = api.get("/scanner/options").json()
    assert [row["name"] for row in options["scanners"]] == ["gaps"]
    files = {row["module"]: row for row in options["files"]}
    assert files["scanners.ib_scanner"]["needs_ib"] is True
    assert files["scanners.gap"]["parameters"]["properties"]["min_gap_percent"]["default"] == 2.0
    assert api.post("/scanner/scan", {"scanner": "gaps"}).status_code == 202
    assert EngineCommand.objects.get().args == {"scanner": "gaps"}
    assert api.post("/scanner/gaps/delete").status_code == 200
    assert not ScannerConfig.objects.exists()
    actions = list(AuditEntry.objects.order_by("id").values_list("action", flat=True))
    assert [action for action in actions if action.startswith("scanner")] == ["scanner.saved", "scanner.deleted"]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"module": "scanners.none_such"}, "module"),
        ({"config": {"oops": 1}}, "oops"),
        ({"schedule": "every day"}, "schedule"),
        ({"name": "a b"}, "name"),
    ],
)
def test_a_scanner_with_a_mistake_is_a_422(api: Api, change: dict[str, Any], place: str) -> None:
    body = {"name": "gaps", "module": "scanners.gap", **change}
    error = error_of(api.post("/scanner/save", body), 422)
    assert any(place in name for name in error["fields"]["errors"])
    assert not ScannerConfig.objects.exists()


def test_history_of_scans_is_pages(reader: Api) -> None:
    run = run_of("now")
    for number in range(3):
        ScanRun.objects.create(
            scanner="gap",
            session=run if number else None,
            at=now(),
            symbols=["SPY"],
            details={"promoted": ["SPY"], "figures": {"SPY": {"gap_percent": 2.5}}},
            universe=4,
            ms=1.25,
        )
    first = reader.get("/scanner/history", limit=2).json()
    assert len(first["items"]) == 2
    assert first["items"][0]["symbols"] == [{"symbol": "SPY", "figures": {"gap_percent": 2.5}}]
    assert (first["items"][0]["session_name"], first["items"][0]["promoted"]) == ("now", ["SPY"])
    assert len(reader.get("/scanner/history", cursor=first["next"]).json()["items"]) == 1
    assert len(reader.get("/scanner/history", session=run.pk).json()["items"]) == 2
