"""Sweeps: figures are those of single backtests, failures are rows, searches repeat, no later bar is seen."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from strategies.exceptions import ConfigError
from tests.support.studies import wish_of, write_files
from trading.backtest import compiled_result
from trading.backtest.engine import run_backtest
from trading.backtest.launch import launch_of
from trading.backtest.metrics import all_metrics
from trading.backtest.study_json import sweep_as_json
from trading.backtest.study_store import table_of
from trading.backtest.sweep import Study, SweepResult, best_of, prepare, ranked, run_sweep
from trading.backtest.sweep_wish import parse_sweep
from trading.backtest.trials import KEPT
from trading.backtest.wish import parse_wish

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def folder(settings: Any, tmp_path: Path) -> Path:
    settings.MATS = dataclasses.replace(settings.MATS, strategy_path=(tmp_path,))
    write_files(tmp_path)
    return tmp_path


def made(file: str, space: dict[str, Any], **changes: Any) -> tuple[Study, SweepResult]:
    study = prepare(parse_sweep(wish_of(file, space, **changes)))
    return study, run_sweep(study)


def alone(file: str, params: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a backtest of one set."""
    backtest = wish_of(file, {"length": "2"})["backtest"]
    launch = launch_of(parse_wish({**backtest, "strategies": [{"file": file, "params": params}]}))
    (figures,) = all_metrics(run_backtest(launch.spec)).values()
    return figures


def test_each_set_has_the_figures_of_a_backtest_of_its_own() -> None:
    _, result = made("mean.py", {"length": "5:45:20", "units": [1, 1000]})
    assert len(result.trials) == 6
    for trial in result.trials:
        figures = alone("mean.py", trial.params)
        assert {name: trial.figures.metrics[name] for name in KEPT} == {name: figures[name] for name in KEPT}


def test_the_compiled_loop_and_the_engine_give_equal_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[object] = []
    run_on = compiled_result.run_on

    def counted(*args: Any) -> Any:
        runs.append(run_on(*args))
        return runs[-1]

    monkeypatch.setattr(compiled_result, "run_on", counted)
    _, quick = made("mean.py", {"length": "2:60:2"})
    assert len(runs) == 30
    assert None not in runs
    _, slow = made("mean_by_bars.py", {"length": "2:60:2"})
    assert len(runs) == 30
    assert table_of(quick.trials).equals(table_of(slow.trials))
    assert (quick.overfitting, quick.deflated) == (slow.overfitting, slow.deflated)
    assert quick.overfitting.value is not None


def test_a_set_that_fails_is_a_row_with_its_reason_and_ends_nothing() -> None:
    study, result = made("mean.py", {"length": "5,10", "mood": "calm,broken"})
    states = {(trial.params["length"], trial.params["mood"]): trial.state for trial in result.trials}
    assert states == {(5, "calm"): "done", (10, "calm"): "done", (5, "broken"): "failed", (10, "broken"): "failed"}
    told = sweep_as_json(study.wish, result)
    assert (told["done"], told["failed"]) == (2, 2)
    assert told["failures"][0]["error"] == "RuntimeError: no mood for this"
    assert [trial.state for trial in ranked(result.trials)] == ["done", "done", "failed", "failed"]


def test_sets_that_the_strategy_refuses_together_are_listed_and_not_run() -> None:
    _, result = made(
        "simple_ma_cross.py",
        {"fast_period": "10,20", "slow_period": "15,30"},
        backtest={"strategies": [{"file": "simple_ma_cross.py", "params": {"interval": "1d", "min_quality": 0}}]},
    )
    refused = [trial for trial in result.trials if trial.state == "refused"]
    assert [trial.params for trial in refused] == [{"fast_period": 20, "slow_period": 15}]
    assert "longer than the fast" in refused[0].error


@pytest.mark.parametrize(
    ("space", "place", "words"),
    [
        ({"lenght": "2,3"}, "space.lenght", "Unknown parameter"),
        ({"length": "1,5"}, "space.length", "1: "),
        ({"length": "5,slow"}, "space.length", "'slow'"),
    ],
)
def test_a_value_that_is_never_taken_ends_the_sweep_before_it_runs(
    space: dict[str, Any], place: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        made("mean.py", space)
    assert words in caught.value.fields["errors"][place]


def test_searches_repeat_by_their_seed_and_hand_out_no_set_twice() -> None:
    for search in ("random", "tpe"):
        wish = {"search": search, "trials": 20, "seed": 3}
        first, again = (made("mean.py", {"length": "2:30", "units": "1:500"}, **wish)[1] for _ in range(2))
        assert [trial.params for trial in first.trials] == [trial.params for trial in again.trials]
        keys = {(trial.params["length"], trial.params["units"]) for trial in first.trials}
        assert len(keys) == len(first.trials) == 20
    small = made("mean.py", {"length": "2:6"}, search="tpe", trials=100)[1]
    assert sorted(trial.params["length"] for trial in small.trials) == [2, 3, 4, 5, 6]


def test_the_best_has_the_highest_objective_among_those_with_enough_trades() -> None:
    _, result = made("mean.py", {"length": "2:100:7"}, objective="win_rate", min_trades=30)
    known = [trial for trial in result.trials if trial.figures.metrics["trades"] >= 30]
    assert 0 < len(known) < len(result.trials)
    assert result.best is not None
    assert result.best.value == max(trial.figures.metrics["win_rate"] for trial in known)
    assert best_of([]) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"min_trades": 10_000}, "No set closed 10000 trades"),
        ({"objective": "profit_factor", "backtest": {"start": "2007-12-20"}}, "profit_factor is known of no set"),
        ({"backtest": {"strategies": [{"file": "mean.py", "params": {"mood": "broken"}}]}}, "no mood for this"),
    ],
)
def test_where_no_set_can_be_ranked_there_is_a_reason_and_no_best(changes: dict[str, Any], words: str) -> None:
    _, result = made("mean.py", {"length": "900,950"}, **changes)
    assert result.best is None
    assert words in result.reason


def test_a_trial_is_given_no_bar_after_its_end() -> None:
    """The bars of the study reach into 2007; a trial that ends in 2005 must not have any of them laid out."""
    study = prepare(parse_sweep(wish_of("peek.py", {"length": "1,2"})))
    from trading.backtest.pools import pool_of
    from trading.backtest.sweep import search_period

    end = study.wish.backtest.end.replace(year=2005, month=6, day=15)
    with pool_of(study.kit, study.runner, 0) as pool:
        trials, _, _ = search_period(study, pool, (study.wish.backtest.start, end), None, lambda: False)
    assert {trial.error.splitlines()[-1] for trial in trials} == {"RuntimeError: 2005-06-15 is the last bar laid out"}


def test_stopped_it_keeps_what_is_done() -> None:
    study = prepare(parse_sweep(wish_of("mean.py", {"length": "2:40:1"})))
    told: list[float] = []
    result = run_sweep(study, progress=lambda done, _: told.append(done), should_stop=lambda: len(told) >= 5)
    assert result.cancelled
    assert [trial.number for trial in result.trials] == [1, 2, 3, 4, 5]
    assert told == sorted(told)


def test_the_surface_has_a_value_for_each_pair_and_none_where_there_is_none() -> None:
    study, result = made("mean.py", {"length": "5,10,15", "mood": "calm,broken,odd"})
    surface = sweep_as_json(study.wish, result)["surface"]
    assert (surface["x"], surface["xs"], surface["y"], surface["ys"]) == (
        "mood",
        ["calm", "odd"],
        "length",
        [5, 10, 15],
    )
    by_set = {(trial.params["length"], trial.params["mood"]): trial.value for trial in result.trials}
    assert surface["values"][1] == [pytest.approx(by_set[10, "calm"]), pytest.approx(by_set[10, "odd"])]
