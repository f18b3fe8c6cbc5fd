"""LiveBroker: one strategy's orders over its own IB connection.

Owns: the way of an order, or of a whole family, from wish to wire. Leaves: persistence of what IB answers (the
connection's capture → queue → ledger), who may send (``engine.gate``), the rules (``orders.risk``), changing and
cancelling (``changes``), tickets (``order_book``).
Rule: gate → contract → checks → committed intent → socket; between the socket and the listeners nothing is awaited,
because the listeners are the connection's and were there before.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from django.db import DatabaseError
from ib_async import Contract, Order

from strategies.crashpoints import reach
from strategies.exceptions import (
    LedgerError,
    OrderDeniedError,
)
from strategies.ports import StrategyPosition, Ticket
from trading.brokers.changes import OrderChanges
from trading.brokers.order_book import REQUEST_TIMEOUT_S
from trading.brokers.order_checks import NOT_CONNECTED
from trading.orders import queries, risk
from trading.orders.db_threads import in_db_thread
from trading.orders.drafts import FLATTEN, OrderDraft
from trading.orders.inflight import in_flight
from trading.orders.intents import IntentWriter
from trading.orders.margins import MarginWanted, Move
from trading.orders.refs import new_oca_group
from trading.orders.tickets import LiveTicket

logger = logging.getLogger(__name__)

LEDGER_TROUBLE = "ledger_trouble"
_deciding = threading.Lock()  # of every connection: limits are the account's
_CANCEL_WITH_BLOCK = 1  # IB: the rest is cancelled, and only one of them is at the exchange at a time


class LiveBroker(OrderChanges):
    """Places, changes and cancels orders on the strategy's own loop."""

    @property
    def _intents(self) -> IntentWriter:
        if self._given_intents is not None:
            return self._given_intents
        if self._engine is None:
            raise RuntimeError("This broker was made without an engine and without intents; it cannot place orders.")
        return self._engine.intents

    # placing

    async def place_order(
        self,
        contract: Contract,
        order: Order,
        *,
        owner: str,
        parent: Ticket | None = None,
        by_hand: bool = False,
        purpose: str = "",
    ) -> LiveTicket:
        """Commit the intent, then send; return the ticket once the order was handed to the socket.

        ``by_hand``: a person decided it, not the code of the strategy for which it is. ``purpose`` FLATTEN is the kill
        switch's: it only closes, and a halt does not stop it.

        Raises: OrderDeniedError when MATS does not send it; the denial is on record.
        """
        qualified = await self._qualify(contract)
        draft = self._draft(qualified, order, owner, by_hand=by_hand, purpose=purpose)
        if parent is not None:
            draft = replace(draft, parent_ref=parent.order_ref)
        if purpose != FLATTEN:
            await self.prepare([qualified])
        [order_ref] = await self._committed([draft], is_bracket=False)
        await self._check_way_again([order_ref], [draft])
        return await self._send(order_ref, qualified, order, draft, parent)

    async def place_family(
        self, orders: Sequence[tuple[Contract, Order]], *, owner: str, is_bracket: bool, by_hand: bool = False
    ) -> list[LiveTicket]:
        """Commit the intents of all orders in one transaction, then send them in order with nothing in between.

        A bracket's first order is the parent, and its children form one group at IB by themselves: a group name of
        ours would make IB refuse to change them. Orders that cancel each other get one.
        Raises: OrderDeniedError when MATS sends none of them; each is on record as denied.
        """
        members = [(await self._qualify(contract), order) for contract, order in orders]
        group = "" if is_bracket else new_oca_group(owner)
        for _, order in members:
            if group:
                order.ocaGroup, order.ocaType = group, _CANCEL_WITH_BLOCK
        drafts = [self._draft(contract, order, owner, by_hand=by_hand) for contract, order in members]
        await self.prepare({contract.conId or id(contract): contract for contract, _ in members}.values())
        refs = await self._committed(drafts, is_bracket=is_bracket)
        await self._check_way_again(refs, drafts)
        tickets: list[LiveTicket] = []
        for ref, (contract, order), draft in zip(refs, members, drafts, strict=True):
            try:
                parent = tickets[0] if is_bracket and tickets else None
                tickets.append(self._hand_over(ref, contract, order, draft, parent))
            except ConnectionError as error:
                await self._give_up(refs[len(tickets) :], str(error), NOT_CONNECTED)
                raise OrderDeniedError(
                    "The connection was lost while a family was sent.", code=NOT_CONNECTED
                ) from error
        return tickets

    async def _check_way_again(self, refs: Sequence[str], drafts: Sequence[OrderDraft]) -> None:
        """Refuse what was committed while the gate was shut meanwhile.

        An order waits for its turn before this look, not in the line's queue: there a halt could not reach it.
        """
        await self._order_turn(len(drafts))
        try:
            for draft in drafts:
                self._check_way(draft)
        except OrderDeniedError as error:
            await self._give_up(refs, error.message, error.code)
            raise

    async def _give_up(self, refs: Sequence[str], reason: str, code: str) -> None:
        for ref in refs:
            await in_db_thread(self._intents.give_up, ref, reason, code)

    async def _send(
        self, order_ref: str, contract: Contract, order: Order, draft: OrderDraft, parent: Ticket | None
    ) -> LiveTicket:
        try:
            return self._hand_over(order_ref, contract, order, draft, parent)
        except ConnectionError as error:
            await self._give_up([order_ref], str(error), NOT_CONNECTED)
            raise OrderDeniedError("The connection was lost before the order was sent.", code=NOT_CONNECTED) from error

    def _hand_over(
        self, order_ref: str, contract: Contract, order: Order, draft: OrderDraft, parent: Ticket | None
    ) -> LiveTicket:
        """Write the order to the socket; nothing is awaited here. Raises: ConnectionError when nothing was written."""
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
        except ConnectionError:  # raised before anything is written to the socket
            self._tickets.pop(order_ref, None)
            raise
        reach("sent")
        in_flight.settle(order_ref)
        self._await_acknowledgement()
        return ticket

    async def _committed(self, drafts: Sequence[OrderDraft], *, is_bracket: bool) -> list[str]:
        """Check and commit on a database thread; a caller who is cancelled meanwhile leaves no intent behind."""
        work = asyncio.ensure_future(
            self._knowing_margins(
                lambda: self._decide(drafts, is_bracket), lambda draft, error: self._deny(drafts, draft, error)
            )
        )
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            work.add_done_callback(self._abandon)
            raise
        except DatabaseError as error:  # without a committed intent nothing goes on the wire
            raise OrderDeniedError(
                f"The ledger cannot be written ({error}); the order was not sent.", code=LEDGER_TROUBLE
            ) from error

    def _abandon(self, work: asyncio.Future[list[str]]) -> None:
        if not work.cancelled() and work.exception() is None:
            asyncio.ensure_future(  # noqa: RUF006 - the pool keeps the work alive
                self._give_up(work.result(), "The strategy ended before sending.", "abandoned")
            )

    def _decide(self, drafts: Sequence[OrderDraft], is_bracket: bool) -> list[str]:
        """Let a family pass every check, or none of it; commit what may be sent.

        One after the other: two orders that are checked before either is written down would each see a limit unused.
        Nobody waits for IB in here: a check that has to ask raises MarginWanted, and all is checked anew afterwards.
        """
        if drafts[0].purpose == FLATTEN:  # waits for nobody, and only closes
            return self._decide_now(drafts, is_bracket)
        with _deciding:
            return self._decide_now(drafts, is_bracket)

    def _decide_now(self, drafts: Sequence[OrderDraft], is_bracket: bool) -> list[str]:
        entry = drafts[0] if is_bracket else None
        if len(drafts) > 1:
            self._want_margins(drafts, entry)
        for draft in drafts:
            try:
                self._check_way(draft)
                self._check(draft, self._coming(draft, entry))
            except OrderDeniedError as error:
                if error.code == LEDGER_TROUBLE:  # writing the refusal down would wait for what cannot be written
                    logger.warning("Order denied: %s", error.message, extra={"strategy": draft.owner})
                    raise
                self._deny(drafts, draft, error)
                raise
        if len(drafts) == 1:
            return [self._intents.commit(drafts[0])]
        return self._intents.commit_family(drafts, is_bracket=is_bracket)

    def _want_margins(self, drafts: Sequence[OrderDraft], entry: OrderDraft | None) -> None:
        """Have IB asked about all of a family at once, before the first of it counts for a rate.

        Raises: MarginWanted.
        """
        moves: list[Move] = []
        for draft in drafts:
            try:
                risk.check_order(draft, self._facts(draft, self._coming(draft, entry)), risk.MARGIN)
            except MarginWanted as wanted:
                moves += wanted.moves
            except OrderDeniedError:
                continue  # the check that decides says so again, and with all its reasons
        if moves:
            raise MarginWanted(moves, drafts[0])

    def _coming(self, draft: OrderDraft, entry: OrderDraft | None) -> Decimal:
        """Return what an exit's entry may still trade, signed; 0 for every other order."""
        if entry is not None:
            return Decimal(0) if draft is entry else entry.signed_quantity
        return queries.still_to_trade(draft.parent_ref) if draft.parent_ref else Decimal(0)

    def _deny(self, drafts: Sequence[OrderDraft], culprit: OrderDraft, error: OrderDeniedError) -> None:
        """Put the refusal on record, of the whole family when it is one."""
        for draft in drafts:
            order_ref, is_new = self._intents.deny(draft, error.message, error.code)
            if draft is culprit:
                error.fields["order_ref"] = order_ref
            if draft is culprit and is_new:  # repeats are counted on the row, and not told again
                what = f"{draft.side} {draft.quantity.normalize():f} {draft.contract.symbol}"
                told = {"strategy": draft.owner}  # this is a database thread; the record cannot know by itself
                logger.warning("Order denied: %s: %s order_ref=%s", what, error.message, order_ref, extra=told)

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
            await asyncio.wait_for(booked, REQUEST_TIMEOUT_S)
        except TimeoutError as error:
            raise LedgerError(
                f"The ledger is more than {REQUEST_TIMEOUT_S:g} s behind the broker; positions are not known now.",
                code="ledger_behind",
            ) from error
