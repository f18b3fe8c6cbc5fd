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
from collections.abc import Callable, Coroutine, Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

from ib_async import IB, Contract, Order

from strategies.combos import COMBINATION, roll
from strategies.exceptions import (
    ConflictError,
    NotFoundError,
    OrderDeniedError,
    OrderRefusedError,
    TransientError,
)
from strategies.models import DISCRETIONARY
from strategies.order_entry import part_of
from strategies.order_types import Terms
from strategies.ports import Ticket
from strategies.sizing import Number, build_order, order_of, to_decimal
from trading.brokers.changes import Change
from trading.brokers.live import LiveBroker
from trading.brokers.preview import find_contracts, preview
from trading.models import Order as OrderRow
from trading.orders import cancelling, queries
from trading.orders.cancelling import Cancelling, CancelReport
from trading.orders.drafts import FLATTEN
from trading.orders.overtaking import begin_on
from trading.orders.state import FINAL, OrderState
from trading.orders.tickets import LiveTicket
from trading.orders.wishes import contract_of_text

logger = logging.getLogger(__name__)

__all__ = ["CancelReport", "TradeManager"]

T = TypeVar("T")
Work = Callable[[LiveBroker], Coroutine[Any, Any, T]]

CALL_TIMEOUT_S = 20.0
CANCEL_TIMEOUT_S = 20.0
PLACED_WITHIN_S = 0.5  # an order whose owner's loop has not begun by then goes through the master
_POLL_S = 0.05
MASTER_CLIENT_ID = 0
_NOTHING = frozenset({"order_done", "not_sent"})  # there was nothing to cancel
_SMART = frozenset({"STK", "OPT"})


class Session(cancelling.Session, Protocol):
    """The master's session: client 0 on its own loop."""

    def run(self, make: Callable[[], Coroutine[Any, Any, Any]], timeout_s: float) -> Any:
        """Run a coroutine on the master's loop and return its result."""


class Engine(cancelling.Host, Protocol):
    """What the trade manager needs of the engine; also what ``LiveBroker`` needs."""

    session: Session
    gate: Any
    risk: Any
    intents: Any
    portfolio_manager: Any
    ac: Any

    @property
    def active_strategies(self) -> Mapping[str, Any]:
        """Return the running strategy instances by symbol."""


class TradeManager:
    """Execution helper of the engine. Thread-safe."""

    def __init__(self, strategy_manager: Engine) -> None:
        self._engine = strategy_manager
        self._master_brokers: WeakKeyDictionary[IB, LiveBroker] = WeakKeyDictionary()
        self._cancelling = Cancelling(strategy_manager, self._strategy_of_client, self._master_broker)

    # placing

    def trade(
        self,
        contract: Contract | str,
        quantity: Number,
        order_type: str = "MKT",
        algo: bool = True,
        urgency: str = "Patient",
        orderRef: str | None = None,  # noqa: N803 - the seeds' signature
        limit: Number | None = None,
        useRth: bool = False,  # noqa: N803 - the seeds' signature
        stop: Number | None = None,
    ) -> Any:
        """Buy (quantity > 0) or sell (< 0) for the strategy that ``orderRef`` names, else for Discretionary.

        ``contract`` may be text (``AAPL``, ``FUT ES CME USD 20260320``). Return the ticket (a task for it on the
        owner's own loop).
        Raises: OrderDeniedError before anything was sent; ConfigError for a text that is no contract.
        """
        named = contract_of_text(contract) if isinstance(contract, str) else contract
        order = build_order(
            to_decimal(quantity),
            order_type,
            algo=algo,
            urgency=urgency,
            limit=None if limit is None else to_decimal(limit),
            stop=None if stop is None else to_decimal(stop),
            use_rth=useRth,
            tif="DAY",
            transmit=True,
        )
        return self.place_order(named, order, orderRef or DISCRETIONARY)

    def place_order(self, contract: Contract, order: Order, strategy_name: str) -> Any:
        """Send an order for an owner, through its own connection while it runs, else through the master's.

        Return the ticket (a task for it on the owner's own loop).
        """

        async def _place(broker: LiveBroker) -> Ticket:
            return await broker.place_order(contract, order, owner=strategy_name, by_hand=True)

        return self._for_owner(strategy_name, _place)

    def place_family(self, contract: Contract, orders: Sequence[Order], owner: str) -> Any:
        """Send an entry and its exits for an owner; return their tickets, the entry's first.

        Raises: OrderDeniedError before anything was sent: all of them or none.
        """

        async def _place(broker: LiveBroker) -> Sequence[Ticket]:
            members = [(contract, order) for order in orders]
            return await broker.place_family(members, owner=owner, is_bracket=True, by_hand=True)

        return self._for_owner(owner, _place)

    def roll_future(
        self,
        cur: Contract,
        new: Contract,
        quantity: Number | None = None,
        orderRef: str | None = None,  # noqa: N803 - the seeds' signature
        limit: Number | None = None,
    ) -> Any:
        """Move an owner's position (or ``quantity`` of it) from one future to another in one order.

        ``limit`` is the price of new minus current, for long and short alike; without one the roll is at market.
        Raises: OrderDeniedError when the owner holds less than is to be rolled.
        """
        owner = orderRef or DISCRETIONARY
        old, following = self._on_master(lambda broker: broker.qualify_all([cur, new]))
        positions = self._engine.portfolio_manager.get_strategy_positions(owner)
        held = sum((row.quantity for row in positions if row.con_id == old.conId), Decimal(0))
        made, units = roll(old, following, part_of(held, quantity))
        terms = Terms("MKT") if limit is None else Terms("LMT", limit=to_decimal(limit))
        return self.place_order(made, order_of(units, terms, sec_type=COMBINATION), owner)

    # looking before leaping

    def preview(self, contract: Contract, order: Order, owner: str) -> dict[str, Any]:
        """Return what would be sent, whether the checks let it pass, and IB's answer to «what if»."""
        found: dict[str, Any] = self._on_master(lambda broker: preview(broker, contract, order, owner))
        return found

    def find_contracts(self, pattern: str) -> list[dict[str, Any]]:
        """Return the instruments that IB lists for a symbol or a part of a name."""
        found: list[dict[str, Any]] = self._on_master(lambda broker: find_contracts(broker, pattern))
        return found

    # changing

    def cancel_order(self, order_ref: str) -> None:
        """Ask IB to cancel an order, in all its incarnations, through the client that placed it.

        Raises: NotFoundError unknown_order; ConflictError order_done, not_sent; OrderRefusedError or TransientError
        when the placing client cannot be reached.
        """
        row = self._working_row(order_ref)
        outcomes = self._cancelling.cancel([row, *queries.twins(row)])
        for error in outcomes.values():
            if error is not None and (error is outcomes[order_ref] or error.code not in _NOTHING):
                raise error

    def cancel_owner(self, owner: str | None) -> CancelReport:
        """Ask IB to cancel all working orders of an owner, or of everybody (None), hung strategies included."""
        rows = queries.working_orders(owner)
        outcomes = self._cancelling.cancel(rows)
        failed = {ref: error for ref, error in outcomes.items() if error is not None and error.code not in _NOTHING}
        return CancelReport(
            asked=[ref for ref, error in outcomes.items() if error is None],
            errors={ref: error.message for ref, error in failed.items()},
        )

    def modify_order(
        self,
        order_ref: str,
        *,
        quantity: Number | None = None,
        limit: Number | None = None,
        stop: Number | None = None,
        trail: Number | None = None,
        trail_percent: Number | None = None,
    ) -> Any:
        """Change a working order through the client that placed it, past its loop when that hangs.

        Raises: as ``cancel_order``; OrderRefusedError (owner_gone) when that client is not connected, (unconfirmed)
        while nobody knows whether IB has the order.
        """
        row = self._working_row(order_ref)
        given = {"quantity": quantity, "limit": limit, "stop": stop, "trail": trail, "trail_percent": trail_percent}
        values = {name: None if value is None else to_decimal(value) for name, value in given.items()}
        if row.state == OrderState.UNKNOWN:
            text = f"Nobody knows whether IB has {order_ref}; changing it could place it a second time."
            raise OrderRefusedError(text, code="unconfirmed")

        async def _modify(broker: LiveBroker) -> None:
            await broker.modify_order(order_ref, **values)

        if row.client_id == MASTER_CLIENT_ID:
            return self._on_master(_modify)
        strategy = None if row.client_id is None else self._strategy_of_client(row.client_id, row.owner)
        if strategy is None:
            raise OrderRefusedError(
                f"{order_ref} was placed by client {row.client_id}, which is not connected. Cancel it, or start its "
                "strategy again.",
                code="owner_gone",
            )
        begun = begin_on(strategy, lambda: _modify(strategy.broker))
        if begun is None:
            return self._modify_past(strategy, order_ref, Change(**values))
        return self._result(strategy, begun)

    def _modify_past(self, strategy: Any, order_ref: str, change: Change) -> None:
        frame = strategy.broker.change_frame(order_ref, change)
        self._engine.note_orders([order_ref], "Change sent past the strategy's loop, which does not answer.")
        self._engine.pass_by(strategy)
        strategy.broker.line.wait_turn(1)
        if not strategy.broker.line.push(frame):
            raise TransientError(
                f"{strategy.symbol} does not answer and its line is busy; nothing was changed. Cancel the order.",
                code="owner_blocked",
            )

    def flatten(self, strategy: str) -> list[str]:
        """Cancel an owner's working orders, then close its positions at market; return the closing references.

        Not for the loop of a strategy: a strategy has its own ``flatten``.
        Raises: ConflictError (order_working) when an order does not end in time: its fills could still come.
        """
        rows = queries.working_orders(strategy)
        for order_ref, error in self._cancelling.cancel(rows).items():
            if error is not None and error.code not in _NOTHING:
                raise error
            if error is not None:
                logger.info("nothing to cancel order_ref=%s reason=%s", order_ref, error.message)
        self._wait_final([row.order_ref for row in rows])  # also when only the ledger does not know yet that it is done
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

    async def withdraw(self, order_ref: str) -> None:
        """Cancel one of the master's own orders, on the master's loop.

        Raises: OrderRefusedError when it has ended already.
        """
        await self._master_broker().cancel_order(order_ref)

    @staticmethod
    def _wait_final(order_refs: list[str]) -> None:
        deadline = time.monotonic() + CANCEL_TIMEOUT_S
        left = set(order_refs)
        while left:
            done = OrderRow.objects.filter(order_ref__in=left, state__in=[str(state) for state in FINAL])
            left -= set(done.values_list("order_ref", flat=True))
            if left and time.monotonic() > deadline:
                raise ConflictError(_still_there(left), code="order_working")
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
            begun = begin_on(strategy, lambda: work(strategy.broker), PLACED_WITHIN_S)
            if begun is not None:
                return self._result(strategy, begun)
            logger.warning("loop does not answer strategy=%s; its order goes through the master", owner)
        return self._on_master(work)

    def _strategy_of_client(self, client_id: int, owner: str) -> Any:
        """Return a strategy that is connected as that client; of those that share it, the order's owner first."""
        found = [
            strategy
            for strategy in self._engine.active_strategies.values()
            if strategy.client_id == client_id and strategy.is_connected and strategy.broker is not None
        ]
        return next((strategy for strategy in found if strategy.symbol == owner), found[0] if found else None)

    @staticmethod
    def _result(strategy: Any, begun: Any) -> Any:
        """Return the result of what a strategy's loop has begun; on that loop itself the task."""
        if isinstance(begun, asyncio.Future):
            return begun
        try:
            return begun.result(CALL_TIMEOUT_S)
        except TimeoutError as error:
            begun.cancel()
            raise TransientError(
                f"{strategy.symbol} did not end it in {CALL_TIMEOUT_S:g} s; its loop is blocked.", code="owner_blocked"
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


def _still_there(order_refs: set[str]) -> str:
    text = f"{', '.join(sorted(order_refs))} could not be cancelled in {CANCEL_TIMEOUT_S:g} s; "
    rows = OrderRow.objects.filter(order_ref__in=order_refs, state=OrderState.UNKNOWN)
    unknown = sorted(rows.values_list("order_ref", flat=True))
    hint = f" Nobody answers for {', '.join(unknown)}: look in TWS, then settle it." if unknown else ""
    return f"{text}the positions are left as they are.{hint}"
