"""What an old-style strategy file sees as ``strategy_manager``: the engine, with its own books and its own orders.

Owns: ``trade_manager``, ``portfolio_manager`` and ``strategy_loops`` as the old template uses them; the rest is the
engine's (``data_manager``, ``ac``, …).
Rule: whatever name the file gives, orders and positions are those of the strategy's row. Old code calls synchronously
on its loop, where the database must not be asked: such calls run on a thread of their own and the loop waits.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import TYPE_CHECKING, Any

from ib_async import Contract, Order, Trade

from strategies.ports import StrategyPosition, Ticket

if TYPE_CHECKING:
    from strategies.legacy import OldStyleStrategy


class PlacedOrder:
    """An order on its way: may be awaited for its ticket, and reads like ib_async's ``Trade``."""

    def __init__(self, future: Any, contract: Contract, order: Order) -> None:
        self._future = future
        self._unsent = Trade(contract, order)

    def __await__(self) -> Any:
        return asyncio.wrap_future(self._future).__await__()

    @property
    def ticket(self) -> Ticket | None:
        """Return the ticket; None while the order is on its way, or when it was refused."""
        if not self._future.done() or self._future.cancelled() or self._future.exception() is not None:
            return None
        found: Ticket = self._future.result()
        return found

    def isDone(self) -> bool:  # noqa: N802 - ib_async's name
        """Tell whether the order is final, refused ones included."""
        ticket = self.ticket
        return bool(self._future.done()) if ticket is None else ticket.is_done

    def isActive(self) -> bool:  # noqa: N802 - ib_async's name
        """Tell whether the order may still be worked."""
        return not self.isDone()

    def __getattr__(self, name: str) -> Any:
        ticket = self.ticket
        return getattr(self._unsent if ticket is None else ticket.trade, name)


class OldStrategyManager:
    """The engine as one old-style strategy sees it."""

    def __init__(self, life: OldStyleStrategy) -> None:
        self._life = life
        self._away = ThreadPoolExecutor(1, thread_name_prefix=f"books-{life.symbol}")
        self.strategy_loops: dict[int, asyncio.AbstractEventLoop] = {}
        self.trade_manager = OldTradeManager(life)
        self.portfolio_manager = OldPortfolioManager(life, self.away)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._life.strategy_manager, name)

    def away(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return what the function returns on another thread."""
        return self._away.submit(function, *args, **kwargs).result()

    def close(self) -> None:
        """End the thread of the books."""
        self._away.shutdown(wait=False)


class OldTradeManager:
    """``trade_manager`` of one strategy: every order is sent by its own broker and owned by its row."""

    def __init__(self, life: OldStyleStrategy) -> None:
        self._life = life

    def place_order(self, contract: Contract, order: Order, strategy_name: str = "") -> PlacedOrder:
        """Send an order; ``strategy_name`` changes nothing. A denial is on the page, and raised where awaited."""
        return self._life.old_order(contract, order)

    def cancel_order(self, order: Any) -> Any:
        """Ask IB to cancel an order of this strategy, given as order, trade or reference."""
        broker = self._life.broker
        if broker is None:
            return None
        found = getattr(order, "order", order)
        return self._life.submit(broker.cancel_order(str(getattr(found, "orderRef", found))))


class OldPortfolioManager:
    """``portfolio_manager`` of one strategy: its positions are its own."""

    def __init__(self, life: OldStyleStrategy, away: Callable[..., Any]) -> None:
        self._life = life
        self._call_away = away

    def get_positions(self, *_: Any, **__: Any) -> list[StrategyPosition]:
        """Return this strategy's own open positions."""
        books = self._life.strategy_manager.portfolio_manager
        return list(self._call_away(books.get_strategy_positions, self._life.symbol))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._life.strategy_manager.portfolio_manager, name)
        if not inspect.ismethod(found) or inspect.iscoroutinefunction(found):
            return found

        @wraps(found)
        def call(*args: Any, **kwargs: Any) -> Any:
            return self._call_away(found, *args, **kwargs)

        return call
