"""What every broker of a strategy shares: its owner, and its own books as the ledger has them.

Owns: positions and equity of one owner. Leaves: sending orders (``live``).
Rule: positions and equity are the strategy's own, never the account's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

from ib_async import IB, Contract

from strategies import ports
from strategies.ports import PortfolioPort, StrategyPosition
from strategies.sizing import multiplier_of
from trading.ib.magnifiers import magnifier_said
from trading.orders.db_threads import in_db_thread
from trading.orders.drafts import OrderDraft
from trading.orders.facts import RiskFacts
from trading.orders.intents import IntentWriter
from trading.orders.margins import Move


class OrderGate(Protocol):
    """Says whether a new order may be sent now."""

    def check(self, con_id: int, owner: str = "", *, closing: bool = False) -> None:
        """Raise OrderDeniedError with what stands against an owner's order in this instrument."""


class OrderRisk(Protocol):
    """Knows the facts that an order is checked against."""

    async def prepare(self, ib: IB, contract: Contract) -> None:
        """Have what the checks need of the market at hand."""

    def facts(self, draft: OrderDraft, params: Mapping[str, Any]) -> RiskFacts:
        """Return the facts about an order."""

    async def learn_margins(self, moves: Sequence[Move]) -> None:
        """Ask IB what the checks have to know of margin; raises MatsError when it does not say it."""

    def learn_margins_now(self, moves: Sequence[Move]) -> None:
        """Do the same on a thread that may wait."""


class EngineSide(Protocol):
    """What a broker needs of the engine."""

    @property
    def gate(self) -> OrderGate:
        """Return the gate before every new order."""

    @property
    def risk(self) -> OrderRisk | None:
        """Return what knows the limits; None where only an order's own form is checked, as in tools without books."""

    @property
    def intents(self) -> IntentWriter:
        """Return the writer of intents."""

    @property
    def portfolio_manager(self) -> PortfolioPort:
        """Return the books."""

    @property
    def message_queue(self) -> Any:
        """Return the queue to the ledger."""


class Broker(ports.Broker):
    """Reads the books of one owner; sending, cancelling and modifying are each broker's own, as the port says."""

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

    def point_value(self, contract: Contract) -> Decimal:
        """Return what a quoted 1 is worth for one unit, in the contract's currency: 0.01 of a line in pence."""
        return multiplier_of(contract) / (magnifier_said(contract.conId) or 1)

    async def get_positions(self) -> list[StrategyPosition]:
        """Return this owner's own positions."""
        return list(await in_db_thread(self.portfolio.get_strategy_positions, self.strategy_symbol))

    async def get_equity(self) -> Decimal:
        """Return this owner's own equity.

        Raises: LedgerError while it cannot be known.
        """
        return await in_db_thread(self.portfolio.calculate_strategy_equity, self.strategy_symbol)
