"""The checks of a strategy's honesty as work: from arguments to a small answer that pages and people read.

Owns: loading the files anew for each run, the answers' shape. Leaves: the checks themselves (``lookahead``,
``warm_up``), bars and parameters (``launch``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Any

from strategies.exceptions import ConfigError
from strategies.loader import load_strategy_class
from trading.backtest.check_wish import LookaheadWish, WarmUpWish, parse_check
from trading.backtest.contracts import Progress, ShouldStop, StrategyEntry
from trading.backtest.launch import Launch, launch_of
from trading.backtest.lookahead import CLEAN, INCONCLUSIVE, LOOKAHEAD, Depth, LookaheadReport, check_lookahead
from trading.backtest.warm_up import ENOUGH, SHORT, Length, WarmUpDepth, WarmUpReport, check_warm_up
from trading.backtest.wish import BacktestWish
from trading.work_models import BacktestRun

MOST_SHOWN = 50
MOST_NUMBERS = 20


def run_lookahead_job(
    args: Mapping[str, Any], progress: Progress, should_stop: ShouldStop, job_id: int
) -> dict[str, Any]:
    """Check for lookahead as a job."""
    return look_ahead(parse_check(LookaheadWish, args), progress, should_stop)


def look_ahead(wish: LookaheadWish, progress: Progress, should_stop: ShouldStop) -> dict[str, Any]:
    """Check the strategies of a wish; return verdicts, what was looked at and what was found.

    Raises: LoadError, ConfigError, NotFoundError as ``launch_of``.
    """
    progress(0.0, "Reading bars.")
    launch = launch_of(wish.backtest)
    reports = check_lookahead(
        launch.spec,
        depth=Depth(wish.trades, wish.minimum, wish.quiet),
        fresh=loading(wish.backtest, launch),
        progress=progress,
        should_stop=should_stop,
    )
    verdicts = {report.verdict for report in reports}
    return {
        "verdict": next(one for one in (LOOKAHEAD, INCONCLUSIVE, CLEAN) if one in verdicts),
        "strategies": [_answer(report) for report in reports],
        **made_of(launch, wish.run),
        "cancelled": any(report.cancelled for report in reports),
    }


def run_warm_up_job(
    args: Mapping[str, Any], progress: Progress, should_stop: ShouldStop, job_id: int
) -> dict[str, Any]:
    """Check how much warm-up is enough as a job."""
    return warm_up(parse_check(WarmUpWish, args), progress, should_stop)


def warm_up(wish: WarmUpWish, progress: Progress, should_stop: ShouldStop) -> dict[str, Any]:
    """Compare lengths of warm-up for the strategies of a wish; return verdicts and the drift of each length.

    Raises: LoadError, ConfigError, NotFoundError as ``launch_of``.
    """
    progress(0.0, "Reading bars.")
    launch = _reactive(launch_of(wish.backtest))
    reports = check_warm_up(
        launch.spec,
        depth=WarmUpDepth(wish.lengths, wish.tolerance, wish.watch),
        fresh=loading(wish.backtest, launch),
        progress=progress,
        should_stop=should_stop,
    )
    verdicts = {report.verdict for report in reports}
    return {
        "verdict": next(one for one in (SHORT, INCONCLUSIVE, ENOUGH) if one in verdicts),
        "strategies": [_warm_up_answer(report) for report in reports],
        **made_of(launch, wish.run),
        "tolerance": wish.tolerance,
        "cancelled": any(report.cancelled for report in reports),
    }


def _reactive(launch: Launch) -> Launch:
    """Return a launch of reactive strategies alone.

    Raises: ConfigError (not_reactive).
    """
    others = [one["file"] for one in launch.strategies if one["kind"] != "reactive"]
    if others:
        raise ConfigError(
            f"{', '.join(others)}: only reactive strategies have a warm-up to check.", code="not_reactive"
        )
    return launch


def loading(wish: BacktestWish, launch: Launch) -> Callable[[StrategyEntry], Callable[..., Any]]:
    """Return what loads an entry's file anew, so that nothing is left of the run before.

    Raises: ConfigError (file_changed), later, when a file is edited meanwhile.
    """
    files = {entry.name: one.file for entry, one in zip(launch.spec.strategies, wish.strategies, strict=True)}

    def fresh(entry: StrategyEntry) -> Callable[..., Any]:
        loaded = load_strategy_class(files[entry.name])
        if loaded.sha256 != entry.code_hash:
            raise ConfigError(
                f"{files[entry.name]} was changed while it was checked; check it again.", code="file_changed"
            )
        return loaded.cls

    return fresh


def made_of(launch: Launch, run_id: int | None) -> dict[str, Any]:
    """Return what an answer rests on: files with their hashes, the data, and what a reader must know."""
    notes = list(launch.notes)
    row = BacktestRun.objects.filter(pk=run_id).first() if run_id is not None else None
    if row is not None:
        then = {one["file"]: one["sha256"] for one in row.strategies}
        changed = [one["file"] for one in launch.strategies if then.get(one["file"], one["sha256"]) != one["sha256"]]
        notes += [f"{name} was changed since the run; this checked what it is now." for name in changed]
        if row.data_versions != launch.data_versions:
            notes.append("The bars were changed since the run; this checked those of now.")
    return {
        "files": [{"file": one["file"], "sha256": one["sha256"]} for one in launch.strategies],
        "data_versions": launch.data_versions,
        "notes": notes,
    }


def _answer(report: LookaheadReport) -> dict[str, Any]:
    return {
        "strategy": report.strategy,
        "verdict": report.verdict,
        "trades": report.trades,
        "sampled": report.sampled,
        "entries": report.entries,
        "exits": report.exits,
        "orders": report.orders,
        "quiet": report.quiet,
        "reruns": report.reruns,
        "found": len(report.findings),
        "findings": [finding.text for finding in report.findings[:MOST_SHOWN]],
        "reasons": report.reasons,
    }


def _warm_up_answer(report: WarmUpReport) -> dict[str, Any]:
    return {
        "strategy": report.strategy,
        "verdict": report.verdict,
        "sentence": sentence_of(report),
        "declared": report.declared,
        "needed": report.needed,
        "history": report.history,
        "watched": report.watched,
        "numbers": report.numbers,
        "lengths": [_length(one) for one in report.lengths],
        "drifting": _drifting(report),
        "reasons": report.reasons,
        "notes": report.notes,
    }


def sentence_of(report: WarmUpReport) -> str:
    """Say plainly what follows."""
    if report.verdict == INCONCLUSIVE:
        return "Whether its warm-up is enough cannot be told."
    declares = f"It declares {report.declared} bars of warm-up"
    if report.verdict == ENOUGH:
        return f"{declares}; of the lengths tried {report.needed} is the smallest that is enough."
    if report.needed is None:
        return f"{declares}, which is too few; no length tried is enough."
    return f"{declares}, which is too few: it needs {report.needed}. Set warm_up_bars = {report.needed} in its class."


def _length(one: Length) -> dict[str, Any]:
    """``drift`` is null where it was not compared, and where a number is missing or the code fails (``is_missing``)."""
    drift = one.drift
    worst = None if drift is None else drift.worst
    return {
        "bars": one.bars,
        "compared": drift is not None,
        "drift": None if worst is None or worst == inf else worst,
        "is_missing": worst == inf,
        "text": _percent(worst),
        "worst": "" if drift is None or not worst else drift.worst_name,
        "signals": 0 if drift is None else drift.signals,
        "spoken": 0 if drift is None else drift.spoken,
        "enough": one.is_enough,
        "reason": one.reason,
    }


def _drifting(report: WarmUpReport) -> list[dict[str, Any]]:
    """The numbers that drift most, each with its drift at every length that was compared; null: it is missing."""
    drifts = [one.drift.by_name for one in report.lengths if one.drift is not None]
    names = {name for drift in drifts for name, value in drift.items() if value > report.tolerance}
    worst = sorted(names, key=lambda name: (-max(drift.get(name, 0.0) for drift in drifts), name))
    return [
        {
            "name": name,
            "drifts": [None if drift.get(name, 0.0) == inf else drift.get(name, 0.0) for drift in drifts],
            "texts": [_percent(drift.get(name, 0.0)) for drift in drifts],
        }
        for name in worst[:MOST_NUMBERS]
    ]


def _percent(drift: float | None) -> str:
    return "not compared" if drift is None else "missing" if drift == inf else f"{drift * 100:.4f} %"
