"""Take an adjustment back.

Owns: when it may be, and the reversal of its movements. Rule: each of its movements is reversed, line by line; what it
did to a position in passing (a split, an expiry) goes by folding the journal without it, so that what was booked later
on stays right. A fee that came after a division goes to those who own the execution without it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal

from django.db.models import QuerySet

from portfolio.books import Books, Line
from portfolio.effects import check_exercised
from portfolio.ledger.money import ZERO
from portfolio.ledger.shares import divide
from portfolio.models import Adjustment, AdjustmentKind, AdjustmentState, Movement, MovementKind
from portfolio.refolding import NOW, Refolder, adjustment_ref, execution_ref, moment_of
from portfolio.shares import by_quantity, holdings_of
from strategies.exceptions import ConflictError
from strategies.models import DISCRETIONARY

_ON_CONTRACTS = (
    AdjustmentKind.SPLIT,
    AdjustmentKind.SYMBOL_CHANGE,
    AdjustmentKind.EXPIRY,
    AdjustmentKind.EXERCISE,
    AdjustmentKind.TRANSFER_POSITION,
    AdjustmentKind.RECEIPT,
    AdjustmentKind.DELIVERY,
)


def check_independent(row: Adjustment) -> None:
    """Refuse when something that was booked later stands on this adjustment.

    Raises: ConflictError that names it.
    """
    if row.execution is not None and row.execution.superseded:
        raise ConflictError(
            f"Execution {row.execution.exec_id} was corrected after {row.key}; assign the correction instead.",
            code="depended_on",
        )
    later = Adjustment.objects.filter(
        account_id=row.account_id, state=AdjustmentState.BOOKED, undoes=None, id__gt=row.pk
    ).order_by("-id")
    if row.execution_id is not None:
        later = later.filter(execution_id=row.execution_id)
    elif row.kind in _ON_CONTRACTS:
        touched = set(_ids(Movement.objects.filter(adjustment_id=row.pk), "instrument_id"))
        later = later.filter(kind__in=_ON_CONTRACTS, id__in=_touching(touched))
    else:
        return
    first = later.first()
    if first is not None:
        raise ConflictError(
            f"Adjustment {first.pk} ({first.key}) was booked later and stands on {row.pk}; undo it first.",
            code="depended_on",
        )
    if row.kind in {AdjustmentKind.TRANSFER_POSITION, AdjustmentKind.RECEIPT}:
        _check_still_held(row)


def _touching(instruments: Iterable[int]) -> Iterable[int]:
    return set(_ids(Movement.objects.filter(instrument_id__in=instruments), "adjustment_id"))


def _ids(rows: QuerySet[Movement], column: str) -> Iterable[int]:
    return (value for value in rows.values_list(column, flat=True).distinct() if value is not None)


def _check_still_held(row: Adjustment) -> None:
    """The receiver of a position must still have it: else the undo would trade what it sold."""
    receiver = row.details.get("to") or row.details.get("owner") or DISCRETIONARY
    received = Movement.objects.filter(adjustment_id=row.pk, kind=MovementKind.TRANSFER)
    for movement in received:
        if movement.owner != receiver or movement.instrument_id is None:
            continue
        later = Movement.objects.filter(
            account_id=row.account_id, owner=movement.owner, instrument_id=movement.instrument_id, id__gt=movement.pk
        )
        held, culprit = movement.quantity_after or ZERO, ""
        for key, quantity in later.order_by("id").values_list("key", "quantity"):
            held += quantity
            if quantity * movement.quantity < 0:
                culprit = key
        sign = 1 if movement.quantity > 0 else -1
        if culprit and held * sign < abs(movement.quantity):
            raise ConflictError(
                f"{movement.owner} closed what it received, by {culprit}; there is nothing to give back.",
                code="depended_on",
            )


def undo_movements(books: Books, row: Adjustment, reverse: Adjustment) -> None:
    """Reverse the movements of ``row`` as movements of ``reverse``."""
    refolder = Refolder(books, f"undo:{row.key}", reverse.pk)
    ref = adjustment_ref(row.key)
    places: dict[tuple[str, int], list[Line]] = {}
    rows = list(Movement.objects.filter(adjustment_id=row.pk).select_related("execution").order_by("id"))
    for movement in rows:
        line = _reversed(movement, refolder, reverse.pk)
        if movement.instrument_id is None:
            refolder.book_cash(replace(line, realized_pnl=-movement.realized_pnl))
            continue
        journal = refolder.journal(movement.owner, movement.instrument_id)
        lines = places.setdefault((movement.owner, movement.instrument_id), [])
        event = journal.events.get(ref)
        if event is not None and event.kind == movement.kind:
            continue  # what the event did goes with it, below
        lines.append(line)
        if movement.execution is not None:
            at = moment_of(movement.execution.family)
            journal.add(execution_ref(movement.execution.exec_id), line, movement.slot or NOW, at)
    for line in _late_fees(row, rows, refolder, reverse.pk):
        place = line.owner, line.con_id or 0
        refolder.journal(*place).add(execution_ref(line.exec_id or ""), line, line.slot or NOW)
        places.setdefault(place, []).append(line)
    for (owner, con_id), lines in places.items():
        journal = refolder.journal(owner, con_id)
        if row.kind == AdjustmentKind.REASSIGNMENT:
            check_exercised(journal)
        journal.events.pop(ref, None)
        for name in (ref, f"fee:{ref}", f"income:{ref}"):
            journal.entries.pop(name, None)
        refolder.settle(owner, con_id, lines)


def _reversed(movement: Movement, refolder: Refolder, reverse_id: int) -> Line:
    kind = MovementKind(movement.kind)
    money = not movement.quantity and movement.price is None
    of_execution = movement.execution is not None
    return Line(
        owner=movement.owner,
        kind=MovementKind.REVERSAL,
        key=refolder.key(),
        currency=movement.currency,
        exec_id=None if movement.execution is None else movement.execution.exec_id,
        con_id=movement.instrument_id,
        quantity=-movement.quantity,
        price=movement.price,
        cash=-movement.cash,
        adjustment_id=reverse_id,
        slot=movement.slot,
        fee=money and (of_execution or kind == MovementKind.FEE),
        income=kind in {MovementKind.DIVIDEND, MovementKind.TAX},
    )


def _late_fees(row: Adjustment, rows: list[Movement], refolder: Refolder, reverse_id: int) -> list[Line]:
    """Return what moves the fees that were divided by this assignment after it was booked to those who own without it.

    Its own movements carry the fees that were known then; a commission report that came since was divided anew.
    """
    if row.kind != AdjustmentKind.REASSIGNMENT or row.execution is None or not rows:
        return []
    paid: dict[str, dict[str, Decimal]] = {}
    late = Movement.objects.filter(execution=row.execution, id__gt=rows[-1].pk, quantity=ZERO, price=None)
    for owner, currency, cash in late.values_list("owner", "currency", "cash"):
        owners = paid.setdefault(currency, {})
        owners[owner] = owners.get(owner, ZERO) + cash
    shares = by_quantity(holdings_of(row.execution.exec_id)[0])
    for movement in rows:
        shares[movement.owner] = shares.get(movement.owner, ZERO) - movement.quantity
    shares = {owner: quantity for owner, quantity in shares.items() if quantity}
    lines = []
    for currency, owners in sorted(paid.items()):
        due = divide(sum(owners.values(), ZERO), shares)
        for owner in sorted({*owners, *due}):
            cash = due.get(owner, ZERO) - owners.get(owner, ZERO)
            if cash:
                lines.append(
                    Line(
                        owner=owner,
                        kind=MovementKind.REVERSAL,
                        key=refolder.key(),
                        currency=currency,
                        exec_id=row.execution.exec_id,
                        con_id=row.execution.instrument_id,
                        cash=cash,
                        adjustment_id=reverse_id,
                        slot=rows[0].slot,
                        fee=True,
                    )
                )
    return lines
