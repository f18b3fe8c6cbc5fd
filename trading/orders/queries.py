"""Read what the pre-trade checks and the trade manager ask about orders."""

from __future__ import annotations

from datetime import UTC, datetime

from django.db.models import Max

from trading.models import Order
from trading.orders.risk import OpenOrder
from trading.orders.state import WORKING, OrderState

_WORKING = [str(state) for state in WORKING]


def orders_today(owner: str, now: datetime) -> int:
    """Return how many orders the owner sent since 00:00 UTC; denied ones were not sent."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return Order.objects.filter(owner=owner, created_at__gte=midnight).exclude(state=OrderState.DENIED).count()


def open_orders(owner: str, con_id: int, now: datetime) -> list[OpenOrder]:
    """Return the owner's working orders in one contract."""
    rows = Order.objects.filter(owner=owner, con_id=con_id, state__in=_WORKING)
    return [
        OpenOrder(
            con_id=row.con_id,
            side=row.side,
            quantity=row.quantity,
            order_type=row.order_type,
            limit_price=row.limit_price,
            stop_price=row.stop_price,
            age_s=(now - row.created_at).total_seconds(),
        )
        for row in rows
    ]


def find_order(order_ref: str) -> Order | None:
    """Return an order by its reference."""
    return Order.objects.filter(order_ref=order_ref).first()


def working_refs(owner: str | None = None) -> list[str]:
    """Return the references of working orders, of one owner or of all."""
    rows = Order.objects.filter(state__in=_WORKING)
    if owner is not None:
        rows = rows.filter(owner=owner)
    return list(rows.order_by("id").values_list("order_ref", flat=True))


def working_orders(owner: str | None = None) -> list[Order]:
    """Return the working orders of one owner or of all, oldest first."""
    rows = Order.objects.filter(state__in=_WORKING)
    return list((rows if owner is None else rows.filter(owner=owner)).order_by("id"))


def twins(row: Order) -> list[Order]:
    """Return the working orders that share an order's permId: other incarnations of the same order."""
    if not row.perm_id:
        return []
    return list(Order.objects.filter(perm_id=row.perm_id, state__in=_WORKING).exclude(pk=row.pk).order_by("id"))


def first_free_order_id(client_id: int) -> int:
    """Return an order id above every one this client ever used; the gateway's own counter may be rolled back."""
    highest = Order.objects.filter(client_id=client_id).aggregate(highest=Max("order_id"))["highest"]
    return max(0, highest or 0) + 1
