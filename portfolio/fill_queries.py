"""Read executions for pages and API, each as its owner has it.

Owns: the view of a fill, and an owner's part of an execution that several share. Leaves: how it came to be shared to
``explain``. Rule: nobody is shown another's part as his own.
Units: Decimal, money in the row's own ``currency``; aware UTC times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db.models import Q

from portfolio.ledger.money import ZERO
from portfolio.models import Adjustment, AdjustmentKind, Execution, Movement


@dataclass(frozen=True, slots=True)
class FillView:
    """One execution with its fee; ``id`` pages backwards."""

    id: int
    exec_id: str
    owner: str
    con_id: int
    symbol: str
    sec_type: str
    currency: str
    side: str
    quantity: Decimal  # unsigned
    price: Decimal
    commission: Decimal | None
    commission_currency: str
    realized_pnl: Decimal  # of this fill, net of its fee when that is in the instrument's currency
    executed_at: datetime
    order_ref: str
    exchange: str
    superseded: bool


def fills(owner: str | None = None, limit: int = 100, before_id: int | None = None) -> list[FillView]:
    """Return the latest fills, newest first; ``before_id`` continues a page.

    With an owner its own: of an execution that several share it is that owner's part of quantity, fee and profit.
    """
    rows = Execution.objects.select_related("instrument").order_by("-id")
    if owner is not None:
        rows = rows.filter(Q(owner=owner) | Q(id__in=_shared_with(owner)))
    if before_id is not None:
        rows = rows.filter(id__lt=before_id)
    page = list(rows[: max(0, limit)])
    parts = _parts(page, owner)
    return [_fill_view(row, parts[row.pk], owner if row.divided else None) for row in page]


def count_fills(account_id: str, owner: str) -> int:
    """Return how many executions an owner has, or has a part of."""
    own = Execution.objects.filter(account_id=account_id, owner=owner).count()
    shared = Execution.objects.filter(account_id=account_id, id__in=_shared_with(owner))
    return own + shared.exclude(owner=owner).count()


@dataclass(slots=True)
class _Part:
    """What is booked on one execution: of all owners, or of one."""

    quantity: Decimal = ZERO  # signed
    fee: Decimal = ZERO  # in the commission's currency
    realized: Decimal = ZERO  # in the instrument's currency


def _parts(page: Sequence[Execution], owner: str | None) -> dict[int, _Part]:
    """Return what is booked on each execution, by one query."""
    found = {row.pk: _Part() for row in page}
    rows = {row.pk: row for row in page}
    booked = Movement.objects.filter(execution_id__in=list(found))
    if owner is not None:
        booked = booked.filter(owner=owner)
    columns = ("execution_id", "quantity", "price", "cash", "currency", "realized_pnl")
    for key, quantity, price, cash, currency, realized in booked.values_list(*columns):
        assert key is not None  # noqa: S101 - asked for by executions
        part = found[key]
        part.quantity += quantity
        if currency == rows[key].instrument.currency:
            part.realized += realized
        if not quantity and price is None and currency == rows[key].commission_currency:
            part.fee -= cash
    return found


def _shared_with(owner: str) -> list[int]:
    """Return the executions that several owners share and that have a part of this one; assignments are few."""
    families = Adjustment.objects.filter(kind=AdjustmentKind.REASSIGNMENT).values("execution__family")
    shared = Execution.objects.filter(divided=True, family__in=families)
    held: dict[int, Decimal] = {}
    for key, quantity in Movement.objects.filter(execution__in=shared, owner=owner).values_list(
        "execution_id", "quantity"
    ):
        if key is not None:
            held[key] = held.get(key, ZERO) + quantity
    return [key for key, quantity in held.items() if quantity]


def _fill_view(row: Execution, part: _Part, sharer: str | None) -> FillView:
    is_part = sharer is not None
    return FillView(
        id=row.pk,
        exec_id=row.exec_id,
        owner=sharer or row.owner,
        con_id=row.instrument_id,
        symbol=row.instrument.symbol,
        sec_type=row.instrument.sec_type,
        currency=row.instrument.currency,
        side=row.side,
        quantity=abs(part.quantity if is_part else row.quantity),
        price=row.price,
        commission=part.fee if is_part and row.commission is not None else row.commission,
        commission_currency=row.commission_currency,
        realized_pnl=part.realized,
        executed_at=row.executed_at,
        order_ref=row.order_ref,
        exchange=row.exchange,
        superseded=row.superseded,
    )
