"""``manage.py run_session``: files and names, what the command line changes, exit codes, what is kept."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from django.core.management import CommandError, call_command

from tests.support.session_files import FINDER, GATES, recorder
from tests.support.sessions import DAY_MINUTES, frames_of, raw_session
from trading.session_models import ScanRun, SessionConfig, SessionRun

pytestmark = pytest.mark.django_db(transaction=True)

RECORDER = {"module": "recorder", "config": {"pairs": [["AAPL", "1m"]], "every": 50}}


@pytest.fixture
def place(settings: Any, tmp_path: Path) -> Path:
    """A folder with stored bars of AAPL and TSLA, a strategy and a scanner."""
    GATES.clear()
    folder = tmp_path / "strategies"
    (folder / "scanners").mkdir(parents=True)
    (folder / "recorder.py").write_text(recorder("Recorder"))
    (folder / "scanners" / "finder.py").write_text(FINDER)
    (tmp_path / "bars").mkdir()
    parts = [frame.assign(symbol=symbol) for (symbol, _), frame in frames_of({"AAPL": 1, "TSLA": 2}).items()]
    pd.concat(parts).reset_index().to_parquet(tmp_path / "bars" / "two.parquet")
    settings.MATS = dataclasses.replace(settings.MATS, strategy_path=(folder,), mats_home=tmp_path)
    return tmp_path


def raw(*strategies: Mapping[str, Any], **parts: Any) -> dict[str, Any]:
    return {**raw_session(strategies or [RECORDER], **parts), "api_config": {"data_source": "parquet:two.parquet"}}


def run(named: object, **options: Any) -> str:
    """Run the command; return what it wrote."""
    out = io.StringIO()
    call_command("run_session", str(named), stdout=out, stderr=out, **options)
    return out.getvalue()


def refused(named: object, **options: Any) -> tuple[int, str]:
    """Run what cannot be run to its end; return exit code and words."""
    with pytest.raises(CommandError) as caught:
        run(named, **options)
    return caught.value.returncode, str(caught.value)


def write(place: Path, config: Mapping[str, Any], name: str = "two.json") -> Path:
    path = place / name
    path.write_text(json.dumps(config))
    return path


def test_a_file_is_run_and_its_run_kept(place: Path) -> None:
    said = run(write(place, raw()), fills=place / "fills.csv")
    row = SessionRun.objects.get()
    assert (row.name, row.mode, row.phase, row.error) == ("two", "data-driven", "ended", "")
    assert row.metrics["totals"]["bars"] == DAY_MINUTES
    assert row.ended_at is not None
    assert str(row.clock_at) == "2024-01-02 21:00:00+00:00"
    [line] = [line for line in said.splitlines() if line.startswith("recorder: equity ")]
    assert f"Session run {row.pk}." in said
    with (place / "fills.csv").open() as file:
        fills = list(csv.DictReader(file))
    assert f"{len(fills)} fills" in line
    assert len(fills) == row.metrics["totals"]["fills"] == 7
    assert (fills[0]["time"], fills[0]["symbol"], fills[0]["quantity"]) == ("2024-01-02T15:20:00+00:00", "AAPL", "10")


def test_a_saved_session_is_run_by_its_name(place: Path) -> None:
    SessionConfig.objects.create(name="saved", config=raw())
    run("saved")
    assert SessionRun.objects.get().name == "saved"


def test_the_command_line_changes_mode_speed_and_source(place: Path) -> None:
    path = write(place, {**raw(), "api_config": {"data_source": "sample"}})
    assert refused(path)[0] == 1
    run(path, source="parquet:two.parquet", mode="clock-driven", speed=60_000.0)
    last = SessionRun.objects.first()
    assert last is not None
    assert (last.mode, last.phase) == ("clock-driven", "ended")


def test_scans_are_kept(place: Path) -> None:
    scanner = {
        "module": "scanners.finder",
        "regular_session": [{"start": "10:00", "end": "11:00", "interval": "30m"}],
        "config": {"universe": ["TSLA"], "finds": ["TSLA"], "at_scan": 2},
    }
    run(write(place, raw(data={"scanners": [scanner]})))
    rows = ScanRun.objects.order_by("at")
    assert [(f"{row.at:%H:%M}", row.symbols, row.details["promoted"]) for row in rows] == [
        ("15:00", [], []),
        ("15:30", ["TSLA"], ["TSLA"]),
        ("16:00", ["TSLA"], []),
    ]
    assert {row.session for row in rows} == {SessionRun.objects.get()}


def test_what_is_configured_wrongly_is_told_place_by_place_and_starts_nothing(place: Path) -> None:
    config = raw()
    config["session_data_config"]["streams"] = ["7x"]
    config["speed"] = 3
    code, words = refused(write(place, config))
    assert code == 2
    assert "session_data_config.streams[0]" in words
    assert "speed: " in words
    assert refused("nobody")[0] == 2
    assert refused(place / "missing.json") == (2, f"There is no file {place / 'missing.json'}.")
    (place / "broken.json").write_text("{")
    assert refused(place / "broken.json")[0] == 2
    assert not SessionRun.objects.exists()


def test_a_session_that_fails_tells_why_on_the_terminal_and_in_its_row(place: Path) -> None:
    code, words = refused(write(place, raw(symbols=["AAPL", "NONE"])))
    assert code == 1
    assert "There are no stored bars of NONE 1m" in words
    row = SessionRun.objects.get()
    assert row.phase == "failed"
    assert "no stored bars of NONE" in row.message
    assert "Traceback" in row.error
    assert row.ended_at is not None


def test_ctrl_c_ends_a_session_in_order_and_keeps_what_it_did(place: Path) -> None:
    strategies: list[Any] = []

    def gate(strategy: Any, symbol: str, interval: str) -> None:
        if len(strategy.told) == 5:
            strategies.append(strategy)
            os.kill(os.getpid(), signal.SIGINT)

    GATES["recorder"] = gate
    before = signal.getsignal(signal.SIGINT)
    trades_often = {"module": "recorder", "config": {"pairs": [["AAPL", "1m"]], "every": 1}}
    code, words = refused(write(place, raw(trades_often, speed=600)), fills=place / "fills.csv")
    assert (code, words) == (130, "Stopped by Ctrl-C; what it did until then is kept.")
    assert signal.getsignal(signal.SIGINT) is before
    row = SessionRun.objects.get()
    assert (row.phase, row.ended_at is not None) == ("stopped", True)
    assert 5 <= row.metrics["totals"]["bars"] < 100, "a bar a tenth of a second"
    assert strategies[0].ended
    assert len((place / "fills.csv").read_text().splitlines()) == 1 + row.metrics["totals"]["fills"] >= 4
    assert not [one for one in threading.enumerate() if one.name.startswith(("Session-", "Strategy-"))]


def test_a_live_session_needs_an_engine(place: Path) -> None:
    live = {"mode": "live", "session_data_config": {"symbols": ["SPY"], "streams": ["1m"], "strategies": [RECORDER]}}
    SessionConfig.objects.create(name="desk", config=live)
    code, words = refused("desk")
    assert (code, words) == (3, "No engine runs. Start it (manage.py run_engine) and try again.")
    assert not SessionRun.objects.exists()


def test_progress_goes_to_the_terminal_in_lines(place: Path) -> None:
    said = run(write(place, raw()))
    phases = [line.split()[0] for line in said.splitlines() if line.split()[0] in ("validating", "streaming", "ended")]
    assert phases[0] == "validating"
    assert "streaming" in phases
    assert phases[-1] == "ended"
