"""What IB refuses about an order's prices and times.

Owns: the prices that each type needs and their ticks, time in force, dates, auction deadlines; what a check is given.
Leaves: everything else that is refused (``exchange_checks``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from trading.gateway.exchange_auctions import CLOSING_TYPES, Auction
from trading.gateway.exchange_terms import TRAILING, Terms
from trading.gateway.instruments import Instrument, conforms
from trading.gateway.model import OrderRequest

_HUNDRED = Decimal(100)
# The prices that a type needs besides a trailing stop's: the limit, the stop or trigger.
_NEEDS = {
    "LMT": ("limit",),
    "LOC": ("limit",),
    "STP": ("stop",),
    "MIT": ("trigger",),
    "STP LMT": ("stop", "limit"),
    "LIT": ("trigger", "limit"),
}
_TIFS = {
    "MOC": frozenset({"DAY"}),
    "LOC": frozenset({"DAY"}),
    "MKT": frozenset({"DAY", "GTC", "GTD", "IOC", "FOK", "OPG"}),
    "LMT": frozenset({"DAY", "GTC", "GTD", "IOC", "FOK", "OPG"}),
}
_OTHER_TIFS = frozenset({"DAY", "GTC", "GTD"})
_KNOWN_TIFS = _TIFS["MKT"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """IB's code and text."""

    code: int
    text: str


@dataclass(frozen=True, slots=True)
class Case:
    """One order before the checks."""

    request: OrderRequest
    instrument: Instrument
    terms: Terms
    now: datetime
    auction: Auction | None = None
    size_limit: Decimal | None = None

    @property
    def sec_type(self) -> str:
        """What kind of contract it is for."""
        return self.instrument.contract.sec_type


def invalid(cause: str) -> Refusal:
    """IB's 321."""
    return Refusal(321, f"Error validating request.-'bK' : cause - {cause}")


_MUST_BE_DAY = Refusal(113, "The TIF should be set to DAY for MOC and LOC orders.")
_TYPE_AND_TIF = Refusal(111, "The TIF (Tif type) and the order type are incompatible.")
OFF_TICK = Refusal(110, "The price does not conform to the minimum price variation for this contract.")


def refuse_times(case: Case) -> Refusal | None:
    """Time in force, its date, and the deadline of an auction."""
    request = case.request
    allowed = _TIFS.get(request.order_type, _OTHER_TIFS)
    if request.tif not in _KNOWN_TIFS or (request.tif == "OPG" and case.sec_type != "STK"):
        return invalid(
            f"The time-in-force {request.tif} is invalid for this combination of exchange and security type."
        )
    if request.tif not in allowed:
        return _MUST_BE_DAY if request.order_type in CLOSING_TYPES else _TYPE_AND_TIF
    if request.tif == "GTD" and not _is_ahead(case):
        return Refusal(334, "Invalid Good Till Date order")
    if case.auction is not None and case.now >= case.auction.deadline:
        return late(case.auction.deadline)
    return None


def _is_ahead(case: Case) -> bool:
    """Tell whether a good-till date leaves the order any time."""
    till, after = case.terms.good_till, case.terms.good_after
    return till is not None and till > max(case.now, after or case.now)


def late(deadline: datetime) -> Refusal:
    """What comes too late for an auction."""
    return Refusal(
        201, f"Order rejected - reason:The exchange takes orders for this auction until {deadline:%H:%M:%S} UTC"
    )


def refuse_prices(case: Case) -> Refusal | None:
    """The prices that the type needs, on their ticks."""
    request = case.request
    if request.order_type in TRAILING:
        return _refuse_trailing(case)
    for name in _NEEDS.get(request.order_type, ()):
        refusal = _refuse_price(case, request.limit_price if name == "limit" else request.aux_price, name)
        if refusal is not None:
            return refusal
    return None


def _refuse_price(case: Case, price: Decimal | None, name: str) -> Refusal | None:
    if case.sec_type == "BAG" and price is not None:  # a spread may cost nothing, or less
        return None if conforms(price, case.instrument.tick(abs(price))) else OFF_TICK
    if price is None or price <= 0:
        return invalid(f"The {name} price of the order is missing or not above zero")
    return None if conforms(price, case.instrument.tick(price)) else OFF_TICK


def _refuse_trailing(case: Case) -> Refusal | None:
    terms = case.terms
    if (terms.trail is None) == (terms.trail_percent is None):
        return invalid("Either a trailing amount or a trailing percent is needed, and not both")
    if terms.trail_percent is not None and not 0 < terms.trail_percent < _HUNDRED:
        return invalid("The trailing percent must be between 0 and 100")
    prices = (terms.trail, "trailing amount"), (terms.trail_stop, "trailing stop")
    for price, name in prices:
        refusal = None if price is None else _refuse_price(case, price, name)
        if refusal is not None:
            return refusal
    if case.request.order_type != "TRAIL LIMIT":
        return None
    if terms.limit_offset is None:
        return invalid("The limit offset of the trailing stop limit order is missing")
    step = case.instrument.tick(abs(terms.limit_offset) or Decimal(1))
    return None if conforms(terms.limit_offset, step) else OFF_TICK
