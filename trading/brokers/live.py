"""LiveBroker: one strategy's orders over its own IB connection.

Owns: the way of an order from wish to wire, and the tickets. Leaves: persistence of what IB answers (the connection's
capture → queue → ledger), who may send (``engine.gate``), the rules (``orders.risk``).
Rule: gate → contract → checks → committed intent → socket; between the socket and the listeners nothing is awaited,
because the listeners are the connection's and were there before.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db import DatabaseError
from ib_async import IB, Contract, Order

from strategies.crashpoints import reach
from strategies.events import QueueMessage
from strategies.exceptions import (
    LedgerError,
    MatsError,
    NotFoundError,
    OrderDeniedError,
    OrderRefusedError,
    TransientError,
)
from strategies.ports import StrategyPosition, Ticket
from strategies.sizing import says_multiplier
from trading.brokers.base import Broker, EngineSide
from trading.ib import codes, mapping, requests
from trading.ib.capture import Capture
from trading.orders import queries, risk
from trading.orders.db_threads import in_db_thread
from trading.orders.drafts import FLATTEN, OrderDraft
from trading.orders.inflight import in_flight
from trading.orders.intents import IntentWriter
from trading.orders.refs import owner_named
from trading.orders.tickets import LiveTicket

logger = logging.getLogger(__name__)

_KEPT_TICKETS = 2_000
_REQUEST_TIMEOUT_S = 15.0
NOT_CONNECTED = "not_connected"
LEDGER_TROUBLE = "ledger_trouble"
CAPTURE_MISSING = "This connection is not captured; its fills would be lost. Connect through the engine."


class LiveBroker(Broker):
    """Places, changes and cancels orders on the strategy's own loop."""

    def __init__(
        self,
        ib_client: IB,
        strategy_symbol: str,
        ac: Any = None,
        *,
        engine: EngineSide | None = None,
        intents: IntentWriter | None = None,
        strategy: Any = None,
    ) -> None:
        super().__init__(strategy_symbol, None if engine is None else engine.portfolio_manager)
        self.ib = ib_client
        self.ac = ac
        self._engine = engine
        self._strategy = strategy
        self._given_intents = intents
        self._contracts: dict[str, Contract] = {}
        self._tickets: dict[str, LiveTicket] = {}
        self._refreshing: asyncio.Task[None] | None = None
        self._refresh_again = False
        self.capture = self._attach(engine)

    def _attach(self, engine: EngineSide | None) -> Capture:
        capture = Capture.of(self.ib)
        if capture is None:
            if engine is None:
                raise RuntimeError(CAPTURE_MISSING)
            capture = Capture(self.ib, engine.message_queue.put, self.strategy_symbol)
        capture.observers.append(self._observe)
        self.ib.connectedEvent += self._on_connected
        return capture

    def close(self) -> None:
        """Stop listening; the capture goes on."""
        with suppress(ValueError):
            self.capture.observers.remove(self._observe)
        self.ib.connectedEvent -= self._on_connected

    @property
    def _intents(self) -> IntentWriter:
        if self._given_intents is not None:
            return self._given_intents
        if self._engine is None:
            raise RuntimeError("This broker was made without an engine and without intents; it cannot place orders.")
        return self._engine.intents

    # placing

    async def place_order(
        self, contract: Contract, order: Order, *, owner: str, parent: Ticket | None = None, purpose: str = ""
    ) -> LiveTicket:
        """Commit the intent, then send; return the ticket once the order was handed to the socket.

        ``purpose`` FLATTEN is the kill switch's: it only closes, and a halt does not stop it.

        Raises: OrderDeniedError when MATS does not send it; the denial is on record.
        """
        qualified = await self._qualify(contract)
        draft = self._draft(qualified, order, owner, purpose)
        if self._engine is not None and self._engine.risk is not None and purpose != FLATTEN:
            await self._engine.risk.prepare(self.ib, qualified)
        order_ref = await self._committed(draft)
        try:
            self._check_way(draft)
        except OrderDeniedError as error:
            await in_db_thread(self._intents.give_up, order_ref, error.message, error.code)
            raise
        return await self._send(order_ref, qualified, order, draft, parent)

    async def _send(
        self, order_ref: str, contract: Contract, order: Order, draft: OrderDraft, parent: Ticket | None
    ) -> LiveTicket:
        if order.orderId:  # sent before: its first ticket goes on to cancel and change it by this object
            order = copy.copy(order)
        order.orderRef = order_ref
        order.account = draft.account
        order.orderId = order.permId = 0
        if parent is not None:
            order.parentId = parent.order.orderId
        ticket = LiveTicket(self.ib, order_ref, contract, order, draft.quantity)
        self._remember(ticket)
        try:
            ticket.trade = self.ib.placeOrder(contract, order)
        except ConnectionError as error:  # raised before anything is written to the socket
            self._tickets.pop(order_ref, None)
            await in_db_thread(self._intents.give_up, order_ref, str(error), NOT_CONNECTED)
            raise OrderDeniedError("The connection was lost before the order was sent.", code=NOT_CONNECTED) from error
        reach("sent")
        in_flight.settle(order_ref)
        return ticket

    async def _committed(self, draft: OrderDraft) -> str:
        """Check and commit on a database thread; a caller who is cancelled meanwhile leaves no intent behind."""
        work = asyncio.ensure_future(in_db_thread(self._decide, draft))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            work.add_done_callback(self._abandon)
            raise
        except DatabaseError as error:  # without a committed intent nothing goes on the wire
            raise OrderDeniedError(
                f"The ledger cannot be written ({error}); the order was not sent.", code=LEDGER_TROUBLE
            ) from error

    def _abandon(self, work: asyncio.Future[str]) -> None:
        if not work.cancelled() and work.exception() is None:
            asyncio.ensure_future(  # noqa: RUF006 - the pool keeps the work alive
                in_db_thread(self._intents.give_up, work.result(), "The strategy ended before sending.", "abandoned")
            )

    def _decide(self, draft: OrderDraft) -> str:
        try:
            self._check_way(draft)
            risk.check_order(draft, self._facts(draft))
        except OrderDeniedError as error:
            if error.code == LEDGER_TROUBLE:  # writing the refusal down would wait for what cannot be written
                logger.warning("Order denied: %s", error.message, extra={"strategy": draft.owner})
                raise
            order_ref = self._intents.deny(draft, error.message, error.code)
            what = f"{draft.side} {draft.quantity.normalize():f} {draft.contract.symbol}"
            told = {"strategy": draft.owner}  # this is a database thread; the record cannot know by itself
            logger.warning("Order denied: %s: %s order_ref=%s", what, error.message, order_ref, extra=told)
            error.fields["order_ref"] = order_ref
            raise
        return self._intents.commit(draft)

    def _check_way(self, draft: OrderDraft) -> None:
        """Refuse while there is no way to the broker, or the engine's gate is shut."""
        if not self.ib.isConnected():
            raise OrderDeniedError(f"{self.strategy_symbol} is not connected to IB.", code=NOT_CONNECTED)
        if self._engine is not None:
            self._engine.gate.check(draft.contract.con_id, draft.owner, closing=draft.purpose == FLATTEN)

    def _draft(self, contract: Contract, order: Order, owner: str, purpose: str = "") -> OrderDraft:
        accounts = self.ib.wrapper.accounts
        return OrderDraft(
            owner=owner,
            contract=mapping.contract_snapshot(contract),
            side=order.action,
            quantity=mapping.to_optional_decimal(order.totalQuantity) or Decimal(0),
            order_type=order.orderType,
            limit_price=mapping.limit_of(order),
            stop_price=mapping.stop_of(order),
            tif=order.tif or "DAY",
            account=order.account or (accounts[0] if accounts else ""),
            client_id=self.ib.client.clientId,
            algo_strategy=order.algoStrategy,
            code_hash=str(getattr(self._strategy, "code_hash", "")),
            params_revision=int(getattr(self._strategy, "params_revision", 0)),
            purpose=purpose,
        )

    def _facts(self, draft: OrderDraft) -> risk.RiskFacts:
        now, owner = datetime.now(UTC), draft.owner
        params = getattr(self._strategy, "params", None) or {}
        if self._engine is not None and self._engine.risk is not None:
            return self._engine.risk.facts(draft, params)
        return risk.RiskFacts(
            read_orders_today=lambda: queries.orders_today(owner, now),
            read_realized_today=lambda: self.portfolio.get_daily_realized_pnl(owner),
            read_equity=lambda: self.portfolio.calculate_strategy_equity(owner),
            read_position=lambda: self._position(draft),
            read_open_orders=lambda: queries.open_orders(now),
            limits={name: params.get(name) for name in ("max_daily_trades", "max_daily_loss")},
        )

    def _position(self, draft: OrderDraft) -> Decimal:
        held = self.portfolio.get_strategy_positions(draft.owner)
        return sum((row.quantity for row in held if row.con_id == draft.contract.con_id), Decimal(0))

    async def _qualify(self, contract: Contract) -> Contract:
        key = repr(contract)
        known = self._contracts.get(key)
        if known is not None:
            return known
        named = contract.conId and contract.symbol and contract.secType and contract.exchange and contract.currency
        if named and says_multiplier(contract):
            self._contracts[key] = contract
            return contract
        if not self.ib.isConnected():
            raise OrderDeniedError(f"{self.strategy_symbol} is not connected to IB.", code=NOT_CONNECTED)
        try:
            qualified = await requests.qualify(self.ib, contract, timeout_s=_REQUEST_TIMEOUT_S)
        except (NotFoundError, TransientError) as error:
            raise OrderDeniedError(error.message, code=error.code) from error
        self._contracts[key] = qualified
        return qualified

    # books

    async def get_positions(self) -> list[StrategyPosition]:
        """Return this owner's own positions, after every fill that this connection has heard of.

        Raises: LedgerError (ledger_behind) when the ledger does not catch up in time.
        """
        await self._caught_up()
        return await super().get_positions()

    async def _caught_up(self) -> None:
        """Wait for the ledger: a ticket ends by what the wire says, and who then trades on older books doubles it."""
        if self._engine is None:
            return
        # Jobs follow the messages before them: when this one is settled, they are committed.
        booked = asyncio.wrap_future(self._engine.message_queue.submit(lambda: None, "caught_up"))
        try:
            await asyncio.wait_for(booked, _REQUEST_TIMEOUT_S)
        except TimeoutError as error:
            raise LedgerError(
                f"The ledger is more than {_REQUEST_TIMEOUT_S:g} s behind the broker; positions are not known now.",
                code="ledger_behind",
            ) from error

    # changing and cancelling

    async def cancel_order(self, order_ref: str) -> None:
        """Ask IB to cancel; the order ends when IB says so and its executions agree.

        Raises: OrderRefusedError (order_done, unknown_order, not_connected, foreign_client).
        """
        if not self.ib.isConnected():
            raise OrderRefusedError("Not connected to IB: the order cannot be cancelled now.", code=NOT_CONNECTED)
        ticket = self._tickets.get(order_ref)
        if ticket is not None:
            self._check_working(ticket)
            self.ib.cancelOrder(ticket.order)
            return
        row = await in_db_thread(queries.find_order, order_ref)
        if row is None:
            raise OrderRefusedError(f"There is no order {order_ref}.", code="unknown_order")
        own = self.ib.client.clientId
        if row.client_id != own or not row.order_id:
            raise OrderRefusedError(
                f"{order_ref} was sent by client {row.client_id}; only that client can cancel it, not client {own}.",
                code="foreign_client",
                client_id=row.client_id,
            )
        client: Any = self.ib.client  # untyped in ib_async
        client.cancelOrder(row.order_id, "")

    async def modify_order(
        self,
        order_ref: str,
        *,
        quantity: Decimal | None = None,
        limit: Decimal | None = None,
        stop: Decimal | None = None,
    ) -> None:
        """Send a changed order under its id; IB's next description of it says whether it took the change.

        Raises: OrderRefusedError (order_done, unknown_order, not_connected); OrderDeniedError for bad values or a gate.
        """
        if not self.ib.isConnected():
            raise OrderRefusedError("Not connected to IB: the order cannot be changed now.", code=NOT_CONNECTED)
        ticket = self._tickets.get(order_ref)
        if ticket is None:
            raise OrderRefusedError(f"{order_ref} is not an order of this connection.", code="unknown_order")
        self._check_working(ticket)
        if any(value is not None and value <= 0 for value in (quantity, limit, stop)):
            raise OrderDeniedError("Quantity and prices must be greater than 0.", code="bad_value")
        if quantity is not None and quantity <= ticket.filled:
            text = f"{ticket.filled:f} are filled already; cancel the order instead."
            raise OrderDeniedError(text, code="below_filled")
        if self._engine is not None:
            self._engine.gate.check(ticket.contract.conId, owner_named(order_ref) or self.strategy_symbol)
        changed = copy.copy(ticket.trade.order)  # a refused change must leave no trace in the live object
        if quantity is not None:
            changed.totalQuantity = float(quantity)
        if limit is not None:
            changed.lmtPrice = float(limit)
        if stop is not None:
            changed.auxPrice = float(stop)
        await self._check_change(ticket, changed)
        try:
            self.ib.placeOrder(ticket.contract, changed)
        except AssertionError as error:  # ib_async's way to say that the order is done
            raise OrderRefusedError(f"{order_ref} is not working any more.", code="order_done") from error

    async def _check_change(self, ticket: LiveTicket, changed: Order) -> None:
        """Check what is left of the order as if it were sent anew; a change could make a small order a large one."""
        if self._engine is None or self._engine.risk is None:
            return
        await self._engine.risk.prepare(self.ib, ticket.contract)
        draft = self._draft(ticket.contract, changed, owner_named(ticket.order_ref) or self.strategy_symbol)
        left = replace(draft, quantity=draft.quantity - ticket.filled)

        def _check() -> None:
            facts = self._facts(left)
            facts.leave_out = ticket.order_ref
            risk.check_order(left, facts, risk.CHANGES)

        await in_db_thread(_check)

    @staticmethod
    def _check_working(ticket: LiveTicket) -> None:
        if ticket.is_done:
            raise OrderRefusedError(f"{ticket.order_ref} is {ticket.state} already.", code="order_done")

    # tickets

    def open_tickets(self) -> Sequence[LiveTicket]:
        """Return the tickets that are not final."""
        return [ticket for ticket in self._tickets.values() if not ticket.is_done]

    def ticket(self, order_ref: str) -> LiveTicket | None:
        """Return the ticket of one of this broker's orders."""
        return self._tickets.get(order_ref)

    async def adopt(self, order_ref: str) -> LiveTicket | None:
        """Take over a working order that this client id placed in an earlier life; None when IB has it no more.

        Raises: TransientError when IB does not answer.
        """
        known = self._tickets.get(order_ref)
        if known is not None:
            return known
        working = await requests.ask_in_turn(
            self.ib, self.ib.reqOpenOrdersAsync, "open orders", timeout_s=_REQUEST_TIMEOUT_S
        )
        for trade in working:
            if trade.order.orderRef == order_ref:
                quantity = mapping.to_decimal(trade.order.totalQuantity)
                ticket = LiveTicket(self.ib, order_ref, trade.contract, trade.order, quantity)
                ticket.take_order(mapping.trade_snapshot(trade))
                self._remember(ticket)
                await self.capture.replay_executions(_REQUEST_TIMEOUT_S, client_id=self.ib.client.clientId)
                return ticket
        return None

    def _remember(self, ticket: LiveTicket) -> None:
        self._tickets[ticket.order_ref] = ticket
        if len(self._tickets) > _KEPT_TICKETS:
            done = [ref for ref, old in self._tickets.items() if old.is_done]
            for ref in done[: _KEPT_TICKETS // 2]:
                del self._tickets[ref]

    def _observe(self, message: QueueMessage) -> None:
        if message["type"] == "fill":
            ticket = self._tickets.get(message["fill"].order_ref)
            if ticket is not None:
                ticket.take_fill(message["fill"])
            return
        trade = message["trade"]
        ticket = self._tickets.get(trade.order_ref) if trade is not None else None
        if ticket is None or trade is None:
            return
        reach("ack")
        if message["type"] == "order":
            ticket.take_order(trade)
        elif message["type"] == "status_change":
            ticket.take_status(message["status"])
            self._ask_if_unclear(ticket, message["status"].code)

    # asking instead of concluding

    def _ask_if_unclear(self, ticket: LiveTicket, code: int) -> None:
        verdict = codes.order_verdict(code) if code else codes.OrderVerdict.NOTICE
        if verdict is not codes.OrderVerdict.NOTICE and not ticket.is_done:
            self._refresh_soon()

    def _on_connected(self) -> None:
        if self.open_tickets():
            self._refresh_soon()

    def _refresh_soon(self) -> None:
        if self._refreshing is not None and not self._refreshing.done():
            self._refresh_again = True
            return
        self._refreshing = asyncio.get_running_loop().create_task(self._refresh_until_quiet())

    async def _refresh_until_quiet(self) -> None:
        while True:
            self._refresh_again = False
            try:
                await self.refresh()
            except MatsError as error:
                logger.warning("orders not refreshed strategy=%s reason=%s", self.strategy_symbol, error.message)
            if not self._refresh_again:
                return

    async def refresh(self) -> None:
        """Ask IB where this client's orders stand; answers reach ledger and tickets like everything else.

        Raises: TransientError when IB does not answer; then nothing is concluded.
        """
        timeout_s = _REQUEST_TIMEOUT_S
        await requests.ask_in_turn(self.ib, self.ib.reqOpenOrdersAsync, "open orders", timeout_s=timeout_s)
        await self.capture.replay_executions(timeout_s, client_id=self.ib.client.clientId)
        unclear = {ticket.order_ref for ticket in self.open_tickets()}
        if not unclear:
            return
        completed = await requests.ask_in_turn(
            self.ib, lambda: self.ib.reqCompletedOrdersAsync(True), "completed orders", timeout_s=timeout_s
        )
        for trade in completed:
            if trade.order.orderRef in unclear:
                self.capture.take_completed(trade)
