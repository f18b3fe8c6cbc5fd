"""Numbers of orders: as people write them, and how many units a share of equity buys. Pure.

Units: fractions of 1; prices per unit in the contract's currency.
"""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal

from strategies.exceptions import OrderDeniedError

Number = Decimal | int | float


def to_decimal(value: Number) -> Decimal:
    """Return the number as people write it: 0.1 becomes 0.1, not its binary neighbour."""
    return value if isinstance(value, Decimal) else Decimal(str(value))


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
