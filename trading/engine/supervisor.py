"""Starts, stops, watches and restarts strategies; one strategy's fault never reaches another.

Owns: the runners, client ids of strategies, restart policy, silent loops.
Leaves: the connection and the broker (``manager``), loading and parameters (``strategies``).
Rule: a strategy is stopped only when its thread has ended; until then its client id stays taken.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from strategies.exceptions import ConflictError, MatsError, NotFoundError
from strategies.models import RestartPolicy, Strategy
from trading.engine.lifecycle import StrategyState
from trading.engine.runner import NOT_ANSWERING, Runner
from trading.models import StrategyRun

logger = logging.getLogger(__name__)

ENDED = frozenset({StrategyState.STOPPED, StrategyState.FAILED})
STOPPED_BY_OPERATOR = "Stopped by the operator."
STOPPED_WITH_ENGINE = "Stopped with the engine."
SETTLED = ENDED | {StrategyState.RUNNING}


class Host(Protocol):
    """What the supervisor needs of the engine."""

    def make_strategy(self, row: Strategy, client_id: int) -> Any:
        """Load file and parameters and return the instance; raises LoadError or ConfigError."""

    def acquire_client_id(self, row: Strategy) -> int:
        """Take a client id of its own, or a place on a shared connection; raises StrategyError."""

    def release_client_id(self, client_id: int) -> None:
        """Give a client id back."""

    def publish_run(self, row: StrategyRun) -> None:
        """Store the row and tell the pages, in order."""

    def interrupt_connect(self, symbol: str) -> None:
        """End a strategy's attempts to connect."""

    def forget_connection(self, symbol: str) -> None:
        """Forget the connection of a strategy that has ended."""

    def log(self, strategy_symbol: str, text: str, level: str = "info") -> None:
        """Write a line for the strategy's page."""


def find_strategy(symbol: str) -> Strategy:
    """Return the strategy's row by its symbol, ignoring case as the seeds do.

    Raises: NotFoundError (unknown_strategy).
    """
    row = Strategy.objects.filter(symbol__iexact=symbol).first()
    if row is None:
        raise NotFoundError(f"There is no strategy {symbol!r}.", code="unknown_strategy", symbol=symbol)
    return row


class Supervisor:
    """All strategies of this engine. Thread-safe."""

    def __init__(self, host: Host, clock: Callable[[], float] = time.monotonic) -> None:
        self._host = host
        self._clock = clock
        self._lock = threading.Lock()
        self._runners: dict[str, Runner] = {}
        self._closed = False

    # -- lookups

    def runner(self, symbol: str) -> Runner:
        """Return the runner of a symbol, made on first use."""
        with self._lock:
            return self._runners.setdefault(symbol, Runner(symbol, self._clock))

    def runners(self) -> list[Runner]:
        """Return all runners that were ever used, by symbol."""
        with self._lock:
            return [self._runners[symbol] for symbol in sorted(self._runners)]

    def alive(self) -> list[Runner]:
        """Return the runners whose strategy has not ended."""
        return [runner for runner in self.runners() if runner.state not in ENDED]

    def by_client_id(self, client_id: int) -> Runner | None:
        """Return who uses a client id."""
        return next((runner for runner in self.alive() if runner.client_id == client_id), None)

    # -- start

    def start(self, symbol: str, *, is_restart: bool = False) -> Runner:
        """Start a strategy's thread and return its runner; it is not running yet.

        Raises: NotFoundError, ConflictError (already_running, strategy_stopping, engine_stopping), LoadError,
        ConfigError (bad_params), StrategyError (client_limit).
        """
        row = find_strategy(symbol)
        runner = self.runner(row.symbol)
        with runner.changed:
            self._check_startable(runner)
            runner.move(StrategyState.STARTING)
            if not is_restart:
                runner.restarts = 0
        self._publish(runner)
        self._tell(runner)
        try:
            runner.client_id = self._host.acquire_client_id(row)
            runner.strategy = self._host.make_strategy(row, runner.client_id)
            runner.strategy.start_strategy()
        except MatsError as error:
            self._ended(runner, StrategyState.FAILED, error.message)
            raise
        except Exception as error:  # user-code border: the strategy's constructor
            logger.exception("strategy=%s cannot be made", row.symbol)
            message = f"{type(error).__name__}: {error}"
            self._ended(runner, StrategyState.FAILED, message)
            raise ConflictError(f"{row.symbol} could not be started: {message}", code="load_error") from error
        self._publish(runner)
        return runner

    def check_startable(self, symbol: str) -> None:
        """Refuse what could not be started now.

        Raises: NotFoundError; ConflictError as ``start``.
        """
        self._check_startable(self.runner(find_strategy(symbol).symbol))

    def _check_startable(self, runner: Runner) -> None:
        if self._closed:
            raise ConflictError("The engine is stopping; it starts nothing.", code="engine_stopping")
        if runner.state is StrategyState.STOPPING:
            raise ConflictError(f"{runner.symbol} is still being stopped.", code="strategy_stopping")
        if runner.state not in ENDED:
            raise ConflictError(f"{runner.symbol} is running already.", code="already_running")

    # -- stop

    def request_stop(self, symbol: str, timeout_s: float) -> Runner:
        """Ask a strategy to stop and return at once.

        Raises: NotFoundError; ConflictError (not_running) also when it is being stopped already.
        """
        runner = self.runner(find_strategy(symbol).symbol)
        with runner.changed:
            if runner.state is StrategyState.FAILED and (runner.restart_wanted or runner.restart_due is not None):
                runner.call_off_restart()
                runner.move(StrategyState.STOPPED, "restart called off")
                self._publish(runner)
                self._tell(runner)
                return runner
            if runner.state in ENDED or runner.stop_wanted:
                what = "is not running" if runner.state in ENDED else "is being stopped already"
                raise ConflictError(f"{runner.symbol} {what}.", code="not_running")
            runner.stop_wanted = True
            strategy = runner.strategy
        # Told before it is asked: a strategy that ends at once would otherwise overtake the word.
        if runner.state is not StrategyState.STOPPING:
            self._try_move(runner, StrategyState.STOPPING, "waiting for working orders")
        if strategy is not None:
            strategy.request_stop(timeout_s)
            self._host.interrupt_connect(runner.symbol)
        return runner

    def stop(self, symbol: str, timeout_s: float, grace_s: float) -> Runner:
        """Stop a strategy and wait until its thread ended, or until drain and grace are over."""
        runner = self.request_stop(symbol, timeout_s)
        if not runner.wait_until(ENDED, timeout_s + grace_s):
            runner.note(f"does not stop: {NOT_ANSWERING}" if runner.silent else "does not stop in time")
            self._publish(runner)
        return runner

    def stop_all(self, timeout_s: float, grace_s: float) -> dict[str, bool]:
        """Stop all in parallel with one deadline; tell of each whether its thread ended."""
        asked: list[Runner] = []
        for runner in self.runners():
            runner.call_off_restart()
            if runner.state in ENDED:
                continue
            try:
                self.request_stop(runner.symbol, timeout_s)
            except ConflictError:
                logger.debug("strategy=%s is stopping already", runner.symbol)
            asked.append(runner)
        return self._wait_all(asked, self._clock() + timeout_s + grace_s)

    def _wait_all(self, runners: Iterable[Runner], deadline: float) -> dict[str, bool]:
        return {runner.symbol: runner.wait_until(ENDED, max(0.0, deadline - self._clock())) for runner in runners}

    def close(self) -> None:
        """Start nothing from now on, restarts included."""
        self._closed = True
        for runner in self.runners():
            runner.call_off_restart()

    # -- what strategies report

    def strategy_changed(self, strategy: Any, state: str, message: str, traceback: str) -> None:
        """Take note of a lifecycle word from a strategy's thread; a word of an earlier instance is ignored."""
        runner = self.runner(strategy.symbol)
        if runner.strategy is not strategy:
            return
        target = StrategyState(state)
        if target in ENDED:
            self._ended(runner, target, message, traceback, by_itself=True)
        else:
            self._try_move(runner, target, message)

    def connection_changed(self, symbol: str, connected: bool, message: str) -> None:
        """Take note that a strategy's connection came or went."""
        runner = self.runner(symbol)
        if runner.connected == connected and runner.message == message:
            return
        runner.connected = connected
        if runner.state in (StrategyState.STARTING, StrategyState.RUNNING):
            runner.note("" if connected else message)
        self._publish(runner)

    def beat(self, strategy: Any) -> None:
        """Take note that a strategy's loop lives."""
        runner = self.runner(strategy.symbol)
        if runner.strategy is strategy and runner.beat():
            runner.note("")
            self._publish(runner)
            self._host.log(runner.symbol, "Its loop answers again.", "info")

    def _try_move(self, runner: Runner, target: StrategyState, message: str) -> None:
        with runner.changed:
            if runner.state is target:
                if message:
                    runner.note(message)
            else:
                try:
                    runner.move(target, message)
                except ConflictError:
                    return  # a late word: «running» of a strategy that is being stopped already
                self._tell(runner)
        self._publish(runner)

    def _ended(
        self,
        runner: Runner,
        target: StrategyState,
        message: str,
        traceback: str = "",
        *,
        by_itself: bool = False,
    ) -> None:
        with runner.changed:
            if target is StrategyState.STOPPED and not message and runner.stop_wanted:
                message = STOPPED_WITH_ENGINE if self._closed else STOPPED_BY_OPERATOR
            client_id, runner.client_id = runner.client_id, None
            runner.connected = False
            runner.strategy = None
            if target is StrategyState.STOPPED and runner.state in (StrategyState.STARTING, StrategyState.RUNNING):
                runner.move(StrategyState.STOPPING)
            runner.move(target, message, traceback)
            self._tell(runner)
        if client_id is not None:
            self._host.release_client_id(client_id)
            self._host.forget_connection(runner.symbol)
        if target is StrategyState.FAILED:
            runner.restart_wanted = by_itself and not runner.stop_wanted
        self._publish(runner)

    # -- watching

    def _plan_restart(self, runner: Runner) -> None:
        """Decide about a restart on the watcher's thread: a strategy's own thread asks no database."""
        runner.restart_wanted = False
        row = Strategy.objects.filter(symbol=runner.symbol).first()
        if self._closed or row is None or row.restart_policy != RestartPolicy.ON_FAILURE:
            return
        delay = runner.budget.next_delay(row.max_restarts_per_hour)
        if delay is None:
            runner.note(f"{runner.message} — stays down after {row.max_restarts_per_hour} restarts within an hour")
        else:
            runner.restart_due = self._clock() + delay
            runner.note(f"{runner.message} — restarts in {delay:g} s")
        self._publish(runner)

    def tick(self) -> None:
        """Look for silent loops and due restarts; called about once a second."""
        for runner in self.runners():
            if runner.fell_silent():
                runner.note(f"{NOT_ANSWERING}: no sign of life for {runner.silence_s():.0f} s")
                self._publish(runner)
                self._host.log(runner.symbol, f"Quiet for {runner.silence_s():.0f} s: {NOT_ANSWERING}.", "error")
            if runner.restart_wanted:
                self._plan_restart(runner)
            if runner.restart_due is not None and runner.restart_due <= self._clock():
                self._restart(runner)

    def _restart(self, runner: Runner) -> None:
        runner.restart_due = None
        runner.budget.spend()
        runner.restarts += 1
        try:
            self.start(runner.symbol, is_restart=True)
        except MatsError as error:
            logger.warning("strategy=%s restart failed: %s", runner.symbol, error.message)

    def _tell(self, runner: Runner) -> None:
        """Write the state that was entered to the strategy's page."""
        text = f"{runner.state.capitalize()}: {runner.message}" if runner.message else f"{runner.state.capitalize()}."
        text = runner.message if runner.message in (STOPPED_BY_OPERATOR, STOPPED_WITH_ENGINE) else text
        self._host.log(runner.symbol, text, "error" if runner.state is StrategyState.FAILED else "info")

    def _publish(self, runner: Runner) -> None:
        self._host.publish_run(runner.row())
