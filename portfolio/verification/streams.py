"""The journal read in streams: what a million executions are held against, in the memory of one chunk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from portfolio.ledger.money import ZERO
from portfolio.models import AdjustmentKind, Execution, Movement

CHUNK = 5_000


def shares_of_executions() -> Iterator[tuple[tuple[str, Decimal, bool], dict[str, Decimal]]]:
    """Give every execution with the quantity that each owner has of it: two streams in step, by the execution's id."""
    moves = (
        Movement.objects.exclude(execution=None)
        .order_by("execution_id")
        .values_list("execution_id", "owner", "quantity")
        .iterator(chunk_size=CHUNK)
    )
    move = next(moves, None)
    rows = Execution.objects.order_by("id").values_list("id", "exec_id", "quantity", "superseded")
    for key, exec_id, quantity, superseded in rows.iterator(chunk_size=CHUNK):
        shares: dict[str, Decimal] = defaultdict(lambda: ZERO)
        while move is not None and move[0] is not None and move[0] <= key:
            if move[0] == key:
                shares[move[1]] += move[2]
            move = next(moves, None)
        yield (exec_id, quantity, superseded), shares


@dataclass(frozen=True, slots=True)
class Fees:
    """What an execution's commission was said to be, and what is booked on it by currency, positive when paid.

    ``adjusted`` is what adjustments added: they change what was paid and not what was reported. A correction takes both
    back, so that of a replaced execution they are together nothing.
    """

    exec_id: str
    superseded: bool
    commission: Decimal | None
    currency: str
    booked: dict[str, Decimal]
    adjusted: dict[str, Decimal]


def fees_of_executions() -> Iterator[Fees]:
    """Give every execution with its fees: two streams in step, by the execution's id."""
    moves = (
        Movement.objects.exclude(execution=None)
        .filter(quantity=ZERO, price=None)
        .order_by("execution_id")
        .values_list("execution_id", "currency", "cash", "adjustment__kind")
        .iterator(chunk_size=CHUNK)
    )
    move = next(moves, None)
    rows = Execution.objects.order_by("id").values_list(
        "id", "exec_id", "superseded", "commission", "commission_currency"
    )
    for key, exec_id, superseded, commission, currency in rows.iterator(chunk_size=CHUNK):
        fees = Fees(exec_id, superseded, commission, currency, defaultdict(lambda: ZERO), defaultdict(lambda: ZERO))
        while move is not None and move[0] is not None and move[0] <= key:
            if move[0] == key:
                sums = fees.adjusted if move[3] == AdjustmentKind.FEE else fees.booked
                sums[move[1]] -= move[2]
            move = next(moves, None)
        yield fees
