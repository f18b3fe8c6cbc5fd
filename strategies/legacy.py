"""Old-style strategy files, run unmodified: a class ``Strategy`` and a function ``manage_strategy``.

Owns: what such a file is, and its adapter to ``BaseStrategy``: thread, connection, heartbeat, stop and failures are
those of every strategy. Leaves: what the file sees as ``strategy_manager`` (``legacy_manager``).
Rule: ``manage_strategy`` really runs, on the strategy's thread, and its loop is the strategy's loop. What it drives as
``run_strategy`` is the whole life; the class's own constructor and ``run_strategy`` run inside of that, connected.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from concurrent.futures import Future
from types import ModuleType
from typing import Any, ClassVar

from ib_async import IB, Contract, Order

from strategies.base import BaseStrategy
from strategies.exceptions import OrderDeniedError, StrategyError, TransientError
from strategies.legacy_manager import OldStrategyManager, PlacedOrder
from strategies.ports import EnginePort, Ticket

CALL_TIMEOUT_S = 20.0
CLASS, ENTRY = "Strategy", "manage_strategy"


class LifeIsOverError(BaseException):
    """The file wants to run its strategy again after its end; no ``except Exception`` of its own may hold that up."""


def is_old_style(module: ModuleType) -> bool:
    """Tell whether the module follows the old template: class ``Strategy`` and function ``manage_strategy``."""
    cls, entry = vars(module).get(CLASS), vars(module).get(ENTRY)
    is_own = isinstance(cls, type) and cls.__module__ == module.__name__
    return is_own and inspect.isfunction(entry) and inspect.iscoroutinefunction(getattr(cls, "run_strategy", None))


def adapt(module: ModuleType) -> type[BaseStrategy]:
    """Return a strategy class that runs the old-style module."""
    old = vars(module)[CLASS]
    return type(
        CLASS, (OldStyleStrategy,), {"old_module": module, "__module__": module.__name__, "__doc__": old.__doc__}
    )


class OldStyleStrategy(BaseStrategy):
    """The life of one old-style strategy; ``adapt`` makes a subclass for each file."""

    old_module: ClassVar[ModuleType]

    def __init__(
        self,
        client_id: int,
        strategy_manager: EnginePort,
        params: Mapping[str, Any],
        broker_type: str = "live",
        backtest_engine: Any = None,
        strategy_symbol: str | None = None,
    ) -> None:
        super().__init__(client_id, strategy_manager, params, broker_type, backtest_engine, strategy_symbol)
        self.old: Any = None
        self._old_call: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
        self._lived = False
        self._facade = OldStrategyManager(self)

    # -- the entry point

    def _run_loop(self) -> None:
        names = vars(self.old_module)
        cls = names[CLASS]

        def _make(*args: Any, **kwargs: Any) -> Any:
            names[CLASS] = cls
            self.old, self._old_call = cls.__new__(cls), (args, kwargs)
            self.old.run_strategy = self._live  # what the entry point drives is the whole life
            return self.old

        names[CLASS] = _make
        try:
            names[ENTRY](self.client_id, self._facade, self._facade.strategy_loops)
        except LifeIsOverError:
            pass
        finally:
            names[CLASS] = cls
            self._facade.close()
            _close(self._loop)
        if not self._lived and not self._stop_requested:
            raise StrategyError(f"{ENTRY} returned without running {CLASS}.run_strategy.", code="not_run")

    async def live_here(self) -> None:
        """Live on the calling loop, as in a backtest; the entry point is left out, for it makes a loop of its own."""
        cls = vars(self.old_module)[CLASS]
        self.old, self._old_call = cls.__new__(cls), ((self.client_id, self._facade), {})
        self._lived = True
        try:
            await super().live_here()
        finally:
            self._facade.close()

    async def _live(self) -> None:
        if self._lived:
            raise LifeIsOverError
        self._lived = True
        try:
            await self._main_strategy_loop()
        except BaseException as error:
            self._fail(error)  # the entry point may swallow it
            raise

    # -- the old strategy, inside of the life

    async def initialize_strategy(self) -> None:
        """Run the old constructor, now that there is a connection for it."""
        names, old = vars(self.old_module), self.old
        names["connect_to_IB"] = self._connected_ib
        self._hand_params()
        old.client_id, old.strategy_manager = self.client_id, self._facade
        old.ib_client = self.ib
        args, kwargs = self._old_call
        type(old).__init__(old, *args, **kwargs)
        if getattr(old, "ib_client", None) is None:
            old.ib_client = self.ib
        if not hasattr(old, "strategy_name"):
            old.strategy_name = self.symbol

    async def run_strategy(self) -> None:
        """Run the old ``run_strategy``."""
        await type(self.old).run_strategy(self.old)

    def on_params_changed(self) -> None:
        """Write changed parameters into the file's ``PARAMS``."""
        self._hand_params()

    def _hand_params(self) -> None:
        known = vars(self.old_module).get("PARAMS")
        if isinstance(known, dict):
            known.update({name: self.params[name] for name in known if name in self.params})

    def _connected_ib(self, *_: Any, **__: Any) -> IB | None:
        """Stand for the template's ``connect_to_IB``: the strategy is connected already, under its own client id."""
        return self.ib

    # -- what the facade asks

    def old_order(self, contract: Contract, order: Order) -> PlacedOrder:
        """Send a ready-made order for this strategy. Thread-safe; only other threads wait for the broker."""
        return PlacedOrder(self.submit(self._place_old(contract, order)), contract, order)

    def submit(self, work: Any) -> Any:
        """Run a coroutine on the strategy's loop: a task there, and a finished future on any other thread."""
        loop = self._loop
        if loop is None or loop.is_closed():
            work.close()
            raise OrderDeniedError(f"{self.symbol} does not run.", code="not_connected")
        if _running_loop() is loop:
            task = loop.create_task(work)
            task.add_done_callback(_retrieved)
            return task
        future: Future[Any] = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            future.result(CALL_TIMEOUT_S)
        except TimeoutError as error:
            future.cancel()
            raise TransientError(f"{self.symbol} did not answer in {CALL_TIMEOUT_S:g} s.", code="no_answer") from error
        return future

    async def _place_old(self, contract: Contract, order: Order) -> Ticket:
        try:
            with self._denials_told():
                return await self._send(contract, order)
        except TransientError as error:
            self.log(f"Order not sent: {error.message}", "error")  # old code rarely looks at the outcome
            raise


def _retrieved(task: asyncio.Task[Any]) -> None:
    """Take note of the outcome, which the page has: old code that never awaits is no error of the loop."""
    if not task.cancelled():
        task.exception()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _close(loop: asyncio.AbstractEventLoop | None) -> None:
    """Close the loop that the entry point left open, as ``asyncio.run`` would."""
    if loop is None or loop.is_closed() or loop.is_running():
        return
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
