"""The working set of one batch: what the database holds about the things the batch touches, and what will be written.

Owns: loading by key and writing in bulk. Leaves: the rules (``fold``). Rule: one load and one write per batch, both
through unique keys, so that a batch costs the same in a table of ten rows or ten million, and with one fill per order
or thousands. Nothing is kept between batches: a rollback has nothing to invalidate.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from portfolio.bulk import chunks, insert_rows, select_rows, update_rows, upsert_rows
from portfolio.facts import CashFact, PositionFact
from portfolio.instruments import instruments_by_id
from portfolio.ledger.cash import fill_cash
from portfolio.ledger.money import ZERO
from portfolio.ledger.positions import FLAT, PositionState, average_cost
from portfolio.models import (
    Account,
    CashBalance,
    Execution,
    Instrument,
    Movement,
    MovementKind,
    PendingCommission,
    Position,
)
from strategies.crashpoints import reach
from strategies.events import FillSnapshot
from strategies.models import DISCRETIONARY

_MOVEMENT = (
    "account_id",
    "owner",
    "kind",
    "execution_id",
    "adjustment_id",
    "slot",
    "instrument_id",
    "quantity",
    "price",
    "cash",
    "currency",
    "realized_pnl",
    "quantity_after",
    "basis_after",
    "realized_after",
    "cash_after",
    "booked_at",
    "key",
)
_EXECUTION = (
    "exec_id",
    "family",
    "revision",
    "superseded",
    "account_id",
    "instrument_id",
    "owner",
    "order_ref",
    "perm_id",
    "client_id",
    "order_id",
    "side",
    "quantity",
    "price",
    "cum_quantity",
    "exchange",
    "executed_at",
    "recorded_at",
    "commission",
    "commission_currency",
    "divided",
)
_KNOWN = (
    "exec_id",
    "family",
    "revision",
    "superseded",
    "owner",
    "instrument_id",
    "order_ref",
    "quantity",
    "price",
    "commission",
    "commission_currency",
    "divided",
    "recorded_at",
    "executed_at",
)
_REVISION = ("commission", "commission_currency", "superseded")


@dataclass(slots=True)
class Booked:
    """One execution as the ledger holds it, or will when the batch is written."""

    exec_id: str
    family: str
    revision: int
    superseded: bool
    owner: str
    con_id: int
    order_ref: str
    quantity: Decimal  # signed
    price: Decimal
    commission: Decimal | None
    commission_currency: str
    divided: bool = False  # among several owners; its movements say how
    recorded_at: datetime | None = None  # None: in this batch
    executed_at: datetime | None = None
    source: FillSnapshot | None = None  # still to be inserted


@dataclass(frozen=True, slots=True)
class Line:
    """One movement before its balances are known."""

    owner: str
    kind: MovementKind
    key: str
    currency: str
    exec_id: str | None = None
    con_id: int | None = None
    quantity: Decimal = ZERO
    price: Decimal | None = None
    cash: Decimal = ZERO
    realized_pnl: Decimal = ZERO
    adjustment_id: int | None = None
    slot: int | None = None  # place in the fold; None: its own
    fee: bool = False  # lowers what was realised
    income: bool = False  # raises it


def fill_line(booked: Booked, instrument: Instrument, realized_pnl: Decimal) -> Line:
    """Return the movement of an execution, without its fee."""
    return Line(
        owner=booked.owner,
        kind=MovementKind.FILL,
        key=f"fill:{booked.exec_id}",
        currency=instrument.currency,
        exec_id=booked.exec_id,
        con_id=booked.con_id,
        quantity=booked.quantity,
        price=booked.price,
        cash=fill_cash(booked.quantity, booked.price, instrument.multiplier),
        realized_pnl=realized_pnl,
    )


def opening_fee(exec_id: str, amount: Decimal, currency: str) -> Line:
    """Return the opening cash that stands against a fee which the opening did not know."""
    return Line(DISCRETIONARY, MovementKind.OPENING, f"opening:fee:{exec_id}", currency, cash=amount)


class Books:
    """Positions, cash and executions that one batch may touch, for one account."""

    def __init__(self, account_id: str, now: datetime) -> None:
        self.account_id = account_id
        self.now = now
        self.instruments: dict[int, Instrument] = {}
        self.executions: dict[str, Booked] = {}
        self.live: dict[str, Booked] = {}  # family → the revision in force
        self.pending: dict[str, tuple[Decimal, str]] = {}
        self.touched_positions: dict[tuple[str, int], PositionState] = {}
        self.touched_cash: dict[tuple[str, str], Decimal] = {}
        self._positions: dict[tuple[str, int], PositionState] = {}
        self._cash: dict[tuple[str, str], Decimal] = {}
        self._apart: dict[tuple[str, str], Decimal] = {}
        self._new: list[Booked] = []
        self._changed: dict[str, Booked] = {}
        self._lines: list[tuple[object, ...]] = []
        self._new_pending: dict[str, tuple[Decimal, str]] = {}
        self._used_pending: list[str] = []
        self._dirty_positions: set[tuple[str, int]] = set()
        self._dirty_cash: set[tuple[str, str]] = set()

    def load(self, families: set[str], exec_ids: set[str], con_ids: set[int]) -> None:
        """Read what the ledger knows about these executions, and the positions and cash they can move."""
        for row in select_rows(Execution, _KNOWN, "family", families):
            self._know(Booked(*row))
        for exec_id, amount, currency in select_rows(
            PendingCommission, ("exec_id", "amount", "currency"), "exec_id", exec_ids
        ):
            self.pending[exec_id] = (amount, currency)
        self.load_positions({*con_ids, *(booked.con_id for booked in self.executions.values())})
        balances = select_rows(
            CashBalance, ("owner", "currency", "amount", "realized_apart"), "account_id", [self.account_id]
        )
        for owner, currency, amount, apart in balances:
            self._cash[owner, currency], self._apart[owner, currency] = amount, apart

    def load_positions(self, con_ids: Iterable[int]) -> None:
        """Read instruments that are not known yet, and every owner's position in them."""
        missing = [con_id for con_id in con_ids if con_id not in self.instruments]
        self.take_instruments(instruments_by_id(missing) if missing else [])

    def take_instruments(self, instruments: Iterable[Instrument]) -> None:
        """Take instruments as they are in the database, and read every owner's position in them."""
        fresh = {one.con_id: one for one in instruments if one.con_id not in self.instruments}
        self.instruments.update(fresh)
        columns = ("owner", "instrument_id", *PositionState.__slots__)
        rows = select_rows(Position, columns, "instrument_id", fresh, account_id=self.account_id)
        for owner, con_id, *state in rows:
            self._positions[owner, con_id] = PositionState(*state)

    def owners_of(self, con_id: int) -> list[str]:
        """Return everyone who has, or had, a position in an instrument."""
        return sorted(owner for owner, held in self._positions if held == con_id)

    def position(self, owner: str, con_id: int) -> PositionState:
        """Return an owner's position, flat when there is none."""
        return self._positions.get((owner, con_id), FLAT)

    def set_position(self, owner: str, con_id: int, state: PositionState) -> None:
        """Set an owner's position; the next line that is booked reports it."""
        self._positions[owner, con_id] = self.touched_positions[owner, con_id] = state
        self._dirty_positions.add((owner, con_id))

    def cash(self, owner: str, currency: str) -> Decimal:
        """Return an owner's cash in one currency, zero when there is none."""
        return self._cash.get((owner, currency), ZERO)

    def book(self, line: Line) -> None:
        """Add a movement: moves cash, and notes the balances after it. Positions are set before.

        What is realised without an instrument, or in another currency than its own, no position can carry: it is kept
        with the cash.
        """
        balance = self.cash(line.owner, line.currency) + line.cash
        self._cash[line.owner, line.currency] = self.touched_cash[line.owner, line.currency] = balance
        self._dirty_cash.add((line.owner, line.currency))
        if line.con_id is None or line.currency != self.instruments[line.con_id].currency:
            apart = self._apart.get((line.owner, line.currency), ZERO)
            self._apart[line.owner, line.currency] = apart + line.realized_pnl
        state = None if line.con_id is None else self.position(line.owner, line.con_id)
        self._lines.append(
            (
                self.account_id,
                line.owner,
                line.kind.value,
                line.exec_id,
                line.adjustment_id,
                line.slot,
                line.con_id,
                line.quantity,
                line.price,
                line.cash,
                line.currency,
                line.realized_pnl,
                state and state.quantity,
                state and state.cost_basis,
                state and state.realized_pnl,
                balance,
                self.now,
                line.key,
            )
        )

    def add_execution(self, booked: Booked) -> None:
        """Take a new execution into the batch."""
        self.executions[booked.exec_id] = booked
        self._new.append(booked)
        if not booked.superseded:
            self.live[booked.family] = booked

    def change_execution(self, booked: Booked) -> None:
        """Note that the fee or the standing of an execution changed."""
        if booked.source is None:
            self._changed[booked.exec_id] = booked

    def add_pending(self, exec_id: str, amount: Decimal, currency: str) -> None:
        """Keep a fee whose execution has not come."""
        self.pending[exec_id] = self._new_pending[exec_id] = (amount, currency)

    def take_pending(self, exec_id: str) -> tuple[Decimal, str] | None:
        """Return the fee that waited for this execution, and forget it."""
        found = self.pending.pop(exec_id, None)
        if found is not None and self._new_pending.pop(exec_id, None) is None:
            self._used_pending.append(exec_id)
        return found

    def was_in_opening(self, booked: Booked) -> bool:
        """Tell whether the broker's cash, of which the books were opened, had paid for this execution.

        One that a correction had replaced by then had been paid back.
        """
        if booked.recorded_at is None:
            return False
        opened_at = next((at for (at,) in select_rows(Account, ("opened_at",), "account_id", [self.account_id])), None)
        if opened_at is None or booked.recorded_at > opened_at:
            return False
        correction = self.live.get(booked.family) if booked.superseded else None
        return correction is None or correction.recorded_at is None or correction.recorded_at > opened_at

    def write(self) -> None:
        """Write everything that is not written yet; may be called more than once in a batch."""
        self._write_executions()
        insert_rows(Movement, _MOVEMENT, self._lines, lookup=("execution_id", Execution, "exec_id"))
        self._lines = []
        reach("position")
        upsert_rows(
            Position,
            ("account_id", "owner", "instrument_id", *PositionState.__slots__, "updated_at"),
            ("account_id", "owner", "instrument_id"),
            [
                (self.account_id, owner, con_id, s.quantity, s.cost_basis, s.realized_pnl, s.commissions, self.now)
                for (owner, con_id), s in ((key, self._positions[key]) for key in sorted(self._dirty_positions))
            ],
        )
        reach("cash")
        upsert_rows(
            CashBalance,
            ("account_id", "owner", "currency", "amount", "realized_apart", "updated_at"),
            ("account_id", "owner", "currency"),
            [
                (self.account_id, *key, self._cash[key], self._apart.get(key, ZERO), self.now)
                for key in sorted(self._dirty_cash)
            ],
        )
        self._dirty_positions.clear()
        self._dirty_cash.clear()

    def position_facts(self) -> list[PositionFact]:
        """Return the positions that were touched, as they stand."""
        return [self._position_fact(owner, con_id, state) for (owner, con_id), state in self.touched_positions.items()]

    def _position_fact(self, owner: str, con_id: int, state: PositionState) -> PositionFact:
        one = self.instruments[con_id]
        average = average_cost(state.quantity, state.cost_basis, one.multiplier)
        return PositionFact(owner, con_id, one.symbol, one.currency, state.quantity, average, state.realized_pnl)

    def cash_facts(self) -> list[CashFact]:
        """Return the balances that were touched, as they stand."""
        return [CashFact(owner, currency, amount) for (owner, currency), amount in self.touched_cash.items()]

    def _write_executions(self) -> None:
        reach("fill")
        insert_rows(Execution, _EXECUTION, [self._execution_row(b, b.source) for b in self._new if b.source])
        for booked in self._new:
            booked.source = None
        self._new = []
        changed = [(b.commission, b.commission_currency, b.superseded, b.exec_id) for b in self._changed.values()]
        update_rows(Execution, _REVISION, "exec_id", changed)
        self._changed = {}
        upsert_rows(
            PendingCommission,
            ("exec_id", "amount", "currency", "received_at"),
            ("exec_id",),
            [(exec_id, *fee, self.now) for exec_id, fee in self._new_pending.items()],
        )
        self._new_pending = {}
        if self._used_pending:
            for block in chunks(self._used_pending):
                PendingCommission.objects.filter(exec_id__in=block).delete()
            self._used_pending = []

    def _execution_row(self, booked: Booked, fill: FillSnapshot) -> tuple[object, ...]:
        return (
            booked.exec_id,
            booked.family,
            booked.revision,
            booked.superseded,
            self.account_id,
            booked.con_id,
            booked.owner,
            fill.order_ref,
            fill.perm_id,
            fill.client_id,
            fill.order_id,
            fill.side,
            booked.quantity,
            booked.price,
            fill.cum_quantity,
            fill.exchange,
            booked.executed_at or fill.executed_at,
            self.now,
            booked.commission,
            booked.commission_currency,
            booked.divided,
        )

    def _know(self, booked: Booked) -> None:
        self.executions[booked.exec_id] = booked
        if not booked.superseded:
            self.live[booked.family] = booked
