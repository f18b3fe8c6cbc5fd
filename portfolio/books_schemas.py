"""Wire types of what stands behind the books: breaks, adjustments, reports set aside, statements, rates, hours."""

from __future__ import annotations

from datetime import date
from typing import Any

from ninja import Schema

from strategies.schemas import Amount, UtcTime


class OwnerPartOut(Schema):
    """What one owner holds of a contract."""

    owner: str
    quantity: Amount
    average_cost: Amount
    realized_pnl: Amount


class ContractOut(Schema):
    """One contract: IB's quantity = Σ strategies + Discretionary, or the difference; null is unknown."""

    con_id: int
    symbol: str
    local_symbol: str
    sec_type: str
    currency: str
    multiplier: Amount
    ib_quantity: Amount | None
    ib_at: UtcTime | None
    owners: list[OwnerPartOut]
    discretionary: Amount
    ledger_quantity: Amount
    difference: Amount | None
    break_id: int | None
    mark: Amount | None
    marked_at: UtcTime | None
    stale: bool
    market_value: Amount | None


class ShareOut(Schema):
    """An owner's part of an execution."""

    owner: str
    quantity: Amount


class ExecutionOut(Schema):
    """An execution in force and whose it is; ``reassigned`` names the bookings that can be undone."""

    exec_id: str
    con_id: int
    symbol: str
    side: str
    quantity: Amount
    price: Amount
    commission: Amount | None
    commission_currency: str
    executed_at: UtcTime
    order_ref: str
    first_owner: str
    shares: list[ShareOut]
    reassigned: list[int]


class EntryOut(Schema):
    """One cause of a holding."""

    kind: str
    at: UtcTime
    quantity: Amount
    price: Amount | None
    running: Amount
    exec_id: str
    adjustment_id: int | None


class HoldingOut(Schema):
    """An owner's quantity and its causes since it was last flat."""

    owner: str
    quantity: Amount
    entries: list[EntryOut]
    unexplained: Amount


class ExplainedOut(Schema):
    """One contract down to its executions."""

    contract: ContractOut
    holdings: list[HoldingOut]
    executions: list[ExecutionOut]


class ConsolidatedOut(Schema):
    """One contract over all owners; money in its own currency, null when a part is unknown."""

    con_id: int
    symbol: str
    sec_type: str
    currency: str
    multiplier: Amount
    quantity: Amount
    average_cost: Amount | None
    mark: Amount | None
    stale: bool
    market_value: Amount | None
    unrealized_pnl: Amount | None
    realized_pnl: Amount
    owners: list[str]


class PnlOut(Schema):
    """One owner's profit in its own currency; null is unknown, ``reason`` says why."""

    owner: str
    currency: str
    realized_pnl: Amount | None
    unrealized_pnl: Amount | None
    total_pnl: Amount | None
    daily_realized_pnl: Amount | None
    reason: str


class BreakRowOut(Schema):
    """A difference between IB and the books, open or cleared; of cash the quantities are money in ``currency``."""

    id: int
    account_id: str
    kind: str
    con_id: int | None
    symbol: str
    currency: str
    ib_quantity: Amount
    ledger_quantity: Amount
    cause: dict[str, Any]
    state: str
    opened_at: UtcTime
    cleared_at: UtcTime | None
    acknowledged_at: UtcTime | None
    acknowledged_by: str

    @staticmethod
    def resolve_con_id(row: Any) -> int | None:
        """Name the contract."""
        found: int | None = row.instrument_id
        return found

    @staticmethod
    def resolve_symbol(row: Any) -> str:
        """Name the ticker."""
        return row.instrument.symbol if row.instrument else ""


class AdjustmentOut(Schema):
    """An event that is no fill: proposed, booked, rejected or undone."""

    id: int
    account_id: str
    kind: str
    state: str
    key: str
    con_id: int | None
    exec_id: str | None
    details: dict[str, Any]
    effective_at: UtcTime
    reason: str
    actor: str
    source: str
    created_at: UtcTime
    booked_at: UtcTime | None
    undoes: int | None
    undone_by: int | None

    @staticmethod
    def resolve_con_id(row: Any) -> int | None:
        """Name the contract."""
        found: int | None = row.instrument_id
        return found

    @staticmethod
    def resolve_exec_id(row: Any) -> str | None:
        """Name the execution."""
        return row.execution.exec_id if row.execution else None

    @staticmethod
    def resolve_undoes(row: Any) -> int | None:
        """Name what it takes back."""
        found: int | None = row.undoes_id
        return found

    @staticmethod
    def resolve_undone_by(row: Any) -> int | None:
        """Name what took it back."""
        later = getattr(row, "undone_by", None)
        return later.pk if later else None


class ParkedOut(Schema):
    """A report of the broker that could not be booked as it came."""

    id: int
    key: str
    account_id: str
    con_id: int
    payload: dict[str, Any]
    code: str
    reason: str
    parked_at: UtcTime
    last_at: UtcTime
    times: int
    state: str
    settled_at: UtcTime | None
    settled_by: str


class FxRateOut(Schema):
    """Worth of one unit of ``currency`` in ``base`` units at one moment."""

    id: int
    base: str
    currency: str
    worth: Amount
    source: str
    at: UtcTime


class QuoteOut(Schema):
    """A rate as it is known now; ``stale`` says that it is old, ``usable`` that it is not too old to reckon with."""

    base: str
    currency: str
    worth_in_base: Amount
    units_per_base: Amount
    as_of: UtcTime | None
    source: str
    stale: bool
    usable: bool


class HourlyOut(Schema):
    """An owner's books at the top of one hour; owner empty is the account."""

    id: int
    account_id: str
    owner: str
    hour: UtcTime
    taken_at: UtcTime
    currency: str
    equity: Amount | None
    cash: Amount | None
    realized_pnl: Amount | None
    unrealized_pnl: Amount | None
    positions: list[dict[str, Any]]
    figures: dict[str, Any]


class FlexOut(Schema):
    """A Flex statement that was read."""

    id: int
    account_id: str
    sha256: str
    query_name: str
    from_date: date
    to_date: date
    generated_at: UtcTime | None
    imported_at: UtcTime
    actor: str
    counts: dict[str, Any]


class FindingOut(Schema):
    """A line of a statement that the books did not have as it stands there."""

    id: int
    statement_id: int
    kind: str
    key: str
    text: str
    details: dict[str, Any]
    state: str
    resolution: str
