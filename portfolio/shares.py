"""Who has how much of an execution.

Owns: the shares of owners, read from the movements of an execution, and their division. Rule: an owner's share is the
sum of its movements: quantity, cash, and fees by currency; over all owners they make the live execution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from portfolio.ledger.money import ZERO
from portfolio.ledger.shares import divide, grain
from portfolio.models import Movement


@dataclass(slots=True)
class Holding:
    """One owner's part of an execution as it is booked."""

    quantity: Decimal = ZERO
    cash: Decimal = ZERO
    fees: dict[str, Decimal] = field(default_factory=dict)  # by currency, positive is paid


def holdings_of(exec_id: str) -> tuple[dict[str, Holding], int | None]:
    """Return what each owner has of an execution, and the slot of its family; owners with nothing are left out."""
    rows = Movement.objects.filter(execution__exec_id=exec_id).order_by("id")
    found: dict[str, Holding] = {}
    slot: int | None = None
    for pk, place, owner, quantity, price, cash, currency in rows.values_list(
        "id", "slot", "owner", "quantity", "price", "cash", "currency"
    ):
        slot = min(slot or pk, place or pk)
        part = found.setdefault(owner, Holding())
        if quantity or price is not None:
            part.quantity += quantity
            part.cash += cash
        else:
            part.fees[currency] = part.fees.get(currency, ZERO) - cash
    return {owner: part for owner, part in found.items() if _is_something(part)}, slot


def _is_something(part: Holding) -> bool:
    return bool(part.quantity or part.cash or any(part.fees.values()))


def by_quantity(shares: Mapping[str, Holding]) -> dict[str, Decimal]:
    """Return the quantities of those who have any."""
    return {owner: part.quantity for owner, part in shares.items() if part.quantity}


def scale(quantities: Mapping[str, Decimal], total: Decimal) -> dict[str, Decimal]:
    """Return a corrected quantity divided as the one before was; whole units stay whole.

    >>> scale({"ALPHA": Decimal(60), "BETA": Decimal(40)}, Decimal(90))
    {'ALPHA': Decimal('54'), 'BETA': Decimal('36')}
    """
    return divide(total, quantities, grain(total, *quantities.values()))
