"""Order events as rows of the ArcticDB projection.

Rule: what is not yet settled at the moment of an event (ids before IB's answer, the average before the end) is left
empty there, so that writing the history again gives the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trading.models import OrderEvent
from trading.orders.state import OrderState

_BEFORE_ANSWER = (OrderState.INTENT, OrderState.DENIED, OrderState.SENT)


def order_rows_after(seq: int, limit: int) -> Sequence[dict[str, Any]]:
    """Return up to ``limit`` order events above an id, in order, by the columns of ``schema.ORDERS`` plus ``at``.

    Events of orders whose account IB has not said yet are left for the account's own rows.
    """
    found = OrderEvent.objects.filter(id__gt=seq).select_related("order").order_by("id")[:limit]
    return [_row(event) for event in found]


def _row(event: OrderEvent) -> dict[str, Any]:
    order = event.order
    answered = event.state not in _BEFORE_ANSWER
    return {
        "seq": event.id,
        "at": event.at,
        "account": order.account_id or "unknown",
        "strategy": order.owner,
        "order_ref": order.order_ref,
        "order_id": (order.order_id or 0) if answered else 0,
        "perm_id": (order.perm_id or 0) if answered else 0,
        "client_id": order.client_id if order.client_id is not None else -1,
        "con_id": order.con_id,
        "symbol": order.symbol,
        "asset_class": order.sec_type,
        "currency": order.currency,
        "side": order.side,
        "order_type": order.order_type,
        "tif": order.tif,
        "total_quantity": order.quantity,
        "filled_quantity": event.filled,
        "remaining_quantity": event.remaining,
        "avg_fill_price": order.average_price if event.state == OrderState.FILLED else None,
        "limit_price": order.limit_price,
        "stop_price": order.stop_price,
        "state": event.state,
        "status": event.ib_status,
        "message": event.message,
    }
