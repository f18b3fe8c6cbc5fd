"""The checks of a strategy's honesty as work: from arguments to a small answer that pages and people read.

Owns: loading the files anew for each run, the answers' shape. Leaves: the checks themselves (``lookahead``,
``warm_up``), bars and parameters (``launch``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from strategies.exceptions import ConfigError
from strategies.loader import load_strategy_class
from trading.backtest.check_wish import LookaheadWish, parse_check
from trading.backtest.contracts import Progress, ShouldStop, StrategyEntry
from trading.backtest.launch import Launch, launch_of
from trading.backtest.lookahead import CLEAN, INCONCLUSIVE, LOOKAHEAD, Depth, LookaheadReport, check_lookahead
from trading.backtest.wish import BacktestWish
from trading.work_models import BacktestRun

MOST_SHOWN = 50


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
