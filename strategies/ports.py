"""What a strategy sees of the rest of MATS: protocols only, so that strategies know no engine, no ledger, no Django.

Owns: the shapes of engine, broker, portfolio and ticket as a strategy uses them.
Leaves: the implementations (``trading.engine``, ``trading.brokers``, ``portfolio.manager``) and every decision.
Rule: portfolio calls are synchronous and touch the database; strategies run them through ``asyncio.to_thread``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from strategies.events import QueueMessage
from strategies.series_names import Listing

if TYPE_CHECKING:
    from ib_async import IB, Contract, Order, Trade


@dataclass(frozen=True, slots=True)
class StrategyPosition:
    """What one strategy holds of one instrument; never the account's holding.

    Units: ``quantity`` signed; ``average_cost`` and ``mark`` per unit in ``currency``; ``mark`` None while unpriced.
    """

    con_id: int
    symbol: str
    sec_type: str
    currency: str
    quantity: Decimal
    average_cost: Decimal
    multiplier: Decimal
    realized_pnl: Decimal
    mark: Decimal | None = None


class MessageSink(Protocol):
    """The queue to the ledger."""

    def put(self, message: QueueMessage, /) -> None:
        """Accept a message from any thread without blocking for long."""


class Ticket(Protocol):
    """A placed order in the hands of its strategy; to be used on the strategy's own loop only."""

    @property
    def order_ref(self) -> str:
        """Return our own reference, ``SYMBOL/<ulid>``."""

    @property
    def contract(self) -> Contract:
        """Return the qualified contract."""

    @property
    def order(self) -> Order:
        """Return the order as sent."""

    @property
    def trade(self) -> Trade:
        """Return ib_async's live trade; dead after a disconnect."""

    @property
    def is_done(self) -> bool:
        """Tell whether the order is final by our own states; IB warnings can un-finish ``Trade.isDone``."""

    @property
    def reason(self) -> str:
        """Return why it was refused or cancelled, as far as IB said; empty otherwise."""

    async def wait_done(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - the seeds' signature
        """Wait until final; return False when ``timeout`` seconds passed first."""


class Broker(Protocol):
    """Sends the orders of one strategy."""

    async def place_order(
        self, contract: Contract, order: Order, *, owner: str, parent: Ticket | None = None
    ) -> Ticket:
        """Commit the intent, then send.

        Raises: OrderDeniedError before sending. What IB refuses later ends the ticket, with its ``reason``.
        """

    async def place_family(
        self, orders: Sequence[tuple[Contract, Order]], *, owner: str, is_bracket: bool
    ) -> Sequence[Ticket]:
        """Commit the intents of all orders at once, then send them in order; return their tickets.

        A bracket's first order is the parent of the rest; otherwise one order's fill cancels the others.
        Raises: OrderDeniedError before anything was sent.
        """

    async def cancel_order(self, order_ref: str) -> None:
        """Ask IB to cancel the order."""

    async def modify_order(
        self,
        order_ref: str,
        *,
        quantity: Decimal | None = None,
        limit: Decimal | None = None,
        stop: Decimal | None = None,
        trail: Decimal | None = None,
        trail_percent: Decimal | None = None,
    ) -> None:
        """Change a working order; what is None stays."""

    def point_value(self, contract: Contract) -> Decimal:
        """Return what a quoted 1 is worth for one unit, in the contract's currency: 0.01 of a line in pence."""

    async def get_positions(self) -> list[StrategyPosition]:
        """Return this strategy's own positions."""

    async def get_equity(self) -> Decimal:
        """Return this strategy's own equity."""

    def open_tickets(self) -> Sequence[Ticket]:
        """Return the tickets that are not final."""


class ConvertedMoney(Protocol):
    """An amount in another currency, and how well the rates were known."""

    @property
    def amount(self) -> Decimal:
        """Return the amount in the currency that was asked for."""

    @property
    def stale(self) -> bool:
        """Tell whether a rate was old or delayed."""

    @property
    def as_of(self) -> datetime | None:
        """Return when the older rate held; None when none was needed."""


class FxPort(Protocol):
    """Exchange rates. Synchronous and thread-safe; may wait some seconds for IB's price."""

    def convert(self, amount: Decimal, source: str, target: str, *, at: datetime | None = None) -> Decimal:
        """Return ``amount`` of ``source`` in ``target``, now or at a moment of the past.

        Raises: LedgerError (fx_unknown, base_currency_unknown) while the rate cannot be known.
        """

    def convert_flagged(
        self, amount: Decimal, source: str, target: str, *, at: datetime | None = None
    ) -> ConvertedMoney:
        """Convert as ``convert`` does, and say how well the rates were known."""


class PortfolioPort(Protocol):
    """The books, as a strategy may read them. Synchronous and thread-safe."""

    @property
    def base_currency(self) -> str | None:
        """Return the account's base currency; None until IB told it."""

    @property
    def fx_cache(self) -> FxPort:
        """Return the exchange rates, one cache for all."""

    def get_strategy_positions(self, strategy: str) -> Sequence[StrategyPosition]:
        """Return what the strategy holds, flat ones left out."""

    def calculate_strategy_equity(self, strategy: str) -> Decimal:
        """Return cash plus marked positions in the strategy's currency.

        Raises: LedgerError while it cannot be known.
        """

    def get_portfolio_summary(self) -> Mapping[str, Any]:
        """Return the account's figures; ``net_liquidation`` is None until IB told it."""

    def get_daily_realized_pnl(self, strategy: str) -> Decimal:
        """Return today's realised profit, net of fees."""


class EnginePort(Protocol):
    """The engine, as its strategies see it (``strategy_manager``)."""

    ac: Any

    @property
    def message_queue(self) -> MessageSink:
        """Return the queue to the ledger."""

    @property
    def portfolio_manager(self) -> PortfolioPort:
        """Return the books."""

    async def connect_strategy(self, strategy: Any) -> IB:
        """Connect the strategy's own IB on the calling loop, retrying with backoff.

        Executions, commissions and statuses of the returned connection already flow to the queue: delivery must not
        depend on what a strategy overrides.

        Raises: StrategyError when the strategy or the engine is stopped meanwhile.
        """

    def make_broker(self, strategy: Any) -> Broker:
        """Return the broker for ``strategy.broker_type`` over ``strategy.ib``."""

    def strategy_changed(self, strategy: Any, state: str, message: str = "", traceback: str = "") -> None:
        """Take note of a lifecycle state (running, stopping, stopped, failed). Thread-safe."""

    def strategy_beat(self, strategy: Any) -> None:
        """Take note that the strategy's loop lives; called about once a second. Thread-safe."""

    def log(self, strategy_symbol: str, text: str, level: str = "info") -> None:
        """Write a line to the strategy's page. Thread-safe."""

    def keep_bars(
        self, series: str, timeframe: str, bars: Any, use_rth: bool, after: datetime | None, of: Listing
    ) -> None:
        """Have closed bars stored that IB answered: all after the stored bar ``after``; None: a new series. Blocking.

        Raises: MatsError when they cannot be handed over; the strategy goes on.
        """
