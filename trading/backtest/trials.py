"""One trial after the other over the same bars: from a parameter set to its figures, in this process or another.

Owns: what a process needs for the trials of a study, and one trial. Leaves: which trials there are (``sweep``,
``walk_forward``), who runs them (``pools``), the run itself (``engine``, ``compiled_result``).
Rule: bars come once to a process and every trial reads the same arrays. A trial sees no bar that starts after its own
end, so that nothing out of sample can leak into a search. Equal trials give equal figures in every process, and those
of a backtest of that set alone over the same bars.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from strategies.bar_series import BarSeries, Floats, Nanos, nanos_of
from strategies.exceptions import ConfigError, MatsError
from strategies.loader import LoadedStrategy, load_strategy_class
from strategies.reactive import ArrayStrategy
from trading.backtest.contracts import BacktestResult, BacktestSpec, StrategyEntry
from trading.backtest.engine import run_backtest, run_by_bars
from trading.backtest.metrics import daily_returns, metrics_of
from trading.backtest.runner import Runner

if TYPE_CHECKING:
    from trading.backtest.compiled import ArrayRun
    from trading.backtest.compiled_market import CompiledMarket

KEPT = (
    "profit",
    "total_return",
    "cagr",
    "volatility",
    "sharpe",
    "sortino",
    "calmar",
    "max_drawdown",
    "trades",
    "win_rate",
    "profit_factor",
    "fees",
    "fills",
    "equity",
)
QUIET = ("strategy", "trading.backtest.runner", "trading.backtest.compiled_result")  # a line for each signal or set
_MOST_TRACEBACK = 4_000
_EPOCH_DAY = 719_163  # 1970-01-01, as dates count
Pair = tuple[str, str]
ShouldStop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Task:
    """One trial. ``params`` are the strategy's complete ones; the period is as a spec's, its ends aware."""

    number: int
    params: Mapping[str, Any]
    start: datetime
    end: datetime
    cash: Decimal


@dataclass(frozen=True, slots=True)
class Figures:
    """What a trial came to. ``metrics`` are those of ``KEPT`` with their ``reasons``, empty where it failed.

    Shape: ``days`` int32 days since 1970, strictly increasing; ``returns`` float64 fractions, one a day.
    """

    metrics: dict[str, Any] = field(default_factory=dict)
    days: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, dtype=np.int32))
    returns: Floats = field(default_factory=lambda: np.empty(0))
    error: str = ""
    cancelled: bool = False


def figures_of(result: BacktestResult) -> Figures:
    """Return the figures of a run of one strategy; code that failed gives its traceback as ``error``."""
    (outcome,) = result.strategies.values()
    if result.cancelled:
        return Figures(cancelled=True)
    if outcome.errors:
        return Figures(error=outcome.errors[0][-_MOST_TRACEBACK:])
    by_day = daily_returns(outcome.equity_ns, outcome.equity_curve, float(outcome.start_cash))
    return _figures(metrics_of(outcome, result.fills), by_day)


def _figures(found: Mapping[str, Any], by_day: Mapping[date, float]) -> Figures:
    days = np.array([day.toordinal() - _EPOCH_DAY for day in by_day], dtype=np.int32)
    kept = {name: found.get(name) for name in KEPT}
    reasons = {name: text for name, text in found["reasons"].items() if name in kept}
    return Figures({**kept, "reasons": reasons}, days, np.array(list(by_day.values()), dtype=float))


@dataclass(frozen=True, slots=True)
class Kit:
    """All that a process needs for the trials of a study, to be pickled. ``spec`` has neither strategies nor bars.

    ``file`` is where the study's own process found the strategy; another machine looks for its name in its own folders.
    ``entry`` is the strategy's without its class, which every process loads by itself.
    """

    key: str
    file: Path
    entry: StrategyEntry
    spec: BacktestSpec
    bars: tuple[tuple[Pair, Nanos, tuple[Floats, ...]], ...]


def kit_of(key: str, file: Path, entry: StrategyEntry, spec: BacktestSpec) -> Kit:
    """Pack a spec whose bars serve every trial."""
    bars = tuple((pair, *series.whole()) for pair, series in spec.bars.items())
    return Kit(key, file, replace(entry, make=dict, config={}), replace(spec, strategies=(), bars={}), bars)


class TrialRunner:
    """Tries parameter sets one after the other over the same bars."""

    def __init__(self, kit: Kit) -> None:
        """Load the file and lay out the bars.

        Raises: LoadError; ConfigError (other_code) when this process finds another version of the file.
        """
        self._kit = kit
        self._loaded = _load(kit)
        self._is_arrays = issubclass(self._loaded.cls, ArrayStrategy)
        self._bars = {pair: BarSeries.from_columns(*pair, starts, columns) for pair, starts, columns in kit.bars}
        self._compiled: tuple[tuple[datetime, datetime], CompiledMarket | None] | None = None

    def figures(self, task: Task, should_stop: ShouldStop | None = None) -> Figures:
        """Return a trial's figures, or why it failed."""
        try:
            return self._figures(self._spec(task), should_stop)
        except MatsError as error:
            return Figures(error=error.message)
        except MemoryError:
            return Figures(error="It needed more memory than there is.")
        except Exception:  # noqa: BLE001 - the border of user code: the traceback is the trial's answer
            return Figures(error=traceback.format_exc()[-_MOST_TRACEBACK:])

    def run(self, task: Task) -> BacktestResult:
        """Run a trial for all that it has.

        Raises: ConfigError when it cannot be run.
        """
        spec = self._spec(task)
        run = self._run_compiled(spec)
        if run is None:
            return self._by_bars(spec)
        from trading.backtest.compiled_result import result_of

        return result_of(spec, run, 0.0)

    def _figures(self, spec: BacktestSpec, should_stop: ShouldStop | None) -> Figures:
        run = self._run_compiled(spec)
        if run is None:
            return figures_of(self._by_bars(spec, should_stop))
        from trading.backtest import compiled_figures, compiled_result

        by_day = daily_returns(run.equity_ns, run.curve, float(run.start_cash))
        found = compiled_figures.metrics_of_run(run, by_day)
        return figures_of(compiled_result.result_of(spec, run, 0.0)) if found is None else _figures(found, by_day)

    def starts(self) -> Nanos:
        """Return the starts of the bars of all symbols, sorted, each once."""
        return np.unique(np.concatenate([series.whole()[0] for series in self._bars.values()]))

    def _spec(self, task: Task) -> BacktestSpec:
        entry = replace(self._kit.entry, make=self._loaded.cls, config=task.params, cash=task.cash)
        return replace(self._kit.spec, strategies=[entry], bars=self._until(task.end), start=task.start, end=task.end)

    def _until(self, end: datetime) -> dict[Pair, BarSeries]:
        found = {}
        for pair, series in self._bars.items():
            starts, _ = series.whole()
            found[pair] = series.prefix(int(np.searchsorted(starts, nanos_of(end), side="right")))
        return found

    def _by_bars(self, spec: BacktestSpec, should_stop: ShouldStop | None = None) -> BacktestResult:
        """Run what the compiled loop does not; a strategy of arrays has been there."""
        return (run_by_bars if self._is_arrays else run_backtest)(spec, should_stop=should_stop)

    def _run_compiled(self, spec: BacktestSpec) -> ArrayRun | None:
        """Run a strategy of arrays in the compiled loop, over bars that are laid out once a period."""
        strategy = Runner(spec.strategies[0]).arrays if self._is_arrays and len(spec.bars) == 1 else None
        if strategy is None:
            return None
        from trading.backtest import compiled_result  # the compiler takes a second to import

        period = spec.start, spec.end
        if self._compiled is None or self._compiled[0] != period:
            self._compiled = period, compiled_result.market_of(spec)
        market = self._compiled[1]
        return None if market is None else compiled_result.run_on(market, spec, strategy)


def _load(kit: Kit) -> LoadedStrategy:
    loaded = load_strategy_class(kit.file.name, [kit.file.parent] if kit.file.exists() else None)
    if loaded.sha256 != kit.entry.code_hash:
        raise ConfigError(
            f"{kit.file.name} is another version here than where the study began; give all workers the same files.",
            code="other_code",
        )
    return loaded
