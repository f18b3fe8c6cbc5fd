"""Explain positions: what IB holds, whose it is, and by which executions and adjustments each owner came to hold it.

Owns: the readings behind the portfolio and breaks pages. Leaves: writing (``assignments``, ``adjustments``), finding
differences (``reconcile``). Rule: IB's quantity is known only from a complete answer (``Account.positions_at``);
without one it is None, and then so is the difference. Nothing here writes.
Units: signed quantities, Decimal; prices per unit in the instrument's currency; aware UTC times.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from django.utils import timezone

from portfolio.freshness import stands
from portfolio.ledger.money import ZERO
from portfolio.ledger.pnl import market_value
from portfolio.models import (
    Account,
    Adjustment,
    Break,
    BreakKind,
    BreakState,
    BrokerHolding,
    Execution,
    Instrument,
    Mark,
    Movement,
    Position,
)
from strategies.exceptions import NotFoundError
from strategies.models import DISCRETIONARY


@dataclass(frozen=True, slots=True)
class OwnerPart:
    """What one owner holds of a contract; ``realized_pnl`` is cumulative."""

    owner: str
    quantity: Decimal
    average_cost: Decimal
    realized_pnl: Decimal


@dataclass(frozen=True, slots=True)
class ContractExplained:
    """One contract: IB's quantity beside Σ strategies + Discretionary."""

    con_id: int
    symbol: str
    local_symbol: str
    sec_type: str
    currency: str
    multiplier: Decimal
    ib_quantity: Decimal | None
    ib_at: datetime | None
    owners: list[OwnerPart]  # strategies by symbol, flat ones left out
    discretionary: Decimal
    ledger_quantity: Decimal
    difference: Decimal | None  # IB − books
    moved_since: bool  # the books moved after IB's answer: the difference is not compared yet
    break_id: int | None  # of the open break, which locks the contract
    mark: Decimal | None
    marked_at: datetime | None
    stale: bool
    market_value: Decimal | None  # of the books' quantity


@dataclass(frozen=True, slots=True)
class ShareView:
    """An owner's part of one execution."""

    owner: str
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class ExecutionExplained:
    """One execution in force and whose it is; ``reassigned`` names the bookings that can be undone."""

    exec_id: str
    con_id: int
    symbol: str
    side: str
    quantity: Decimal  # signed
    price: Decimal
    commission: Decimal | None
    commission_currency: str
    executed_at: datetime
    order_ref: str
    first_owner: str
    shares: list[ShareView]
    reassigned: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Entry:
    """One cause of a holding: an execution with its corrections, an adjustment, or an opening."""

    kind: str
    at: datetime
    quantity: Decimal  # signed
    price: Decimal | None
    running: Decimal  # the owner's position after it
    exec_id: str = ""
    adjustment_id: int | None = None


@dataclass(frozen=True, slots=True)
class HoldingExplained:
    """An owner's quantity and the causes since it was last flat; ``unexplained`` is 0 unless the books are damaged."""

    owner: str
    quantity: Decimal
    entries: list[Entry]
    unexplained: Decimal


def explain_positions(account_id: str) -> list[ContractExplained]:
    """Return every contract that IB or anybody holds, or that is in an open break, by symbol.

    Raises: NotFoundError for an unknown account.
    """
    account = Account.objects.filter(pk=account_id).first()
    if account is None:
        raise NotFoundError(f"There is no account {account_id}.", code="unknown_account")
    parts: dict[int, list[Position]] = defaultdict(list)
    for row in Position.objects.filter(account=account).select_related("instrument").order_by("owner"):
        if row.quantity:
            parts[row.instrument_id].append(row)
    held = dict(BrokerHolding.objects.filter(account=account).values_list("instrument_id", "quantity"))
    broken = Break.objects.filter(account=account, state=BreakState.OPEN, kind=BreakKind.POSITION)
    breaks = {con_id: key for con_id, key in broken.values_list("instrument_id", "id") if con_id is not None}
    found = Instrument.objects.in_bulk(list({*parts, *held, *breaks}))
    marks = Mark.objects.in_bulk(list(found))
    now = timezone.now()
    rows = [
        _contract(account, found[con_id], parts[con_id], held.get(con_id, ZERO), marks.get(con_id), now)
        for con_id in found
    ]
    return sorted((_with_break(row, breaks) for row in rows), key=lambda row: (row.symbol, row.con_id))


def explain_contract(account_id: str, con_id: int) -> ContractExplained:
    """Return one contract, held or not.

    Raises: NotFoundError for an unknown contract or account.
    """
    account = Account.objects.filter(pk=account_id).first()
    instrument = Instrument.objects.filter(pk=con_id).first()
    if account is None or instrument is None:
        raise NotFoundError(f"There is no contract {con_id} in the books.", code="unknown_contract")
    rows = Position.objects.filter(account=account, instrument=instrument).select_related("instrument")
    parts = [row for row in rows.order_by("owner") if row.quantity]
    holding = BrokerHolding.objects.filter(account=account, instrument=instrument).first()
    broken = Break.objects.filter(
        account=account, state=BreakState.OPEN, kind=BreakKind.POSITION, instrument=instrument
    ).first()
    mark = Mark.objects.filter(pk=con_id).first()
    row = _contract(account, instrument, parts, holding.quantity if holding else ZERO, mark, timezone.now())
    return _with_break(row, {con_id: broken.pk} if broken else {})


def _contract(
    account: Account,
    instrument: Instrument,
    parts: Sequence[Position],
    at_ib: Decimal,
    mark: Mark | None,
    now: datetime,
) -> ContractExplained:
    ledger = sum((row.quantity for row in parts), ZERO)
    known = account.positions_at is not None
    return ContractExplained(
        con_id=instrument.con_id,
        symbol=instrument.symbol,
        local_symbol=instrument.local_symbol,
        sec_type=instrument.sec_type,
        currency=instrument.currency,
        multiplier=instrument.multiplier,
        ib_quantity=at_ib if known else None,
        ib_at=account.positions_at,
        owners=[
            OwnerPart(row.owner, row.quantity, row.average_cost, row.realized_pnl)
            for row in parts
            if row.owner != DISCRETIONARY
        ],
        discretionary=sum((row.quantity for row in parts if row.owner == DISCRETIONARY), ZERO),
        ledger_quantity=ledger,
        difference=at_ib - ledger if known else None,
        moved_since=any(account.positions_at is not None and row.updated_at > account.positions_at for row in parts),
        break_id=None,
        mark=None if mark is None else mark.price,
        marked_at=None if mark is None else mark.marked_at,
        stale=not stands(mark, instrument, now),
        market_value=None if mark is None else market_value(ledger, mark.price, instrument.multiplier),
    )


def _with_break(row: ContractExplained, breaks: dict[int, int]) -> ContractExplained:
    if row.con_id not in breaks:
        return row
    values = {name: getattr(row, name) for name in ContractExplained.__slots__}
    return ContractExplained(**{**values, "break_id": breaks[row.con_id]})


def executions_of(account_id: str, con_id: int, owner: str | None = None, limit: int = 100) -> list[ExecutionExplained]:
    """Return the executions in force of a contract, newest first, each with its owners' shares.

    With an owner only those of which it has a share; ``limit`` counts executions looked at.
    """
    found = Execution.objects.filter(account_id=account_id, instrument_id=con_id, superseded=False)
    rows = list(found.select_related("instrument").order_by("-executed_at", "-id")[: max(0, limit)])
    shares, bookings = _shares(account_id, rows), _bookings(rows)
    explained = [_execution(row, shares[row.family], bookings[row.family]) for row in rows]
    if owner is None:
        return explained
    return [row for row in explained if any(share.owner == owner for share in row.shares)]


def find_execution(account_id: str, exec_id: str) -> ExecutionExplained:
    """Return one execution in force with its shares.

    Raises: NotFoundError when there is none in force by that id.
    """
    row = Execution.objects.filter(account_id=account_id, exec_id=exec_id, superseded=False)
    first = row.select_related("instrument").first()
    if first is None:
        raise NotFoundError(f"There is no execution {exec_id} in force.", code="unknown_execution")
    return _execution(first, _shares(account_id, [first])[first.family], _bookings([first])[first.family])


def _shares(account_id: str, rows: Iterable[Execution]) -> dict[str, dict[str, Decimal]]:
    """Return the quantity of each owner by execution family: the sum of everything booked for it."""
    totals: dict[str, dict[str, Decimal]] = defaultdict(dict)
    families = {row.family for row in rows}
    booked = Movement.objects.filter(account_id=account_id, execution__family__in=families)
    for family, owner, quantity in booked.values_list("execution__family", "owner", "quantity"):
        totals[family][owner] = totals[family].get(owner, ZERO) + quantity
    return totals


def _bookings(rows: Iterable[Execution]) -> dict[str, list[int]]:
    """Return the reassignments in force by execution family, newest first."""
    found: dict[str, list[int]] = defaultdict(list)
    families = {row.family for row in rows}
    booked = Adjustment.objects.filter(execution__family__in=families, state="booked", undoes=None).order_by("-id")
    for family, key in booked.values_list("execution__family", "id"):
        found[family].append(key)
    return found


def _execution(row: Execution, totals: dict[str, Decimal], bookings: list[int]) -> ExecutionExplained:
    return ExecutionExplained(
        exec_id=row.exec_id,
        con_id=row.instrument_id,
        symbol=row.instrument.symbol,
        side=row.side,
        quantity=row.quantity,
        price=row.price,
        commission=row.commission,
        commission_currency=row.commission_currency,
        executed_at=row.executed_at,
        order_ref=row.order_ref,
        first_owner=row.owner,
        shares=[ShareView(owner, quantity) for owner, quantity in sorted(totals.items()) if quantity],
        reassigned=bookings,
    )


def explain_holdings(account_id: str, con_id: int) -> list[HoldingExplained]:
    """Return every owner's quantity of a contract with its causes since the owner was last flat."""
    journal: dict[str, list[Movement]] = defaultdict(list)
    rows = Movement.objects.filter(account_id=account_id, instrument_id=con_id).order_by("id")
    for row in rows.select_related("execution", "adjustment"):
        if row.quantity:
            journal[row.owner].append(row)
    held = {
        row.owner: row.quantity
        for row in Position.objects.filter(account_id=account_id, instrument_id=con_id)
        if row.quantity
    }
    return [_holding(owner, quantity, journal[owner]) for owner, quantity in sorted(held.items())]


def _holding(owner: str, quantity: Decimal, rows: list[Movement]) -> HoldingExplained:
    entries: list[Entry] = []
    running = ZERO
    for group in _groups(rows):
        amount = sum((row.quantity for row in group), ZERO)
        before, running = running, running + amount
        if not amount:
            continue
        if not before or before * running < 0:
            entries = []  # it was flat, or went through zero: what came earlier explains nothing any more
        entries.append(_entry(group[-1], amount, running))
    return HoldingExplained(owner, quantity, entries if running else [], quantity - running)


def _groups(rows: list[Movement]) -> list[list[Movement]]:
    """Put together what belongs to one cause, in the order of the fold: a correction keeps the first report's place."""
    groups: dict[tuple[str, object], list[Movement]] = defaultdict(list)
    places: dict[tuple[str, object], int] = {}
    for row in rows:
        cause: tuple[str, object]
        if row.execution is not None:
            cause = ("execution", row.execution.family)
        elif row.adjustment is not None:
            cause = ("adjustment", row.adjustment.undoes_id or row.adjustment.pk)
        else:
            cause = ("movement", row.pk)
        groups[cause].append(row)
        places[cause] = min(places.get(cause, row.pk), row.slot or row.pk)
    return [groups[cause] for cause in sorted(groups, key=lambda cause: places[cause])]


def _entry(row: Movement, amount: Decimal, running: Decimal) -> Entry:
    execution, adjustment = row.execution, row.adjustment
    at = row.booked_at
    if execution is not None:
        at = execution.executed_at
    elif adjustment is not None:
        at = adjustment.effective_at
    return Entry(
        kind=row.kind,
        at=at,
        quantity=amount,
        price=row.price,
        running=running,
        exec_id="" if execution is None else execution.exec_id,
        adjustment_id=None if adjustment is None else adjustment.pk,
    )
