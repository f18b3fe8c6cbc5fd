"""IB's «errors» about orders that live on: 399, 2109, 10349.

Owns: when each is said, and its text.
Rule: a notice follows the order's first openOrder.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

from trading.gateway import hours
from trading.gateway.exchange_price_checks import Refusal
from trading.gateway.exchange_records import OrderRecord
from trading.gateway.hours import from_micros
from trading.gateway.instruments import Instrument
from trading.gateway.model import OrderRequest

FX_MINIMUM = Decimal(25_000)
PRESET = Refusal(10349, "Order TIF was set to DAY based on order preset.")


def notices(order: OrderRecord, instrument: Instrument, now: datetime, *, is_open: bool) -> Iterator[Refusal]:
    """What IB says about an order that it takes."""
    request = order.request
    if request.outside_rth and not order.outside_rth:
        yield Refusal(
            2109,
            "Order Event Warning:Attribute 'Outside Regular Trading Hours' is ignored based on the order type and "
            "destination. PlaceOrder is now being processed.",
        )
    if instrument.contract.sec_type == "CASH" and request.quantity < FX_MINIMUM:
        yield _odd_lot(request, instrument)
    if order.auction_us is not None:
        if not is_open:
            yield _sleeps(order, from_micros(order.auction_us))
    elif order.starts_us is not None and from_micros(order.starts_us) > now:
        yield _sleeps(order, from_micros(order.starts_us))
    elif not is_open:
        extended = order.outside_rth and instrument.contract.sec_type == "STK"
        yield _sleeps(order, hours.next_open(instrument.calendar, now, extended=extended))


def _odd_lot(request: OrderRequest, instrument: Instrument) -> Refusal:
    contract = instrument.contract
    return Refusal(
        399,
        f"Order Message:\n{request.action} {request.quantity} {contract.local_symbol} Forex\nWarning: Your order size "
        f"is below the {contract.symbol} {FX_MINIMUM:,} IdealPro minimum and will be routed as an odd lot order.",
    )


def _sleeps(order: OrderRecord, until: datetime | None) -> Refusal:
    local = "the next session" if until is None else f"{until.astimezone(hours.NEW_YORK):%Y-%m-%d %H:%M:%S} US/Eastern"
    request = order.request
    return Refusal(
        399,
        f"Order Message:\n{request.action} {request.quantity} {order.contract.local_symbol}\n"
        f"Warning: Your order will not be placed at the exchange until {local}.",
    )
