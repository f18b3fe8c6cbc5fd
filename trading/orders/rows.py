"""Order rows as a batch sees them: read once, changed in memory, written once.

Rule: a batch may take several steps (what IB says of orders, then executions, then statuses). Each step that changes an
order leaves one event, which says what the order was at its end; rows are written once, with what the last step left.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from portfolio.bulk import insert_rows, read_rows, update_rows
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
_EVENT_OWN = ("at", "state", "ib_status", "filled", "remaining", "message")
_EVENT = ("order_id", *_EVENT_OWN, *TERMS)
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


def insert_new(row: Order, now: datetime) -> None:
    """Write an order that is new, with its first event; inside the caller's transaction. Its ``pk`` stays None."""
    insert_rows(Order, _WHOLE, [[getattr(row, name) for name in _WHOLE]])
    first = OrderEvent(at=now, state=row.state, filled=row.filled, remaining=row.quantity, message=row.reason)
    event = (row.order_ref, *(getattr(first, name) for name in _EVENT_OWN), *terms_of(row).values())
    insert_rows(OrderEvent, _EVENT, [event], lookup=("order_id", Order, "order_ref"))


class OrderBatch:
    """The orders that a batch touches. Use inside the batch's transaction.

    An ``open`` one is shared by several steps and written by whoever opened it: nothing may read the tables before.
    """

    def __init__(self, refs: Iterable[str], now: datetime, *, is_open: bool = False) -> None:
        self.now = now
        self._is_open = is_open
        self._rows: dict[str, Order] = {}
        self._asked: set[str] = set()
        self._cancelled_at: dict[str, Decimal] = {}
        self._new: set[str] = set()  # not in the table yet
        self._untold: set[str] = set()  # new in this step
        self._changed: dict[str, Order] = {}  # in this step
        self._unwritten: dict[str, Order] = {}
        self._events: dict[str, OrderEvent] = {}
        self._event_rows: list[tuple[Any, ...]] = []
        self.load(refs)

    def load(self, refs: Iterable[str]) -> None:
        """Read the rows that the batch has not asked for yet."""
        wanted = set(refs) - self._asked
        self._asked |= wanted
        found = read_rows(Order, "order_ref", wanted) if wanted else []
        self._rows.update((row.order_ref, row) for row in found)
        self._cancelled_at.update(_unfinished_cancels(found))

    def get(self, ref: str) -> Order | None:
        """Return the order's row, new ones included."""
        return self._rows.get(ref)

    def find(self, ref: str) -> Order | None:
        """Return the row of an order that the batch did not name at first; costs a query."""
        self.load([ref])
        return self._rows.get(ref)

    def add(self, row: Order) -> None:
        """Take a new row in."""
        self._rows[row.order_ref] = row
        self._new.add(row.order_ref)
        self._untold.add(row.order_ref)
        self._asked.add(row.order_ref)

    def progress(self, row: Order) -> Progress:
        """Return how far the order has come."""
        return progress_of(row, self._cancelled_at.get(row.order_ref))

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
        if to.cancelled_at is not None:
            self._cancelled_at[row.order_ref] = to.cancelled_at
        row.state, row.quantity, row.filled = to.state, to.quantity, to.filled
        row.average_price, row.reason = to.average_price, to.reason[:400]
        if to.state is OrderState.REJECTED and before.state is not OrderState.REJECTED:
            what = f"{row.side} {to.quantity.normalize():f} {row.symbol}"
            told = {"strategy": row.owner}
            logger.warning("Order rejected: %s: %s order_ref=%s", what, to.reason, row.order_ref, extra=told)
        is_news = to != before or row.order_ref in self._untold
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

    def save(self) -> list[Order]:
        """End a step, and write it unless more are to come; return the orders that it changed."""
        changed = list(self._changed.values())
        self._event_rows += [_event_row(ref, event) for ref, event in self._events.items()]
        self._unwritten |= self._changed
        self._changed, self._events, self._untold = {}, {}, set()
        if not self._is_open:
            self.write()
        return changed

    def write(self) -> None:
        """Write what the steps so far changed; may be called more than once."""
        new = [row for ref, row in self._unwritten.items() if ref in self._new]
        old = [row for ref, row in self._unwritten.items() if ref not in self._new]
        insert_rows(Order, _WHOLE, ([getattr(row, name) for name in _WHOLE] for row in new))
        values = ([*(getattr(row, name) for name in _CHANGING), row.order_ref] for row in old)
        update_rows(Order, _CHANGING, "order_ref", values)
        insert_rows(OrderEvent, _EVENT, self._event_rows, lookup=("order_id", Order, "order_ref"))
        self._new.difference_update(self._unwritten)
        self._unwritten, self._event_rows = {}, []


def _unfinished_cancels(rows: Iterable[Order]) -> dict[str, Decimal]:
    """Return by order what IB counted as filled when it cancelled; the log of events is the only memory of it."""
    waiting = {row.pk: row.order_ref for row in rows if row.state == _AWAITING}
    if not waiting:
        return {}
    found = OrderEvent.objects.filter(order_id__in=waiting, ib_status__in=CANCEL_WORDS).order_by("id")
    return {waiting[event.order_id]: event.filled for event in found}


def _event_row(ref: str, event: OrderEvent) -> tuple[Any, ...]:
    return (
        ref,
        event.at,
        str(event.state),
        event.ib_status,
        event.filled,
        event.remaining,
        event.message,
        *terms_of(event.order).values(),
    )
