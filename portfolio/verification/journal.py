"""Prove the books from their journal: Σ movements against what is kept.

Owns: the check. Rule: it reads everything and writes nothing; every difference is named with both figures. Everything
is read in the order of an index, so that memory grows with positions and balances and not with movements; only the
journal of a position whose past was changed is held whole while it is folded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from portfolio.corrections import position_journal
from portfolio.ledger.journal import refold
from portfolio.ledger.money import ZERO, plain
from portfolio.ledger.positions import PositionState
from portfolio.models import CashBalance, Movement, Position
from portfolio.refolding import streamed_position
from portfolio.verification.streams import shares_of_executions

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
    count, quantity, realized, cash, apart = _sums(progress)
    findings = _check_cash("cash", "amount", cash) + _check_cash(
        "realised apart from positions", "realized_apart", apart
    )
    findings += _check_positions(quantity, realized, progress)
    executions, missing = _check_executions(progress)
    return Verification(
        movements=count,
        positions=Position.objects.count(),
        balances=CashBalance.objects.count(),
        executions=executions,
        findings=findings + missing,
    )


PositionKey = tuple[str, str, int]
Sums = dict[PositionKey, Decimal]
CashSums = dict[tuple[str, str, str], Decimal]


def _sums(
    progress: Progress | None,
) -> tuple[int, Sums, Sums, CashSums, CashSums]:
    """Add up all movements: text columns are summed here, exactly, and not by the database."""
    quantity: Sums = defaultdict(lambda: ZERO)
    realized: Sums = defaultdict(lambda: ZERO)
    cash: CashSums = defaultdict(lambda: ZERO)
    apart: CashSums = defaultdict(lambda: ZERO)
    rows = Movement.objects.order_by("id").values_list(
        "account_id",
        "owner",
        "instrument_id",
        "quantity",
        "cash",
        "currency",
        "realized_pnl",
        "instrument__currency",
    )
    count = 0
    for account, owner, con_id, moved, paid, currency, gain, own in rows.iterator(chunk_size=5000):
        count += 1
        cash[account, owner, currency] += paid
        if con_id is not None:
            quantity[account, owner, con_id] += moved
        if con_id is not None and currency == own:
            realized[account, owner, con_id] += gain
        else:
            apart[account, owner, currency] += gain
        if progress is not None and count % PROGRESS_ROWS == 0:
            progress("movements", count)
    return count, quantity, realized, cash, apart


def _check_cash(what: str, column: str, journal: CashSums) -> list[Finding]:
    kept = {
        (row.account_id, row.owner, row.currency): getattr(row, column)
        for row in CashBalance.objects.order_by("owner", "currency")
    }
    return [
        Finding(f"{what} of {key[1]} in {key[2]}", kept.get(key, ZERO), journal.get(key, ZERO))
        for key in sorted({*kept, *journal})
        if kept.get(key, ZERO) != journal.get(key, ZERO)
    ]


def _check_positions(quantity: Sums, realized: Sums, progress: Progress | None) -> list[Finding]:
    rows = Position.objects.select_related("instrument").order_by("owner", "instrument_id")
    kept = {(row.account_id, row.owner, row.instrument_id): row for row in rows}
    findings = []
    for number, key in enumerate(sorted({*kept, *quantity}), 1):
        row = kept.get(key)
        name = f"{key[1]} in {row.instrument.symbol if row else 'contract'} ({key[2]})"
        state = PositionState() if row is None else PositionState(row.quantity, row.cost_basis, row.realized_pnl)
        pairs = [
            ("quantity", state.quantity, quantity.get(key, ZERO)),
            ("realised P&L", state.realized_pnl, realized.get(key, ZERO)),
        ]
        if row is not None:
            own = row.instrument.currency, row.instrument.multiplier
            folded = streamed_position(*key, *own) or refold(position_journal(*key)[1], row.instrument.multiplier)
            pairs.append(("cost basis", state.cost_basis, folded.cost_basis))
            pairs.append(("realised P&L folded again", state.realized_pnl, folded.realized_pnl))
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
