"""Change the past of positions and book what that changes in the present.

Owns: an owner's journal of one instrument, read from its movements, and the lines that carry a position from what is
booked to what its changed journal says. Leaves: what is changed to ``corrections`` and ``effects``, the fold itself to
``ledger.journal``.

Rules:
* an owner's share of an execution is the sum of its movements on it: quantity, cash and fee;
* a split, a change of contract and an expiry act on every owner of the contract, at their slot; what they did to an
  owner is booked as movements of that owner, and the difference is booked when the past before them changes;
* a fill, and what came out of another contract, stands before the events that happened after it, whenever either was
  booked; all revisions of an execution happened when the first one says;
* what left one contract for another is booked on the other with the opposite cash, so that each instrument by itself
  keeps the law realised = Σ cash + basis;
* after the lines of a change the position equals its journal folded again, digit for digit, or nothing is booked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Q

from portfolio.books import Books, Line
from portfolio.ledger.events import Expiry, Split, SymbolChange, parse_details
from portfolio.ledger.journal import NOTHING, Effect, Entry, add_entry, trace
from portfolio.ledger.money import ONE, ZERO, exact
from portfolio.ledger.positions import FLAT, PositionState
from portfolio.ledger.revisions import FIRST_REVISION
from portfolio.models import Adjustment, AdjustmentKind, AdjustmentState, Execution, Movement, MovementKind
from strategies.exceptions import LedgerError

NOW = 1 << 62  # the slot of what is not written yet
_INCOME = frozenset({MovementKind.DIVIDEND, MovementKind.TAX})
CARRIED = frozenset({MovementKind.CONVERSION, MovementKind.EXERCISE})
_GLOBAL = {
    AdjustmentKind.SPLIT: MovementKind.SPLIT,
    AdjustmentKind.SYMBOL_CHANGE: MovementKind.CONVERSION,
    AdjustmentKind.EXPIRY: MovementKind.EXPIRY,
}
_ROW = (
    "id",
    "slot",
    "kind",
    "quantity",
    "price",
    "cash",
    "currency",
    "execution__exec_id",
    "execution__family",
    "execution__superseded",
    "execution__revision",
    "execution__executed_at",
    "adjustment__key",
    "adjustment_id",
    "adjustment__kind",
    "adjustment__state",
    "adjustment__undoes_id",
    "adjustment__instrument_id",
    "adjustment__details",
    "adjustment__effective_at",
)


@dataclass(frozen=True, slots=True)
class Happening:
    """An event on a contract that is no fill: its entry in the journal and how its movements are booked."""

    entry: Entry
    kind: MovementKind
    adjustment_id: int | None
    target: int | None = None  # contract that takes over what leaves
    numerator: Decimal = ONE
    denominator: Decimal = ONE
    fixed: bool = False  # the quantity is given, only its cost follows the past


@dataclass(slots=True)
class Journal:
    """What one owner's position in one instrument is made of."""

    owner: str
    con_id: int
    currency: str
    multiplier: Decimal
    entries: dict[str, Entry] = field(default_factory=dict)
    events: dict[str, Happening] = field(default_factory=dict)
    booked: dict[str, Effect] = field(default_factory=dict)
    slots: dict[str, int] = field(default_factory=dict)

    def all_entries(self) -> list[Entry]:
        """Return every entry, in no order."""
        return [*self.entries.values(), *(event.entry for event in self.events.values())]

    def folded(self) -> tuple[PositionState, dict[str, Effect]]:
        """Return the position that the journal makes, and what each event does to it."""
        return trace(self.all_entries(), self.multiplier)

    def add(self, ref: str, line: Line, slot: int, at: datetime | None = None) -> None:
        """Take a line in as the journal will read its movement; ``at`` as ``moment_of`` and ``carried_at`` say."""
        if line.fee or line.income:
            if line.currency == self.currency:
                self._money("fee" if line.fee else "income", ref, line.cash, slot)
            return
        known = self.entries.get(ref) or Entry(slot, "quantity", ZERO, _price_of(line), ZERO, ref=ref, at=at)
        cash = None if line.kind == MovementKind.OPENING else (known.cash or ZERO) + line.cash
        merged = replace(known, amount=known.amount + line.quantity, cash=cash, slot=min(slot, known.slot))
        self._keep(ref, merged)

    def _money(self, kind: str, ref: str, cash: Decimal, slot: int) -> None:
        name = f"{kind}:{ref}"
        known = self.entries.get(name) or Entry(slot, "fee" if kind == "fee" else "income")
        moved = -cash if kind == "fee" else cash
        self._keep(name, replace(known, amount=known.amount + moved))

    def _keep(self, ref: str, entry: Entry) -> None:
        if entry.amount or entry.cash:
            self.entries[ref] = entry
        else:
            self.entries.pop(ref, None)


def _price_of(line: Line) -> Decimal | None:
    """What came from another contract has the price that its cash makes: strike and premium, or the old cost."""
    return None if line.kind in CARRIED else line.price


def execution_ref(exec_id: str) -> str:
    """Return the name of an execution's entry."""
    return f"exec:{exec_id}"


def adjustment_ref(key: str) -> str:
    """Return the name of an adjustment's entry or event."""
    return f"adj:{key}"


def read_journal(account_id: str, owner: str, con_id: int, currency: str, multiplier: Decimal) -> Journal:
    """Read one owner's journal from its movements and from the events of the contract."""
    journal = Journal(owner, con_id, currency, multiplier)
    journal.events = contract_events(account_id, con_id)
    rows = Movement.objects.filter(account_id=account_id, owner=owner, instrument_id=con_id).order_by("id")
    for row in rows.values(*_ROW).iterator(chunk_size=2000):
        _read_row(journal, row)
    return journal


def streamed_position(
    account_id: str, owner: str, con_id: int, currency: str, multiplier: Decimal
) -> PositionState | None:
    """Fold one owner's journal row by row, however long it is; None when it must be read as a whole.

    That is when something in it stands elsewhere than where it was booked, or an event acts on what is held.
    """
    rows = Movement.objects.filter(account_id=account_id, owner=owner, instrument_id=con_id).order_by("id")
    moved = rows.filter(Q(slot__isnull=False) | Q(adjustment__kind=AdjustmentKind.EXERCISE))
    if moved.exists() or contract_events(account_id, con_id):
        return None
    journal, position = Journal(owner, con_id, currency, multiplier), FLAT
    for row in rows.values(*_ROW).iterator(chunk_size=2000):
        _read_row(journal, row)
        for entry in journal.entries.values():
            position = add_entry(position, entry, multiplier)
        journal.entries.clear()
        journal.slots.clear()
    return position


def _read_row(journal: Journal, row: dict[str, Any]) -> None:
    if row["execution__exec_id"] is not None:
        _read_execution(journal, row)
    elif row["adjustment_id"] is None:
        journal.add(f"row:{row['id']}", _line(journal, row), row["id"])
    elif row["adjustment__state"] == AdjustmentState.BOOKED and row["adjustment__undoes_id"] is None:
        _read_adjustment(journal, row)


def _read_execution(journal: Journal, row: dict[str, Any]) -> None:
    slot = journal.slots.setdefault(row["execution__family"], row["slot"] or row["id"])
    if not row["execution__superseded"]:
        at = row["execution__executed_at"]
        if row["execution__revision"] > FIRST_REVISION:
            at = moment_of(row["execution__family"]) or at
        journal.add(execution_ref(row["execution__exec_id"]), _line(journal, row), slot, at)


def _read_adjustment(journal: Journal, row: dict[str, Any]) -> None:
    ref, slot = adjustment_ref(row["adjustment__key"]), row["slot"] or row["id"]
    if row["adjustment__kind"] == AdjustmentKind.EXERCISE and row["adjustment__instrument_id"] == journal.con_id:
        before = journal.events.get(ref)
        amount = row["quantity"] + (before.entry.amount if before else ZERO)
        place = min(slot, before.entry.slot) if before else slot
        entry = Entry(place, "leave", amount, ref=ref, at=row["adjustment__effective_at"])
        target = row["adjustment__details"]["underlying_con_id"]
        journal.events[ref] = Happening(entry, MovementKind.EXERCISE, row["adjustment_id"], target, fixed=True)
    event = journal.events.get(ref)
    if event is not None and event.kind == row["kind"]:
        known = journal.booked.get(ref, NOTHING)
        journal.booked[ref] = Effect(known.quantity + row["quantity"], known.cash + row["cash"])
    else:
        journal.add(ref, _line(journal, row), slot, carried_at(row["kind"], row["adjustment__effective_at"]))


def moment_of(family: str) -> datetime | None:
    """Return when an execution happened, by the revision that was booked first; None when none is booked.

    A correction may carry the time at which it was made: it must not carry the fill over a split.
    """
    times = Execution.objects.filter(family=family).order_by("id").values_list("executed_at", flat=True)
    return times.first()


def carried_at(kind: str, effective_at: datetime) -> datetime | None:
    """Return when a line of an adjustment happened, where that decides its place: of what another contract became."""
    return effective_at if kind in CARRIED else None


def _line(journal: Journal, row: dict[str, Any]) -> Line:
    of_execution, kind = row["execution__exec_id"] is not None, MovementKind(row["kind"])
    money = not row["quantity"] and row["price"] is None
    return Line(
        owner=journal.owner,
        kind=kind,
        key="",
        currency=row["currency"],
        con_id=journal.con_id,
        quantity=row["quantity"],
        price=row["price"],
        cash=row["cash"],
        fee=money and (of_execution or kind == MovementKind.FEE),
        income=kind in _INCOME,
    )


def contract_events(account_id: str, con_id: int) -> dict[str, Happening]:
    """Return the splits, changes and expiries in force of a contract, which act on all of its owners."""
    found: dict[str, Happening] = {}
    rows = Adjustment.objects.filter(
        account_id=account_id,
        instrument_id=con_id,
        kind__in=list(_GLOBAL),
        state=AdjustmentState.BOOKED,
        undoes=None,
    )
    for row in rows.order_by("id"):
        kind = _GLOBAL[AdjustmentKind(row.kind)]
        places = Movement.objects.filter(adjustment_id=row.pk, kind=kind, instrument_id=con_id)
        slots = [slot or pk for slot, pk in places.values_list("slot", "id")]
        if slots:
            found[adjustment_ref(row.key)] = happening(row, min(slots))
    return found


def happening(row: Adjustment, slot: int) -> Happening:
    """Return what an adjustment does to the position of any owner of its contract."""
    kind, ref, event = AdjustmentKind(row.kind), adjustment_ref(row.key), parse_details(row.kind, row.details)
    if isinstance(event, Split):
        entry = Entry(slot, "factor", event.numerator, denominator=event.denominator, ref=ref, at=row.effective_at)
        return Happening(entry, _GLOBAL[kind], row.pk)
    if isinstance(event, Expiry):
        closes = Entry(slot, "close", price=event.settlement_price, ref=ref, at=row.effective_at)
        return Happening(closes, _GLOBAL[kind], row.pk)
    assert isinstance(event, SymbolChange)  # noqa: S101 - the third of the kinds in _GLOBAL
    leaves = Entry(slot, "leave", ref=ref, at=row.effective_at)
    return Happening(leaves, _GLOBAL[kind], row.pk, event.new_con_id, event.numerator, event.denominator)


class Refolder:
    """Journals of one change, and the books that take its lines."""

    def __init__(self, books: Books, prefix: str, undoing: int | None = None) -> None:
        """Take the prefix of the keys of lines that follow from the change, and the adjustment that undoes, if any."""
        self.books = books
        self.prefix = prefix
        self.undoing = undoing
        self.lines: list[Line] = []
        self._journals: dict[tuple[str, int], Journal] = {}
        self._later: list[tuple[Journal, str, Effect, Effect]] = []
        self._number = 0

    def key(self) -> str:
        """Return the next key of a line."""
        self._number += 1
        return f"{self.prefix}:{self._number}"

    def journal(self, owner: str, con_id: int) -> Journal:
        """Return an owner's journal; later calls give the same, with what was changed in it."""
        if (owner, con_id) not in self._journals:
            self.books.load_positions({con_id})
            instrument = self.books.instruments[con_id]
            self._journals[owner, con_id] = read_journal(
                self.books.account_id, owner, con_id, instrument.currency, instrument.multiplier
            )
        return self._journals[owner, con_id]

    def book_cash(self, line: Line) -> None:
        """Book a line that no position feels."""
        self.books.book(line)
        self.lines.append(line)

    def settle(self, owner: str, con_id: int, lines: Sequence[Line] = ()) -> None:
        """Book the lines, and what events after them do differently, until the position is what its journal says.

        Raises: LedgerError code books_disagree when the books were not the fold of their journal before.
        """
        journal = self.journal(owner, con_id)
        target, effects = journal.folded()
        follow = []
        for ref in sorted({*journal.booked, *effects}):
            want, have = effects.get(ref, NOTHING), journal.booked.get(ref, NOTHING)
            if want != have:
                follow.append(self._difference(journal, ref, want, have))
                journal.booked[ref] = want
                if ref in journal.events and journal.events[ref].target is not None:
                    self._later.append((journal, ref, want, have))
        self._apply(journal, [*lines, *follow], target)
        while self._later:
            self._pass_on(*self._later.pop(0))

    def _difference(self, journal: Journal, ref: str, want: Effect, have: Effect) -> Line:
        event = journal.events.get(ref)
        return Line(
            owner=journal.owner,
            kind=MovementKind.REVERSAL if event is None else event.kind,
            key=self.key(),
            currency=journal.currency,
            con_id=journal.con_id,
            quantity=want.quantity - have.quantity,
            price=None if event is None else event.entry.price,
            cash=want.cash - have.cash,
            adjustment_id=self.undoing if event is None else event.adjustment_id,
            slot=None if event is None or event.entry.slot == NOW else event.entry.slot,
        )

    def _pass_on(self, journal: Journal, ref: str, want: Effect, have: Effect) -> None:
        """Book on the other contract what left this one, or the difference to what had left."""
        event = journal.events[ref]
        assert event.target is not None  # noqa: S101 - asked by the caller
        quantity = ZERO
        if not event.fixed:
            quantity = self._converted(event, want) - self._converted(event, have)
        line = Line(
            owner=journal.owner,
            kind=event.kind,
            key=self.key(),
            currency=journal.currency,
            con_id=event.target,
            quantity=quantity,
            cash=have.cash - want.cash,
            adjustment_id=event.adjustment_id,
            slot=None if event.entry.slot == NOW else event.entry.slot,
        )
        self.journal(journal.owner, event.target).add(ref, line, event.entry.slot, event.entry.at)
        self.settle(journal.owner, event.target, [line])

    @staticmethod
    def _converted(event: Happening, effect: Effect) -> Decimal:
        return exact(-effect.quantity * event.numerator / event.denominator)

    def _apply(self, journal: Journal, lines: Sequence[Line], target: PositionState) -> None:
        state = self.books.position(journal.owner, journal.con_id)
        rest = target.realized_pnl - state.realized_pnl - sum(self._of_money(journal, lines), ZERO)
        for line in lines:
            money = line.fee or line.income
            gain, rest = (line.cash, rest) if money else (rest, ZERO)
            done = replace(line, realized_pnl=gain)
            state = self._after(journal, state, done)
            self.books.set_position(journal.owner, journal.con_id, state)
            self.book_cash(done)
        if state != target:
            raise LedgerError(
                f"The books of {journal.owner} in contract {journal.con_id} are not what their journal says; "
                "nothing was booked. Run verify_ledger.",
                code="books_disagree",
                owner=journal.owner,
                con_id=journal.con_id,
            )

    @staticmethod
    def _of_money(journal: Journal, lines: Iterable[Line]) -> Iterable[Decimal]:
        return (line.cash for line in lines if (line.fee or line.income) and line.currency == journal.currency)

    @staticmethod
    def _after(journal: Journal, state: PositionState, line: Line) -> PositionState:
        """Return the position after a line: its basis is what keeps realised = Σ cash + basis."""
        if line.currency != journal.currency:
            return state
        return PositionState(
            state.quantity + line.quantity,
            state.cost_basis + line.realized_pnl - line.cash,
            state.realized_pnl + line.realized_pnl,
            state.commissions - (line.cash if line.fee else ZERO),
        )
