"""What travels from a strategy's thread to the ledger: frozen snapshots, never live ib_async objects. Pure.

Rule: a message is a plain dict ``{"type", "strategy", "trade", "fill" | "status" | "commission"}`` as the seeds say;
its values are the dataclasses below. Units: Decimal quantities and prices, aware UTC times.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal, NotRequired, TypedDict


@dataclass(frozen=True, slots=True)
class LegSnapshot:
    """One leg of a combination: what one unit of it buys (``ratio`` > 0) or sells (< 0)."""

    con_id: int
    ratio: int


@dataclass(frozen=True, slots=True)
class ContractSnapshot:
    """IB's contract, resolved: ``con_id`` is never 0 in a message, but for combinations."""

    con_id: int
    symbol: str
    sec_type: str
    exchange: str
    currency: str
    primary_exchange: str = ""
    local_symbol: str = ""
    trading_class: str = ""
    multiplier: Decimal = Decimal(1)
    expiry: str = ""
    strike: Decimal | None = None
    right: str = ""
    price_magnifier: int | None = None  # quoted prices ÷ this are money: 100 for pence; None until IB described it
    legs: tuple[LegSnapshot, ...] = ()  # of a combination, which has no conId of its own


@dataclass(frozen=True, slots=True)
class TradeSnapshot:
    """An order and where it stands, as IB said it at one moment."""

    order_ref: str
    client_id: int
    order_id: int
    perm_id: int
    account: str
    contract: ContractSnapshot
    action: str  # BUY or SELL
    quantity: Decimal  # ordered, unsigned
    order_type: str
    limit_price: Decimal | None
    stop_price: Decimal | None
    tif: str
    status: str  # IB's word
    filled: Decimal
    remaining: Decimal
    average_price: Decimal | None
    message: str = ""  # why held, error text
    trail_amount: Decimal | None = None
    trail_percent: Decimal | None = None
    limit_offset: Decimal | None = None
    good_till: datetime | None = None
    good_after: datetime | None = None
    outside_rth: bool | None = None
    algo: str = ""
    oca_group: str = ""
    parent_id: int = 0  # IB's order id of the parent, of the same client


@dataclass(frozen=True, slots=True)
class FillSnapshot:
    """One execution. ``quantity`` unsigned, the side says the sign; commission None until IB reports it."""

    exec_id: str
    account: str
    contract: ContractSnapshot
    side: str  # BOT or SLD
    quantity: Decimal
    price: Decimal
    executed_at: datetime
    perm_id: int
    client_id: int
    order_id: int
    order_ref: str
    cum_quantity: Decimal
    average_price: Decimal
    exchange: str
    commission: Decimal | None = None
    commission_currency: str = ""
    is_replay: bool = False  # answered to reqExecutions, not live
    received_ns: int = 0  # perf_counter_ns at the socket side, for latency figures
    in_currency: bool = False  # prices are money already, as in statements; else as quoted, perhaps in pence


@dataclass(frozen=True, slots=True)
class CommissionSnapshot:
    """A commission report; may come before, after or without its execution."""

    exec_id: str
    amount: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class StatusSnapshot:
    """A status as IB said it, or an error about the order."""

    status: str
    filled: Decimal
    remaining: Decimal
    average_price: Decimal | None
    at: datetime
    code: int = 0  # IB error code, 0 for a plain status
    text: str = ""


class QueueMessage(TypedDict):
    """One message of the queue; ``trade`` is None for commissions and for executions of unknown orders."""

    type: Literal["order", "fill", "status_change", "commission", "log", "stop"]
    strategy: str
    trade: TradeSnapshot | None
    fill: NotRequired[FillSnapshot]
    status: NotRequired[StatusSnapshot]
    commission: NotRequired[CommissionSnapshot]
    text: NotRequired[str]
    level: NotRequired[str]
    logger: NotRequired[str]
