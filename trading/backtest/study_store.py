"""Keep what a sweep or a walk-forward came to: a run with the study beside its settings, all sets in ArcticDB.

Owns: the run that a study leaves, the table of all sets. Leaves: the study's own shape (``study_json``), runs
themselves (``store``). Rule: a study leaves one run whatever became of it: its best set over the whole period, or what
was traded out of sample; without either a row that says why. Shape of ``backtests/<name>_trials``: a row a set, the
best first; ``time_ns`` the run's end, ``number``, ``state``, ``window`` (0 in a sweep), ``params`` as JSON text, a
float64 column a figure (NaN where it is not known), ``error``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from portfolio.arctic.lock import ArcticBusyError
from portfolio.arctic.parcels import drain_if_free, submit
from strategies.bar_series import nanos_of
from strategies.exceptions import ConfigError
from trading.backtest import store
from trading.backtest.contracts import BacktestResult
from trading.backtest.launch import Launch
from trading.backtest.metrics import all_metrics
from trading.backtest.report import render_report
from trading.backtest.study_json import sweep_as_json
from trading.backtest.sweep import Study, SweepResult, Trial, last_line, launch_with, ranked, run_again
from trading.backtest.sweep_wish import WalkForwardWish
from trading.backtest.trials import KEPT
from trading.backtest.walk_forward import WalkForwardResult
from trading.backtest.walk_json import walk_forward_as_json
from trading.backtest.wish import BacktestWish
from trading.work_models import BacktestRun, JobState

STUDY = "study"


def table_of(trials: Sequence[Trial], window: int = 0) -> pd.DataFrame:
    """Return all sets as the frame that is kept, but for its first column."""
    rows = ranked(trials)
    columns: dict[str, Any] = {
        "window": pd.Series([window] * len(rows), dtype="int64"),
        "number": pd.Series([trial.number for trial in rows], dtype="int64"),
        "state": [trial.state for trial in rows],
        "params": [json.dumps(trial.params, sort_keys=True) for trial in rows],
    }
    for name in KEPT:
        columns[name] = pd.Series([_float(trial.figures.metrics.get(name)) for trial in rows], dtype="float64")
    columns["error"] = [trial.error for trial in rows]
    return pd.DataFrame(columns)


def walk_forward_table(result: WalkForwardResult) -> pd.DataFrame:
    """Return all sets of all windows, window by window."""
    tables = [table_of(piece.trials, piece.window.number) for piece in result.pieces]
    return pd.concat(tables, ignore_index=True) if tables else table_of([])


def _float(value: Any) -> float:
    return float("nan") if value is None else float(value)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table by its file's ending.

    Raises: ConfigError (bad_table) for another ending, or what cannot be written.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"{path.name} must end in .csv or .parquet.", code="bad_table")
    try:
        if path.suffix == ".csv":
            table.to_csv(path, index=False)
        else:
            table.to_parquet(path, index=False)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", code="bad_table") from error


def keep_sweep(study: Study, result: SweepResult, *, actor: str, job_id: int | None = None) -> BacktestRun:
    """Keep a sweep; the best set is run once more for all that it has, unless the sweep was cancelled.

    Raises: MatsError when it cannot be kept; the row says so then.
    """
    made, table = sweep_as_json(study.wish, result), table_of(result.trials)
    if result.best is None or result.cancelled:
        return keep_bare(study, made, table, actor, job_id)
    ran, launch = run_again(study, result.best)
    return keep_run(study.wish.backtest, launch, ran, made, table, actor, job_id)


def keep_walk_forward(
    study: Study, wish: WalkForwardWish, result: WalkForwardResult, *, actor: str, job_id: int | None = None
) -> BacktestRun:
    """Keep a walk-forward; its run is what was traded out of sample.

    Raises: MatsError when it cannot be kept; the row says so then.
    """
    made = walk_forward_as_json(wish, result)
    table = walk_forward_table(result)
    if result.traded is None:
        return keep_bare(study, made, table, actor, job_id)
    launch = launch_with(study, study.given)
    launch.notes.append("Parameters change from window to window; the study says which. Each window ends flat.")
    launch.notes.extend(
        f"Window {piece.window.number} failed out of sample: {last_line(piece.error)}"
        for piece in result.pieces
        if piece.error
    )
    ran = replace(result.traded, cancelled=result.cancelled)
    traded = wish.backtest.model_copy(update={"start": ran.started})
    return keep_run(traded, launch, ran, made, table, actor, job_id)


def keep_run(
    wish: BacktestWish,
    launch: Launch,
    ran: BacktestResult,
    made: Mapping[str, Any],
    table: pd.DataFrame,
    actor: str,
    job_id: int | None,
) -> BacktestRun:
    """Keep a study with its run: row, report, series, table."""
    run, figures = _begin(wish, launch, made, actor, job_id), all_metrics(ran)
    try:
        store.keep_report(run, render_report(run.name, wish, launch, ran, figures))
        store.finish(run, ran, figures)
        _keep_table(run, table, nanos_of(ran.ended))
    except BaseException as error:
        store.give_up(run, f"{type(error).__name__}: {error}")
        raise
    return run


def keep_bare(
    study: Study, made: Mapping[str, Any], table: pd.DataFrame, actor: str, job_id: int | None
) -> BacktestRun:
    """Keep a study that has no run: cancelled, or without a set that can be ranked."""
    wish = study.wish.backtest
    run = _begin(wish, launch_with(study, study.given), made, actor, job_id)
    run.state = JobState.CANCELLED if made["cancelled"] else JobState.FAILED
    run.error = "" if made["cancelled"] else str(made["reason"])
    run.save()
    _keep_table(run, table, nanos_of(wish.end))
    return run


def _begin(wish: BacktestWish, launch: Launch, made: Mapping[str, Any], actor: str, job_id: int | None) -> BacktestRun:
    named = wish if wish.description else wish.model_copy(update={"description": made["kind"]})
    run = store.begin(named, launch, actor=actor, job_id=job_id)
    run.settings[STUDY] = dict(made)
    run.save(update_fields=["settings"])
    return run


def _keep_table(run: BacktestRun, table: pd.DataFrame, ended_ns: int) -> None:
    if not len(table):
        return
    table.insert(0, "time_ns", pd.Series([ended_ns] * len(table), dtype="int64"))
    submit(
        store.LIBRARY,
        f"{run.name}_trials",
        table,
        mode="write",
        metadata={"run": run.name, "part": "trials"},
        source=f"backtest:{run.pk}",
    )
    with suppress(ArcticBusyError):  # an engine writes there: it takes the parcel soon
        drain_if_free()
