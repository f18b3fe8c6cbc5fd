"""Prove the books from their journal: Σ movements against what is kept.

Owns: the check. Rule: it reads everything and writes nothing; every difference is named with both figures. Everything
is read in the order of an index, so that memory grows with positions and balances and not with movements; only the
journal of a position whose past was changed is held whole while it is folded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from portfolio.corrections import position_journal
from portfolio.ledger.journal import refold
from portfolio.ledger.money import ZERO, plain
from portfolio.ledger.positions import PositionState
from portfolio.models import CashBalance, Movement, Position
from portfolio.refolding import streamed_position
from portfolio.verification.streams import fees_of_executions, shares_of_executions

Progress = Callable[[str, int], object]
PROGRESS_ROWS = 50_000
_PROGRESS_POSITIONS = 10


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure that is not what the journal says."""

    what: str
    kept: Decimal
    journal: Decimal

    def __str__(self) -> str:
        return f"{self.what}: kept {plain(self.kept)}, journal {plain(self.journal)}"


@dataclass(frozen=True, slots=True)
class Verification:
    """What was looked at and what was wrong."""

    movements: int
    positions: int
    balances: int
    executions: int
    findings: list[Finding]


def verify_ledger(progress: Progress | None = None) -> Verification:
    """Compare positions, cash and executions with the movements."""
    sums = _sums(progress)
    findings = _check_cash("cash", "amount", sums.cash) + _check_cash(
        "realised apart from positions", "realized_apart", sums.apart
    )
    findings += [*sums.strays.values(), *_check_positions(sums, progress)]
    executions, missing = _check_executions(progress)
    return Verification(
        movements=sums.count,
        positions=Position.objects.count(),
        balances=CashBalance.objects.count(),
        executions=executions,
        findings=findings + missing + _check_fees(progress),
    )


PositionKey = tuple[str, str, int]
CashKey = tuple[str, str, str]
_COLUMNS = (
    "account_id",
    "owner",
    "instrument_id",
    "quantity",
    "cash",
    "currency",
    "realized_pnl",
    "instrument__currency",
    "quantity_after",
    "realized_after",
    "cash_after",
    "key",
)


def _zeros() -> dict[Any, Decimal]:
    return defaultdict(lambda: ZERO)


@dataclass(slots=True)
class _Sums:
    """All movements added up, and the first one of each position and balance whose figures after it are not the sum."""

    count: int = 0
    quantity: dict[PositionKey, Decimal] = field(default_factory=_zeros)
    realized: dict[PositionKey, Decimal] = field(default_factory=_zeros)
    cash: dict[CashKey, Decimal] = field(default_factory=_zeros)
    apart: dict[CashKey, Decimal] = field(default_factory=_zeros)
    strays: dict[tuple[Any, ...], Finding] = field(default_factory=dict)

    def add(self, row: tuple[Any, ...]) -> None:
        """Add one movement, in the order of their ids."""
        account, owner, con_id, moved, paid, currency, gain, own, held, earned, balance, key = row
        self.count += 1
        money = account, owner, currency
        self.cash[money] += paid
        if con_id is None or currency != own:
            self.apart[money] += gain
        if self.cash[money] != balance:
            self._stray((*money, "cash"), f"cash of {owner} after {key}", balance, self.cash[money])
        if con_id is None:
            return
        position = account, owner, con_id
        self.quantity[position] += moved
        self.realized[position] += gain if currency == own else ZERO
        for what, kept, summed in (
            ("quantity", held, self.quantity[position]),
            ("realised P&L", earned, self.realized[position]),
        ):
            if kept != summed:
                self._stray((*position, what), f"{what} of {owner} in {con_id} after {key}", kept or ZERO, summed)

    def _stray(self, place: tuple[Any, ...], what: str, kept: Decimal, summed: Decimal) -> None:
        self.strays.setdefault(place, Finding(what, kept, summed))


def _sums(progress: Progress | None) -> _Sums:
    """Add up all movements: text columns are summed here, exactly, and not by the database."""
    sums = _Sums()
    for row in Movement.objects.order_by("id").values_list(*_COLUMNS).iterator(chunk_size=5000):
        sums.add(row)
        if progress is not None and sums.count % PROGRESS_ROWS == 0:
            progress("movements", sums.count)
    return sums


def _check_cash(what: str, column: str, journal: dict[CashKey, Decimal]) -> list[Finding]:
    kept = {
        (row.account_id, row.owner, row.currency): getattr(row, column)
        for row in CashBalance.objects.order_by("owner", "currency")
    }
    return [
        Finding(f"{what} of {key[1]} in {key[2]}", kept.get(key, ZERO), journal.get(key, ZERO))
        for key in sorted({*kept, *journal})
        if kept.get(key, ZERO) != journal.get(key, ZERO)
    ]


def _check_positions(sums: _Sums, progress: Progress | None) -> list[Finding]:
    rows = Position.objects.select_related("instrument").order_by("owner", "instrument_id")
    kept = {(row.account_id, row.owner, row.instrument_id): row for row in rows}
    findings = []
    for number, key in enumerate(sorted({*kept, *sums.quantity}), 1):
        row = kept.get(key)
        name = f"{key[1]} in {row.instrument.symbol if row else 'contract'} ({key[2]})"
        state = PositionState() if row is None else PositionState(row.quantity, row.cost_basis, row.realized_pnl)
        pairs = [
            ("quantity", state.quantity, sums.quantity.get(key, ZERO)),
            ("realised P&L", state.realized_pnl, sums.realized.get(key, ZERO)),
        ]
        if row is not None:
            own = row.instrument.currency, row.instrument.multiplier
            folded = streamed_position(*key, *own) or refold(position_journal(*key)[1], row.instrument.multiplier)
            pairs.append(("cost basis", state.cost_basis, folded.cost_basis))
            pairs.append(("realised P&L folded again", state.realized_pnl, folded.realized_pnl))
            pairs.append(("fees", row.commissions, folded.commissions))
        findings += [Finding(f"{what} of {name}", ours, theirs) for what, ours, theirs in pairs if ours != theirs]
        if progress is not None and number % _PROGRESS_POSITIONS == 0:
            progress("positions", number)
    return findings


def _check_executions(progress: Progress | None) -> tuple[int, list[Finding]]:
    """Every live execution is in the journal with its whole quantity, every superseded one with none."""
    findings, count = [], 0
    for (exec_id, quantity, superseded), shares in shares_of_executions():
        count += 1
        wanted, found = ZERO if superseded else quantity, sum(shares.values(), ZERO)
        if found != wanted:
            findings.append(Finding(f"execution {exec_id}", wanted, found))
        if progress is not None and count % PROGRESS_ROWS == 0:
            progress("executions", count)
    return count, findings


def _check_fees(progress: Progress | None) -> list[Finding]:
    """What was reported as an execution's commission is what its owners paid; of a replaced one nothing is left."""
    findings = []
    for count, fees in enumerate(fees_of_executions(), 1):
        due = {} if fees.superseded else {fees.currency: fees.commission or ZERO}
        for name in sorted({*due, *fees.booked, *(fees.adjusted if fees.superseded else ())} - {""}):
            paid = fees.booked[name] + (fees.adjusted[name] if fees.superseded else ZERO)
            if paid != due.get(name, ZERO):
                findings.append(Finding(f"commission of execution {fees.exec_id} in {name}", due.get(name, ZERO), paid))
        if progress is not None and count % PROGRESS_ROWS == 0:
            progress("commissions", count)
    return findings
