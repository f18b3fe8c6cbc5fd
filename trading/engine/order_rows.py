"""Order events as rows of the ArcticDB projection.

Rule: what an order was is read from the event, which keeps its own copy, and only what never changes (owner, contract,
side) from the order: writing the history again gives the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trading.models import OrderEvent


def order_rows_after(seq: int, limit: int) -> Sequence[dict[str, Any]]:
    """Return up to ``limit`` order events above an id, in order, by the columns of ``schema.ORDERS`` plus ``at``.

    Events of orders whose account IB has not said yet are left for the account's own rows.
    """
    found = OrderEvent.objects.filter(id__gt=seq).select_related("order").order_by("id")[:limit]
    return [_row(event) for event in found]


def _row(event: OrderEvent) -> dict[str, Any]:
    order = event.order
    return {
        "seq": event.id,
        "at": event.at,
        "account": event.account_id or "unknown",
        "strategy": order.owner,
        "order_ref": order.order_ref,
        "order_id": event.sent_id or 0,
        "perm_id": event.perm_id or 0,
        "client_id": event.client_id if event.client_id is not None else -1,
        "con_id": order.con_id,
        "symbol": order.symbol,
        "asset_class": order.sec_type,
        "currency": order.currency,
        "side": order.side,
        "order_type": event.order_type,
        "tif": event.tif,
        "total_quantity": event.quantity,
        "filled_quantity": event.filled,
        "remaining_quantity": event.remaining,
        "avg_fill_price": event.average_price,
        "limit_price": event.limit_price,
        "stop_price": event.stop_price,
        "state": event.state,
        "status": event.ib_status,
        "message": event.message,
    }
