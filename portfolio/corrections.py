"""Replace an execution by its correction.

Owns: the movements of a correction. Rule: the predecessor's movements are reversed one by one and the new revision is
posted; the position becomes what it would be had the correction stood in its predecessor's place from the start. The
cost basis depends on the order of fills, so it is folded again from the position's journal; what that changes in the
profit of later fills is realised by the correction. A fee belongs to the revision it was reported for: the reversed
one's goes back, the new one's is booked when it comes.
Cost: the length of that one position's journal; corrections are rare.
"""

from __future__ import annotations

from decimal import Decimal

from portfolio.books import Booked, Books, Line, fill_line
from portfolio.ledger.cash import fill_cash
from portfolio.ledger.journal import Entry, refold
from portfolio.ledger.money import ZERO
from portfolio.ledger.positions import PositionState
from portfolio.models import Movement, MovementKind

_FOLDED = (MovementKind.OPENING, MovementKind.FILL, MovementKind.ASSIGNMENT, MovementKind.ADJUSTMENT)


def replace_revision(books: Books, before: Booked, after: Booked) -> None:
    """Reverse ``before`` and post ``after`` in its place."""
    books.load_positions({before.con_id, after.con_id})
    before.superseded = True
    books.change_execution(before)
    books.add_execution(after)
    books.write()
    slot, entries = position_journal(books.account_id, before.owner, before.con_id)
    _reverse(books, before, refold(entries, books.instruments[before.con_id].multiplier))
    if after.con_id != before.con_id:
        slot, entries = position_journal(books.account_id, after.owner, after.con_id)
    instrument = books.instruments[after.con_id]
    place = slot.get(before.family, max(slot.values(), default=0) + 1)
    entry = Entry(place, "quantity", after.quantity, after.price)
    state = refold([*entries, entry], instrument.multiplier)
    realized = state.realized_pnl - books.position(after.owner, after.con_id).realized_pnl
    books.set_position(after.owner, after.con_id, state)
    books.book(fill_line(after, instrument, realized))


def position_journal(account_id: str, owner: str, con_id: int) -> tuple[dict[str, int], list[Entry]]:
    """Return the slot of each execution family, and the live entries of one owner's position."""
    rows = Movement.objects.filter(account_id=account_id, owner=owner, instrument_id=con_id).order_by("id")
    slots: dict[str, int] = {}
    entries: list[Entry] = []
    for row in rows.select_related("execution", "instrument").iterator(chunk_size=2000):
        entry = _entry(row, slots)
        if entry is not None:
            entries.append(entry)
    return slots, entries


def _entry(row: Movement, slots: dict[str, int]) -> Entry | None:
    execution = row.execution
    slot = row.pk if execution is None else slots.setdefault(execution.family, row.pk)
    if execution is not None and execution.superseded:
        return None
    if row.kind == MovementKind.COMMISSION:
        assert row.instrument is not None  # noqa: S101 - selected by instrument
        return Entry(slot, "fee", -row.cash) if row.currency == row.instrument.currency else None
    if row.kind in _FOLDED and row.quantity:
        return Entry(slot, "quantity", row.quantity, row.price)
    return None


def _reverse(books: Books, before: Booked, target: PositionState) -> None:
    """Undo the movements of a revision; afterwards the position is ``target``."""
    instrument = books.instruments[before.con_id]
    fee = before.commission
    realized = target.realized_pnl - books.position(before.owner, before.con_id).realized_pnl
    if fee is not None and before.commission_currency == instrument.currency:
        realized -= fee
    state = PositionState(
        target.quantity,
        target.cost_basis,
        target.realized_pnl - _own_fee(before, instrument.currency),
        target.commissions,
    )
    books.set_position(before.owner, before.con_id, state)
    books.book(
        Line(
            owner=before.owner,
            kind=MovementKind.REVERSAL,
            key=f"reversal:{before.exec_id}",
            currency=instrument.currency,
            exec_id=before.exec_id,
            con_id=before.con_id,
            quantity=-before.quantity,
            price=before.price,
            cash=-fill_cash(before.quantity, before.price, instrument.multiplier),
            realized_pnl=realized,
        )
    )
    books.set_position(before.owner, before.con_id, target)
    if fee is not None:
        books.book(
            Line(
                owner=before.owner,
                kind=MovementKind.REVERSAL,
                key=f"reversal-commission:{before.exec_id}",
                currency=before.commission_currency,
                exec_id=before.exec_id,
                con_id=before.con_id,
                cash=fee,
                realized_pnl=fee,
            )
        )


def _own_fee(before: Booked, currency: str) -> Decimal:
    """Return the part of the fee that the position's realised P&L carries."""
    return before.commission if before.commission is not None and before.commission_currency == currency else ZERO
