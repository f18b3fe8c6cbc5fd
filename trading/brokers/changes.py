"""Change and cancel the orders of one connection.

Owns: what may be changed, every incarnation of an order, and the messages for a loop that hangs.
Leaves: which connection an order belongs to (``orders.trade_manager``), when to go past a loop (``orders.overtaking``).
Rule: a change is the order sent again under its id. So it is refused while nobody knows whether IB has the order: it
would place it a second time. A change that IB refuses leaves the order, and its row, as they were.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ib_async import Order

from strategies.exceptions import OrderDeniedError, OrderRefusedError
from trading.brokers.order_checks import NOT_CONNECTED, OrderChecks
from trading.orders import queries
from trading.orders.db_threads import in_db_thread
from trading.orders.refs import owner_named
from trading.orders.state import OrderState
from trading.orders.tickets import LiveTicket

_UNCONFIRMED = frozenset({OrderState.INTENT, OrderState.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Change:
    """What is to become of a working order; None stays. Units: prices in the contract's currency."""

    quantity: Decimal | None = None
    limit: Decimal | None = None
    stop: Decimal | None = None
    trail: Decimal | None = None
    trail_percent: Decimal | None = None

    def check(self, *, may_be_negative: bool = False) -> None:
        """Refuse a change of nothing, and values that are no prices.

        Raises: OrderDeniedError.
        """
        given = [self.quantity, self.stop, self.trail, self.trail_percent]
        given += [] if may_be_negative else [self.limit]
        if all(value is None for value in (*given, self.limit)):
            raise OrderDeniedError("Nothing is to be changed.", code="bad_value")
        if any(value is not None and not value > 0 for value in given):
            raise OrderDeniedError("Quantity and prices must be greater than 0.", code="bad_value")

    def only_shrinks(self, order: Order) -> bool:
        """Tell whether less of the order is left and nothing else changes: a cancel of a part, which passes halts."""
        others = (self.limit, self.stop, self.trail, self.trail_percent)
        if self.quantity is None or any(value is not None for value in others):
            return False
        return self.quantity < Decimal(str(order.totalQuantity))

    def applied(self, order: Order) -> Order:
        """Return a changed copy: a refused change must leave no trace in the live object.

        Raises: OrderDeniedError when the order's type has no such price.
        """
        changed = copy.copy(order)
        trails = order.orderType.startswith("TRAIL")
        if self.quantity is not None:
            changed.totalQuantity = float(self.quantity)
        if self.limit is not None:
            _check_has(order, "LMT" in order.orderType or order.orderType in ("LOC", "LIT"), "limit")
            changed.lmtPrice = float(self.limit)
        if self.stop is not None:
            _check_has(order, trails or order.orderType.startswith(("STP", "MIT", "LIT")), "stop")
            setattr(changed, "trailStopPrice" if trails else "auxPrice", float(self.stop))
        if self.trail is not None:
            _check_has(order, trails, "trailing amount")
            changed.auxPrice, changed.trailingPercent = float(self.trail), Order.trailingPercent
        if self.trail_percent is not None:
            _check_has(order, trails, "trailing percentage")
            changed.trailingPercent, changed.auxPrice = float(self.trail_percent), Order.auxPrice
        return changed


def _check_has(order: Order, has: bool, what: str) -> None:
    if not has:
        raise OrderDeniedError(f"A {order.orderType} order has no {what}.", code="bad_value")


class OrderChanges(OrderChecks):
    """Cancels and changes, on the connection's own loop but for ``cancel_frames`` and ``change_frame``."""

    async def cancel_order(self, order_ref: str) -> None:
        """Ask IB to cancel; the order ends when IB says so and its executions agree.

        Raises: OrderRefusedError (order_done, unknown_order, not_connected, foreign_client).
        """
        self._check_line("cancelled")
        ticket = self._tickets.get(order_ref)
        if ticket is not None:
            self._check_working(ticket)
            self.ib.cancelOrder(ticket.order)
            self._cancel_twins(ticket.order.orderId, ticket.order.permId)
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
        self.send_cancels([(order_ref, int(row.order_id))])

    def send_cancels(self, orders: Iterable[tuple[str, int]]) -> None:
        """Ask IB to cancel orders of this client, given by reference and order id, without waiting for anything.

        Raises: OrderRefusedError not_connected.
        """
        self._check_line("cancelled")
        client: Any = self.ib.client  # untyped in ib_async
        for order_ref, order_id in orders:
            ticket = self._tickets.get(order_ref)
            if ticket is not None and ticket.order.orderId:
                if not ticket.is_done:
                    self.ib.cancelOrder(ticket.order)
            else:
                client.cancelOrder(order_id, "")
            self._cancel_twins(order_id, ticket.order.permId if ticket is not None else 0)

    def _cancel_twins(self, order_id: int, perm_id: int) -> None:
        """Cancel what IB works under the same permId with another id: a change that met a lost line leaves two."""
        client: Any = self.ib.client
        for twin in self._twins(order_id, perm_id):
            client.cancelOrder(twin, "")

    def _twins(self, order_id: int, perm_id: int) -> list[int]:
        if not perm_id:
            return []
        own = self.ib.client.clientId
        found = [trade for trade in list(self.ib.wrapper.trades.values()) if trade.order.permId == perm_id]
        ids = {trade.order.orderId for trade in found if trade.order.clientId == own and not trade.isDone()}
        return sorted(ids - {order_id, 0})

    def cancel_frames(self, order_ref: str, order_id: int) -> bytes:
        """Return the messages that cancel an order in all its incarnations, for a loop that cannot send them itself."""
        ticket = self._tickets.get(order_ref)
        twins = self._twins(order_id, ticket.order.permId) if ticket is not None else []
        return b"".join(self.line.cancel_frame(number) for number in (order_id, *twins))

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
        """Send a changed order under its id; IB's next description of it says whether it took the change.

        Raises: OrderRefusedError (order_done, unknown_order, unconfirmed, not_connected); OrderDeniedError for bad
        values or a gate.
        """
        self._check_line("changed")
        if order_ref not in self._tickets:
            await self.adopt(order_ref)
        change = Change(quantity, limit, stop, trail, trail_percent)
        ticket, changed = self._changed(order_ref, change)
        if not change.only_shrinks(ticket.trade.order):
            await self._qualify(ticket.contract)  # of a combination from before a restart the legs are not known yet
            await self.prepare([ticket.contract])
            await self._knowing_margins(lambda: self._check_change(ticket, changed))
        await self._order_turn(1)
        ticket, changed = self._changed(order_ref, change)  # anew: it may have filled or ended, or a halt have come
        try:
            self.ib.placeOrder(ticket.contract, changed)
        except AssertionError as error:  # ib_async's way to say that the order is done
            raise OrderRefusedError(f"{order_ref} is not working any more.", code="order_done") from error

    def change_frame(self, order_ref: str, change: Change) -> bytes:
        """Return the message that changes an order, for a loop that cannot send it itself. Blocking: not on a loop.

        Raises: as ``modify_order``.
        """
        self._check_line("changed")
        ticket, changed = self._changed(order_ref, change)
        if not change.only_shrinks(ticket.trade.order):
            self._check_change_now(ticket, changed)
            ticket, changed = self._changed(order_ref, change)  # anew: a halt may have come while the checks read
        return self.line.place_frame(ticket.contract, changed)

    def _changed(self, order_ref: str, change: Change) -> tuple[LiveTicket, Order]:
        ticket = self._tickets.get(order_ref)
        if ticket is None:
            raise OrderRefusedError(f"{order_ref} is not an order of this connection.", code="unknown_order")
        self._check_working(ticket)
        if ticket.state in _UNCONFIRMED:
            text = f"Nobody knows whether IB has {order_ref}; changing it could place it a second time."
            raise OrderRefusedError(text, code="unconfirmed")
        change.check(may_be_negative=bool(ticket.contract.comboLegs))
        if change.quantity is not None and change.quantity <= ticket.filled:
            text = f"{ticket.filled:f} are filled already; cancel the order instead."
            raise OrderDeniedError(text, code="below_filled")
        if not change.only_shrinks(ticket.trade.order):
            con_ids = [leg.conId for leg in ticket.contract.comboLegs or ()] or [ticket.contract.conId]
            self._check_gate(con_ids, owner_named(order_ref) or self.strategy_symbol)
        return ticket, change.applied(ticket.trade.order)

    def _check_line(self, what: str) -> None:
        if not self.ib.isConnected():
            raise OrderRefusedError(f"Not connected to IB: the order cannot be {what} now.", code=NOT_CONNECTED)

    @staticmethod
    def _check_working(ticket: LiveTicket) -> None:
        if ticket.is_done:
            raise OrderRefusedError(f"{ticket.order_ref} is {ticket.state} already.", code="order_done")
