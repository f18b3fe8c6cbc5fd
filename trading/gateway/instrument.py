"""One listed instrument, and the price steps that it trades in.

Owns: what the table says of an instrument, market rules, tick arithmetic, the order types that are listed.
Leaves: finding instruments (``instruments``), prices (``market``). Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from functools import lru_cache

from trading.gateway.model import Contract, PriceIncrement

MARKET_RULES: dict[int, tuple[PriceIncrement, ...]] = {
    26: (PriceIncrement(Decimal(0), Decimal("0.01")),),
    32: (PriceIncrement(Decimal(0), Decimal("0.0001")), PriceIncrement(Decimal(1), Decimal("0.01"))),
    59: (PriceIncrement(Decimal(0), Decimal("0.005")),),
    239: (PriceIncrement(Decimal(0), Decimal("0.00005")),),
    67: (PriceIncrement(Decimal(0), Decimal("0.25")),),
    73: (PriceIncrement(Decimal(0), Decimal("0.1")),),
    109: (PriceIncrement(Decimal(0), Decimal("0.01")), PriceIncrement(Decimal(3), Decimal("0.05"))),
    110: (PriceIncrement(Decimal(0), Decimal("0.05")), PriceIncrement(Decimal(3), Decimal("0.10"))),
    635: (PriceIncrement(Decimal(0), Decimal("0.05")),),
    2521: (PriceIncrement(Decimal(0), Decimal("0.01")), PriceIncrement(Decimal(50), Decimal("0.02"))),
}
# In IB's spelling of orders; reqContractDetails lists them without blanks.
_COMMON_TYPES = ("MKT", "LMT", "STP", "STP LMT", "MIT", "LIT", "TRAIL", "TRAIL LIMIT")
_TYPES = {"STK": (*_COMMON_TYPES, "MOC", "LOC"), "BAG": ("MKT", "LMT"), "IND": ()}
_ATTRIBUTES = ("ACTIVETIM", "ALERT", "ALGO", "AON", "DAY", "FOK", "GAT", "GTC", "GTD", "IOC", "OCA", "WHATIF")
STOCK_EXCHANGES = ("SMART", "AMEX", "NYSE", "CBOE", "ARCA", "NASDAQ", "ISLAND", "BATS", "IEX", "DRCTEDGE", "BYX")


@dataclass(frozen=True, slots=True)
class Instrument:
    """One row of the table."""

    contract: Contract
    long_name: str
    stock_type: str
    industry: str
    category: str
    subcategory: str
    market_rule: int
    calendar: str  # an exchange_calendars name, or FX
    time_zone: str
    size_increment: Decimal
    reference_price: Decimal  # anchors generated prices
    daily_volume: int
    volatility: float  # of a year, as a fraction
    price_magnifier: int = 1  # prices are in so many parts of the currency: 100 for pence
    liquid_calendar: str = ""  # of the regular hours, where they differ from the trading hours
    underlying: int = 0  # conId of what a future or option follows
    carry: float = 0.0  # yearly premium of a future over it
    contract_month: str = ""  # yyyymm, futures and options
    exchanges: tuple[str, ...] = ()  # an option's
    is_cash_settled: bool = True  # futures and options

    @property
    def con_id(self) -> int:
        """The contract id."""
        return self.contract.con_id

    @property
    def multiplier(self) -> Decimal:
        """Units of the underlying per contract."""
        return Decimal(self.contract.multiplier or 1)

    @property
    def rule(self) -> tuple[PriceIncrement, ...]:
        """The price steps."""
        return MARKET_RULES[self.market_rule]

    @property
    def finest_tick(self) -> Decimal:
        """The smallest price step of all."""
        return min(step.increment for step in self.rule)

    @property
    def regular_calendar(self) -> str:
        """The calendar of the regular hours."""
        return self.liquid_calendar or self.calendar

    @property
    def valid_exchanges(self) -> tuple[str, ...]:
        """Exchanges an order or query may name."""
        if self.exchanges:
            return self.exchanges
        if self.contract.sec_type != "STK":
            return (self.contract.exchange,)
        if self.contract.primary_exchange in STOCK_EXCHANGES:
            return STOCK_EXCHANGES
        return ("SMART", self.contract.primary_exchange)

    def tick(self, price: Decimal) -> Decimal:
        """The smallest price step at ``price``."""
        return tick_at(MARKET_RULES[self.market_rule], price)


def listed_types(sec_type: str) -> tuple[str, ...]:
    """The order types that the exchanges take for a kind of contract, in the spelling of orders."""
    return _TYPES.get(sec_type, _COMMON_TYPES)


@lru_cache(maxsize=16)
def order_type_names(sec_type: str) -> tuple[str, ...]:
    """The same and the attributes, as reqContractDetails lists them."""
    types = (kind.replace("TRAIL LIMIT", "TRAILLMT").replace(" ", "") for kind in listed_types(sec_type))
    return tuple(sorted({*_ATTRIBUTES, *types, *(("OPG", "RTH") if sec_type == "STK" else ())}))


def tick_at(rule: Sequence[PriceIncrement], price: Decimal) -> Decimal:
    """The increment of the last step of ``rule`` whose low edge is not above ``price``."""
    increment = rule[0].increment
    for step in rule:
        if price >= step.low_edge:
            increment = step.increment
    return increment


def conforms(price: Decimal, tick: Decimal) -> bool:
    """Tell whether ``price`` is a whole number of ticks."""
    return price % tick == 0


def round_to_tick(price: Decimal, tick: Decimal) -> Decimal:
    """Round down to a whole number of ticks."""
    return (price / tick).to_integral_value(rounding=ROUND_FLOOR) * tick
