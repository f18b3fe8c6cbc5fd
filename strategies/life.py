"""The life of one strategy: its thread, its loop, its connection, and how each of them ends.

Owns: start, the order connect → broker → initialise → run → clean up, the stop with its wait for working orders,
reconnects, the heartbeat, and the queue through which hooks run one at a time.
Leaves: what a strategy can do (``base.py``), who may start it and under which client id (the engine).
Rule: user code that raises, returns, calls sys.exit or blocks hurts its own strategy alone; cleanup runs exactly once.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from strategies.attribution import enter, enter_context
from strategies.exceptions import ConflictError, OrderRefusedError, StrategyError, TransientError
from strategies.ports import Broker, EnginePort, Ticket

if TYPE_CHECKING:
    from ib_async import IB, Fill, Trade

logger = logging.getLogger(__name__)

BEAT_S = 1.0
DRAIN_POLL_S = 1.0
STOP_TIMEOUT_S = 300.0
UNWIND_S = 5.0  # what run_strategy gets to return by itself, and then to bear its cancellation
BACKLOG_WARNING = 500  # waiting hook calls: the strategy is slower than its market

Hook = Callable[..., Any]


class StrategyLife(ABC):
    """Thread, loop and connection of a strategy; ``BaseStrategy`` adds what a strategy can do."""

    symbol: str
    client_id: int
    strategy_manager: EnginePort

    def __init__(self) -> None:
        self.ib: IB | None = None
        self.broker: Broker | None = None
        self.is_running = False
        self.home: asyncio.AbstractEventLoop | None = None  # the loop of a shared connection; None for one of its own
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._guard = threading.Lock()
        self._cleaned = False
        self._stop_requested = False
        self._stop_timeout_s = STOP_TIMEOUT_S
        self._failure: BaseException | None = None
        self._message = ""
        self._beats = True

    # -- what the strategy's author writes

    @abstractmethod
    async def initialize_strategy(self) -> None:
        """Qualify contracts, load history, subscribe; runs once, connected."""

    @abstractmethod
    async def run_strategy(self) -> None:
        """Work until ``is_running`` is False; returning earlier ends the strategy."""

    async def on_reconnected(self) -> None:  # noqa: B027 - a hook: nothing is a fine answer
        """Subscribe again: a lost connection took every subscription with it."""

    def on_fill(self, trade: Trade, fill: Fill) -> Any:  # noqa: B027 - a hook: nothing is a fine answer
        """React to an own execution. The ledger is fed elsewhere: overriding this loses nothing."""

    def on_status_change(self, trade: Trade, status: Any) -> Any:  # noqa: B027 - a hook: nothing is a fine answer
        """React to a status of an own order. The ledger is fed elsewhere: overriding this loses nothing."""

    # -- what the engine calls, from any thread

    @property
    def is_connected(self) -> bool:
        """Tell whether the strategy's own IB connection is up at this moment."""
        return self.ib is not None and self.ib.isConnected()

    @property
    def is_alive(self) -> bool:
        """Tell whether the strategy's thread still runs."""
        return self._thread is not None and self._thread.is_alive()

    def start_strategy(self) -> None:
        """Start the strategy's thread; one instance lives once.

        Raises: ConflictError when it was started before.
        """
        with self._guard:
            if self._thread is not None:
                raise ConflictError(f"{self.symbol} was started already.", code="already_running")
            self.is_running = True
            self._thread = threading.Thread(target=self._thread_main, name=f"Strategy-{self.symbol}", daemon=True)
            self._thread.start()

    def request_stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Ask for a stop and return at once; a second request changes nothing. Thread-safe."""
        with self._guard:
            if self._stop_requested:
                return
            self._stop_requested = True
            self._stop_timeout_s = timeout_s
            self.is_running = False
            loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop closed meanwhile: nothing left to stop
                loop.call_soon_threadsafe(self._stop_event.set)

    def stop_strategy(self, timeout_s: float = STOP_TIMEOUT_S) -> bool:
        """Stop: no new orders, wait for working ones, disconnect; return whether the thread ended. Thread-safe.

        Units: at most ``timeout_s`` seconds for the orders and two unwinding periods more. Called on the strategy's
        own thread it only asks, since a thread cannot wait for itself.
        """
        self.request_stop(timeout_s)
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return thread is None
        thread.join(timeout_s + 3 * UNWIND_S)
        return not thread.is_alive()

    async def until_stopped(self) -> None:
        """Wait for the stop: what ``run_strategy`` does when every decision is made in hooks."""
        await self._stop_event.wait()

    def log(self, text: str, level: str = "info") -> None:
        """Write a line to the strategy's page and to the log. Thread-safe."""
        self.strategy_manager.log(self.symbol, text, level)

    # -- the thread

    def _thread_main(self) -> None:
        enter(self.symbol)
        try:
            self._run_loop()
        except BaseException as error:  # noqa: BLE001 - thread border: even sys.exit in a callback hurts this one alone
            self._fail(error)
        finally:
            self.is_running = False
            self._report_end()

    async def live_here(self) -> None:
        """Live on the calling loop instead of a thread's, as in a backtest; return when the life is over.

        There is no beat: a loop that nobody else runs on cannot fall silent unseen.
        """
        enter_context(self.symbol)
        self._beats = False
        self.is_running = True
        try:
            await self._main_strategy_loop()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user-code border, as of a thread
            self._fail(error)
        finally:
            self.is_running = False
            self._report_end()

    def _run_loop(self) -> None:
        """Live on a loop of this thread, or on that of the shared connection; return when the life is over."""
        if self.home is None:
            asyncio.run(self._main_strategy_loop())
        else:
            asyncio.run_coroutine_threadsafe(self._main_strategy_loop(), self.home).result()

    async def _main_strategy_loop(self) -> None:
        """Connect, make the broker, initialise, run; then clean up, whatever happened."""
        self._stop_event = asyncio.Event()
        self._lost_event = asyncio.Event()
        self._initialized = asyncio.Event()
        self._hooks: asyncio.Queue[tuple[Hook, tuple[Any, ...]]] = asyncio.Queue()
        with self._guard:
            self._loop = asyncio.get_running_loop()
            if self._stop_requested:
                self._stop_event.set()
        helpers = [asyncio.create_task(work) for work in (self._beat(), self._run_hooks(), self._keep_connected())]
        work = asyncio.create_task(self._work())
        try:
            await self._until_end(work)
        finally:
            await _cancel([work, *helpers])
            await self._cleanup()

    async def _work(self) -> None:
        self._adopt(await self.strategy_manager.connect_strategy(self))
        await self._call_user(self.initialize_strategy())
        self._initialized.set()
        self._report("running")
        await self._call_user(self.run_strategy())

    async def _until_end(self, work: asyncio.Task[None]) -> None:
        stop = asyncio.create_task(self._stop_event.wait())
        try:
            await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
        if work.done():
            await self._outcome(work)
        self.is_running = False
        if self._failure is None:
            self._report("stopping", self._message)
            await self._drain()
            await asyncio.wait({work}, timeout=UNWIND_S)

    async def _outcome(self, work: asyncio.Task[None]) -> None:
        try:
            await work
        except StrategyError as error:
            if not self._is_stop(error):
                raise
        else:
            self._message = "" if self._stop_requested else "finished"

    def _is_stop(self, error: BaseException) -> bool:
        """Tell whether the engine broke off an attempt to connect because of the stop: no failure."""
        return self._stop_requested and isinstance(error, StrategyError) and error.code == "stopped"

    async def _call_user(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except SystemExit as error:  # inside a task it would tear down the loop before orders are waited for
            raise StrategyError(f"{self.symbol} called sys.exit({error.code}).", code="sys_exit") from error

    # -- the end

    async def _drain(self) -> None:
        deadline = asyncio.get_running_loop().time() + self._stop_timeout_s
        pending = self._pending()
        while pending and self.is_connected and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(min(DRAIN_POLL_S, self._stop_timeout_s))
            pending = self._pending()
        if pending:
            refs = ", ".join(ticket.order_ref for ticket in pending)
            self._message = f"stopped with {len(pending)} working order(s): {refs}"
            self.log(f"Stopped with orders still working: {refs}", "warning")

    def _pending(self) -> Sequence[Ticket]:
        return self.broker.open_tickets() if self.broker is not None else []

    async def _cleanup(self) -> None:
        """Disconnect; runs exactly once."""
        if self._cleaned:
            return
        self._cleaned = True
        if self.ib is not None:
            self._detach(self.ib)
            if self.home is None:
                self.ib.disconnect()
            else:
                self._drop_subscriptions()  # the line lives on and would go on bringing them

    def _fail(self, error: BaseException) -> None:
        if self._failure is error:
            return
        if self._failure is None:
            self._failure = error
        # For the log file, which has the trace; the page hears of the failure with its reason by the change of state.
        logger.error("strategy=%s failed", self.symbol, exc_info=error, extra={"page": False})

    def _report_end(self) -> None:
        if self._failure is None:
            self._report("stopped", self._message)
            return
        error = self._failure
        text = str(error) or type(error).__name__
        message = text if isinstance(error, StrategyError) else f"{type(error).__name__}: {text}"
        self._report("failed", message, "".join(traceback.format_exception(error)))

    def _report(self, state: str, message: str = "", trace: str = "") -> None:
        try:
            self.strategy_manager.strategy_changed(self, state, message, trace)
        except Exception:  # the engine's trouble must not keep a strategy from ending
            logger.exception("strategy=%s state=%s could not be reported", self.symbol, state)

    # -- the connection

    def _adopt(self, ib: IB) -> None:
        if ib is self.ib:
            return  # reconnected in place: listeners and broker live on
        if self.ib is not None:
            self._detach(self.ib)
        self.ib = ib
        ib.disconnectedEvent += self._on_disconnected
        ib.execDetailsEvent += self._on_exec_details
        ib.orderStatusEvent += self._on_order_status
        self._initialize_broker()

    def _detach(self, ib: IB) -> None:
        ib.disconnectedEvent -= self._on_disconnected
        ib.execDetailsEvent -= self._on_exec_details
        ib.orderStatusEvent -= self._on_order_status

    def _initialize_broker(self) -> None:
        """Make the broker over the present connection."""
        self.broker = self.strategy_manager.make_broker(self)

    def _drop_subscriptions(self) -> None:  # noqa: B027 - there may be none
        """End what it subscribed to on a shared connection; what makes subscriptions overrides this."""

    def _on_disconnected(self) -> None:
        self._lost_event.set()

    async def _keep_connected(self) -> None:
        while True:
            await self._lost_event.wait()
            self._lost_event.clear()
            if self._stop_requested or self.is_connected:
                continue
            self.log("Connection to IB lost; orders are refused until it is back.", "warning")
            try:
                self._adopt(await self.strategy_manager.connect_strategy(self))
            except Exception as error:  # noqa: BLE001 - task border: without a connection the strategy cannot go on
                if not self._is_stop(error):
                    self._end_by(error)
                return
            self.log("Connected to IB again.")
            if self._initialized.is_set():
                self._enqueue(self.on_reconnected)

    # -- hooks, one at a time and in order

    def _on_exec_details(self, trade: Trade, fill: Fill) -> None:
        if self._is_own(fill.execution.orderRef):
            self._enqueue(self.on_fill, trade, fill)

    def _on_order_status(self, trade: Trade) -> None:
        if self._is_own(trade.order.orderRef):
            self._enqueue(self.on_status_change, trade, trade.orderStatus)

    def _is_own(self, order_ref: str) -> bool:
        # IB tells a client of all orders under its id, also of those that the strategy before left working.
        return order_ref.partition("/")[0] == self.symbol

    def _enqueue(self, hook: Hook, *args: Any) -> None:
        self._hooks.put_nowait((hook, args))
        if self._hooks.qsize() == BACKLOG_WARNING:
            self.log(f"{BACKLOG_WARNING} events wait: the strategy is slower than its market.", "warning")

    async def _run_hooks(self) -> None:
        await self._initialized.wait()  # no hook finds a half-made strategy
        while True:
            hook, args = await self._hooks.get()
            try:
                result = hook(*args)
                if inspect.isawaitable(result):
                    await _as_coroutine(result)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - user-code border
                if not self._is_bearable(error):
                    self._end_by(error)
                    return
                self.log(str(error), "warning")

    def _is_bearable(self, error: BaseException) -> bool:
        # A refused order is an answer; what a lost connection interrupts, on_reconnected makes good.
        return isinstance(error, OrderRefusedError) or (isinstance(error, TransientError) and not self.is_connected)

    def _end_by(self, error: BaseException) -> None:
        self._fail(error)
        self._stop_event.set()

    async def _beat(self) -> None:
        while self._beats:
            self.strategy_manager.strategy_beat(self)
            await asyncio.sleep(BEAT_S)


async def _as_coroutine(work: Awaitable[Any]) -> None:
    await work


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=UNWIND_S)
