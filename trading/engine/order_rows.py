"""Order events as rows of the ArcticDB projection.

Rule: what an order was is read from the event, which keeps its own copy, and only what never changes (owner, contract,
side) from the order: writing the history again gives the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portfolio.bulk import select_values
from trading.models import OrderEvent

_SAME = {
    "seq": "id",
    "at": "at",
    "strategy": "order__owner",
    "order_ref": "order__order_ref",
    "con_id": "order__con_id",
    "symbol": "order__symbol",
    "asset_class": "order__sec_type",
    "currency": "order__currency",
    "side": "order__side",
    "order_type": "order_type",
    "tif": "tif",
    "total_quantity": "quantity",
    "filled_quantity": "filled",
    "remaining_quantity": "remaining",
    "avg_fill_price": "average_price",
    "limit_price": "limit_price",
    "stop_price": "stop_price",
    "state": "state",
    "status": "ib_status",
    "message": "message",
}
_READ = (*_SAME.values(), "account_id", "sent_id", "perm_id", "client_id")


def order_rows_after(seq: int, limit: int) -> Sequence[dict[str, Any]]:
    """Return up to ``limit`` order events above an id, in order, by the columns of ``schema.ORDERS`` plus ``at``.

    Events of orders whose account IB has not said yet are left for the account's own rows.
    """
    found = OrderEvent.objects.filter(id__gt=seq).order_by("id")[:limit]
    return [_row(event) for event in select_values(found, _READ)]


def _row(event: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{column: event[name] for column, name in _SAME.items()},
        "account": event["account_id"] or "unknown",
        "order_id": event["sent_id"] or 0,
        "perm_id": event["perm_id"] or 0,
        "client_id": event["client_id"] if event["client_id"] is not None else -1,
    }
