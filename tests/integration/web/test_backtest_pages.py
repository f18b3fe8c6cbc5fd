"""The Backtests pages and their API twin: who may, what is refused, what is shown."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from trading import job_run
from trading.work_models import BacktestRun, Job, JobState

pytestmark = pytest.mark.django_db

FORM = {
    "files": "simple_ma_cross.py",
    "symbols": "aapl",
    "start": "2011-01-03",
    "end": "2012-12-31",
    "source": "sample",
    "params": '{"interval": "1d", "min_quality": 0}',
}


def signed_in(group: str) -> Client:
    user = User.objects.create_user(f"{group}-user", password="x")
    user.groups.add(Group.objects.get(name=group))
    client = Client(enforce_csrf_checks=False)
    client.force_login(user)
    return client


@pytest.fixture
def operator() -> Client:
    return signed_in("operator")


def made_run(**changes: Any) -> BacktestRun:
    now = datetime.now(UTC)
    fields: dict[str, Any] = {
        "name": "a_20260101",
        "interval": "1d",
        "source": "sample",
        "start_at": now,
        "end_at": now,
        "state": JobState.DONE,
        "created_by": "ana",
        "created_at": now,
        "metrics": {"a": {"profit": "12.5", "total_return": 0.1, "sharpe": None, "reasons": {"sharpe": "too few"}}},
        "curves": {"at": [1, 2], "names": ["a"], "equity": [[1.0, 2.0]], "drawdown": [[0.0, 0.0]]},
        **changes,
    }
    return BacktestRun.objects.create(**fields)


def test_a_form_becomes_a_job_and_the_job_a_page(operator: Client) -> None:
    answer = operator.post("/backtests/start/", FORM)
    assert answer.status_code == 302
    job = Job.objects.get()
    assert (job.created_by, job.args["symbols"]) == ("operator-user", ["AAPL"])
    assert "Nothing runs" not in operator.get("/backtests/").content.decode()
    job_run.run_job(job.pk)
    run = BacktestRun.objects.get()
    text = operator.get(f"/backtests/{run.pk}/").content.decode()
    assert run.name in text
    assert "Profit factor" in text
    report = operator.get(f"/backtests/{run.pk}/report/")
    assert report.headers["Content-Disposition"].startswith("attachment")
    assert operator.post(f"/backtests/{run.pk}/delete/").status_code == 302
    assert not BacktestRun.objects.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"params": "{"}, "no JSON"),
        ({"end": "2010-01-01"}, "before it starts"),
        ({"start": "soon"}, "start"),
        ({"source": "parquet:/etc/passwd"}, "command line alone"),
        ({"cash": "-1"}, "greater than 0"),
    ],
)
def test_what_cannot_be_run_is_said_at_the_form(operator: Client, changes: dict[str, str], words: str) -> None:
    answer = operator.post("/backtests/start/", {**FORM, **changes})
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert not Job.objects.exists()


def test_a_viewer_sees_and_starts_nothing() -> None:
    viewer, run = signed_in("viewer"), made_run()
    assert viewer.get("/backtests/").status_code == 200
    text = viewer.get(f"/backtests/{run.pk}/").content.decode()
    assert "Delete" not in text
    assert 'title="too few"' in text
    for address in ("/backtests/start/", f"/backtests/{run.pk}/delete/", "/backtests/jobs/1/stop/"):
        assert viewer.post(address, FORM).status_code == 403
    assert BacktestRun.objects.exists()


def test_nobody_sees_anything_without_a_login() -> None:
    run = made_run()
    for address in ("/backtests/", f"/backtests/{run.pk}/", f"/backtests/{run.pk}/report/", "/backtests/compare/"):
        assert Client().get(address).status_code == 302
    assert Client().get("/api/backtest/runs").status_code == 401


def test_names_of_strategies_and_runs_are_written_as_text(operator: Client) -> None:
    hostile = "<script>alert(1)</script>"
    run = made_run(error=hostile, warnings=[hostile], metrics={hostile: {"profit": "1", "reasons": {}}})
    for address in (f"/backtests/{run.pk}/", f"/backtests/compare/?run={run.pk}", "/backtests/"):
        assert hostile not in operator.get(address).content.decode()


def test_runs_stand_beside_each_other_and_unknown_ones_are_left_out(operator: Client) -> None:
    first, second = made_run(), made_run(name="b_20260101")
    text = operator.get(f"/backtests/compare/?run={first.pk}&run={second.pk}&run=999999&run=x").content.decode()
    assert "a_20260101 · a" in text
    assert "b_20260101 · a" in text
    assert "Tick two" in operator.get("/backtests/compare/").content.decode()


def test_a_run_that_is_not_there_is_not_found(operator: Client) -> None:
    for address in ("/backtests/4711/", "/backtests/4711/report/", "/api/backtest/result/4711"):
        assert operator.get(address).status_code == 404


def test_the_api_asks_stops_and_shows_as_the_page_does(operator: Client) -> None:
    wish = {
        "strategies": [{"file": "simple_ma_cross.py", "params": {"interval": "1d"}}],
        "symbols": ["AAPL"],
        "source": "sample",
        "start": "2011-01-03",
        "end": "2012-12-31",
    }
    token = {"content_type": "application/json"}
    answer = operator.post("/api/backtest/run", json.dumps(wish), **token)  # type: ignore[arg-type]
    assert answer.status_code == 202, answer.content
    job = answer.json()["id"]
    assert operator.get("/api/backtest/jobs").json()["items"][0]["id"] == job
    assert operator.post(f"/api/backtest/cancel/{job}").status_code == 202
    assert Job.objects.get().state == JobState.CANCELLED
    run = made_run()
    assert operator.get("/api/backtest/runs").json()["items"][0]["name"] == run.name
    assert operator.get(f"/api/backtest/result/{run.pk}").json()["curves"]["names"] == ["a"]
    assert operator.get("/api/backtest/strategy-params/simple_ma_cross.py").json()["kind"] == "reactive"
    assert operator.get("/api/backtest/strategy-params/..%2Fmanage.py").status_code in (404, 422)
    bad = operator.post("/api/backtest/run", json.dumps({**wish, "end": "2010-01-01"}), **token)  # type: ignore[arg-type]
    assert bad.status_code == 422
