"""What a client can ask about data: chains, option figures, single ticks, histograms, scans.

Owns: the typed messages of these requests.
Leaves: reading them (``protocol_data_requests``), answering (``wire_options``, ``wire_ticks``, ``wire_scanner``).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from .model import Contract, Scan


@dataclass(frozen=True, slots=True)
class RequestOptionParameters:
    """Ask for an underlying's option chains."""

    req_id: int
    underlying_con_id: int
    exchange: str = ""


@dataclass(frozen=True, slots=True)
class CalculateImpliedVolatility:
    """Ask which volatility explains an option's price."""

    req_id: int
    contract: Contract
    price: Decimal | None
    underlying: Decimal | None


@dataclass(frozen=True, slots=True)
class CalculateOptionPrice:
    """Ask what an option is worth at a volatility."""

    req_id: int
    contract: Contract
    volatility: Decimal | None
    underlying: Decimal | None


@dataclass(frozen=True, slots=True)
class CancelCalculation:
    """Withdraw a calculation; it has been answered by then."""

    req_id: int


@dataclass(frozen=True, slots=True)
class ExerciseOption:
    """Exercise long options early (1), or let them lapse (2)."""

    req_id: int
    contract: Contract
    action: int
    quantity: int
    account: str
    override: bool


@dataclass(frozen=True, slots=True)
class RequestTickByTick:
    """Subscribe to every trade, quote change or midpoint, after so many of the past."""

    req_id: int
    contract: Contract
    kind: str
    past: int
    ignore_size: bool


@dataclass(frozen=True, slots=True)
class CancelTickByTick:
    """End it."""

    req_id: int


@dataclass(frozen=True, slots=True)
class RequestHistoricalTicks:
    """Ask for up to 1,000 single ticks from ``start`` on or up to ``end``."""

    req_id: int
    contract: Contract
    include_expired: bool
    start: str
    end: str
    count: int
    what: str
    use_rth: bool


@dataclass(frozen=True, slots=True)
class RequestHistogram:
    """Ask how much was traded at each price of a period."""

    req_id: int
    contract: Contract
    use_rth: bool
    period: str


@dataclass(frozen=True, slots=True)
class CancelHistogram:
    """Withdraw it; it has been answered by then."""

    req_id: int


@dataclass(frozen=True, slots=True)
class RequestScannerParameters:
    """Ask which scans there are."""


@dataclass(frozen=True, slots=True)
class RequestScanner:
    """Start a scan that is repeated."""

    req_id: int
    scan: Scan


@dataclass(frozen=True, slots=True)
class CancelScanner:
    """End it."""

    req_id: int


@dataclass(frozen=True, slots=True)
class RequestMarketDepth:
    """Subscribe to the order book."""

    req_id: int
    contract: Contract


DataRequest = (
    RequestOptionParameters
    | CalculateImpliedVolatility
    | CalculateOptionPrice
    | CancelCalculation
    | ExerciseOption
    | RequestTickByTick
    | CancelTickByTick
    | RequestHistoricalTicks
    | RequestHistogram
    | CancelHistogram
    | RequestScannerParameters
    | RequestScanner
    | CancelScanner
    | RequestMarketDepth
)
