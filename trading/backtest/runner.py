"""One strategy of a run: its instance, its books, its end.

Owns: calling user code behind a border. Leaves: when it is called (``engine``), what came of it (``outcome``).
Rule: whatever the strategy's code raises stops that strategy alone, with its traceback kept.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Container, Iterable
from typing import Any

from strategies.exceptions import ConfigError, StrategyError
from strategies.reactive import ArrayStrategy, ReactiveStrategy, StrategyContext
from trading.backtest.arrays import Pair
from trading.backtest.contracts import StrategyEntry
from trading.backtest.executor import Executor
from trading.backtest.targets import Follower, arrays_alone, check_causal, targets_of

logger = logging.getLogger(__name__)


class Runner:
    """A strategy in a run: made first, because it says what it wants to see, then given its books.

    Raises: ConfigError (bad_strategy) for what is no reactive strategy.
    """

    def __init__(self, entry: StrategyEntry) -> None:
        if entry.kind != "reactive":
            raise ConfigError(f"{entry.name} is {entry.kind}; here run reactive strategies.", code="bad_strategy")
        self.entry = entry
        self.errors: list[str] = []
        self.is_running = True
        self.stopped_at: int | None = None  # how many moments it lived through
        self.subscriptions: tuple[Pair, ...] = ()
        self.strategy: ReactiveStrategy
        self.executor: Executor
        self._context: StrategyContext
        self._known: Container[Pair] = ()
        self._hook: Callable[[str, str], Any] | None = None
        self.guard(self._make)

    def _make(self) -> None:
        made = self.entry.make(self.entry.name, dict(self.entry.config))
        if not isinstance(made, ReactiveStrategy):
            raise ConfigError(
                f"{self.entry.name} is a {type(made).__name__}, no reactive strategy.", code="bad_strategy"
            )
        self.strategy = made
        self.subscriptions = self._wanted()

    def _wanted(self) -> tuple[Pair, ...]:
        """What the strategy wants to be told of, each pair once."""
        return tuple(dict.fromkeys((symbol, interval) for symbol, interval in self.strategy.get_subscriptions()))

    def attach(self, context: StrategyContext, executor: Executor, known: Container[Pair]) -> None:
        """Give the strategy its books, and what there is to see.

        Raises: ConfigError (no_bars, other_currency).
        """
        self._context, self.executor, self._known = context, executor, known
        self._check(self.subscriptions)

    def _check(self, pairs: Iterable[Pair]) -> None:
        for symbol, interval in pairs:
            if (symbol, interval) not in self._known:
                raise ConfigError(
                    f"{self.entry.name} subscribes to {symbol} {interval}, of which the run has no bars.",
                    code="no_bars",
                )
        self.executor.keep_currency(symbol for symbol, _ in pairs)

    def _follow(self, strategy: ArrayStrategy) -> None:
        """Ask a strategy for all its targets; the engine then goes along with them."""
        if len(self.subscriptions) != 1:
            raise StrategyError(f"{self.entry.name} declares arrays, so it subscribes to one pair.")
        bars = self._context.get_bars(*self.subscriptions[0])
        targets = targets_of(self.entry.name, strategy, bars, bars.capacity)
        check_causal(self.entry.name, strategy, bars, targets)
        self._hook = Follower(self.executor, bars, targets).on_bars

    @property
    def arrays(self) -> ArrayStrategy | None:
        """Return the strategy when it declares arrays and nothing else."""
        return arrays_alone(self.strategy) if self.is_running else None

    @property
    def on_bars(self) -> Callable[[str, str], Any]:
        """Return what is called at each bar, bound once."""
        return self._hook if self._hook is not None else self.strategy.on_bars

    def set_up(self) -> None:
        """Let the strategy prepare; subscriptions are read again after it."""

        def act() -> None:
            if not self.strategy.setup(self._context):
                raise StrategyError(f"setup of {self.entry.name} answered that it cannot run.")
            self.subscriptions = self._wanted()
            self._check(self.subscriptions)
            if isinstance(self.strategy, ArrayStrategy):
                self._follow(self.strategy)

        if self.is_running:
            self.guard(act)
        if not self.is_running:
            self.stopped_at = 0

    def tear_down(self) -> None:
        """Let the strategy tidy up, unless it was stopped."""
        if self.is_running:
            self.guard(lambda: self.strategy.teardown(self._context))

    def guard(self, act: Callable[[], None]) -> None:
        """Call user code; what it raises stops the strategy, but for what says that the run itself cannot be."""
        try:
            act()
        except ConfigError as error:
            if error.code == "bad_strategy":
                raise
            self.failed(traceback.format_exc())
        except Exception:  # noqa: BLE001 - the border of user code; ``failed`` keeps the traceback
            self.failed(traceback.format_exc())

    def failed(self, trace: str) -> None:
        """Stop the strategy with the traceback of what its code raised."""
        self.errors.append(trace)
        self.is_running = False
        logger.warning("strategy stopped in a backtest strategy=%s\n%s", self.entry.name, trace)
