"""What the books report about a change: plain values for event payloads, orders and pages.

Units: Decimal quantities and money, aware UTC times. ``strategy`` is the owner: a strategy's symbol or Discretionary.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from strategies.events import ContractSnapshot


@dataclass(frozen=True, slots=True)
class ExecutionFact:
    """One execution that the ledger did not have before, and its owner's position after it.

    ``quantity_change`` is what it adds to its order's filled quantity, signed by side: for a correction the difference
    to the revision it replaced, for a revision that was already replaced zero.
    """

    exec_id: str
    strategy: str
    order_ref: str
    perm_id: int
    client_id: int
    order_id: int
    con_id: int
    symbol: str
    sec_type: str
    side: str
    quantity: Decimal  # unsigned
    quantity_change: Decimal  # signed
    price: Decimal
    currency: str
    executed_at: datetime
    commission: Decimal | None
    cum_quantity: Decimal
    average_price: Decimal  # of the order, as IB said
    position: Decimal
    average_cost: Decimal
    realized_pnl: Decimal  # cumulative, of the owner's position
    corrects: str = ""  # exec_id of the revision it replaced
    superseded: bool = False  # arrived after its own correction
    is_replay: bool = False
    received_ns: int = 0


@dataclass(frozen=True, slots=True)
class CommissionFact:
    """A fee booked on an execution that was reported before it."""

    exec_id: str
    strategy: str
    order_ref: str
    con_id: int
    commission: Decimal
    currency: str
    realized_pnl: Decimal  # cumulative, of the owner's position


@dataclass(frozen=True, slots=True)
class PositionFact:
    """An owner's position at the end of a batch."""

    strategy: str
    con_id: int
    symbol: str
    currency: str
    quantity: Decimal
    average_cost: Decimal
    realized_pnl: Decimal


@dataclass(frozen=True, slots=True)
class CashFact:
    """An owner's cash in one currency at the end of a batch."""

    strategy: str
    currency: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A report that says something else about what is booked; the books stay, a person must look."""

    exec_id: str
    con_id: int
    text: str


@dataclass(slots=True)
class FoldResult:
    """What a batch changed; all lists empty when everything in it was known."""

    new_executions: list[ExecutionFact] = field(default_factory=list)
    commissions: list[CommissionFact] = field(default_factory=list)
    duplicates: int = 0
    ignored: int = 0  # executions of another account
    touched_positions: list[PositionFact] = field(default_factory=list)
    touched_cash: list[CashFact] = field(default_factory=list)
    contradictions: list[Contradiction] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class BreakFact:
    """A difference between IB's position or cash and the ledger's that opened, changed or cleared.

    Of cash: ``con_id`` 0, ``symbol`` empty, the quantities are money in ``currency``; the ledger's is what IB should
    report, so futures and FX pairs are in it. ``cause`` as ``causes.as_json`` writes it.
    """

    con_id: int
    symbol: str
    ib_quantity: Decimal
    ledger_quantity: Decimal
    state: str  # open or cleared
    kind: str = "position"
    currency: str = ""
    cause: dict[str, Any] = field(default_factory=dict)
    id: int = 0

    @property
    def alert_key(self) -> str:
        """Return what an alert about it is known by."""
        return f"break:{self.con_id}" if self.kind == "position" else f"break:cash:{self.currency}"


@dataclass(frozen=True, slots=True)
class EquityFact:
    """Equity of an owner, or of the account (owner empty), at one moment; unknown parts of the account are None."""

    owner: str
    equity: Decimal
    cash: Decimal | None
    realized_pnl: Decimal | None
    unrealized_pnl: Decimal | None
    currency: str


@dataclass(frozen=True, slots=True)
class BrokerPosition:
    """A position as IB reports it; ``average_cost`` is IB's: with commission and multiplied."""

    contract: ContractSnapshot
    quantity: Decimal
    average_cost: Decimal


@dataclass(frozen=True, slots=True)
class AccountRow:
    """One of IB's account figures as it came; ``currency`` is a code, BASE or empty."""

    tag: str
    value: str
    currency: str


@dataclass(frozen=True, slots=True)
class Booking:
    """What booking or undoing an adjustment changed; empty lists when it was booked before."""

    adjustment_id: int
    kind: str
    state: str
    text: str  # one sentence for a person
    touched_positions: list[PositionFact] = field(default_factory=list)
    touched_cash: list[CashFact] = field(default_factory=list)
