"""From a wish to an order: order objects, and what is refused before the broker sees it. Pure.

Units: quantities signed Decimal (buys positive); fractions of 1; prices per unit in the contract's currency.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from ib_async import LimitOrder, MarketOrder, Order, StopOrder, TagValue

from strategies.exceptions import OrderDeniedError
from strategies.order_types import TYPES, OrderType, Terms, check_terms
from strategies.quantities import Number as Number
from strategies.quantities import size_to_quantity as size_to_quantity
from strategies.quantities import to_decimal as to_decimal

if TYPE_CHECKING:
    from ib_async import Contract

ORDER_TYPES = tuple(TYPES)
MULTIPLIED = ("OPT", "FUT", "FOP", "WAR", "IOPT")
URGENCIES = ("Patient", "Normal", "Urgent")


def says_multiplier(contract: Contract) -> bool:
    """Tell whether what one unit stands for is known: given, or a type of contract that has no multiplier."""
    return bool(contract.multiplier) or contract.secType not in MULTIPLIED


def multiplier_of(contract: Contract) -> Decimal:
    """Return the contract's multiplier; IB leaves it empty for stocks, which means 1."""
    return Decimal(contract.multiplier) if contract.multiplier else Decimal(1)


def build_order(
    quantity: Decimal,
    order_type: str,
    *,
    algo: bool,
    urgency: str,
    limit: Decimal | None,
    stop: Decimal | None,
    use_rth: bool,
    tif: str,
    transmit: bool,
) -> Order:
    """Return the ib_async order of the older types; see ``order_of``.

    Raises: OrderDeniedError naming what is missing or unknown.
    """
    terms = Terms(order_type, limit, stop, tif=tif, outside_rth=False if use_rth else None)
    return order_of(quantity, terms, algo=algo, urgency=urgency, transmit=transmit)


def order_of(
    quantity: Decimal,
    terms: Terms,
    *,
    algo: bool = False,
    urgency: str = "Patient",
    transmit: bool = True,
    sec_type: str = "STK",
) -> Order:
    """Return the ib_async order; Adaptive only where IB offers it (MKT and LMT of one day, no combinations).

    Raises: OrderDeniedError naming what is missing or unknown.
    """
    if not quantity.is_finite() or quantity == 0:
        raise OrderDeniedError(f"The quantity is {quantity}; there is nothing to trade.", code="zero_quantity")
    kind = check_terms(terms, sec_type)
    if urgency not in URGENCIES:
        raise OrderDeniedError(
            f"Urgency {urgency!r} is unknown; use one of {', '.join(URGENCIES)}.", code="bad_urgency"
        )
    order = _priced(kind, terms, "BUY" if quantity > 0 else "SELL", _wire_number(abs(quantity)))
    adaptive = algo and kind.adaptive and terms.tif in ("DAY", "GTC", "GTD") and sec_type != "BAG"
    if adaptive:
        order.algoStrategy = "Adaptive"
        order.algoParams = [TagValue("adaptivePriority", urgency)]
    # IB ignores outsideRth on market orders with a warning that ib_async takes for a state, and refuses it on algos.
    wanted = terms.outside_rth is not False and terms.tif != "OPG"
    order.outsideRth = wanted and not adaptive and kind.outside_rth
    order.tif = terms.tif
    order.goodTillDate = ib_time(terms.good_till)
    order.goodAfterTime = ib_time(terms.good_after)
    order.transmit = transmit
    return order


def ib_time(moment: datetime | None) -> str:
    """Return a time as IB reads it without guessing a zone: ``yyyymmdd-hh:mm:ss`` is UTC; empty for none."""
    return "" if moment is None else moment.astimezone(UTC).strftime("%Y%m%d-%H:%M:%S")


def _priced(kind: OrderType, terms: Terms, side: str, size: float) -> Order:
    """Return the order with the prices of its type in the fields where IB expects them."""
    order: Order
    if kind.name == "LMT":
        return LimitOrder(side, size, float(terms.limit or 0))
    if kind.name == "STP":
        return StopOrder(side, size, float(terms.stop or 0))
    order = MarketOrder(side, size)
    order.orderType = kind.name
    if kind.limit and terms.limit is not None:
        order.lmtPrice = float(terms.limit)
    if kind.trail:
        _trail(order, terms)
    elif kind.stop and terms.stop is not None:
        order.auxPrice = float(terms.stop)
    return order


def _trail(order: Order, terms: Terms) -> None:
    if terms.trail is not None:
        order.auxPrice = float(terms.trail)
    if terms.trail_percent is not None:
        order.trailingPercent = float(terms.trail_percent)
    if terms.stop is not None:
        order.trailStopPrice = float(terms.stop)
    if terms.limit_offset is not None and order.orderType == "TRAIL LIMIT":
        order.lmtPriceOffset = float(terms.limit_offset)


def _wire_number(quantity: Decimal) -> float:
    return int(quantity) if quantity == quantity.to_integral_value() else float(quantity)
