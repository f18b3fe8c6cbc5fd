"""Order rows as a batch sees them: read once, changed in memory, written once, with one event per changed order."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from portfolio.bulk import insert_rows, read_rows, select_rows, update_rows
from trading.models import Order, OrderEvent
from trading.orders.progress import CANCEL_WORDS, Progress
from trading.orders.state import OrderState

logger = logging.getLogger(__name__)

_CHANGING = (
    "state",
    "account_id",
    "quantity",
    "order_type",
    "limit_price",
    "stop_price",
    "tif",
    "trail_amount",
    "trail_percent",
    "limit_offset",
    "good_till",
    "good_after",
    "outside_rth",
    "algo",
    "oca_group",
    "parent_ref",
    "transmitted",
    "legs",
    "filled",
    "average_price",
    "client_id",
    "order_id",
    "perm_id",
    "reason",
    "sent_at",
    "updated_at",
)
# An event's own copy of what the order was, and where the order keeps it.
TERMS = {
    "account_id": "account_id",
    "client_id": "client_id",
    "sent_id": "order_id",
    "perm_id": "perm_id",
    "quantity": "quantity",
    "order_type": "order_type",
    "limit_price": "limit_price",
    "stop_price": "stop_price",
    "tif": "tif",
    "average_price": "average_price",
}
_EVENT = ("order_id", "at", "state", "ib_status", "filled", "remaining", "message", *TERMS)
_WHOLE = tuple(field.attname for field in Order._meta.concrete_fields if field.attname != "id")
_AWAITING = OrderState.UNKNOWN


def progress_of(row: Order, cancelled_at: Decimal | None = None) -> Progress:
    """Return what the row says; a cancelled order was cancelled at what it has filled."""
    state = OrderState(row.state)
    if state is OrderState.CANCELLED and cancelled_at is None:
        cancelled_at = row.filled
    return Progress(state, row.quantity, row.filled, row.average_price, cancelled_at, row.reason)


def terms_of(row: Order) -> dict[str, Any]:
    """Return what an event keeps of its order, by the event's columns."""
    return {name: getattr(row, source) for name, source in TERMS.items()}


class OrderBatch:
    """The orders that a batch touches. Use inside the batch's transaction."""

    def __init__(self, refs: Iterable[str], now: datetime) -> None:
        self.now = now
        self._rows = {row.order_ref: row for row in read_rows(Order, "order_ref", set(refs))}
        self._cancelled_at = self._unfinished_cancels()
        self._new: dict[str, Order] = {}
        self._changed: dict[str, Order] = {}
        self._events: dict[str, OrderEvent] = {}

    def _unfinished_cancels(self) -> dict[int, Decimal]:
        """Return by order what IB counted as filled when it cancelled; the log of events is the only memory of it."""
        waiting = [row.pk for row in self._rows.values() if row.state == _AWAITING]
        if not waiting:
            return {}
        found = OrderEvent.objects.filter(order_id__in=waiting, ib_status__in=CANCEL_WORDS).order_by("id")
        return {event.order_id: event.filled for event in found}

    def get(self, ref: str) -> Order | None:
        """Return the order's row, new ones included."""
        return self._rows.get(ref)

    def find(self, ref: str) -> Order | None:
        """Return the row of an order that the batch did not name at first; costs a query."""
        if ref not in self._rows:
            found = OrderBatch([ref], self.now)
            self._rows.update(found._rows)
            self._cancelled_at.update(found._cancelled_at)
        return self._rows.get(ref)

    def add(self, row: Order) -> None:
        """Take a new row in."""
        self._rows[row.order_ref] = self._new[row.order_ref] = row

    def progress(self, row: Order) -> Progress:
        """Return how far the order has come."""
        return progress_of(row, self._cancelled_at.get(row.pk) if row.pk else None)

    def advance(
        self,
        row: Order,
        to: Progress,
        *,
        ib_status: str = "",
        ib_filled: Decimal | None = None,
        message: str = "",
        changed: bool = False,
    ) -> None:
        """Move the row to where the evidence put it; without a change nothing is written."""
        before = self.progress(row)
        if to.cancelled_at is not None and row.pk:
            self._cancelled_at[row.pk] = to.cancelled_at
        row.state, row.quantity, row.filled = to.state, to.quantity, to.filled
        row.average_price, row.reason = to.average_price, to.reason[:400]
        if to.state is OrderState.REJECTED and before.state is not OrderState.REJECTED:
            what = f"{row.side} {to.quantity.normalize():f} {row.symbol}"
            told = {"strategy": row.owner}
            logger.warning("Order rejected: %s: %s order_ref=%s", what, to.reason, row.order_ref, extra=told)
        is_news = to != before or row.order_ref in self._new
        if not (is_news or changed):
            return
        row.updated_at = self.now
        self._changed[row.order_ref] = row
        if not is_news and not message:
            return
        filled = to.filled if ib_filled is None else ib_filled
        earlier = self._events.get(row.order_ref)
        self._events[row.order_ref] = OrderEvent(
            order=row,
            at=self.now,
            state=to.state,
            ib_status=ib_status or (earlier.ib_status if earlier else ""),
            filled=filled,
            remaining=max(to.quantity - filled, Decimal(0)),
            message=(message or to.reason)[:400],
        )

    def _insert(self) -> None:
        insert_rows(Order, _WHOLE, ([getattr(row, name) for name in _WHOLE] for row in self._new.values()))
        for pk, ref in select_rows(Order, ("id", "order_ref"), "order_ref", self._new):
            self._new[ref].pk = pk
            self._new[ref]._state.adding = False

    def save(self) -> list[Order]:
        """Write what changed; return those orders."""
        if self._new:
            self._insert()
        old = [row for ref, row in self._changed.items() if ref not in self._new]
        if old:
            values = ([*(getattr(row, name) for name in _CHANGING), row.pk] for row in old)
            update_rows(Order, _CHANGING, "id", values)
        if self._events:
            events = (
                [
                    event.order.pk,
                    event.at,
                    str(event.state),
                    event.ib_status,
                    event.filled,
                    event.remaining,
                    event.message,
                    *terms_of(event.order).values(),
                ]
                for event in self._events.values()
            )
            insert_rows(OrderEvent, _EVENT, events)
        return list(self._changed.values())
