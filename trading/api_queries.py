"""Pages of orders and commands by cursor, for the API alone.

Leaves: the rows themselves and everything that pages of the console also show to ``queries``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db.models import Q

from strategies.exceptions import NotFoundError
from trading.models import EngineCommand, Order
from trading.orders.state import WORKING
from trading.queries import Row, order_row


def orders_page(owner: str | None, *, open_only: bool, before: int | None, limit: int) -> tuple[list[Row], str | None]:
    """Return orders, newest first, below the cursor, and the next cursor."""
    found = Order.objects.order_by("-id")
    if owner is not None:
        found = found.filter(owner=owner)
    if open_only:
        found = found.filter(state__in=[str(state) for state in WORKING])
    if before is not None:
        found = found.filter(id__lt=before)
    rows = list(found[: limit + 1])
    cursor = str(rows[limit - 1].id) if len(rows) > limit else None
    return [order_row(order) for order in rows[:limit]], cursor


def find_order(order_ref: str) -> Order:
    """Return the order.

    Raises: NotFoundError.
    """
    order = Order.objects.filter(order_ref=order_ref).first()
    if order is None:
        raise NotFoundError(f"There is no order {order_ref}.", code="unknown_order", order_ref=order_ref)
    return order


def find_command(command_id: UUID) -> EngineCommand:
    """Return the command with its user.

    Raises: NotFoundError.
    """
    command = EngineCommand.objects.select_related("user").filter(pk=command_id).first()
    if command is None:
        raise NotFoundError(f"There is no command {command_id}.", code="unknown_command", command_id=str(command_id))
    return command


def commands_page(
    *, before: UUID | None, limit: int, states: Sequence[str] = ()
) -> tuple[list[EngineCommand], str | None]:
    """Return commands, newest first, older than the cursor's, and the next cursor.

    Raises: NotFoundError when the cursor is no command.
    """
    found = EngineCommand.objects.select_related("user").order_by("-created_at", "-id")
    if states:
        found = found.filter(state__in=states)
    if before is not None:
        last = find_command(before)
        found = found.filter(Q(created_at__lt=last.created_at) | Q(created_at=last.created_at, id__lt=last.id))
    rows = list(found[: limit + 1])
    return rows[:limit], (str(rows[limit - 1].id) if len(rows) > limit else None)


def queued_before(idempotency_key: str | None) -> bool:
    """Tell whether a command with this key exists."""
    if idempotency_key is None:
        return False
    return EngineCommand.objects.filter(idempotency_key=idempotency_key).exists()


def page(rows: Sequence[Any], limit: int, cursor_of: str) -> dict[str, Any]:
    """Cut rows that were read one beyond the limit into a page; the cursor is the last row's ``cursor_of``."""
    kept = rows[:limit]
    return {"items": kept, "next": str(kept[-1][cursor_of]) if len(rows) > limit else None}
