"""The journal read in streams: what a million executions are held against, in the memory of one chunk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
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


def fees_of_executions() -> Iterator[tuple[tuple[str, Decimal | None, str, bool], dict[str, Decimal]]]:
    """Give every execution (id, commission, its currency, superseded) with what is booked as its fee, by currency.

    Corrections of a commission by an adjustment are apart: they change what was paid and not what was reported.
    """
    moves = (
        Movement.objects.exclude(execution=None)
        .filter(quantity=ZERO, price=None)
        .exclude(adjustment__kind=AdjustmentKind.FEE)
        .order_by("execution_id")
        .values_list("execution_id", "currency", "cash")
        .iterator(chunk_size=CHUNK)
    )
    move = next(moves, None)
    rows = Execution.objects.order_by("id").values_list(
        "id", "exec_id", "commission", "commission_currency", "superseded"
    )
    for key, exec_id, commission, currency, superseded in rows.iterator(chunk_size=CHUNK):
        fees: dict[str, Decimal] = defaultdict(lambda: ZERO)
        while move is not None and move[0] is not None and move[0] <= key:
            if move[0] == key:
                fees[move[1]] -= move[2]
            move = next(moves, None)
        yield (exec_id, commission, currency, superseded), fees
