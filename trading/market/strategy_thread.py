"""StrategyThread: one reactive strategy on a thread of its own, told of bars through a bounded queue.

Owns: the queue, every call of the strategy's code while the thread lives, its figures.
Leaves: whom to notify and whom to wait for (``dispatcher``), what becomes of signals (``signal_executor``).
Rule: notifying never waits. A full queue drops what is new, counted as an error and told; in data-driven mode nothing
is dropped, since the clock waits for every strategy. An error in ``on_bars`` is counted and told and the strategy goes
on; whatever happens, what was taken is signalled as done.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from time import perf_counter
from typing import Any, TypeVar

from strategies.attribution import enter
from strategies.exceptions import StrategyError
from strategies.reactive import ReactiveStrategy, Signal, StrategyContext
from trading.market.subscription import DATA_DRIVEN, StreamSubscription

logger = logging.getLogger(__name__)

GET_TIMEOUT_S = 1.0
T = TypeVar("T")

Notification = tuple[str, str, str]  # symbol, interval, kind of data
SignalSink = Callable[[str, str, Sequence[Signal]], None]
"""Takes what ``on_bars(symbol, interval)`` returned, on the strategy's thread."""
TroubleSink = Callable[[str, BaseException | None], None]


def queue_size_setting() -> int:
    """Return how many notifications may wait for one strategy (MATS_NOTIFICATION_QUEUE)."""
    from django.conf import settings  # here, so that the thread serves tools and tests without Django

    return int(settings.MATS.notification_queue)


class _Call:
    """Work that is no notification: done in its place in the queue."""

    __slots__ = ("future", "work")

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work
        self.future: Future[Any] = Future()

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.work()
        except BaseException as error:  # noqa: BLE001 - user-code border: the caller gets it as it is
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class StrategyThread(threading.Thread):
    """Runs one strategy. ``on_signals`` and ``on_trouble`` are called on this thread and must not raise."""

    def __init__(
        self,
        strategy: ReactiveStrategy,
        context: StrategyContext,
        mode: str,
        *,
        queue_size: int | None = None,
        on_signals: SignalSink | None = None,
        on_trouble: TroubleSink | None = None,
    ) -> None:
        super().__init__(name=f"Strategy-{strategy.name}", daemon=True)
        self.strategy = strategy
        self.context = context
        self.mode = mode
        self.failure: BaseException | None = None  # what ended the thread, if it did not end in order
        self.dropped = 0
        self.errors_in_a_row = 0
        self._on_signals, self._on_trouble = on_signals, on_trouble
        self._queue_size = queue_size_setting() if queue_size is None else queue_size
        self._queue: queue.SimpleQueue[Notification | _Call | None] = queue.SimpleQueue()
        self._calls = threading.Lock()
        self._stop_event = threading.Event()
        self._is_quiet = False  # no more notifications, but calls go on
        self._has_ended = False
        self._is_dropping = False
        self._busy_since: float | None = None
        self._subscription = StreamSubscription(mode, f"processor->strategy:{strategy.name}", is_alive=self.is_alive)
        self._notifications_processed = 0
        self._signals_generated = 0
        self._errors = 0
        self._total_processing_time = 0.0
        self._max_processing_time = 0.0

    # -- from other threads

    def notify(self, symbol: str, interval: str, data_type: str = "bars") -> None:
        """Tell the strategy of new data; returns at once. Ignored once the thread was asked to end."""
        if self._is_quiet:
            return
        if self.mode != DATA_DRIVEN and self._queue.qsize() >= self._queue_size:
            self._drop(symbol, interval)
            return
        self._is_dropping = False
        self._subscription.notify()
        self._queue.put((symbol, interval, data_type))

    def call(self, work: Callable[[], T]) -> Future[T]:
        """Have the strategy's code called in its place in the queue, so that it never runs on two threads at once.

        On this thread itself, and while it does not live, the work is done at once.
        """
        made = _Call(work)
        with self._calls:
            if self.is_alive() and not self._has_ended and threading.current_thread() is not self:
                self._queue.put(made)
                return made.future
        made.run()
        return made.future

    def finish(self, work: Callable[[], Any]) -> Future[Any]:
        """Take no further notification, do this as the last thing, then end; what waits is left undone."""
        with self._calls:
            self._is_quiet = True
        future = self.call(work)
        self._queue.put(None)
        return future

    def stop(self) -> None:
        """Ask the thread to end after what it does now, and end every wait for it."""
        with self._calls:
            self._is_quiet = True
        self._stop_event.set()
        self._subscription.close()
        self._queue.put(None)

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end; a thread that does not come to it in time is told in the log."""
        super().join(timeout)
        if self.is_alive():
            logger.warning("strategy=%s thread did not end within %s s", self.strategy.name, timeout)

    def busy_s(self) -> float:
        """Return for how long the strategy's code has been at one piece of work; 0 while it waits for some."""
        since = self._busy_since
        return 0.0 if since is None else perf_counter() - since

    def get_queue_size(self) -> int:
        """Return how much waits."""
        return self._queue.qsize()

    def get_subscription(self) -> StreamSubscription:
        """Return what a processor waits on."""
        return self._subscription

    def get_metrics(self) -> dict[str, Any]:
        """Return the figures. Units: milliseconds of ``on_bars`` alone."""
        done = self._notifications_processed
        return {
            "strategy_name": self.strategy.name,
            "running": self.is_alive(),
            "mode": self.mode,
            "notifications_processed": done,
            "signals_generated": self._signals_generated,
            "errors": self._errors,
            "queue_size": self.get_queue_size(),
            "avg_processing_time_ms": self._total_processing_time / done * 1000 if done else 0.0,
            "max_processing_time_ms": self._max_processing_time * 1000,
            "overruns": self._subscription.get_overrun_count(),
        }

    def _drop(self, symbol: str, interval: str) -> None:
        self.dropped += 1
        self._errors += 1
        if not self._is_dropping:  # once for a run of them
            self._is_dropping = True
            self._tell(
                f"{self._queue_size} notifications wait: the strategy is slower than its market. New ones are dropped, "
                f"{symbol} {interval} first.",
                None,
            )

    # -- the thread

    def run(self) -> None:
        """Work until asked to end."""
        enter(self.strategy.name)
        try:
            self._processing_loop()
        except BaseException as error:  # noqa: BLE001 - thread border: sys.exit in on_bars ends this strategy alone
            self.failure = error
            self._errors += 1
            self._tell(f"The thread ended: {type(error).__name__}: {error}", error)
        finally:
            self._refuse_calls()

    def _refuse_calls(self) -> None:
        """Answer whoever waits for a call that nobody will do any more."""
        with self._calls:
            self._has_ended = self._is_quiet = True
            while not self._queue.empty():
                left = self._queue.get()
                if isinstance(left, _Call) and left.future.set_running_or_notify_cancel():
                    left.future.set_exception(
                        StrategyError(
                            f"{self.strategy.name} ended before it came to that.", code="strategy_thread_ended"
                        )
                    )

    def _processing_loop(self) -> None:
        while not self._stop_event.is_set():
            try:
                taken = self._queue.get(timeout=GET_TIMEOUT_S)
            except queue.Empty:
                continue
            if taken is None:
                return
            self._busy_since = perf_counter()
            try:
                if isinstance(taken, _Call):
                    taken.run()
                else:
                    self._process_notification(taken)
            finally:
                self._busy_since = None

    def _process_notification(self, notification: Notification) -> None:
        symbol, interval, _ = notification
        try:
            if not self._is_quiet:
                self._decide(symbol, interval)
        except Exception as error:  # noqa: BLE001 - user-code border: one bad bar must not end the strategy
            self._errors += 1
            self.errors_in_a_row += 1
            self._tell(f"on_bars({symbol}, {interval}) failed: {type(error).__name__}: {error}", error)
        finally:
            self._subscription.signal_ready()

    def _decide(self, symbol: str, interval: str) -> None:
        began = perf_counter()
        signals = checked_signals(self.strategy.on_bars(symbol, interval))
        spent = perf_counter() - began
        self._total_processing_time += spent
        if spent > self._max_processing_time:
            self._max_processing_time = spent
        self._notifications_processed += 1
        self.errors_in_a_row = 0
        if signals:
            self._signals_generated += len(signals)
            if self._on_signals is not None:
                self._on_signals(symbol, interval, signals)

    def _tell(self, text: str, error: BaseException | None) -> None:
        logger.log(
            logging.WARNING if error is None else logging.ERROR,
            "strategy=%s %s",
            self.strategy.name,
            text,
            exc_info=error,
            extra={"strategy": self.strategy.name},
        )
        if self._on_trouble is not None:
            self._on_trouble(text, error)


def checked_signals(returned: Sequence[Signal] | None) -> Sequence[Signal]:
    """Return what ``on_bars`` returned as signals; nothing means none.

    Raises: StrategyError (bad_signal) for anything else.
    """
    if not returned:
        return ()
    if isinstance(returned, Signal):
        raise StrategyError("on_bars returned one Signal; return a list of them.", code="bad_signal")
    for one in returned:
        if not isinstance(one, Signal):
            raise StrategyError(f"on_bars returned a {type(one).__name__} among its signals.", code="bad_signal")
    return returned
