"""Wire types of the books. Money is in the row's own currency; null means unknown."""

from __future__ import annotations

from ninja import Schema

from strategies.schemas import Amount, UtcTime


class PositionOut(Schema):
    """One owner's position; ``stale`` says that its mark is missing or old."""

    account_id: str
    owner: str
    con_id: int
    symbol: str
    sec_type: str
    currency: str
    multiplier: Amount
    quantity: Amount
    average_cost: Amount
    realized_pnl: Amount
    commissions: Amount
    mark: Amount | None
    marked_at: UtcTime | None
    stale: bool
    market_value: Amount | None
    unrealized_pnl: Amount | None
    updated_at: UtcTime


class CashOut(Schema):
    """One owner's cash in one currency."""

    account_id: str
    owner: str
    currency: str
    amount: Amount
    updated_at: UtcTime


class FillOut(Schema):
    """One execution; ``quantity`` unsigned, ``commission`` null until IB reports it."""

    id: int
    exec_id: str
    owner: str
    con_id: int
    symbol: str
    sec_type: str
    currency: str
    side: str
    quantity: Amount
    price: Amount
    commission: Amount | None
    commission_currency: str
    realized_pnl: Amount
    executed_at: UtcTime
    order_ref: str
    exchange: str
    superseded: bool


class EquityPoint(Schema):
    """Equity of an owner at one moment; owner empty is the account."""

    owner: str
    taken_at: UtcTime
    currency: str
    equity: Amount
    cash: Amount | None
    realized_pnl: Amount | None
    unrealized_pnl: Amount | None


class OwnerSummaryOut(Schema):
    """An owner's figures in its own currency; ``reason`` says why they are unknown."""

    owner: str
    currency: str
    equity: Amount | None
    cash: Amount | None
    realized_pnl: Amount | None
    unrealized_pnl: Amount | None
    positions: int
    reason: str


class BreakOut(Schema):
    """An open difference between IB's books and ours."""

    con_id: int
    symbol: str
    ib_quantity: Amount
    ledger_quantity: Amount
    opened_at: UtcTime


class SummaryOut(Schema):
    """The account at a glance, in its base currency."""

    account_id: str
    currency: str
    opened_at: UtcTime | None
    net_liquidation: Amount | None
    cash: Amount | None
    realized_pnl: Amount | None
    unrealized_pnl: Amount | None
    total_pnl: Amount | None
    updated_at: UtcTime | None
    owners: list[OwnerSummaryOut]
    breaks: list[BreakOut]


class FiguresOut(Schema):
    """Figures of one owner with the count of its fills."""

    symbol: str
    currency: str
    figures: OwnerSummaryOut
    daily_realized_pnl: Amount | None
    fills: int


class StrategySummaryOut(FiguresOut):
    """One owner's books: figures, positions (flat ones too: they keep what they earned), cash."""

    positions: list[PositionOut]
    cash: list[CashOut]
