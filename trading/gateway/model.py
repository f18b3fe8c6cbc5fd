"""What the paper gateway's parts say to each other: plain data, no sockets, no clock, no Django.

Owns: the words of the border (``venue``) between wire (``protocol``, ``session``, ``server``) and venue (``exchange``,
``market``, ``account``). Rule: the venue never sees bytes or protocol versions; the wire never decides a price, a
status or an error.
Units: quantities and prices Decimal, times aware UTC, durations in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Contract:
    """IB's contract as named on the wire; ``con_id`` 0 means not resolved."""

    con_id: int = 0
    symbol: str = ""
    sec_type: str = ""
    last_trade_date: str = ""
    strike: float = 0.0
    right: str = ""
    multiplier: str = ""
    exchange: str = ""
    primary_exchange: str = ""
    currency: str = ""
    local_symbol: str = ""
    trading_class: str = ""


@dataclass(frozen=True, slots=True)
class ContractDetails:
    """A listed instrument: the resolved contract and what reqContractDetails answers about it."""

    contract: Contract
    long_name: str
    min_tick: Decimal
    valid_exchanges: tuple[str, ...]
    order_types: tuple[str, ...]
    market_rule_ids: tuple[int, ...]  # one for each valid exchange
    time_zone: str  # IANA
    trading_hours: str  # IB's text, yyyymmdd:hhmm-yyyymmdd:hhmm;…
    liquid_hours: str
    stock_type: str = ""
    industry: str = ""
    category: str = ""
    subcategory: str = ""
    price_magnifier: int = 1
    min_size: Decimal = Decimal(1)
    size_increment: Decimal = Decimal(1)
    under_con_id: int = 0
    under_symbol: str = ""
    under_sec_type: str = ""
    contract_month: str = ""  # yyyymm, futures and options
    derivatives: tuple[str, ...] = ()  # security types listed on it; told by a search only


@dataclass(frozen=True, slots=True)
class OptionChain:
    """Expiries (yyyymmdd) and strikes of one trading class on one exchange."""

    exchange: str
    under_con_id: int
    trading_class: str
    multiplier: str
    expiries: tuple[str, ...]
    strikes: tuple[Decimal, ...]


@dataclass(frozen=True, slots=True)
class PriceIncrement:
    """One step of a market rule: from ``low_edge`` on, prices move by ``increment``."""

    low_edge: Decimal
    increment: Decimal


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """A parsed placeOrder. ``echo`` keeps every other field by IB's camelCase name, to be echoed in openOrder."""

    client_id: int
    order_id: int
    contract: Contract
    action: str
    quantity: Decimal
    order_type: str
    limit_price: Decimal | None = None
    aux_price: Decimal | None = None
    tif: str = "DAY"
    account: str = ""
    order_ref: str = ""
    parent_id: int = 0
    transmit: bool = True
    outside_rth: bool = False
    what_if: bool = False
    oca_group: str = ""
    algo_strategy: str = ""
    algo_params: tuple[tuple[str, str], ...] = ()
    echo: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OrderSnapshot:
    """A working or completed order as the venue holds it at one moment."""

    request: OrderRequest
    contract: Contract  # resolved
    perm_id: int
    status: str  # PreSubmitted, Submitted, Filled, Cancelled, Inactive
    filled: Decimal
    remaining: Decimal
    average_price: Decimal  # 0 until a fill, as IB says
    last_price: Decimal
    why_held: str = ""
    completed_time: str = ""  # yyyymmdd hh:mm:ss ZONE, completed orders only
    completed_status: str = ""
    reject_reason: str = ""
    manual: bool = False  # somebody typed it into TWS


@dataclass(frozen=True, slots=True)
class Execution:
    """One fill. ``time`` is aware UTC; ``cum_quantity`` and ``average_price`` are those of its order."""

    exec_id: str  # 4 segments, 0000xxxx.xxxxxxxx.nn.nn; 5 for the legs of a combination
    time: datetime
    account: str
    contract: Contract
    side: str  # BOT or SLD
    quantity: Decimal  # unsigned
    price: Decimal
    perm_id: int
    client_id: int
    order_id: int
    cum_quantity: Decimal
    average_price: Decimal
    exchange: str
    order_ref: str = ""
    liquidation: int = 0
    last_liquidity: int = 2


@dataclass(frozen=True, slots=True)
class Commission:
    """Commission of one execution; realised P&L is None for opening fills."""

    exec_id: str
    amount: Decimal
    currency: str
    realized_pnl: Decimal | None
    client_id: int  # owner of the order: decides which sessions hear of it


@dataclass(frozen=True, slots=True)
class ExecutionFilter:
    """reqExecutions' filter; empty fields match everything."""

    client_id: int = 0
    account: str = ""
    since: datetime | None = None
    symbol: str = ""
    sec_type: str = ""
    exchange: str = ""
    side: str = ""


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Margin and commission that an order would cause."""

    init_margin_before: Decimal
    init_margin_change: Decimal
    init_margin_after: Decimal
    maint_margin_before: Decimal
    maint_margin_change: Decimal
    maint_margin_after: Decimal
    equity_before: Decimal
    equity_change: Decimal
    equity_after: Decimal
    commission: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class PositionRow:
    """A held position; ``average_cost`` is IB's: with commission and multiplier."""

    account: str
    contract: Contract
    quantity: Decimal
    average_cost: Decimal
    market_price: Decimal
    market_value: Decimal
    unrealized_pnl: Decimal
    realized_pnl: Decimal


@dataclass(frozen=True, slots=True)
class AccountRow:
    """One account value: key, value, currency (``BASE`` and empty as IB does)."""

    key: str
    value: str
    currency: str


@dataclass(frozen=True, slots=True)
class Pnl:
    """reqPnL / reqPnLSingle figures; position and value only for the single one."""

    daily: Decimal
    unrealized: Decimal
    realized: Decimal
    position: Decimal | None = None
    value: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Quote:
    """Top of book and day figures at one moment; None where the market has none."""

    time: datetime
    bid: Decimal | None
    ask: Decimal | None
    bid_size: Decimal
    ask_size: Decimal
    last: Decimal | None
    last_size: Decimal
    volume: Decimal
    high: Decimal | None
    low: Decimal | None
    open: Decimal | None
    close: Decimal | None  # previous session's


class Entitlement(StrEnum):
    """What market data the paper user has subscribed to for an instrument."""

    FULL = "full"
    PARTIAL = "partial"  # trades, no quotes
    DELAYED = "delayed"  # nothing, but 15 minutes later everybody may see it
    NONE = "none"


@dataclass(frozen=True, slots=True)
class OptionFigures:
    """One option computation; None where it cannot be computed. Units: theta a day, vega a point of volatility."""

    volatility: float | None
    delta: float | None
    price: float | None
    gamma: float | None
    vega: float | None
    theta: float | None
    underlying: float | None


class TickKind(StrEnum):
    """What a stream or list of single ticks shows."""

    TRADES = "trades"
    QUOTES = "quotes"
    MIDPOINT = "midpoint"


@dataclass(frozen=True, slots=True)
class Tick:
    """One trade (price and size), quote change (all but price) or midpoint (price)."""

    time: datetime
    price: Decimal
    size: Decimal
    bid: Decimal
    ask: Decimal
    bid_size: Decimal
    ask_size: Decimal


@dataclass(frozen=True, slots=True)
class Scan:
    """A market scanner's question; None is no limit."""

    code: str
    instrument: str
    location: str
    rows: int
    above_price: Decimal | None = None
    below_price: Decimal | None = None
    above_volume: Decimal | None = None
    above_change: Decimal | None = None  # percent
    below_change: Decimal | None = None


@dataclass(frozen=True, slots=True)
class TradingSession:
    """One session of an instrument's calendar; ``day`` is yyyymmdd in its zone."""

    day: str
    opens: datetime
    closes: datetime


@dataclass(frozen=True, slots=True)
class Bar:
    """OHLCV of one interval, stamped with its START, aware UTC."""

    start: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    wap: Decimal
    count: int


# What the venue says, in order. The wire decides who hears it (ib_facts §3: own client, master, client 0).


@dataclass(frozen=True, slots=True)
class OrderChanged:
    """An order was accepted, changed, filled further, cancelled: openOrder + orderStatus."""

    order: OrderSnapshot
    send_open_order: bool = True


@dataclass(frozen=True, slots=True)
class OrderWhatIf:
    """The answer to a whatIf order."""

    order: OrderSnapshot
    what_if: WhatIf


@dataclass(frozen=True, slots=True)
class OrderBound:
    """A manual order got an order id, by which its client may change and cancel it."""

    perm_id: int
    client_id: int
    order_id: int


@dataclass(frozen=True, slots=True)
class Executed:
    """An execution happened."""

    execution: Execution


@dataclass(frozen=True, slots=True)
class CommissionReported:
    """The commission of an earlier execution."""

    commission: Commission


@dataclass(frozen=True, slots=True)
class OrderError:
    """An error about an order of one client; also IB's «errors» that are notices (202, 399, 10349)."""

    client_id: int
    order_id: int
    code: int
    text: str


@dataclass(frozen=True, slots=True)
class PositionChanged:
    """A position changed: position and portfolio subscribers hear of it."""

    con_id: int


@dataclass(frozen=True, slots=True)
class AccountChanged:
    """Cash or margin changed: account subscribers hear of it."""


VenueEvent = (
    OrderChanged
    | OrderWhatIf
    | OrderBound
    | Executed
    | CommissionReported
    | OrderError
    | PositionChanged
    | AccountChanged
)


class RequestError(Exception):
    """A query that IB answers with an error on its reqId: code and IB's text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.code = code
        self.text = text
