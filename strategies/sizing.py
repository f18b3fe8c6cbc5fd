"""From a wish to an order: quantities, order objects, and what is refused before the broker sees it. Pure.

Units: quantities signed Decimal (buys positive); fractions of 1; prices per unit in the contract's currency.
"""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING

from ib_async import LimitOrder, MarketOrder, Order, StopOrder, TagValue

from strategies.exceptions import OrderDeniedError

if TYPE_CHECKING:
    from ib_async import Contract

ORDER_TYPES = ("MKT", "LMT", "STP", "MOC")
ADAPTIVE_TYPES = ("MKT", "LMT")
MULTIPLIED = ("OPT", "FUT", "FOP", "WAR", "IOPT")
URGENCIES = ("Patient", "Normal", "Urgent")
Number = Decimal | int | float


def to_decimal(value: Number) -> Decimal:
    """Return the number as people write it: 0.1 becomes 0.1, not its binary neighbour."""
    return value if isinstance(value, Decimal) else Decimal(str(value))


def says_multiplier(contract: Contract) -> bool:
    """Tell whether what one unit stands for is known: given, or a type of contract that has no multiplier."""
    return bool(contract.multiplier) or contract.secType not in MULTIPLIED


def multiplier_of(contract: Contract) -> Decimal:
    """Return the contract's multiplier; IB leaves it empty for stocks, which means 1."""
    return Decimal(contract.multiplier) if contract.multiplier else Decimal(1)


def size_to_quantity(equity: Decimal, fraction: Decimal, price: Decimal, multiplier: Decimal) -> Decimal:
    """Return whole units that the fraction of equity buys, rounded down.

    Raises: OrderDeniedError when equity or price is not positive, or when not even one unit fits.
    """
    if equity <= 0:
        raise OrderDeniedError(f"No equity to size with ({equity}).", code="no_equity", equity=str(equity))
    if price <= 0:
        raise OrderDeniedError(f"No usable price ({price}).", code="no_price", price=str(price))
    quantity = (equity * fraction / (price * multiplier)).to_integral_value(rounding=ROUND_FLOOR)
    if quantity <= 0:
        raise OrderDeniedError(
            f"{fraction:.2%} of {equity:.2f} does not buy one unit at {price}.",
            code="zero_quantity",
            equity=str(equity),
            price=str(price),
        )
    return quantity


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
    """Return the ib_async order; Adaptive only where IB offers it (MKT and LMT).

    Raises: OrderDeniedError naming what is missing or unknown.
    """
    _check(quantity, order_type, urgency, limit, stop)
    side, size = ("BUY" if quantity > 0 else "SELL"), _wire_number(abs(quantity))
    order: Order
    if order_type == "LMT":
        order = LimitOrder(side, size, float(limit or 0))
    elif order_type == "STP":
        order = StopOrder(side, size, float(stop or 0))
    else:
        order = MarketOrder(side, size)
        order.orderType = order_type
    adaptive = algo and order_type in ADAPTIVE_TYPES
    if adaptive:
        order.algoStrategy = "Adaptive"
        order.algoParams = [TagValue("adaptivePriority", urgency)]
    # IB ignores outsideRth on market orders with a warning that ib_async takes for a state, and refuses it on algos.
    order.outsideRth = not use_rth and not adaptive and order_type in ("LMT", "STP")
    order.tif = tif
    order.transmit = transmit
    return order


def _check(quantity: Decimal, order_type: str, urgency: str, limit: Decimal | None, stop: Decimal | None) -> None:
    if not quantity.is_finite() or quantity == 0:
        raise OrderDeniedError(f"The quantity is {quantity}; there is nothing to trade.", code="zero_quantity")
    if order_type not in ORDER_TYPES:
        raise OrderDeniedError(
            f"Order type {order_type!r} is unknown; use one of {', '.join(ORDER_TYPES)}.", code="unknown_order_type"
        )
    if urgency not in URGENCIES:
        raise OrderDeniedError(
            f"Urgency {urgency!r} is unknown; use one of {', '.join(URGENCIES)}.", code="bad_urgency"
        )
    if order_type == "LMT" and not (limit is not None and limit.is_finite()):
        raise OrderDeniedError("A limit order needs a limit price.", code="limit_missing")
    if order_type == "STP" and not (stop is not None and stop.is_finite() and stop > 0):
        raise OrderDeniedError("A stop order needs a stop price.", code="stop_missing")


def _wire_number(quantity: Decimal) -> float:
    return int(quantity) if quantity == quantity.to_integral_value() else float(quantity)
