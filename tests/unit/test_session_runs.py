"""The record of a session: written at each phase, seldom in between, and never by pretending."""

from __future__ import annotations

import os
import socket
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError

from trading.market.scanners.base import ScanResult
from trading.market.scanners.manager import ScanRecord
from trading.market.session_status import Phase, SessionStatus
from trading.models import EngineEvent
from trading.session_models import ScanRun, SessionRun
from trading.session_runs import RunRecorder, close_lost_runs

pytestmark = pytest.mark.django_db(transaction=True)  # the end of a session closes its connection

NOW = datetime(2024, 1, 2, 15, tzinfo=UTC)


def status(phase: Phase, message: str = "", bars: int = 0) -> SessionStatus:
    return SessionStatus(phase, date(2024, 1, 2), NOW, message, {"totals": {"bars": bars}})


def recorder() -> tuple[RunRecorder, list[float]]:
    now = [100.0]
    return RunRecorder("desk", "data-driven", clock=lambda: now[0]), now


def stored() -> SessionRun:
    return SessionRun.objects.get()


def test_every_phase_is_stored_and_told_at_once() -> None:
    made, _ = recorder()
    for phase in (Phase.LOADING, Phase.STREAMING):
        made.phase(status(phase, bars=3))
        assert stored().phase == phase
    assert (stored().day, stored().clock_at, stored().metrics) == (date(2024, 1, 2), NOW, {"totals": {"bars": 3}})
    assert stored().ended_at is None
    assert [event.payload["phase"] for event in EngineEvent.objects.order_by("id")] == ["loading", "streaming"]


def test_progress_is_made_and_stored_once_a_second() -> None:
    made, now = recorder()
    calls = []

    def make() -> SessionStatus:
        calls.append(now[0])
        return status(Phase.STREAMING, bars=len(calls))

    for moment in (100.0, 100.5, 100.9, 101.0, 101.5):
        now[0] = moment
        made.progress(make)
    assert calls == [100.0, 101.0]
    assert stored().metrics == {"totals": {"bars": 2}}


def test_scans_go_with_the_next_progress() -> None:
    made, now = recorder()
    made.phase(status(Phase.STREAMING))
    result = ScanResult(["SPY"], {"SPY": {"gap_percent": 2.5}}, execution_time_ms=1.5)
    made.scanned(ScanRecord("gap", NOW, result, 3))
    made.scanned(ScanRecord("gap", NOW, ScanResult(error="broken"), 3))
    made.scanned(ScanRecord("gap", NOW, ScanResult(skipped=True), 3))
    assert not ScanRun.objects.exists()
    now[0] += 1
    made.progress(lambda: status(Phase.STREAMING))
    rows = list(ScanRun.objects.order_by("id"))
    assert [(row.symbols, row.error, row.skipped) for row in rows] == [
        (["SPY"], "", False),
        ([], "broken", False),
        ([], "", True),
    ]
    assert rows[0].details == {"promoted": [], "figures": {"SPY": {"gap_percent": 2.5}}}
    assert {row.session for row in rows} == {stored()}


def test_the_end_has_a_time_and_a_failure_its_traceback() -> None:
    made, _ = recorder()
    made.phase(status(Phase.STREAMING, bars=9))
    made.fail("Traceback …", "It broke.")
    run = stored()
    assert (run.phase, run.message, run.error) == (Phase.FAILED, "It broke.", "Traceback …")
    assert run.metrics == {"totals": {"bars": 9}}, "what was reached is kept"
    assert run.ended_at is not None


def test_a_database_that_cannot_be_written_stops_nobody_and_loses_no_scan(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made, _ = recorder()
    made.scanned(ScanRecord("gap", NOW, ScanResult(["SPY"]), 1))

    def broken(*args: Any, **options: Any) -> None:
        raise DatabaseError("disk I/O error")

    with monkeypatch.context() as patched:
        patched.setattr("trading.session_runs.connection.close", lambda: None)
        patched.setattr(SessionRun, "save", broken)
        made.phase(status(Phase.LOADING))
        made.phase(status(Phase.STREAMING))
    assert len([line for line in caplog.messages if "session row not written" in line]) == 1
    made.phase(status(Phase.STREAMING))
    assert stored().phase == Phase.STREAMING
    assert ScanRun.objects.get().symbols == ["SPY"]


def run_row(process: str, *, silent_s: float, phase: Phase = Phase.STREAMING) -> SessionRun:
    now = datetime.now(UTC)
    return SessionRun.objects.create(
        name="desk",
        mode="live",
        phase=phase,
        process=process,
        started_at=now,
        beat_at=now - timedelta(seconds=silent_s),
    )


def test_runs_of_processes_that_are_gone_are_marked_and_no_others() -> None:
    host = socket.gethostname()
    gone = run_row(f"{host}:999999999", silent_s=60)
    away = run_row("elsewhere:1", silent_s=60)
    fresh = run_row("elsewhere:1", silent_s=1)
    thinking = run_row(f"{host}:{os.getpid()}", silent_s=600)
    over = run_row("elsewhere:1", silent_s=600, phase=Phase.ENDED)
    assert close_lost_runs() == 2
    phases = {row.pk: row.phase for row in SessionRun.objects.all()}
    assert (phases[gone.pk], phases[away.pk]) == (Phase.FAILED, Phase.FAILED)
    assert (phases[fresh.pk], phases[thinking.pk], phases[over.pk]) == (Phase.STREAMING, Phase.STREAMING, Phase.ENDED)


def test_a_process_knows_that_what_bears_its_name_is_not_its_own() -> None:
    """An engine in a container has the same number after each start."""
    mine = run_row(f"{socket.gethostname()}:{os.getpid()}", silent_s=0)
    assert close_lost_runs(mine.process) == 1
    assert stored().message == "Its process ended without a word."
