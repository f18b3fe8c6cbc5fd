"""Read what the pre-trade checks and the trade manager ask about orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db.models import Max

from portfolio.bulk import count_rows, select_rows
from trading.models import Order
from trading.orders import combos
from trading.orders.facts import OpenOrder
from trading.orders.state import WORKING, OrderState

_WORKING = [str(state) for state in WORKING]


def orders_today(owner: str, now: datetime, enabled_at: datetime | None = None) -> int:
    """Return how many orders the owner sent since 00:00 UTC, or since it was enabled; denied ones were not sent."""
    since = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    since = max(since, enabled_at) if enabled_at is not None else since
    return count_rows(Order, ("created_at", since), ("state", OrderState.DENIED.value), owner=owner)


_OPEN = ("con_id", "side", "quantity", "filled", "order_type", "limit_price", "stop_price", "created_at", "owner")


_NAMES = ("legs", "order_ref", "parent_ref", "oca_group")


def open_orders(now: datetime) -> list[OpenOrder]:
    """Return the working orders of every owner, combinations by their legs; one query."""
    rows = select_rows(Order, (*_NAMES, *_OPEN), "state", _WORKING)
    return [order for row in rows for order in _by_legs(row[: len(_NAMES)], row[len(_NAMES) :], now)]


def _by_legs(names: Sequence[str], row: Sequence[Any], now: datetime) -> list[OpenOrder]:
    legs, order_ref, parent_ref, oca_group = names
    con_id, side, quantity, filled, order_type, limit, stop, created, owner = row
    whole = OpenOrder(
        con_id=con_id,
        side=side,
        quantity=max(quantity - filled, Decimal(0)),
        order_type=order_type,
        limit_price=limit,
        stop_price=stop,
        age_s=(now - created).total_seconds(),
        owner=owner,
        ordered=quantity,
        order_ref=order_ref,
        parent_ref=parent_ref,
        family=parent_ref or oca_group,
    )
    return [
        replace(
            whole,
            con_id=leg.con_id,
            side="BUY" if (leg.ratio > 0) is (side == "BUY") else "SELL",
            quantity=whole.quantity * abs(leg.ratio),
            ordered=quantity * abs(leg.ratio),
            limit_price=None,
        )
        for leg in combos.legs_of_text(legs)
    ] or [whole]


def still_to_trade(order_ref: str) -> Decimal:
    """Return the signed quantity that a working order may still trade; 0 when it ended."""
    row = find_order(order_ref)
    if row is None or row.state not in _WORKING:
        return Decimal(0)
    left = max(row.quantity - row.filled, Decimal(0))
    return left if row.side == "BUY" else -left


def find_order(order_ref: str) -> Order | None:
    """Return an order by its reference."""
    return Order.objects.filter(order_ref=order_ref).first()


def working_refs(owner: str | None = None) -> list[str]:
    """Return the references of working orders, of one owner or of all."""
    rows = Order.objects.filter(state__in=_WORKING)
    if owner is not None:
        rows = rows.filter(owner=owner)
    return list(rows.order_by("id").values_list("order_ref", flat=True))


def is_any_on_its_way(since: datetime) -> bool:
    """Tell whether an order of a moment ago was handed over and IB has not answered for it."""
    return Order.objects.filter(state=OrderState.SENT, created_at__gte=since).exists()


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
