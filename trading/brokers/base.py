"""What every broker of a strategy shares: its owner, and its own books as the ledger has them.

Owns: positions and equity of one owner. Leaves: sending orders (``live``).
Rule: positions and equity are the strategy's own, never the account's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from strategies.ports import PortfolioPort, StrategyPosition, Ticket
from trading.orders.db_threads import in_db_thread
from trading.orders.intents import IntentWriter

if TYPE_CHECKING:
    from ib_async import Contract, Order


class OrderGate(Protocol):
    """Says whether a new order may be sent now."""

    def check(self, con_id: int, /) -> None:
        """Raise OrderDeniedError with what stands against an order in this instrument."""


class EngineSide(Protocol):
    """What a broker needs of the engine."""

    @property
    def gate(self) -> OrderGate:
        """Return the gate before every new order."""

    @property
    def intents(self) -> IntentWriter:
        """Return the writer of intents."""

    @property
    def portfolio_manager(self) -> PortfolioPort:
        """Return the books."""

    @property
    def message_queue(self) -> Any:
        """Return the queue to the ledger."""


class Broker(ABC):
    """Sends the orders of one owner and reads its books."""

    def __init__(self, strategy_symbol: str, portfolio: PortfolioPort | None) -> None:
        self.strategy_symbol = strategy_symbol
        self._portfolio = portfolio

    @property
    def portfolio(self) -> PortfolioPort:
        """Return the books.

        Raises: RuntimeError for a broker that was made without an engine.
        """
        if self._portfolio is None:
            raise RuntimeError("This broker was made without an engine; it has no books.")
        return self._portfolio

    @abstractmethod
    async def place_order(
        self, contract: Contract, order: Order, *, owner: str, parent: Ticket | None = None
    ) -> Ticket:
        """Commit the intent, then send."""

    @abstractmethod
    async def cancel_order(self, order_ref: str) -> None:
        """Ask for the cancel of a working order."""

    @abstractmethod
    async def modify_order(
        self,
        order_ref: str,
        *,
        quantity: Decimal | None = None,
        limit: Decimal | None = None,
        stop: Decimal | None = None,
    ) -> None:
        """Change a working order; what is None stays."""

    @abstractmethod
    def open_tickets(self) -> Sequence[Ticket]:
        """Return the tickets that are not final."""

    async def get_positions(self) -> list[StrategyPosition]:
        """Return this owner's own positions."""
        return list(await in_db_thread(self.portfolio.get_strategy_positions, self.strategy_symbol))

    async def get_equity(self) -> Decimal:
        """Return this owner's own equity.

        Raises: LedgerError while it cannot be known.
        """
        return await in_db_thread(self.portfolio.calculate_strategy_equity, self.strategy_symbol)
