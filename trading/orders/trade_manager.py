"""TradeManager: orders from outside a strategy's own code: console, commands, the seeds' helper calls.

Owns: which connection an order goes through. Leaves: gate, checks, intent and sending (``brokers.live``).
Rule: IB lets only the client that placed an order change or cancel it, so every call travels to that client's loop;
when nobody is connected as that client, the client id is connected for as long as the cancel takes.
Calls block their thread until the order was handed over. On the loop that would do the work they cannot wait for it,
and return a task instead.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

from ib_async import IB, Contract, Order

from strategies.exceptions import (
    ConfigError,
    ConflictError,
    MatsError,
    NotFoundError,
    OrderDeniedError,
    OrderRefusedError,
    TransientError,
)
from strategies.models import DISCRETIONARY
from strategies.ports import Ticket
from strategies.sizing import Number, build_order, to_decimal
from trading.brokers.live import LiveBroker
from trading.ib.capture import Capture
from trading.models import Order as OrderRow
from trading.orders import queries
from trading.orders.drafts import FLATTEN
from trading.orders.state import FINAL, OrderState
from trading.orders.tickets import LiveTicket

logger = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[LiveBroker], Coroutine[Any, Any, T]]

CALL_TIMEOUT_S = 20.0
CANCEL_TIMEOUT_S = 20.0
_POLL_S = 0.05
MASTER_CLIENT_ID = 0
_SMART = frozenset({"STK", "OPT"})


class Session(Protocol):
    """The master's session: client 0 on its own loop."""

    connection: Any

    def run(self, make: Callable[[], Coroutine[Any, Any, Any]], timeout_s: float) -> Any:
        """Run a coroutine on the master's loop and return its result."""


class Engine(Protocol):
    """What the trade manager needs of the engine; also what ``LiveBroker`` needs."""

    session: Session
    gate: Any
    risk: Any
    intents: Any
    portfolio_manager: Any
    message_queue: Any
    ac: Any

    @property
    def active_strategies(self) -> Mapping[str, Any]:
        """Return the running strategy instances by symbol."""

    def make_connection(self, client_id: int, **options: Any) -> Any:
        """Return an unconnected IBConnection."""


@dataclass(slots=True)
class Cancelled:
    """Which orders IB was asked to cancel, and why others could not be."""

    asked: list[str] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)


class TradeManager:
    """Execution helper of the engine. Thread-safe."""

    def __init__(self, strategy_manager: Engine) -> None:
        self._engine = strategy_manager
        self._master_brokers: WeakKeyDictionary[IB, LiveBroker] = WeakKeyDictionary()

    # placing

    def trade(
        self,
        contract: Contract,
        quantity: Number,
        order_type: str = "MKT",
        algo: bool = True,
        urgency: str = "Patient",
        orderRef: str | None = None,  # noqa: N803 - the seeds' signature
        limit: Number | None = None,
        useRth: bool = False,  # noqa: N803 - the seeds' signature
    ) -> Any:
        """Buy (quantity > 0) or sell (< 0) for the strategy that ``orderRef`` names, else for Discretionary.

        Return the ticket (a task for it on the owner's own loop).
        Raises: OrderDeniedError before anything was sent.
        """
        order = build_order(
            to_decimal(quantity),
            order_type,
            algo=algo,
            urgency=urgency,
            limit=None if limit is None else to_decimal(limit),
            stop=None,
            use_rth=useRth,
            tif="DAY",
            transmit=True,
        )
        return self.place_order(contract, order, orderRef or DISCRETIONARY)

    def place_order(self, contract: Contract, order: Order, strategy_name: str) -> Any:
        """Send an order for an owner, through its own connection while it runs, else through the master's.

        Return the ticket (a task for it on the owner's own loop).
        """

        async def _place(broker: LiveBroker) -> Ticket:
            return await broker.place_order(contract, order, owner=strategy_name)

        return self._for_owner(strategy_name, _place)

    # changing

    def cancel_order(self, order_ref: str) -> Any:
        """Ask IB to cancel an order through the client that placed it.

        Raises: NotFoundError unknown_order; ConflictError order_done; OrderRefusedError or TransientError when the
        placing client cannot be reached.
        """
        row = self._working_row(order_ref)

        async def _cancel(broker: LiveBroker) -> None:
            await broker.cancel_order(order_ref)

        if row.client_id is None:
            raise ConflictError(f"{order_ref} was never handed to IB; there is nothing to cancel.", code="not_sent")
        if row.client_id == MASTER_CLIENT_ID:
            return self._on_master(_cancel)
        strategy = self._strategy_of_client(row.client_id)
        if strategy is not None:
            return self._on_strategy(strategy, _cancel)
        return self._engine.session.run(lambda: self._cancel_as(row), CALL_TIMEOUT_S + CANCEL_TIMEOUT_S)

    def cancel_owner(self, owner: str | None) -> Cancelled:
        """Ask IB to cancel every working order of an owner, of all owners when None; return what was asked for."""
        outcome = Cancelled()
        for order_ref in queries.working_refs(owner):
            try:
                self.cancel_order(order_ref)
                outcome.asked.append(order_ref)
            except MatsError as error:
                if error.code not in ("order_done", "not_sent"):
                    outcome.errors[order_ref] = error.message
        return outcome

    def modify_order(
        self,
        order_ref: str,
        *,
        quantity: Number | None = None,
        limit: Number | None = None,
        stop: Number | None = None,
    ) -> Any:
        """Change a working order through the client that placed it.

        Raises: as ``cancel_order``; OrderRefusedError (owner_gone) when that client is not connected.
        """
        row = self._working_row(order_ref)
        values = {
            name: None if value is None else to_decimal(value)
            for name, value in (("quantity", quantity), ("limit", limit), ("stop", stop))
        }

        async def _modify(broker: LiveBroker) -> None:
            await broker.modify_order(order_ref, **values)

        if row.client_id == MASTER_CLIENT_ID:
            return self._on_master(_modify)
        strategy = None if row.client_id is None else self._strategy_of_client(row.client_id)
        if strategy is None:
            raise OrderRefusedError(
                f"{order_ref} was placed by client {row.client_id}, which is not connected. Cancel it, or start its "
                "strategy again.",
                code="owner_gone",
            )
        return self._on_strategy(strategy, _modify)

    def flatten(self, strategy: str) -> list[str]:
        """Cancel an owner's working orders, then close its positions at market; return the closing references.

        Not for the loop of a strategy: a strategy has its own ``flatten``.
        Raises: ConflictError (order_working) when an order does not end in time: its fills could still come.
        """
        waiting = []
        for order_ref in queries.working_refs(strategy):
            try:
                self.cancel_order(order_ref)
            except (ConflictError, OrderRefusedError) as error:
                if error.code not in ("order_done", "not_sent"):
                    raise
                logger.info("nothing to cancel order_ref=%s reason=%s", order_ref, error.message)
            waiting.append(order_ref)  # also when only the ledger does not know yet that it is done
        self._wait_final(waiting)
        placed = []
        for position in self._engine.portfolio_manager.get_strategy_positions(strategy):
            if position.quantity:
                contract = Contract(
                    conId=position.con_id,
                    symbol=position.symbol,
                    secType=position.sec_type,
                    exchange="SMART" if position.sec_type in _SMART else "",  # else where IB lists it
                    currency=position.currency,
                )
                placed.append(self.trade(contract, -position.quantity, algo=False, orderRef=strategy).order_ref)
        return placed

    async def close_out(
        self, owner: str, con_id: int, symbol: str, sec_type: str, currency: str, held: Decimal
    ) -> LiveTicket:
        """Close a position at market for the kill switch, on the master's loop: a hung strategy is not asked.

        Raises: OrderDeniedError, also when it would not only close.
        """
        contract = Contract(
            conId=con_id,
            symbol=symbol,
            secType=sec_type,
            exchange="SMART" if sec_type in _SMART else "",  # else where IB lists it
            currency=currency,
        )
        order = build_order(
            -held,
            "MKT",
            algo=False,
            urgency="Patient",
            limit=None,
            stop=None,
            use_rth=False,
            tif="DAY",
            transmit=True,
        )
        return await self._master_broker().place_order(contract, order, owner=owner, purpose=FLATTEN)

    @staticmethod
    def _wait_final(order_refs: list[str]) -> None:
        deadline = time.monotonic() + CANCEL_TIMEOUT_S
        left = set(order_refs)
        while left:
            done = OrderRow.objects.filter(order_ref__in=left, state__in=[str(state) for state in FINAL])
            left -= set(done.values_list("order_ref", flat=True))
            if left and time.monotonic() > deadline:
                raise ConflictError(
                    f"{', '.join(sorted(left))} could not be cancelled in {CANCEL_TIMEOUT_S:g} s; "
                    "the positions are left as they are.",
                    code="order_working",
                )
            if left:
                time.sleep(_POLL_S)

    @staticmethod
    def _working_row(order_ref: str) -> OrderRow:
        row = queries.find_order(order_ref)
        if row is None:
            raise NotFoundError(f"There is no order {order_ref}.", code="unknown_order")
        if OrderState(row.state) in FINAL:
            raise ConflictError(f"Order {order_ref} is {row.state} already.", code="order_done")
        return row

    # routes

    def _for_owner(self, owner: str, work: Work[T]) -> Any:
        strategy = self._engine.active_strategies.get(owner)
        if strategy is not None and strategy.is_connected and strategy.broker is not None:
            return self._on_strategy(strategy, work)
        return self._on_master(work)

    def _strategy_of_client(self, client_id: int) -> Any:
        for strategy in self._engine.active_strategies.values():
            if strategy.client_id == client_id and strategy.is_connected and strategy.broker is not None:
                return strategy
        return None

    @staticmethod
    def _on_strategy(strategy: Any, work: Work[T]) -> Any:
        loop: asyncio.AbstractEventLoop | None = strategy._loop
        if loop is None or loop.is_closed():
            raise OrderRefusedError(f"{strategy.symbol} is ending; try again.", code="owner_gone")
        if _running_loop() is loop:
            return asyncio.ensure_future(work(strategy.broker))
        future = asyncio.run_coroutine_threadsafe(work(strategy.broker), loop)
        try:
            return future.result(CALL_TIMEOUT_S)
        except TimeoutError as error:
            future.cancel()
            raise TransientError(
                f"{strategy.symbol} did not take the order in {CALL_TIMEOUT_S:g} s; its loop is blocked.",
                code="owner_blocked",
            ) from error

    def _on_master(self, work: Work[T]) -> Any:
        return self._engine.session.run(lambda: work(self._master_broker()), CALL_TIMEOUT_S)

    def _master_broker(self) -> LiveBroker:
        """Return the master's broker; on the master's loop only."""
        connection = self._engine.session.connection
        if connection is None or not connection.connected:
            raise OrderDeniedError("The engine has no connection to the gateway.", code="not_connected")
        broker = self._master_brokers.get(connection.ib)
        if broker is None:
            broker = LiveBroker(connection.ib, DISCRETIONARY, self._engine.ac, engine=self._engine)
            self._master_brokers[connection.ib] = broker
        return broker

    async def _cancel_as(self, row: OrderRow) -> None:
        """Connect as the client that placed the order, cancel, and stay until IB confirmed."""
        client_id = int(row.client_id or 0)
        connection = self._engine.make_connection(client_id, role="strategy", name=f"cancel {row.order_ref}")
        Capture(connection.ib, self._engine.message_queue.put, row.owner)
        try:
            await connection.connect_once()
        except (TransientError, ConfigError) as error:
            raise OrderRefusedError(
                f"{row.order_ref} was placed by client {client_id}, which is not connected, and its id cannot be "
                f"connected now: {error.message} Cancel it in TWS.",
                code="owner_gone",
            ) from error
        try:
            broker = LiveBroker(connection.ib, row.owner, engine=self._engine)
            await broker.adopt(row.order_ref)
            await broker.cancel_order(row.order_ref)
            ticket = broker.ticket(row.order_ref)
            if ticket is not None and not await ticket.wait_done(CANCEL_TIMEOUT_S):
                raise OrderRefusedError(f"IB did not confirm the cancel of {row.order_ref} yet.", code="unconfirmed")
        finally:
            connection.disconnect()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
