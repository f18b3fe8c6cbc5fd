"""Sweeps and walk-forwards as commands and jobs, on processes of their own, kept, shown, refused to viewers."""

from __future__ import annotations

import dataclasses
import json
import time
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from django.test import Client

from portfolio.arctic.client import get_ac
from tests.support.studies import MEAN, wish_of, write_files
from trading import job_run, work_services
from trading.backtest.study_store import table_of
from trading.backtest.sweep import prepare, run_sweep
from trading.backtest.sweep_wish import parse_sweep
from trading.work_models import BacktestRun, Job, JobKind, JobState

pytestmark = pytest.mark.django_db

ASKED = ["--symbols", "IBM", "--source", "sample", "--adjust", "none", "--start", "2004-01-02", "--end", "2007-12-31"]
WINDOWS = {"in_sample_days": 365, "out_of_sample_days": 182}
DEADLY = MEAN.replace('["mood"] == "broken"', '["length"] == 40').replace(
    'raise RuntimeError("no mood for this")', "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
)
SLOW = MEAN.replace('raise RuntimeError("no mood for this")', "import time; time.sleep(60)")


@pytest.fixture(autouse=True)
def folder(settings: Any, tmp_path: Path) -> Path:
    settings.MATS = dataclasses.replace(settings.MATS, strategy_path=(tmp_path,))
    write_files(tmp_path)
    return tmp_path


def signed_in(group: str) -> Client:
    user = User.objects.create_user(f"{group}-user", password="x")
    user.groups.add(Group.objects.get(name=group))
    client = Client()
    client.force_login(user)
    return client


def done(kind: str, args: dict[str, Any]) -> Job:
    job = work_services.ask_for(kind, args, actor="ana", source="page")
    job_run.run_job(job.pk)
    job.refresh_from_db()
    return job


# -- commands


def test_a_sweep_prints_its_table_and_writes_all_sets(tmp_path: Path) -> None:
    out, table = StringIO(), tmp_path / "sets.csv"
    vary = ["--vary", "length=5:45:20", "--vary", "mood=calm,broken"]
    call_command("sweep", "mean.py", *ASKED, *vary, "--workers", "0", "--table", str(table), stdout=out)
    assert "6 sets by grid: 3 done, 3 failed, 0 refused" in out.getvalue()
    assert "no mood for this" in out.getvalue()
    assert 'Best by sharpe: {"length": ' in out.getvalue()
    rows = pd.read_csv(table)
    assert rows.state.tolist() == ["done"] * 3 + ["failed"] * 3
    assert rows.sharpe[:3].is_monotonic_decreasing


def test_a_walk_forward_tells_in_and_out_of_sample_apart() -> None:
    out = StringIO()
    days = ["--in-sample-days", "365", "--out-of-sample-days", "182"]
    call_command("walk_forward", "mean.py", *ASKED, "--vary", "length=5:45:20", "--workers", "0", *days, stdout=out)
    assert "sharpe in" in out.getvalue()
    assert "Out of sample, all windows: profit" in out.getvalue()
    assert "of 7 windows earned" in out.getvalue()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--vary", "length"], "NAME=VALUES"),
        (["--vary", "length=5:1"], "before it begins"),
        (["--vary", "lenght=5,6"], "Unknown parameter"),
        (["--vary", "length=5,6", "--table", "sets.xls"], "must end in .csv or .parquet"),
        (["--vary", "length=5,6", "--min-trades", "5000"], "No set closed 5000"),
        (["--vary", "length=5,6", "--scheduler", "tcp://127.0.0.1:1"], "No Dask scheduler"),
    ],
)
def test_what_cannot_be_swept_is_said_by_the_command(
    changes: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trading.backtest.pools.CONNECT_S", 0.2)
    with pytest.raises(CommandError, match=words):
        call_command("sweep", "mean.py", *ASKED, *changes, "--workers", "0", stdout=StringIO())


# -- jobs and what they leave


def test_a_sweep_leaves_its_best_set_as_a_run_and_all_sets_in_arcticdb() -> None:
    job = done(JobKind.SWEEP, wish_of("mean.py", {"length": "5:45:20", "mood": "calm,broken"}))
    assert job.state == JobState.DONE, job.error
    run = BacktestRun.objects.get(pk=job.result["run_id"])
    study = run.settings["study"]
    assert (run.state, run.job_id, run.created_by) == (JobState.DONE, job.pk, "ana")
    assert run.name.endswith("_sweep")
    assert (study["done"], study["failed"], study["expected"]) == (3, 3, 6)
    assert run.strategies[0]["params"]["length"] == study["best"]["params"]["length"]
    assert run.metrics["mean"]["sharpe"] == pytest.approx(study["best"]["value"], rel=1e-6)
    kept = get_ac().read("backtests", f"{run.name}_trials").data
    assert len(kept) == 6
    work_services.forget_run(run, actor="ana", source="page")
    assert not get_ac().has_symbol("backtests", f"{run.name}_trials")


def test_a_walk_forward_leaves_what_was_traded_out_of_sample() -> None:
    job = done(JobKind.WALK_FORWARD, {**wish_of("mean.py", {"length": "5:45:20"}), **WINDOWS})
    assert job.state == JobState.DONE, job.error
    run = BacktestRun.objects.get()
    study = run.settings["study"]
    assert run.metrics["mean"]["profit"] == study["traded"]["profit"]
    assert f"{run.start_at:%Y-%m-%d}" == study["pieces"][0]["out_of_sample"][0] == "2005-01-01"
    assert any("change from window to window" in text for text in run.warnings)
    assert get_ac().read("backtests", f"{run.name}_trials").data.window.tolist() == [
        n for n in range(1, 8) for _ in "abc"
    ]


def test_a_stopped_sweep_keeps_its_table_and_one_without_a_best_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_run, "EVERY_S", 0.0)
    job = work_services.ask_for(JobKind.SWEEP, wish_of("mean.py", {"length": "2:40"}), actor="ana", source="page")
    progress = job_run._Teller.progress

    def stop_soon(teller: Any, fraction: float, text: str) -> None:
        progress(teller, fraction, text)
        if text.startswith("3 of"):
            work_services.ask_to_stop(job.pk, actor="ana", source="page")

    monkeypatch.setattr(job_run._Teller, "progress", stop_soon)
    # one process: a row of the test's transaction is seen by no other
    assert job_run.run_job(job.pk) == JobState.CANCELLED
    stopped = BacktestRun.objects.get()
    assert stopped.state == JobState.CANCELLED
    assert 3 <= stopped.settings["study"]["done"] < 39
    bare = done(JobKind.SWEEP, wish_of("mean.py", {"length": "5,6"}, min_trades=5000))
    run = BacktestRun.objects.get(pk=bare.result["run_id"])
    assert (run.state, run.error) == (JobState.FAILED, "No set closed 5000 trades or more.")


# -- processes of their own


def test_local_processes_give_the_same_table_and_one_that_dies_costs_its_set_alone(folder: Path) -> None:
    (folder / "deadly.py").write_text(DEADLY)
    here = run_sweep(prepare(parse_sweep(wish_of("mean.py", {"length": "5:80:5"}))))
    spread = run_sweep(prepare(parse_sweep(wish_of("deadly.py", {"length": "5:80:5"}, workers=2))))
    (dead,) = [trial for trial in spread.trials if trial.state == "failed"]
    assert dead.params == {"length": 40}
    assert "process died" in dead.error
    calm = [[trial for trial in each.trials if trial.params["length"] != 40] for each in (spread, here)]
    assert table_of(calm[0]).equals(table_of(calm[1]))


def test_processes_that_work_are_stopped_within_seconds(folder: Path) -> None:
    (folder / "slow.py").write_text(SLOW)
    study = prepare(parse_sweep(wish_of("slow.py", {"length": "2:9", "mood": "calm,broken"}, workers=1)))
    told: list[float] = []
    asked: list[float] = []

    def should_stop() -> bool:
        if told:
            asked.append(time.monotonic())
        return len(asked) > 3

    result = run_sweep(study, progress=lambda done, _: told.append(done), should_stop=should_stop)
    assert time.monotonic() - asked[0] < 30 < 60
    assert result.cancelled
    assert [trial.number for trial in result.trials] == [1]


# -- page and API


def test_page_and_api_ask_show_and_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    operator, viewer = signed_in("operator"), signed_in("viewer")
    form = {
        "kind": "sweep", "file": "mean.py", "symbols": "ibm", "start": "2004-01-02", "end": "2007-12-31",
        "source": "sample", "adjust": "none", "space": "length = 5:45:20\n\nunits = 1,1000\n", "workers": "0",
    }  # fmt: skip
    assert viewer.post("/sweeps/start/", form).status_code == 403
    assert operator.post("/sweeps/start/", form).status_code == 302
    job = Job.objects.get()
    assert job.args["space"] == {"length": "5:45:20", "units": "1,1000"}
    assert "length = 5:45:20" in viewer.get("/sweeps/").content.decode()
    job_run.run_job(job.pk)
    run = BacktestRun.objects.get()
    assert run.name in viewer.get("/sweeps/").content.decode()
    text = viewer.get(f"/sweeps/{run.pk}/?sort=trades").content.decode()
    assert text.count("data-shade=") == 6
    trades = [row["metrics"]["trades"] for row in run.settings["study"]["rows"]]
    shown = [int(part.split("</td>")[0]) for part in _column(text, 3 + 7 + 1)]
    assert shown == sorted(trades, reverse=True)
    assert f"/sweeps/{run.pk}/" in viewer.get(f"/backtests/{run.pk}/").content.decode()
    listed = viewer.get("/api/backtest/studies").json()["items"]
    assert [(one["name"], one["kind"], one["done"]) for one in listed] == [(run.name, "sweep", 6)]
    assert viewer.get(f"/api/backtest/study/{run.pk}").json()["study"]["done"] == 6
    assert "study" not in viewer.get(f"/api/backtest/result/{run.pk}").json()["settings"]
    wish = {**wish_of("mean.py", {"length": [5, 6]}), **WINDOWS}
    answer = operator.post("/api/backtest/walk-forward", json.dumps(wish), content_type="application/json")
    assert answer.status_code == 202, answer.content
    assert operator.post(f"/api/backtest/cancel/{answer.json()['id']}").status_code == 202
    assert viewer.get("/sweeps/4711/").status_code == viewer.get("/api/backtest/study/4711").status_code == 404
    assert Client().get("/sweeps/").status_code == 302


def _column(text: str, place: int) -> list[str]:
    body = text.split('<table class="sheet" id="sets">')[1].split("<tbody>")[1].split("</tbody>")[0]
    return [row.split('<td class="num"')[place].split(">", 1)[1] for row in body.split("<tr")[1:]]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"space": "length 5"}, "write a line as"),
        ({"space": "length = 5:1"}, "length: it would end at 1"),
        ({"params": "{"}, "no JSON"),
        ({"source": "parquet:/etc/passwd"}, "command line alone"),
        ({"kind": "walk_forward", "in_sample_days": "0"}, "greater than or equal to 1"),
        ({"end": "2000-01-01"}, "before it starts"),
        ({"cash": "-5"}, "greater than 0"),
    ],
)
def test_a_mistake_is_said_beside_the_form_and_makes_no_job(changes: dict[str, str], words: str) -> None:
    form = {"file": "mean.py", "start": "2004-01-02", "end": "2005-12-31", "source": "sample", "space": "length = 5,6"}
    answer = signed_in("operator").post("/sweeps/start/", {**form, **changes})
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert not Job.objects.exists()
