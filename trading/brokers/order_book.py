"""The orders of one connection: their tickets, what IB says of them, and asking where nothing was said.

Owns: the tickets, the capture's observer, adoption after a restart, asking IB when a word is unclear or an
acknowledgement stays out.
Leaves: the questions themselves (``ib.order_questions``), placing (``live``), changing and cancelling (``changes``),
what the ledger makes of it (``orders``).
Rule: nothing is concluded from silence. An order that IB does not acknowledge in time is UNKNOWN, is asked about, and
is never sent again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ib_async import IB, Contract

from strategies.crashpoints import reach
from strategies.events import QueueMessage
from trading.brokers.base import Broker, EngineSide
from trading.ib import codes, mapping, requests
from trading.ib.capture import Capture
from trading.ib.line import Line
from trading.ib.order_questions import OrderQuestions
from trading.ib.paced import PacedSender
from trading.orders.intents import IntentWriter
from trading.orders.progress import UNACKNOWLEDGED
from trading.orders.state import OrderState
from trading.orders.tickets import LiveTicket

logger = logging.getLogger(__name__)

_KEPT_TICKETS = 2_000
REQUEST_TIMEOUT_S = 15.0
ACKNOWLEDGED_WITHIN_S = 5.0
ASK_AGAIN_S = 10.0
CAPTURE_MISSING = "This connection is not captured; its fills would be lost. Connect through the engine."
_UNANSWERED = frozenset({OrderState.INTENT, OrderState.SENT})


class OrderBook(Broker):
    """What a broker knows of the orders that it sent. Same loop only."""

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
        self._legs: dict[int, Contract] = {}  # of combinations, by conId
        self._tickets: dict[str, LiveTicket] = {}
        self._watch: asyncio.TimerHandle | None = None
        self.line = Line.of(ib_client)
        self.capture = self._attach(engine)
        self._questions = OrderQuestions.of(ib_client)
        self._questions.unclear.append(self._unclear)

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
        if self._watch is not None:
            self._watch.cancel()
        with suppress(ValueError):
            self.capture.observers.remove(self._observe)
            self._questions.unclear.remove(self._unclear)
        self.ib.connectedEvent -= self._on_connected

    async def _order_turn(self, count: int) -> None:
        """Wait until the line takes so many orders at once."""
        sender = PacedSender.of(self.ib)
        if sender is not None:
            await sender.order_turn(count)

    # acknowledgements

    def _await_acknowledgement(self, within_s: float | None = None) -> None:
        """Look once after a while whether IB has answered for what was sent."""
        if self._watch is None:
            self._watch = asyncio.get_running_loop().call_later(
                ACKNOWLEDGED_WITHIN_S if within_s is None else within_s, self._look_for_silence
            )

    def _look_for_silence(self) -> None:
        self._watch = None
        now = asyncio.get_running_loop().time()
        waiting = [ticket for ticket in self.open_tickets() if ticket.state in _UNANSWERED and ticket.order.transmit]
        silent = [ticket for ticket in waiting if now - ticket.placed_at >= ACKNOWLEDGED_WITHIN_S]
        for ticket in silent:
            ticket.doubt(UNACKNOWLEDGED)
            logger.warning("not acknowledged order_ref=%s", ticket.order_ref, extra={"strategy": self.strategy_symbol})
        doubtful = any(ticket.state is OrderState.UNKNOWN for ticket in self.open_tickets())
        if doubtful and self.ib.isConnected():
            self._questions.soon()
        if doubtful:
            self._await_acknowledgement(ASK_AGAIN_S)
        elif len(waiting) > len(silent):
            self._await_acknowledgement(1.0)

    # tickets

    def open_tickets(self) -> Sequence[LiveTicket]:
        """Return the tickets that are not final."""
        return [ticket for ticket in self._tickets.values() if not ticket.is_done]

    def ticket(self, order_ref: str) -> LiveTicket | None:
        """Return the ticket of one of this broker's orders."""
        return self._tickets.get(order_ref)

    def conclude(self, order_ref: str, state: OrderState, reason: str) -> None:
        """Take over how the books say that an order ended."""
        ticket = self._tickets.get(order_ref)
        if ticket is not None:
            ticket.conclude(state, reason)

    async def adopt(self, order_ref: str) -> LiveTicket | None:
        """Take over a working order that this client id placed in an earlier life; None when IB has it no more.

        Raises: TransientError when IB does not answer.
        """
        known = self._tickets.get(order_ref)
        if known is not None:
            return known
        working = await requests.ask_in_turn(
            self.ib, self.ib.reqOpenOrdersAsync, "open orders", timeout_s=REQUEST_TIMEOUT_S
        )
        for trade in working:
            if trade.order.orderRef == order_ref:
                quantity = mapping.to_decimal(trade.order.totalQuantity)
                ticket = LiveTicket(self.ib, order_ref, trade.contract, trade.order, quantity)
                ticket.take_order(mapping.trade_snapshot(trade))
                self._remember(ticket)
                await self.capture.replay_executions(REQUEST_TIMEOUT_S, client_id=self.ib.client.clientId)
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
            self._questions.soon()

    def _on_connected(self) -> None:
        for ticket in self.open_tickets():
            if ticket.state in _UNANSWERED:
                ticket.doubt(UNACKNOWLEDGED)  # nobody answers for what the lost line may have swallowed
        if self.open_tickets():
            self._questions.soon()
            self._await_acknowledgement(ASK_AGAIN_S)

    def _unclear(self) -> set[str]:
        return {ticket.order_ref for ticket in self.open_tickets()}

    async def refresh(self) -> None:
        """Ask IB where this client's orders stand; answers reach ledger and tickets like everything else.

        Raises: TransientError when IB does not answer; then nothing is concluded.
        """
        await self._questions.round()
