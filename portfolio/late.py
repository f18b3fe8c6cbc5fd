"""Book fills that happened before an event of their contract and are reported only when that was booked.

Owns: which fills are late, and their place in the fold. Leaves: the fold to ``ledger.journal``, what follows from
a changed past to ``refolding``. Rule: a fill from before a split, a change of contract, an expiry or an exercise stands
before it with its own quantity and price; the books are then what they would be had it come in time.
Cost: one look at the events of the contracts in a batch; late fills are rare and read their position's journal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import chain

from portfolio.books import Booked, Books, Line
from portfolio.bulk import select_rows
from portfolio.ledger.cash import fill_cash
from portfolio.models import Adjustment, AdjustmentKind, AdjustmentState, Movement, MovementKind
from portfolio.refolding import CARRIED, NOW, Refolder, execution_ref

_EVENTS = frozenset(
    kind.value
    for kind in (
        AdjustmentKind.SPLIT,
        AdjustmentKind.SYMBOL_CHANGE,
        AdjustmentKind.EXPIRY,
        AdjustmentKind.EXERCISE,
    )
)
_COLUMNS = ("id", "instrument_id", "kind", "effective_at", "undoes_id")


def last_events(account_id: str, con_ids: Iterable[int]) -> dict[int, datetime]:
    """Return for contracts that were split, changed, ended or exercised when that happened last."""
    found: dict[int, datetime] = {}
    for _, con_id, at in _events(account_id, con_ids):
        found[con_id] = max(at, found.get(con_id, at))
    return found


def slot_at(account_id: str, con_id: int, at: datetime) -> int:
    """Return the place of an event in the fold: before the first fill, or what other contracts became, of its moment.

    An event of the contract that happened after it, though it was booked before, stands behind it as well.
    """
    mine = Movement.objects.filter(account_id=account_id, instrument_id=con_id)
    fills = mine.filter(execution__executed_at__gte=at, execution__superseded=False)
    carried = mine.filter(kind__in=CARRIED, adjustment__effective_at__gte=at, adjustment__state=AdjustmentState.BOOKED)
    carried = carried.exclude(adjustment__instrument_id=con_id)
    places = [_slots(rows.values_list("slot", "id")) for rows in (fills, carried)]
    return min(chain(*places, _slots_of_events(account_id, con_id, at)), default=NOW)


def post_in_place(books: Books, booked: Booked, executed_at: datetime) -> None:
    """Book a new execution where it belongs: before what was executed, or happened to its contract, after it."""
    books.write()  # the journal is read from the database
    slot = _slot_of_fill(books.account_id, booked.con_id, executed_at)
    books.add_execution(booked)
    refolder = Refolder(books, f"late:{booked.exec_id}")
    journal = refolder.journal(booked.owner, booked.con_id)
    line = Line(
        owner=booked.owner,
        kind=MovementKind.FILL,
        key=f"fill:{booked.exec_id}",
        currency=journal.currency,
        exec_id=booked.exec_id,
        con_id=booked.con_id,
        quantity=booked.quantity,
        price=booked.price,
        cash=fill_cash(booked.quantity, booked.price, journal.multiplier),
        slot=slot,
    )
    journal.add(execution_ref(booked.exec_id), line, slot or NOW, executed_at)
    refolder.settle(booked.owner, booked.con_id, [line])


def _slot_of_fill(account_id: str, con_id: int, executed_at: datetime) -> int | None:
    rows = Movement.objects.filter(
        account_id=account_id, instrument_id=con_id, execution__executed_at__gt=executed_at, execution__superseded=False
    )
    places = [*_slots(rows.values_list("slot", "id")), *_slots_of_events(account_id, con_id, executed_at)]
    return min(places, default=None)


def _slots(rows: Iterable[tuple[int | None, int]]) -> Iterator[int]:
    return (slot or pk for slot, pk in rows)


def _slots_of_events(account_id: str, con_id: int, after: datetime) -> Iterator[int]:
    later = [key for key, _, at in _events(account_id, [con_id]) if at > after]
    rows = Movement.objects.filter(adjustment_id__in=later, instrument_id=con_id)
    yield from _slots(rows.values_list("slot", "id"))


def _events(account_id: str, con_ids: Iterable[int]) -> Iterator[tuple[int, int, datetime]]:
    rows = select_rows(
        Adjustment, _COLUMNS, "instrument_id", con_ids, account_id=account_id, state=AdjustmentState.BOOKED.value
    )
    for key, con_id, kind, at, undoes in rows:
        if kind in _EVENTS and undoes is None:
            yield key, con_id, at
