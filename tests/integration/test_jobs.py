"""Jobs of the worker: claimed once, told of, stopped, and failed in words when their process or worker dies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from strategies.exceptions import ConfigError, ConflictError
from trading import job_run, work_services, worker
from trading.job_kinds import work_of
from trading.work_models import BacktestRun, Job, JobKind, JobState

pytestmark = pytest.mark.django_db

WISH: dict[str, Any] = {
    "strategies": [{"file": "simple_ma_cross.py", "params": {"interval": "1d", "min_quality": 0}}],
    "symbols": ["AAPL"],
    "source": "sample",
    "start": "2011-01-03",
    "end": "2012-12-31",
}
NOW = datetime(2026, 1, 5, tzinfo=UTC)


def asked(kind: str = JobKind.BACKTEST, args: Mapping[str, Any] = WISH) -> Job:
    return work_services.ask_for(kind, args, actor="ana", source="page")


def done_by(monkeypatch: pytest.MonkeyPatch, work: Callable[..., Any]) -> Job:
    """Do a claimed job by a function of the test and return its row."""
    monkeypatch.setattr(job_run, "work_of", lambda kind: work)
    job = asked()
    worker.claim("w", NOW)
    job_run.run_job(job.pk)
    job.refresh_from_db()
    return job


def test_a_backtest_is_run_and_kept_with_figures_curves_and_report() -> None:
    job = asked()
    assert job_run.run_job(job.pk) == JobState.DONE
    run = BacktestRun.objects.get()
    assert (run.state, run.created_by, run.job_id, run.interval) == (JobState.DONE, "ana", job.pk, "1d")
    figures = run.metrics["simple_ma_cross"]
    assert run.fills == figures["fills"] > 0
    assert run.strategies[0]["sha256"]
    assert len(run.curves["at"]) == len(run.curves["equity"][0]) > 10
    from trading.backtest.store import report_path

    assert "simple_ma_cross" in report_path(run).read_text()
    work_services.forget_run(run, actor="ana", source="page")
    assert not report_path(run).exists()


def test_jobs_are_claimed_in_order_and_once() -> None:
    first, second = asked(), asked()
    assert [worker.claim("a", NOW), worker.claim("b", NOW), worker.claim("a", NOW)] == [first, second, None]
    assert list(Job.objects.order_by("id").values_list("worker", flat=True)) == ["a", "b"]


def test_a_waiting_job_is_cancelled_at_once_and_a_running_one_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    job = asked()
    work_services.ask_to_stop(job.pk, actor="ana", source="page")
    assert worker.claim("w", NOW) is None
    with pytest.raises(ConflictError):
        work_services.ask_to_stop(job.pk, actor="ana", source="page")

    def until_asked(args: Any, progress: Any, should_stop: Callable[[], bool], job_id: int) -> dict[str, Any]:
        work_services.ask_to_stop(job_id, actor="ana", source="page")
        while not should_stop():
            pass
        return {"so far": 3}

    monkeypatch.setattr(job_run, "EVERY_S", 0.0)
    stopped = done_by(monkeypatch, until_asked)
    assert (stopped.state, stopped.result) == (JobState.CANCELLED, {"so far": 3})


def test_what_goes_wrong_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> dict[str, Any]:
        raise ConfigError("There are no bars.")

    def fail(*_: Any) -> dict[str, Any]:
        raise ZeroDivisionError

    assert done_by(monkeypatch, refuse).error == "There are no bars."
    broken = done_by(monkeypatch, fail)
    assert broken.state == JobState.FAILED
    assert "ZeroDivisionError" in broken.error


def test_progress_is_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def work(args: Any, progress: Callable[[float, str], None], should_stop: Any, job_id: int) -> dict[str, Any]:
        for fraction in (-1.0, 0.5, 7.0):
            progress(fraction, "x" * 900)
            seen.append(Job.objects.get(pk=job_id).progress)
        return {}

    monkeypatch.setattr(job_run, "EVERY_S", 0.0)
    done_by(monkeypatch, work)
    assert seen == [0.0, 0.5, 1.0]


def test_a_job_whose_worker_fell_silent_is_failed_and_not_repeated() -> None:
    job = asked()
    worker.claim("w", NOW)
    assert worker.fail_abandoned(NOW + timedelta(seconds=10)) == 0
    assert worker.fail_abandoned(NOW + timedelta(seconds=60)) == 1
    job.refresh_from_db()
    assert job.state == JobState.FAILED
    assert "ask for it again" in job.error
    assert worker.claim("w", NOW) is None


def test_a_process_that_ended_without_a_word_fails_its_job() -> None:
    job = asked()
    worker.claim("w", NOW)
    worker.Worker()._ended(job, -9, "", b"last words")
    job.refresh_from_db()
    assert (job.state, "killed" in job.error, "last words" in job.error) == (JobState.FAILED, True, True)


def test_files_come_from_the_command_line_alone() -> None:
    with pytest.raises(ConfigError, match="command line alone"):
        asked(args={**WISH, "source": "parquet:/etc/passwd"})
    assert not Job.objects.exists()


def test_a_kind_that_nothing_does_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="scan"):
        work_of("scan")


def test_old_jobs_are_forgotten_and_their_runs_stay() -> None:
    job = asked()
    job_run.run_job(job.pk)
    assert worker.prune(datetime.now(UTC)) == 0
    assert worker.prune(datetime.now(UTC) + timedelta(days=31)) >= 1
    assert BacktestRun.objects.get().job is None
