"""Checks of honesty as commands and jobs: verdicts by exit code, answers kept with the job, bad input refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from strategies.exceptions import ConfigError
from trading import job_run, work_services
from trading.work_models import Job, JobKind, JobState

pytestmark = pytest.mark.django_db

BARS = ["--symbols", "AAPL", "--source", "sample", "--start", "2010-01-04", "--end", "2012-12-31"]
PARAMS = ["--params", '{"interval": "1d", "min_quality": 0, "fast_period": 2, "slow_period": 4}']
WISH: dict[str, Any] = {
    "strategies": [{"file": "simple_ma_cross.py", "params": {"interval": "1d", "min_quality": 0, "slow_period": 12}}],
    "symbols": ["AAPL"],
    "source": "sample",
    "start": "2010-01-04",
    "end": "2012-12-31",
}
CHEAT = """
from strategies.reactive import ReactiveStrategy, Signal, SignalAction


class CheatStrategy(ReactiveStrategy):
    was = None

    def get_subscriptions(self):
        return [(symbol, "1d") for symbol in self.config["symbols"]]

    def on_bars(self, symbol, interval):
        bars = self.context.get_bars(symbol, interval)
        closes = bars.whole()[1][3]
        rises = bool(closes[min(len(bars), len(closes) - 1)] > bars.last_close)
        if rises is self.was:
            return None
        self.was = rises
        return [Signal(symbol, SignalAction.BUY if rises else SignalAction.CLOSE, 10 if rises else None)]
"""


@pytest.fixture
def folder(settings: Any, tmp_path: Path) -> Path:
    settings.MATS = dataclasses.replace(settings.MATS, strategy_path=(tmp_path,))
    return tmp_path


def ask(kind: str, args: Mapping[str, Any]) -> Job:
    return work_services.ask_for(kind, args, actor="ana", source="page")


# -- lookahead


def test_a_clean_strategy_ends_the_command_quietly() -> None:
    out = StringIO()
    call_command("check_lookahead", "simple_ma_cross.py", *BARS, *PARAMS, "--trades", "3", "--json", stdout=out)
    answer = json.loads(out.getvalue())
    assert (answer["verdict"], answer["strategies"][0]["entries"]) == ("clean", 3)
    assert answer["files"][0]["sha256"]


def test_a_cheat_ends_the_command_with_1_and_is_told_in_sentences(folder: Path) -> None:
    (folder / "cheat.py").write_text(CHEAT)
    out = StringIO()
    with pytest.raises(CommandError) as caught:
        call_command("check_lookahead", "cheat.py", *BARS, "--trades", "2", "--quiet", "2", stdout=out)
    assert caught.value.returncode == 1
    assert "cheat: lookahead" in out.getvalue()
    assert "when the bars end at" in out.getvalue()


def test_what_cannot_be_told_or_done_ends_the_command_with_2() -> None:
    for extra, text in ((["--minimum", "5000", "--trades", "1"], "inconclusive"), (["--trades", "-1"], "trades")):
        with pytest.raises(CommandError, match=text) as caught:
            call_command("check_lookahead", "simple_ma_cross.py", *BARS, *PARAMS, *extra, stdout=StringIO())
        assert caught.value.returncode == 2


def test_a_lookahead_job_keeps_its_answer() -> None:
    job = ask(JobKind.LOOKAHEAD, {"backtest": WISH, "trades": 2, "minimum": 3, "quiet": 1})
    assert job_run.run_job(job.pk) == JobState.DONE
    job.refresh_from_db()
    [found] = job.result["strategies"]
    assert (job.result["verdict"], found["verdict"], found["sampled"]) == ("clean", "clean", 2)


# -- warm-up

SLOW = """
from strategies.reactive import ReactiveStrategy, Signal, SignalAction


class SlowStrategy(ReactiveStrategy):
    warm_up_bars = 60

    def get_subscriptions(self):
        return [(symbol, "1d") for symbol in self.config["symbols"]]

    def on_bars(self, symbol, interval):
        average = self.context.get_indicator(symbol, interval, "ema", 50).value
        close = self.context.get_bars(symbol, interval).last_close
        return None if average is None or close < average else [Signal(symbol, SignalAction.BUY, 10)]
"""
LENGTHS = ["--lengths", "100,200,400,5000", "--watch", "5"]


def test_a_warm_up_that_is_too_short_ends_the_command_with_1_and_says_what_is_needed(folder: Path) -> None:
    (folder / "slow.py").write_text(SLOW)
    out = StringIO()
    with pytest.raises(CommandError) as caught:
        call_command("check_warm_up", "slow.py", *BARS, *LENGTHS, stdout=out)
    text = out.getvalue()
    assert caught.value.returncode == 1
    assert "It declares 60 bars of warm-up, which is too few: it needs 100. Set warm_up_bars = 100" in text
    assert "5000 bars  not compared" in text


def test_a_warm_up_that_is_enough_ends_the_command_quietly() -> None:
    out = StringIO()
    call_command("check_warm_up", "simple_ma_cross.py", *BARS, *PARAMS, *LENGTHS, "--json", stdout=out)
    answer = json.loads(out.getvalue())
    [found] = answer["strategies"]
    assert (answer["verdict"], found["needed"], found["declared"]) == ("enough", 100, 300)
    assert [one["bars"] for one in found["lengths"]] == [100, 200, 300, 400, 5000]


def test_a_warm_up_check_that_cannot_tell_ends_with_2() -> None:
    for extra, text in ((["--lengths", "4000"], "inconclusive"), (["--lengths", "many"], "lengths")):
        with pytest.raises(CommandError, match=text) as caught:
            call_command(
                "check_warm_up", "simple_ma_cross.py", *BARS[:-1], "2010-06-30", *PARAMS, *extra, stdout=StringIO()
            )
        assert caught.value.returncode == 2


def test_a_warm_up_job_keeps_an_answer_that_is_json_also_where_numbers_are_missing(folder: Path) -> None:
    (folder / "slow.py").write_text(SLOW.replace("warm_up_bars = 60", "warm_up_bars = 20"))
    job = ask(JobKind.WARM_UP, {"backtest": {**WISH, "strategies": [{"file": "slow.py"}]}, "lengths": [100, 400]})
    assert job_run.run_job(job.pk) == JobState.DONE
    job.refresh_from_db()
    [found] = job.result["strategies"]
    assert (job.result["verdict"], found["lengths"][0]["is_missing"], found["lengths"][0]["drift"]) == (
        "short",
        True,
        None,
    )


# -- what pages may ask for


def test_checks_from_pages_take_no_file_as_a_source() -> None:
    for kind in (JobKind.LOOKAHEAD, JobKind.WARM_UP):
        with pytest.raises(ConfigError, match="command line alone"):
            ask(kind, {"backtest": {**WISH, "source": "parquet:/etc/passwd"}})
    assert not Job.objects.exists()


def test_a_wrong_field_is_named_with_its_place() -> None:
    with pytest.raises(ConfigError) as caught:
        ask(JobKind.LOOKAHEAD, {"backtest": {**WISH, "start": "someday"}, "depth": 3})
    assert set(caught.value.fields["errors"]) == {"backtest.start", "depth"}
