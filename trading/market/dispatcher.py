"""StrategyDispatcher: the reactive strategies of one session, each on its thread, told only of what they subscribed to.

Owns: loading them from the session's configuration, their lifecycle, the map of subscriptions, notifying and waiting.
Leaves: threads and counting (``strategy_thread``, ``subscription``), orders (``signal_executor``), who calls when
(``processor``, ``coordinator``).
Rule: a wait covers whoever has work left and nobody else, so that a strategy that was not notified holds up nobody. The
map is read before ``setup``, as far as it can be, and again after it. All or none: a strategy that cannot be loaded or
set up keeps the others from starting, with the reason in ``failure``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, Protocol

from strategies.exceptions import ConfigError, MatsError, StrategyError
from strategies.intervals import parse_interval
from strategies.loader import LoadedStrategy, expected_class_name, load_strategy_module
from strategies.params import validate_params
from strategies.reactive import LOW_QUALITY, ReactiveStrategy, StrategyConfig, StrategyContext
from trading.market.strategy_thread import SignalSink, StrategyThread
from trading.market.subscription import CLOCK_DRIVEN, DATA_DRIVEN, LIVE

logger = logging.getLogger(__name__)

WAIT_S = 0.1  # in clock-driven and live mode, for all strategies together
JOIN_S = 5.0
HOOK_WAIT_S = 5.0  # in data-driven mode hooks are waited for like everything else

Pair = tuple[str, str]  # symbol, interval
Load = Callable[[str], LoadedStrategy]
ExecutorMaker = Callable[[ReactiveStrategy, StrategyContext], SignalSink | None]
"""Returns what takes a strategy's signals; None where they are only counted."""


class System(Protocol):
    """What the dispatcher needs of the session's system manager."""

    session_config: Any
    mode: Any

    def get_session_data(self) -> Any:
        """Return the session's data (``strategies.reactive.SessionDataPort``)."""

    def get_time_manager(self) -> Any:
        """Return the session's clock (``strategies.reactive.TimePort``)."""


class StrategyDispatcher:
    """Loads, starts, notifies, waits for and stops the strategies of a session.

    Called by the session's threads: lifecycle by one, ``notify_strategies`` and ``wait_for_strategies`` by another.
    """

    def __init__(
        self,
        system_manager: System | Any,
        *,
        make_executor: ExecutorMaker | None = None,
        load: Load = load_strategy_module,
        queue_size: int | None = None,
    ) -> None:
        self._system_manager = system_manager
        self._make_executor, self._load, self._queue_size = make_executor, load, queue_size
        self._strategy_threads: list[StrategyThread] = []
        self._subscriptions: Mapping[Pair, Sequence[StrategyThread]] = {}
        self._added: dict[str, None] = {}  # symbols that came during the session, in order
        self._quality: dict[Pair, float] = {}
        self._loaded: dict[str, LoadedStrategy] = {}
        self._initialized = False
        self._running = False
        self.failure = ""

    # -- lifecycle

    def initialize(self) -> bool:
        """Load every enabled strategy of the session; False, with ``failure`` saying why, when one cannot be used."""
        if self._initialized:
            logger.warning("strategies are initialized already")
            return True
        self.failure = ""
        try:
            for config in self._system_manager.session_config.session_data_config.strategies or ():
                if config.enabled:
                    self._strategy_threads.append(self._made(config))
                else:
                    logger.info("strategy is disabled module=%s", config.module)
            self._map_subscriptions(strict=False)
        except MatsError as error:
            return self._failed(error.message)
        except Exception as error:
            logger.exception("strategies cannot be initialized")
            return self._failed(f"{type(error).__name__}: {error}")
        self._initialized = True
        logger.info("strategies initialized count=%s", len(self._strategy_threads))
        return True

    def start_strategies(self) -> bool:
        """Set up and start all strategies; False, with none left running, when one refuses."""
        if not self._initialized:
            return self._failed("The strategies are not initialized.", forget=False)
        if self._running:
            logger.warning("strategies run already")
            return True
        begun: list[StrategyThread] = []
        try:
            for thread in self._strategy_threads:
                begun.append(thread)
                self._set_up(thread)
            self._map_subscriptions(strict=True)
            for thread in self._strategy_threads:
                thread.start()
        except Exception as error:
            text = error.message if isinstance(error, MatsError) else f"{type(error).__name__}: {error}"
            if not isinstance(error, MatsError):
                logger.exception("strategies cannot be started")
            self._end(begun)
            return self._failed(text, forget=False)
        self._running = True
        logger.info("strategies running count=%s", len(self._strategy_threads))
        return True

    def stop_strategies(self) -> None:
        """End all threads, then tear the strategies down; a strategy that does not end in time is told and left."""
        if not self._running:
            logger.info("strategies do not run")
            return
        self._running = False
        self._end(self._strategy_threads)
        logger.info("strategies stopped count=%s", len(self._strategy_threads))

    def shutdown(self) -> None:
        """Stop and forget everything; ``initialize`` may follow."""
        if self._running:
            self.stop_strategies()
        self._strategy_threads.clear()
        self._subscriptions = {}
        self._added.clear()
        self._quality.clear()
        self._loaded.clear()
        self._initialized = False

    def _end(self, threads: Sequence[StrategyThread]) -> None:
        for thread in threads:
            thread.stop()
        deadline = time.monotonic() + JOIN_S
        for thread in threads:
            if thread.ident is not None:
                thread.join(timeout=max(0.0, deadline - time.monotonic()))
        for thread in threads:
            if thread.is_alive():
                # Its code still runs: tearing down beside it would have it on two threads at once.
                logger.error("strategy=%s still works and was not torn down", thread.strategy.name)
                continue
            try:
                thread.strategy.teardown(thread.context)
            except Exception:
                logger.exception("strategy=%s teardown failed", thread.strategy.name)

    def _failed(self, reason: str, *, forget: bool = True) -> bool:
        self.failure = reason
        logger.error("strategies: %s", reason)
        if forget:
            self._strategy_threads.clear()
            self._loaded.clear()
            self._subscriptions = {}
        return False

    # -- loading

    def _made(self, config: StrategyConfig) -> StrategyThread:
        config.validate()
        name = config.module.rpartition(".")[2]
        if name in self._loaded:
            raise StrategyError(
                f"Two strategies are called {name}; a session has each module once.", code="duplicate_strategy"
            )
        loaded = self._load(config.module)
        if not (isinstance(loaded.cls, type) and issubclass(loaded.cls, ReactiveStrategy)):
            raise StrategyError(
                f"{config.module} holds an imperative strategy; sessions run those derived from ReactiveStrategy.",
                code="not_reactive",
            )
        if loaded.cls.__name__ != expected_class_name(name):
            logger.warning("found %s, expected %s in %s", loaded.cls.__name__, expected_class_name(name), config.module)
        self._loaded[name] = loaded
        try:
            strategy = loaded.cls(name, _checked_config(name, loaded, config.config))
        except MatsError:
            raise
        except Exception as error:  # user-code border
            logger.exception("strategy=%s cannot be made", name)
            raise StrategyError(f"{name} cannot be made: {type(error).__name__}: {error}", code="load_error") from error
        return self._thread_for(strategy)

    def _thread_for(self, strategy: ReactiveStrategy) -> StrategyThread:
        context = self._create_context()
        sink = self._make_executor(strategy, context) if self._make_executor is not None else None
        return StrategyThread(strategy, context, self._determine_mode(), queue_size=self._queue_size, on_signals=sink)

    def _create_context(self) -> StrategyContext:
        system = self._system_manager
        return StrategyContext(system.get_session_data(), system.get_time_manager(), system, str(system.mode.value))

    def _determine_mode(self) -> str:
        if self._system_manager.mode.value == LIVE:
            return LIVE
        speed = self._system_manager.session_config.backtest_config.speed_multiplier
        return CLOCK_DRIVEN if speed else DATA_DRIVEN

    def _set_up(self, thread: StrategyThread) -> None:
        name = thread.strategy.name
        try:
            agreed = thread.strategy.setup(thread.context)
        except Exception as error:  # user-code border
            logger.exception("strategy=%s setup failed", name)
            raise StrategyError(
                f"{name}: setup failed: {type(error).__name__}: {error}", code="setup_failed"
            ) from error
        if not agreed:
            raise StrategyError(f"{name} refused to start: its setup returned False; its log says why.", code="refused")

    # -- subscriptions

    def _map_subscriptions(self, *, strict: bool) -> None:
        found: dict[Pair, list[StrategyThread]] = {}
        for thread in self._strategy_threads:
            try:
                pairs = self._pairs_of(thread.strategy)
            except Exception as error:
                if strict:
                    raise StrategyError(
                        f"{thread.strategy.name}: get_subscriptions failed: {type(error).__name__}: {error}",
                        code="bad_subscriptions",
                    ) from error
                logger.info("strategy=%s says what it follows once it is set up", thread.strategy.name)
                continue
            for pair in pairs:
                found.setdefault(pair, []).append(thread)
        self._subscriptions = found

    def _pairs_of(self, strategy: ReactiveStrategy) -> list[Pair]:
        pairs = dict.fromkeys(checked_pairs(strategy.get_subscriptions()))
        if strategy.auto_subscribe and self._added:
            intervals = dict.fromkeys(interval for _, interval in pairs)
            pairs |= dict.fromkeys((symbol, interval) for symbol in self._added for interval in intervals)
        return list(pairs)

    def get_subscribed_threads(self, symbol: str, interval: str) -> list[StrategyThread]:
        """Return who follows a pair."""
        return list(self._subscriptions.get((symbol, interval), ()))

    def get_all_subscriptions(self) -> set[Pair]:
        """Return every pair that somebody follows."""
        return set(self._subscriptions)

    def loaded(self) -> dict[str, LoadedStrategy]:
        """Return what was loaded, by strategy: which file, which bytes, which parameters."""
        return dict(self._loaded)

    # -- notifying

    def notify_strategies(self, symbol: str, interval: str, data_type: str = "bars") -> None:
        """Tell whoever follows a pair that there is a new bar of it; returns at once."""
        for thread in self._subscriptions.get((symbol, interval), ()):
            thread.notify(symbol, interval, data_type)

    def wait_for_strategies(self, timeout: float | None = None) -> bool:
        """Wait for whoever has work left, then begin a new turn; tell False when the time was over first.

        Data-driven: without a time limit. Else at most ``timeout`` seconds, 0.1 by default, for all together.
        Raises: StrategyError (strategy_thread_ended) when the thread of one died in data-driven mode.
        """
        limit = WAIT_S if timeout is None else timeout
        deadline = time.monotonic() + limit
        all_ready = True
        try:
            # Who was told last is done last, as a rule: waiting for it first wakes this thread once, not once for each.
            for thread in reversed(self._strategy_threads):
                subscription = thread.get_subscription()
                if not subscription.wait_until_ready(max(0.0, deadline - time.monotonic())):
                    all_ready = False
                    logger.debug(
                        "strategy=%s is behind overruns=%s", thread.strategy.name, subscription.get_overrun_count()
                    )
        finally:
            for thread in self._strategy_threads:
                thread.get_subscription().reset()
        return all_ready

    def notify_symbol_added(self, symbol: str) -> None:
        """Tell every strategy of a symbol that came during the session, then read their subscriptions again.

        The hook runs on the strategy's own thread; who does not answer in time is told in the log and waited for no
        longer, and what it subscribes to then counts once it has answered.
        """
        self._added.setdefault(symbol)
        self._tell_all(self._strategy_threads, lambda strategy: strategy.on_symbol_added(symbol), "on_symbol_added")
        self._remap()

    def notify_quality(self, symbol: str, interval: str, quality: float, threshold: float = LOW_QUALITY) -> None:
        """Take note how complete a pair's bars are (0–100); whoever follows it is told when that falls below."""
        before = self._quality.get((symbol, interval), 100.0)
        self._quality[symbol, interval] = quality
        if before >= threshold > quality:
            self._tell_all(
                self.get_subscribed_threads(symbol, interval),
                lambda strategy: strategy.on_quality_update(symbol, interval, quality),
                "on_quality_update",
            )

    def _tell_all(self, threads: Sequence[StrategyThread], hook: Callable[[ReactiveStrategy], None], name: str) -> None:
        calls = [(thread, self._begin_hook(thread, hook)) for thread in threads]
        deadline = time.monotonic() + HOOK_WAIT_S
        for thread, future in calls:
            limit = None if thread.mode == DATA_DRIVEN else max(0.0, deadline - time.monotonic())
            try:
                future.result(limit)
            except TimeoutError:
                logger.warning("strategy=%s %s is not answered yet", thread.strategy.name, name)
                future.add_done_callback(lambda _: self._remap())
            except (Exception, CancelledError):
                logger.exception("strategy=%s %s failed", thread.strategy.name, name)

    @staticmethod
    def _begin_hook(thread: StrategyThread, hook: Callable[[ReactiveStrategy], None]) -> Future[None]:
        return thread.call(lambda: hook(thread.strategy))

    def _remap(self) -> None:
        """Read the subscriptions again; what a strategy says wrongly now leaves the map as it was."""
        try:
            self._map_subscriptions(strict=True)
        except StrategyError as error:
            logger.error("subscriptions stay as they were: %s", error.message)  # noqa: TRY400 - one clear line

    # -- figures

    def get_metrics(self) -> dict[str, Any]:
        """Return the figures of all and of each. Units: milliseconds."""
        each = [thread.get_metrics() for thread in self._strategy_threads]
        slowest = max(each, key=lambda one: float(one["avg_processing_time_ms"]), default=None)
        return {
            "total_strategies": len(each),
            "active_strategies": sum(1 for one in each if one["running"]),
            "total_subscriptions": len(self._subscriptions),
            "total_notifications_processed": sum(one["notifications_processed"] for one in each),
            "total_signals_generated": sum(one["signals_generated"] for one in each),
            "total_errors": sum(one["errors"] for one in each),
            "slowest_strategy": slowest["strategy_name"] if slowest else None,
            "slowest_avg_time_ms": slowest["avg_processing_time_ms"] if slowest else 0,
            "strategies": each,
        }


def _checked_config(name: str, loaded: LoadedStrategy, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration over the file's own defaults, checked where the file says its types."""
    if loaded.params_model is None:
        return {**loaded.params, **given}
    try:
        return validate_params(loaded, given)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error.message}", code=error.code, **error.fields) from error


def checked_pairs(returned: Iterable[Sequence[str]]) -> list[Pair]:
    """Return what ``get_subscriptions`` returned, every pair once.

    Raises: StrategyError (bad_subscriptions) for what is no pair; ConfigError for an unknown interval.
    """
    pairs: dict[Pair, None] = {}
    for one in returned:
        if isinstance(one, str) or len(one) != 2 or not all(isinstance(part, str) and part for part in one):
            raise StrategyError(
                f"get_subscriptions returned {one!r}; return pairs such as ('AAPL', '5m').", code="bad_subscriptions"
            )
        symbol, interval = one
        pairs[symbol, parse_interval(interval).text] = None
    return list(pairs)
