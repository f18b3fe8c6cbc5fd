"""Orders that nobody answers for: found, doubted, settled by an operator.

Owns: the move to UNKNOWN of what IB did not acknowledge in time, and the end that a person gives an UNKNOWN order.
Leaves: asking IB (``engine.watch`` has it asked), settling by IB's complete answers (``recovery``).
Rule: nobody but IB and its executions says that something was filled. A person may say that an UNKNOWN order will fill
no more; a fill that comes all the same is booked and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from strategies.exceptions import ConflictError, NotFoundError
from trading.models import Order
from trading.orders.inflight import in_flight
from trading.orders.progress import UNACKNOWLEDGED
from trading.orders.rows import OrderBatch
from trading.orders.state import FINAL, OrderState, can_move

ACKNOWLEDGED_WITHIN = timedelta(seconds=5)
_SETTLED = "Settled by {actor}: {reason}"


def unacknowledged(now: datetime) -> list[str]:
    """Return the orders that were handed to the socket long enough ago and have no answer, held ones left out."""
    rows = Order.objects.filter(
        state=OrderState.SENT, transmitted=True, sent_at__lt=now - ACKNOWLEDGED_WITHIN
    ).values_list("order_ref", flat=True)
    return list(rows)


def unknown_orders() -> list[Order]:
    """Return the orders that stand UNKNOWN, oldest first."""
    return list(Order.objects.filter(state=OrderState.UNKNOWN).order_by("id"))


def doubt(order_refs: Sequence[str], now: datetime) -> list[Order]:
    """Move sent orders that nobody answers for to UNKNOWN; return those that moved."""
    batch = OrderBatch(order_refs, now)
    for ref in order_refs:
        row = batch.get(ref)
        if row is not None and row.state == OrderState.SENT:
            batch.advance(row, batch.progress(row).ended(OrderState.UNKNOWN, UNACKNOWLEDGED), message=UNACKNOWLEDGED)
    return batch.save()


def settle(order_ref: str, reason: str, actor: str, now: datetime) -> Order:
    """End an UNKNOWN order on a person's word; what it has filled stays filled.

    Raises: NotFoundError (unknown_order); ConflictError (order_done, order_known, in_flight).
    """
    batch = OrderBatch([order_ref], now)
    row = batch.get(order_ref)
    if row is None:
        raise NotFoundError(f"There is no order {order_ref}.", code="unknown_order")
    progress = batch.progress(row)
    if progress.state in FINAL:
        raise ConflictError(f"Order {order_ref} is {progress.state} already.", code="order_done")
    if progress.state is not OrderState.UNKNOWN:
        text = f"Order {order_ref} is {progress.state}: IB answers for it. Cancel it instead."
        raise ConflictError(text, code="order_known")
    if in_flight.has(order_ref) and not row.perm_id:
        text = f"Order {order_ref} was handed to IB moments ago; its answer may still come. Wait half a minute."
        raise ConflictError(text, code="in_flight")
    if not can_move(progress.state, OrderState.CANCELLED):
        raise ConflictError(f"Order {order_ref} cannot be settled.", code="order_known")
    text = _SETTLED.format(actor=actor, reason=reason)[:400]
    batch.advance(row, progress.ended(OrderState.CANCELLED, text), message=text)
    batch.save()
    return row
