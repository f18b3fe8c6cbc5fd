"""The Checks pages and their API twin: who may, what is refused, what is shown of each verdict."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client

from tests.integration.web.test_backtest_pages import made_run, signed_in
from trading import job_run
from trading.work_models import Job, JobKind, JobState

pytestmark = pytest.mark.django_db

FORM = {
    "files": "simple_ma_cross.py",
    "symbols": "aapl",
    "start": "2010-01-04",
    "end": "2011-12-30",
    "source": "sample",
    "params": '{"interval": "1d", "min_quality": 0, "fast_period": 2, "slow_period": 4}',
    "trades": "2",
    "minimum": "3",
    "lengths": "50, 100, 9000",
}
LOOKAHEAD = {
    "strategy": "cheat", "verdict": "lookahead", "trades": 12, "sampled": 2, "entries": 2, "exits": 2, "orders": 0,
    "quiet": 1, "reruns": 5, "found": 3, "findings": ["An entry of 2010 is not there."], "reasons": [],
}  # fmt: skip
SHADOW = {
    "verdict": "different", "strategy": "TURN", "day": "2026-03-02", "orders": 2, "differences": 1, "bars": 78,
    "signals": 2, "refused": {"order_working": 1}, "reasons": [], "notes": ["The code was changed."],
    "different": [{"at": "2026-03-02 15:30:00", "symbol": "SPY", "what": "missing: not placed live", "live": "",
                   "replayed": "15:30:00 BUY 10 MKT", "ref": ""}],
    "same": [], "files": [], "lives": [], "data_versions": {},
}  # fmt: skip


@pytest.fixture
def operator() -> Client:
    return signed_in("operator")


def made_job(kind: str, result: dict[str, Any] | None = None, **changes: Any) -> Job:
    now = datetime.now(UTC)
    fields = {"kind": kind, "state": JobState.DONE, "result": result or {}, "created_by": "ana", "created_at": now}
    return Job.objects.create(**fields | changes)


def text_of(client: Client, job: Job) -> str:
    answer = client.get(f"/checks/{job.pk}/")
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_form_becomes_a_lookahead_check_and_its_page_tells_the_verdict(operator: Client) -> None:
    answer = operator.post("/checks/start/", {**FORM, "kind": "lookahead"})
    job = Job.objects.get()
    assert (answer.status_code, answer.headers["Location"]) == (302, f"/checks/{job.pk}/")
    assert (job.kind, job.created_by, job.args["trades"]) == ("lookahead", "operator-user", "2")
    assert "data-busy" in text_of(operator, job)
    job_run.run_job(job.pk)
    text = text_of(operator, job)
    assert 'data-tone="good">clean' in text
    assert "Every run over fewer bars was, to its end, the run over all bars." in text
    assert "data-busy" not in text
    assert "simple_ma_cross.py AAPL 2010-01-04 to 2011-12-30" in operator.get("/checks/").content.decode()


def test_the_warm_up_check_shows_every_length_and_what_was_not_compared(operator: Client) -> None:
    operator.post("/checks/start/", {**FORM, "kind": "warm_up"})
    job = Job.objects.get()
    assert job.args["lengths"] == ["50", "100", "9000"]
    job_run.run_job(job.pk)
    text = text_of(operator, job)
    assert 'data-tone="good">enough' in text
    assert "It declares 300 bars of warm-up; of the lengths tried 50 is the smallest that is enough." in text
    assert "300 (declared)" in text
    assert "not compared" in text


def test_a_kept_run_is_checked_with_its_own_files_parameters_and_period(operator: Client) -> None:
    run = made_run(
        strategies=[{"file": "simple_ma_cross.py", "name": "ma", "params": {"interval": "1d"}, "cash": "5"}],
        symbols=["AAPL"],
        start_at=datetime(2010, 1, 4, tzinfo=UTC),
        settings={"adjust": "all", "fees": "none", "seed": 3},
    )
    assert "Can it be believed?" in operator.get(f"/backtests/{run.pk}/").content.decode()
    answer = operator.post(f"/checks/runs/{run.pk}/", {"kind": "warm_up"})
    job = Job.objects.get()
    assert answer.headers["Location"] == f"/checks/{job.pk}/"
    asked = job.args["backtest"]
    assert (job.args["run"], asked["strategies"][0]["name"], asked["adjust"]) == (run.pk, "ma", "all")
    assert (asked["costs"], asked["seed"], asked["interval"]) == ({"fees": "none"}, 3, "1d")
    assert f"/backtests/{run.pk}/" in text_of(operator, job)


def test_lookahead_that_was_found_is_shown_in_sentences_with_how_many_there_are(operator: Client) -> None:
    job = made_job(JobKind.LOOKAHEAD, {"verdict": "lookahead", "strategies": [LOOKAHEAD], "notes": ["Bars changed."]})
    text = text_of(operator, job)
    assert 'data-tone="bad">lookahead' in text
    for words in ("An entry of 2010 is not there.", "the first 1 of 3", "Bars changed."):
        assert words in text


def test_a_replay_shows_order_beside_order(operator: Client) -> None:
    text = text_of(operator, made_job(JobKind.SHADOW, SHADOW, args={"strategy": "TURN", "day": "2026-03-02"}))
    for words in ("TURN on 2026-03-02", "missing: not placed live", "15:30:00 BUY 10 MKT", "The code was changed."):
        assert words in text
    assert "1 × order_working" in text


def test_an_inconclusive_verdict_is_neither_good_nor_bad(operator: Client) -> None:
    untold = {**LOOKAHEAD, "verdict": "inconclusive", "findings": [], "found": 0, "reasons": ["It made 2 trades."]}
    job = made_job(JobKind.LOOKAHEAD, {"verdict": "inconclusive", "strategies": [untold]})
    text = text_of(operator, job)
    assert 'data-tone="warn">inconclusive' in text
    assert "It made 2 trades." in text


def test_a_failed_check_says_why_and_an_empty_one_that_it_has_no_answer(operator: Client) -> None:
    failed = made_job(JobKind.WARM_UP, state=JobState.FAILED, error="sample has no bars of ZZZ.")
    assert "sample has no bars of ZZZ." in text_of(operator, failed)
    assert "It ended without an answer." in text_of(operator, made_job(JobKind.WARM_UP, state=JobState.CANCELLED))


def test_nothing_checked_yet_says_how_to_begin(operator: Client) -> None:
    text = operator.get("/checks/").content.decode()
    assert "Nothing was checked yet." in text
    assert "There is no reactive strategy whose days could be replayed." in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"params": "{"}, "no JSON"),
        ({"end": "2009-01-01"}, "before it starts"),
        ({"start": "soon"}, "start"),
        ({"source": "parquet:/etc/passwd"}, "command line alone"),
        ({"trades": "many"}, "valid integer"),
    ],
)
def test_what_cannot_be_checked_is_said_at_the_form(operator: Client, changes: dict[str, str], words: str) -> None:
    answer = operator.post("/checks/start/", {**FORM, "kind": "lookahead", **changes})
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert not Job.objects.exists()


def test_a_day_that_is_none_is_refused(operator: Client) -> None:
    assert operator.post("/checks/shadow/", {"strategy": "TURN", "day": "someday"}).status_code == 422
    assert operator.post("/checks/start/", {**FORM, "kind": "ingest"}).status_code == 404
    assert not Job.objects.exists()


def test_a_check_that_waits_is_stopped(operator: Client) -> None:
    operator.post("/checks/start/", {**FORM, "kind": "lookahead"})
    job = Job.objects.get()
    assert operator.post(f"/checks/{job.pk}/stop/").status_code == 302
    job.refresh_from_db()
    assert job.state == JobState.CANCELLED
    assert operator.post(f"/checks/{job.pk}/stop/").status_code == 409


def test_a_viewer_sees_and_starts_nothing() -> None:
    viewer, run = signed_in("viewer"), made_run()
    job = made_job(JobKind.SHADOW, SHADOW)
    assert "Check for lookahead" not in viewer.get("/checks/").content.decode()
    assert "different" in text_of(viewer, job)
    assert "Can it be believed?" not in viewer.get(f"/backtests/{run.pk}/").content.decode()
    for address in ("/checks/start/", "/checks/shadow/", f"/checks/runs/{run.pk}/", f"/checks/{job.pk}/stop/"):
        assert viewer.post(address, {**FORM, "kind": "lookahead"}).status_code == 403
        assert viewer.get(address).status_code == 403
    assert Job.objects.count() == 1


def test_nobody_sees_anything_without_a_login() -> None:
    job = made_job(JobKind.SHADOW, SHADOW)
    for address in ("/checks/", f"/checks/{job.pk}/"):
        assert Client().get(address).status_code == 302


def test_jobs_of_other_kinds_are_no_checks(operator: Client) -> None:
    job = made_job(JobKind.BACKTEST)
    for address in (f"/checks/{job.pk}/", "/checks/4711/", f"/api/backtest/checks/{job.pk}"):
        assert operator.get(address).status_code == 404
    assert operator.post("/checks/runs/4711/", {"kind": "lookahead"}).status_code == 404


def test_what_strategies_say_is_written_as_text(operator: Client) -> None:
    hostile = "<script>alert(1)</script>"
    looked = {**LOOKAHEAD, "strategy": hostile, "findings": [hostile], "reasons": [hostile]}
    job = made_job(
        JobKind.LOOKAHEAD, {"verdict": "lookahead", "strategies": [looked], "notes": [hostile]}, error=hostile
    )
    assert hostile not in text_of(operator, job)
    assert hostile not in operator.get("/checks/").content.decode()


def test_the_api_asks_and_shows_as_the_page_does(operator: Client) -> None:
    backtest = {
        "strategies": [{"file": "simple_ma_cross.py", "params": {"interval": "1d"}}],
        "symbols": ["AAPL"],
        "source": "sample",
        "start": "2011-01-03",
        "end": "2012-12-31",
    }
    run = made_run(
        strategies=[{"file": "simple_ma_cross.py", "name": "ma", "params": {}, "cash": "5"}],
        symbols=["AAPL"],
        start_at=datetime(2010, 1, 4, tzinfo=UTC),
    )

    def send(kind: str, body: dict[str, Any]) -> Any:
        return operator.post(f"/api/backtest/checks/{kind}", json.dumps(body), content_type="application/json")

    asked = send("lookahead", {"backtest": backtest, "trades": 3})
    assert (asked.status_code, asked.json()["args"]["trades"]) == (202, 3)
    assert send("warm-up", {"run": run.pk, "lengths": [10, 20]}).json()["args"]["run"] == run.pk
    assert send("shadow", {"strategy": "TURN", "day": "2026-03-02"}).status_code == 202
    assert [one["kind"] for one in operator.get("/api/backtest/checks").json()["items"]] == [
        "shadow",
        "warm_up",
        "lookahead",
    ]
    assert operator.get(f"/api/backtest/checks/{asked.json()['id']}").json()["state"] == "queued"
    assert send("lookahead", {}).status_code == 422
    assert send("warm-up", {"run": 4711}).status_code == 404
    assert send("warm-up", {"backtest": backtest, "lengths": [0]}).status_code == 422
