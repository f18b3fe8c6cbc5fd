"""Which parameter sets are tried next: all of a grid, some by chance, or those that Optuna's TPE expects most of.

Owns: batches of sets, and learning from what came out. Leaves: the sets' values (``param_space``), running (``sweep``).
Rule: a batch has a fixed size and is learnt from in its order, so that equal seeds give equal sets whatever the number
of workers. A set is handed out once.
Source: Bergstra, Bardenet, Bengio, Kégl, «Algorithms for Hyper-Parameter Optimization», NeurIPS 2011 (TPE).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from trading.backtest.param_space import ParamSet, Space, draw, grid, key_of, size_of
from trading.backtest.sweep_wish import Span, SweepWish, Values

BATCH = 8
_MOST_REPEATS = 200  # asks in a row that brought nothing new: the space is known


class Search(Protocol):
    """Hands out sets in batches; each batch is answered before the next is asked for."""

    def batches(self) -> Iterator[list[ParamSet]]:
        """Return the batches, one after the other."""

    def learn(self, batch: Sequence[ParamSet], values: Sequence[float | None]) -> None:
        """Take what the sets of a batch came to, high is good; None: nothing that can be ranked."""

    @property
    def expected(self) -> int:
        """Return how many sets there will be at most."""


def search_of(wish: SweepWish) -> Search:
    """Return the search that a wish names."""
    if wish.search == "tpe":
        return _Tpe(wish.space, wish.trials, wish.seed)
    return _Listed(grid(wish.space) if wish.search == "grid" else draw(wish.space, wish.trials, wish.seed))


class _Listed:
    """Sets that are known before the first is tried."""

    def __init__(self, sets: list[ParamSet]) -> None:
        self._sets = sets

    def batches(self) -> Iterator[list[ParamSet]]:
        yield self._sets

    def learn(self, batch: Sequence[ParamSet], values: Sequence[float | None]) -> None:
        """Nothing is learnt."""

    @property
    def expected(self) -> int:
        return len(self._sets)


class _Tpe:
    """Optuna's tree-structured Parzen estimator, asked for batches."""

    def __init__(self, space: Space, trials: int, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._failed = optuna.trial.TrialState.FAIL
        self._study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
        self._space = {name: space[name] for name in sorted(space)}
        self._scales = {name: _scale(choice) for name, choice in self._space.items()}
        size = size_of(space)
        self._wanted = trials if size is None else min(trials, size)
        self._known: dict[str, float | None] = {}
        self._asked: list[Any] = []

    @property
    def expected(self) -> int:
        return self._wanted

    def batches(self) -> Iterator[list[ParamSet]]:
        while len(self._known) < self._wanted:
            batch = self._batch(min(BATCH, self._wanted - len(self._known)))
            if not batch:
                return
            yield batch

    def _batch(self, count: int) -> list[ParamSet]:
        """Return new sets; one that was tried before is answered from memory."""
        found: dict[str, ParamSet] = {}
        self._asked = []
        for _ in range(_MOST_REPEATS):
            asked = self._study.ask(dict(self._scales))
            made = {name: _value(self._space[name], asked.params[name]) for name in self._space}
            key = key_of(made)
            if key in self._known:
                self._tell(asked, self._known[key])
            elif key in found:
                self._study.tell(asked, state=self._failed)
            else:
                found[key] = made
                self._asked.append(asked)
            if len(found) == count:
                break
        return list(found.values())

    def learn(self, batch: Sequence[ParamSet], values: Sequence[float | None]) -> None:
        """Tell Optuna a batch's values in its order."""
        for asked, made, value in zip(self._asked, batch, values, strict=True):
            self._known[key_of(made)] = value
            self._tell(asked, value)

    def _tell(self, asked: Any, value: float | None) -> None:
        if value is None:
            self._study.tell(asked, state=self._failed)
        else:
            self._study.tell(asked, value)


def _scale(choice: Values | Span) -> Any:
    """Return Optuna's view of a parameter: listed values by their place, so that any JSON value can be one."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    points = choice.points()
    if isinstance(choice, Values):
        return CategoricalDistribution(tuple(range(len(choice.values))))
    if points is not None:
        return IntDistribution(0, len(points) - 1)
    if choice.is_whole:
        return IntDistribution(int(choice.low), int(choice.high))
    return FloatDistribution(float(choice.low), float(choice.high))


def _value(choice: Values | Span, drawn: Any) -> Any:
    points = choice.points()
    return drawn if points is None else points[int(drawn)]


def value_of(metrics: Mapping[str, Any], objective: str, min_trades: int) -> float | None:
    """Return what a set is ranked by; None where the figure is not known, or too few trades were closed."""
    value = metrics.get(objective)
    if value is None or (metrics.get("trades") or 0) < min_trades:
        return None
    return float(value)
