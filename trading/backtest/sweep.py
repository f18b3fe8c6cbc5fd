"""Parameter sweeps: one strategy, one period, many parameter sets; what each came to and how far the best one holds.

Owns: making a study ready, one search over one period, ranking, the table. Leaves: which sets (``search``), who runs
them (``pools``), one trial (``trials``), keeping it (``study_store``).
Rule: everything is checked before the first set runs; a set that fails is listed with its error and ends nothing. A
figure that is not known ranks behind all that are. Of equals the first is best. Equal wishes and data give equal tables
whatever the number of workers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
from ulid import ULID

from strategies.bar_series import Floats
from strategies.exceptions import ConfigError
from strategies.loader import LoadedStrategy, load_strategy_class
from strategies.reactive import ReactiveStrategy
from trading.backtest.contracts import BacktestResult, Progress, ShouldStop
from trading.backtest.launch import Launch, launch_of
from trading.backtest.overfitting import Measure, deflated_sharpe, overfitting_probability, unknown
from trading.backtest.param_space import ParamSet, ask, check_sets, corners, draw, grid
from trading.backtest.pools import Pool, pool_of
from trading.backtest.search import search_of, value_of
from trading.backtest.sweep_wish import SweepWish
from trading.backtest.trials import Figures, Kit, Task, TrialRunner, kit_of
from trading.backtest.wish import StrategyWish

logger = logging.getLogger(__name__)

DONE, FAILED, REFUSED = "done", "failed", "refused"
_MOST_SUBSCRIPTIONS = 90


@dataclass(slots=True)
class Trial:
    """One parameter set and what it came to. ``params`` are the swept ones, ``complete`` all of the strategy's."""

    number: int
    params: ParamSet
    complete: ParamSet = field(default_factory=dict, repr=False)
    state: str = ""  # done, failed or refused; empty where the search was stopped before it
    figures: Figures = field(default_factory=Figures, repr=False)
    value: float | None = None  # of the objective
    error: str = ""


@dataclass(frozen=True, slots=True)
class Study:
    """A wish that is ready: checked, its file and bars loaded."""

    wish: SweepWish
    loaded: LoadedStrategy
    given: Mapping[str, Any]
    launch: Launch
    kit: Kit
    runner: TrialRunner

    @property
    def cash(self) -> Decimal:
        """Return what a run starts with."""
        return self.wish.backtest.strategies[0].cash

    def trial(self, number: int, params: ParamSet) -> Trial:
        """Return a set's trial, refused where the strategy does not take it."""
        answer, _ = ask(self.loaded, self.given, params)
        if isinstance(answer, str):
            return Trial(number, params, state=REFUSED, error=answer)
        return Trial(number, params, complete=answer)


@dataclass(slots=True)
class SweepResult:
    """What a sweep came to. ``best`` None: none can be ranked, for ``reason``."""

    trials: list[Trial]
    expected: int
    best: Trial | None
    reason: str
    overfitting: Measure
    deflated: Measure
    cancelled: bool
    seconds: float


def prepare(wish: SweepWish) -> Study:
    """Check the sets against the strategy, load its bars.

    Raises: ConfigError (bad_sweep, bad_params, bad_backtest, bad_bars), LoadError, NotFoundError, with the place.
    """
    one = wish.backtest.strategies[0]
    loaded = load_strategy_class(one.file)
    given = dict(one.params)
    is_reactive = issubclass(loaded.cls, ReactiveStrategy)
    own = "symbols" if is_reactive else "universe"  # what says which instruments it trades
    if wish.backtest.symbols and own not in {*given, *wish.space}:
        given[own] = list(wish.backtest.symbols) if is_reactive else ",".join(wish.backtest.symbols)
    answers = [answer for answer in check_sets(loaded, given, _sets_to_check(wish)) if not isinstance(answer, str)]
    seen = _by_subscriptions(loaded, answers) if is_reactive else answers[:1]
    if not is_reactive and "universe" in wish.space:
        raise ConfigError(
            "The universe of an imperative strategy is not swept; sweep each by itself.",
            code="bad_sweep",
            errors={"space.universe": "Sweep each by itself."},
        )
    launch = launch_of(wish.backtest.model_copy(update={"strategies": _stand_ins(one, seen)}))
    if not is_reactive:
        given["universe"] = launch.strategies[0]["params"].get("universe", "")  # as it is written out for a run
    entry = launch.spec.strategies[0]
    kit = kit_of(f"study-{ULID()}", loaded.path, entry, launch.spec)
    return Study(wish, loaded, given, launch, kit, TrialRunner(kit))


def _sets_to_check(wish: SweepWish) -> list[ParamSet]:
    if wish.search == "grid":
        return grid(wish.space)
    return [*corners(wish.space), *(draw(wish.space, wish.trials, wish.seed) if wish.search == "random" else ())]


def _by_subscriptions(loaded: LoadedStrategy, answers: Sequence[ParamSet]) -> list[ParamSet]:
    """Return one set for each list of bars that the sets want, so that all of them are loaded."""
    found: dict[tuple[tuple[str, str], ...], ParamSet] = {}
    for params in answers:
        try:
            made = loaded.cls("sweep", dict(params))  # type: ignore[call-arg, arg-type]  # a reactive one
            wanted = tuple((symbol, interval) for symbol, interval in made.get_subscriptions())  # type: ignore[union-attr]
        except Exception:  # the border of user code; the set's own trial tells its reason in the table
            logger.info("a set's subscriptions are not known params=%s", params, exc_info=True)
            continue
        found.setdefault(wanted, params)
    if len(found) > _MOST_SUBSCRIPTIONS:
        raise ConfigError(
            f"The sets subscribe to {len(found)} different lists of bars; {_MOST_SUBSCRIPTIONS} are the most.",
            code="bad_sweep",
            errors={"space": "Sweep fewer symbols or intervals at once."},
        )
    return list(found.values()) or list(answers[:1])


def _stand_ins(one: StrategyWish, seen: Sequence[ParamSet]) -> list[StrategyWish]:
    first = one.model_copy(update={"params": seen[0]})
    others = [one.model_copy(update={"params": params, "name": f"set_{n}_"}) for n, params in enumerate(seen[1:], 2)]
    return [first, *others]


def run_sweep(
    study: Study,
    *,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
    scheduler: str = "",
) -> SweepResult:
    """Try the sets over the whole period.

    Raises: ConfigError (no_scheduler), TransientError (cluster_lost).
    """
    began = time.perf_counter()
    period = study.wish.backtest.start, study.wish.backtest.end
    with pool_of(study.kit, study.runner, study.wish.workers, scheduler) as pool:
        trials, expected, whole = search_period(study, pool, period, progress, should_stop or (lambda: False))
    best = best_of(trials)
    overfitting, deflated = measures(trials, best)
    return SweepResult(
        trials=trials,
        expected=expected,
        best=best,
        reason="" if best else why_none(trials, study.wish),
        overfitting=overfitting,
        deflated=deflated,
        cancelled=not whole,
        seconds=time.perf_counter() - began,
    )


def search_period(
    study: Study,
    pool: Pool,
    period: tuple[datetime, datetime],
    progress: Progress | None,
    should_stop: Callable[[], bool],
) -> tuple[list[Trial], int, bool]:
    """Search one period; return the trials that were done, how many there would be, and whether it was not stopped."""
    wish, search = study.wish, search_of(study.wish)
    trials: dict[int, Trial] = {}
    done = 0

    def told(number: int, figures: Figures) -> None:
        nonlocal done
        done += 1
        _take(trials[number], figures, wish)
        if progress is not None:
            progress(done / max(search.expected, 1), f"{done} of {search.expected} sets")

    for batch in search.batches():
        made = [study.trial(number, params) for number, params in enumerate(batch, len(trials) + 1)]
        trials |= {trial.number: trial for trial in made}
        done += sum(trial.state == REFUSED for trial in made)
        tasks = [Task(one.number, one.complete, *period, study.cash) for one in made if not one.state]
        if not pool.run(tasks, told, should_stop):
            return [trial for trial in trials.values() if trial.state], search.expected, False
        search.learn(batch, [trial.value for trial in made])
    return list(trials.values()), search.expected, True


def _take(trial: Trial, figures: Figures, wish: SweepWish) -> None:
    trial.figures = figures
    trial.state, trial.error = (FAILED, figures.error) if figures.error else (DONE, "")
    trial.value = value_of(figures.metrics, wish.objective, wish.min_trades)


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials, the best first; behind those that cannot be ranked, then the failed and the refused."""
    order = {DONE: 0, FAILED: 1, REFUSED: 2}
    return sorted(trials, key=lambda one: (order[one.state], one.value is None, -(one.value or 0.0), one.number))


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """Return the best trial; None where none can be ranked."""
    known = [trial for trial in trials if trial.value is not None]
    return min(known, key=lambda one: (-(one.value or 0.0), one.number), default=None)


def why_none(trials: Sequence[Trial], wish: SweepWish) -> str:
    """Return why no trial can be ranked."""
    done = [trial.figures.metrics for trial in trials if trial.state == DONE]
    if any(metrics[wish.objective] is not None for metrics in done):
        return f"No set closed {wish.min_trades} trades or more."
    if done:
        reason = done[0]["reasons"].get(wish.objective, "It is not defined.")
        return f"The {wish.objective} is known of no set; of the first: {reason}"
    errors = [trial.error for trial in trials if trial.error]
    return f"No set could be run. The first: {last_line(errors[0])}" if errors else "No set was run."


def measures(trials: Sequence[Trial], best: Trial | None) -> tuple[Measure, Measure]:
    """Return the probability of overfitting of the search, and the deflated Sharpe ratio of its best."""
    done = [trial for trial in trials if trial.state == DONE]
    matrix = matrix_of(done)
    if isinstance(matrix, str):
        return unknown(matrix), unknown(matrix)
    overfitting = overfitting_probability(matrix)
    if best is None:
        return overfitting, unknown("No set is best.")
    return overfitting, deflated_sharpe(matrix, [trial.number for trial in done].index(best.number))


def matrix_of(done: Sequence[Trial]) -> Floats | str:
    """Return the daily returns of trials, shape (days, trials), or why they make no matrix."""
    if not done:
        return "No set was run."
    days = done[0].figures.days
    if any(not np.array_equal(days, trial.figures.days) for trial in done):
        return "The sets have returns on different days, or one of them lost all of its money."
    return np.column_stack([trial.figures.returns for trial in done])


def run_again(study: Study, trial: Trial) -> tuple[BacktestResult, Launch]:
    """Run a trial for all that it has; return it with what its record keeps.

    Raises: ConfigError when it cannot be run.
    """
    backtest = study.wish.backtest
    result = study.runner.run(Task(trial.number, trial.complete, backtest.start, backtest.end, study.cash))
    return result, launch_with(study, trial.complete)


def launch_with(study: Study, params: Mapping[str, Any]) -> Launch:
    """Return the study's launch as that of one strategy with these parameters."""
    first = {**study.launch.strategies[0], "params": dict(params)}
    return replace(study.launch, strategies=[first], notes=list(dict.fromkeys(study.launch.notes)))


def last_line(error: str) -> str:
    """Return what a traceback comes to."""
    lines = error.strip().splitlines()
    return lines[-1] if lines else ""
