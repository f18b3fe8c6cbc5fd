"""Replace an execution by its correction, and book fees of executions that several owners share.

Owns: the movements of a correction. Rule: the predecessor's movements are reversed, fee included, and the new revision
is posted; the position becomes what it would be had the correction stood in its predecessor's place from the start. The
cost basis depends on the order of fills, so it is folded again from the position's journal; what that changes in the
profit of later fills is realised by the correction. A fee belongs to the revision it was reported for: the reversed
one's goes back, the new one's is booked when it comes. A divided execution keeps its owners in their proportion. One
that was taken back has no parts: what brings it back goes to the owner that it names.
Cost: the length of the journals of those positions; corrections are rare.
"""

from __future__ import annotations

from decimal import Decimal

from portfolio.books import Booked, Books, Line
from portfolio.ledger.cash import fill_cash
from portfolio.ledger.journal import Entry
from portfolio.ledger.shares import divide
from portfolio.models import Instrument, Movement, MovementKind
from portfolio.refolding import NOW, Refolder, execution_ref, moment_of, read_journal
from portfolio.shares import Holding, by_quantity, holdings_of, scale


def replace_revision(books: Books, before: Booked, after: Booked) -> None:
    """Reverse ``before`` and post ``after`` in its place."""
    books.load_positions({before.con_id, after.con_id})
    books.write()  # the journal is read from the database; there the predecessor is in force until the next write
    shares, slot = holdings_of(before.exec_id)
    before.superseded = True
    books.change_execution(before)
    after.owner, after.divided = before.owner, before.divided
    books.add_execution(after)
    refolder = Refolder(books, f"refold:{after.exec_id}")
    quantities = by_quantity(shares)
    if not quantities:  # it had been taken back
        slot = _slot_of(before.family) if slot is None else slot
        quantities, after.divided = {before.owner: after.quantity}, False
    parts = scale(quantities, after.quantity) if after.quantity else {}
    for owner, share in sorted(shares.items()):
        _reverse(refolder, before, owner, share, slot)
    for owner, quantity in sorted(parts.items()):
        _post(refolder, after, owner, quantity, slot)


def position_journal(account_id: str, owner: str, con_id: int) -> tuple[dict[str, int], list[Entry]]:
    """Return the slot of each execution family, and the live entries of one owner's position."""
    instrument = Instrument.objects.get(con_id=con_id)
    journal = read_journal(account_id, owner, con_id, instrument.currency, instrument.multiplier)
    return journal.slots, journal.all_entries()


def fee_lines(books: Books, booked: Booked, amount: Decimal, currency: str) -> list[Line]:
    """Return the movements of a fee: one for each owner of the execution, by its share."""
    parts = {booked.owner: amount}
    slot = None
    if booked.divided:
        books.write()
        shares, slot = holdings_of(booked.exec_id)
        parts = divide(amount, by_quantity(shares)) if shares else parts
    return [
        Line(
            owner=owner,
            kind=MovementKind.COMMISSION,
            key=_key("commission", booked, owner),
            currency=currency,
            exec_id=booked.exec_id,
            con_id=booked.con_id,
            cash=-part,
            realized_pnl=-part,
            slot=slot,
            fee=True,
        )
        for owner, part in sorted(parts.items())
    ]


def _slot_of(family: str) -> int | None:
    """Return the place in the fold of an execution whose last revision moved nothing, None when none ever did."""
    rows = Movement.objects.filter(execution__family=family).values_list("slot", "id")
    return min((slot or pk for slot, pk in rows), default=None)


def _key(what: str, booked: Booked, owner: str) -> str:
    """The owner that the execution names needs no name in the key: most executions have one owner."""
    return f"{what}:{booked.exec_id}" + ("" if owner == booked.owner else f":{owner}")


def _reverse(refolder: Refolder, before: Booked, owner: str, share: Holding, slot: int | None) -> None:
    """Take back an owner's movements of a revision."""
    journal = refolder.journal(owner, before.con_id)
    lines = []
    if share.quantity or share.cash:
        lines.append(
            Line(
                owner=owner,
                kind=MovementKind.REVERSAL,
                key=_key("reversal", before, owner),
                currency=journal.currency,
                exec_id=before.exec_id,
                con_id=before.con_id,
                quantity=-share.quantity,
                price=before.price,
                cash=-share.cash,
                slot=slot,
            )
        )
    for currency, amount in sorted(share.fees.items()):
        if amount:
            suffix = "" if currency == before.commission_currency else f":{currency}"
            lines.append(
                Line(
                    owner=owner,
                    kind=MovementKind.REVERSAL,
                    key=_key("reversal-commission", before, owner) + suffix,
                    currency=currency,
                    exec_id=before.exec_id,
                    con_id=before.con_id,
                    cash=amount,
                    slot=slot,
                    fee=True,
                )
            )
    for line in lines:
        journal.add(execution_ref(before.exec_id), line, slot or NOW, moment_of(before.family))
    refolder.settle(owner, before.con_id, lines)


def _post(refolder: Refolder, after: Booked, owner: str, quantity: Decimal, slot: int | None) -> None:
    """Book an owner's part of the new revision in the old one's place."""
    journal = refolder.journal(owner, after.con_id)
    line = Line(
        owner=owner,
        kind=MovementKind.FILL,
        key=_key("fill", after, owner),
        currency=journal.currency,
        exec_id=after.exec_id,
        con_id=after.con_id,
        quantity=quantity,
        price=after.price,
        cash=fill_cash(quantity, after.price, journal.multiplier),
        slot=slot,
    )
    journal.add(execution_ref(after.exec_id), line, slot or NOW, moment_of(after.family))
    refolder.settle(owner, after.con_id, [line])
