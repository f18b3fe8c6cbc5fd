"""One strategy of a run: its instance, its books, its end.

Owns: calling user code behind a border. Leaves: when it is called (``engine``), what came of it (``outcome``).
Rule: whatever the strategy's code raises stops that strategy alone, with its traceback kept.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from strategies.bar_series import BarSeries
from strategies.exceptions import ConfigError, StrategyError
from strategies.reactive import ReactiveStrategy, StrategyContext
from trading.backtest.arrays import Pair
from trading.backtest.contracts import StrategyEntry
from trading.backtest.executor import Executor

logger = logging.getLogger(__name__)


class Runner:
    """A strategy in a run."""

    def __init__(
        self, entry: StrategyEntry, context: StrategyContext, executor: Executor, bars: Mapping[Pair, BarSeries]
    ) -> None:
        self.entry, self.context, self.executor = entry, context, executor
        self._bars = bars
        self.errors: list[str] = []
        self.is_running = True
        self.stopped_at: int | None = None  # how many moments it lived through
        made = entry.make(entry.name, dict(entry.config))
        if not isinstance(made, ReactiveStrategy):
            raise ConfigError(f"{entry.name} is a {type(made).__name__}, no reactive strategy.", code="bad_strategy")
        self.strategy: ReactiveStrategy = made
        self.subscriptions = self._subscribed()

    @property
    def on_bars(self) -> Callable[[str, str], Any]:
        """Return the strategy's own hook, bound once."""
        return self.strategy.on_bars

    def _subscribed(self) -> tuple[Pair, ...]:
        """What the strategy wants to be told of, each pair once.

        Raises: ConfigError (no_bars) for a pair that the run does not have.
        """
        pairs = dict.fromkeys((symbol, interval) for symbol, interval in self.strategy.get_subscriptions())
        for symbol, interval in pairs:
            if (symbol, interval) not in self._bars:
                raise ConfigError(
                    f"{self.entry.name} subscribes to {symbol} {interval}, of which the run has no bars.",
                    code="no_bars",
                )
        self.executor.keep_currency(symbol for symbol, _ in pairs)
        return tuple(pairs)

    def set_up(self) -> None:
        """Let the strategy prepare; subscriptions are read again after it."""

        def act() -> None:
            if self.strategy.setup(self.context):
                self.subscriptions = self._subscribed()
            else:
                raise StrategyError(f"setup of {self.entry.name} answered that it cannot run.")

        self.guard(act)
        if not self.is_running:
            self.stopped_at = 0

    def tear_down(self) -> None:
        """Let the strategy tidy up, unless it was stopped."""
        if self.is_running:
            self.guard(lambda: self.strategy.teardown(self.context))

    def guard(self, act: Callable[[], None]) -> None:
        """Call user code; what it raises stops the strategy."""
        try:
            act()
        except Exception:  # noqa: BLE001 - the border of user code; ``failed`` keeps the traceback
            self.failed()

    def failed(self) -> None:
        """Stop the strategy with the exception that is being handled."""
        self.errors.append(traceback.format_exc())
        self.is_running = False
        logger.warning("strategy stopped in a backtest strategy=%s", self.entry.name, exc_info=True)  # noqa: LOG014 - called while it is handled
