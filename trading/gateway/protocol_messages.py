"""What a client can ask: one typed message for each request that the gateway understands.

Owns: the vocabulary between codec and handlers, but for data beyond ticks and bars (``protocol_data_messages``).
Leaves: reading them (``protocol_requests``, ``protocol_place_order``) and answering them (``wire_*``).
Rule: every field of the wire that decides an answer is here, typed; the rest is read and dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from .model import Contract
from .protocol_data_messages import DataRequest


@dataclass(frozen=True, slots=True)
class StartApi:
    """First message of a session: under which client id it lives."""

    client_id: int
    capabilities: str = ""


@dataclass(frozen=True, slots=True)
class RequestIds:
    """Ask for the next order id again."""


@dataclass(frozen=True, slots=True)
class RequestManagedAccounts:
    """Ask for the account list again."""


@dataclass(frozen=True, slots=True)
class RequestCurrentTime:
    """Ask for the gateway's time."""


@dataclass(frozen=True, slots=True)
class SetServerLogLevel:
    """Set TWS' own log level; accepted without effect."""

    level: int


@dataclass(frozen=True, slots=True)
class RequestContractDetails:
    """Ask which listed instruments match."""

    req_id: int
    contract: Contract
    include_expired: bool
    security_id_type: str = ""
    security_id: str = ""
    issuer_id: str = ""


@dataclass(frozen=True, slots=True)
class RequestMatchingSymbols:
    """Search instruments by the beginning of symbol or name."""

    req_id: int
    pattern: str


@dataclass(frozen=True, slots=True)
class RequestMarketRule:
    """Ask for a rule's price steps."""

    rule_id: int


@dataclass(frozen=True, slots=True)
class RequestMarketData:
    """Subscribe to ticks, or take one snapshot of them."""

    req_id: int
    contract: Contract
    generic_ticks: tuple[str, ...]
    snapshot: bool
    regulatory_snapshot: bool


@dataclass(frozen=True, slots=True)
class CancelMarketData:
    """End a tick subscription."""

    req_id: int


@dataclass(frozen=True, slots=True)
class RequestMarketDataType:
    """Choose live, frozen, delayed or delayed-frozen data."""

    data_type: int


@dataclass(frozen=True, slots=True)
class RequestRealTimeBars:
    """Subscribe to 5-second bars."""

    req_id: int
    contract: Contract
    bar_seconds: int
    what: str
    use_rth: bool


@dataclass(frozen=True, slots=True)
class CancelRealTimeBars:
    """End a bar subscription."""

    req_id: int


@dataclass(frozen=True, slots=True)
class RequestHistoricalData:
    """Ask for bars up to ``end`` (empty: now), and for their continuation if ``keep_up_to_date``."""

    req_id: int
    contract: Contract
    end: str
    bar_size: str
    duration: str
    use_rth: bool
    what: str
    format_date: int
    keep_up_to_date: bool
    include_expired: bool = False


@dataclass(frozen=True, slots=True)
class CancelHistoricalData:
    """End a historical request that is kept up to date."""

    req_id: int


@dataclass(frozen=True, slots=True)
class RequestHeadTimestamp:
    """Ask how far back an instrument's bars reach."""

    req_id: int
    contract: Contract
    use_rth: bool
    what: str
    format_date: int


@dataclass(frozen=True, slots=True)
class CancelHeadTimestamp:
    """Withdraw a head timestamp request; it has been answered by then."""

    req_id: int


@dataclass(frozen=True, slots=True)
class PlacedOrder:
    """A placeOrder read to its last field; ``echo`` holds what OrderRequest has no field for, by IB's name."""

    order_id: int
    contract: Contract
    action: str
    quantity: Decimal | None
    order_type: str
    limit_price: Decimal | None
    aux_price: Decimal | None
    tif: str
    oca_group: str
    account: str
    order_ref: str
    transmit: bool
    parent_id: int
    outside_rth: bool
    what_if: bool
    algo_strategy: str
    algo_params: tuple[tuple[str, str], ...]
    echo: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CancelOrder:
    """Cancel one own order."""

    order_id: int
    manual_time: str = ""


@dataclass(frozen=True, slots=True)
class GlobalCancel:
    """Cancel every order of the account, whoever placed it."""


@dataclass(frozen=True, slots=True)
class RequestOpenOrders:
    """Ask for the client's own working orders."""


@dataclass(frozen=True, slots=True)
class RequestAutoOpenOrders:
    """Bind manual orders from now on; client 0 only."""

    bind: bool


@dataclass(frozen=True, slots=True)
class RequestAllOpenOrders:
    """Ask once for every client's working orders."""


@dataclass(frozen=True, slots=True)
class RequestCompletedOrders:
    """Ask for the orders that ended today."""

    api_only: bool


@dataclass(frozen=True, slots=True)
class RequestExecutions:
    """Ask for the executions of the day that pass a filter; empty fields match all."""

    req_id: int
    client_id: int
    account: str
    time: str
    symbol: str
    sec_type: str
    exchange: str
    side: str


@dataclass(frozen=True, slots=True)
class RequestAccountUpdates:
    """Start or stop account values and portfolio rows."""

    subscribe: bool
    account: str


@dataclass(frozen=True, slots=True)
class RequestAccountUpdatesMulti:
    """Start account values under a request id."""

    req_id: int
    account: str
    model_code: str
    ledger_and_nlv: bool


@dataclass(frozen=True, slots=True)
class CancelAccountUpdatesMulti:
    """Stop account values of a request id."""

    req_id: int


@dataclass(frozen=True, slots=True)
class RequestAccountSummary:
    """Start a summary of some tags."""

    req_id: int
    group: str
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CancelAccountSummary:
    """Stop a summary."""

    req_id: int


@dataclass(frozen=True, slots=True)
class RequestPositions:
    """Start position rows."""


@dataclass(frozen=True, slots=True)
class CancelPositions:
    """Stop position rows."""


@dataclass(frozen=True, slots=True)
class RequestPositionsMulti:
    """Start position rows under a request id."""

    req_id: int
    account: str
    model_code: str


@dataclass(frozen=True, slots=True)
class CancelPositionsMulti:
    """Stop position rows of a request id."""

    req_id: int


@dataclass(frozen=True, slots=True)
class RequestPnl:
    """Start the account's profit and loss."""

    req_id: int
    account: str
    model_code: str


@dataclass(frozen=True, slots=True)
class CancelPnl:
    """Stop it."""

    req_id: int


@dataclass(frozen=True, slots=True)
class RequestPnlSingle:
    """Start one position's profit and loss."""

    req_id: int
    account: str
    model_code: str
    con_id: int


@dataclass(frozen=True, slots=True)
class CancelPnlSingle:
    """Stop it."""

    req_id: int


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A request that IB knows and this gateway has no data for."""

    message_id: int
    req_id: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message id that no version in our range has."""

    message_id: str


Request = (
    StartApi
    | RequestIds
    | RequestManagedAccounts
    | RequestCurrentTime
    | SetServerLogLevel
    | RequestContractDetails
    | RequestMatchingSymbols
    | RequestMarketRule
    | RequestMarketData
    | CancelMarketData
    | RequestMarketDataType
    | RequestRealTimeBars
    | CancelRealTimeBars
    | RequestHistoricalData
    | CancelHistoricalData
    | RequestHeadTimestamp
    | CancelHeadTimestamp
    | PlacedOrder
    | CancelOrder
    | GlobalCancel
    | RequestOpenOrders
    | RequestAutoOpenOrders
    | RequestAllOpenOrders
    | RequestCompletedOrders
    | RequestExecutions
    | RequestAccountUpdates
    | RequestAccountUpdatesMulti
    | CancelAccountUpdatesMulti
    | RequestAccountSummary
    | CancelAccountSummary
    | RequestPositions
    | CancelPositions
    | RequestPositionsMulti
    | CancelPositionsMulti
    | RequestPnl
    | CancelPnl
    | RequestPnlSingle
    | CancelPnlSingle
    | Unsupported
    | Unknown
    | DataRequest
)
