"""What IB refuses, with IB's codes and texts.

Owns: checks of one order request against instrument and account rules, of a modification against its original.
Leaves: margin (``exchange_orders`` asks the account), contract resolution (``instruments``).
Rule: a check answers None or the refusal; the first refusal counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from trading.gateway.exchange_state import OrderRecord
from trading.gateway.instruments import Instrument, conforms
from trading.gateway.model import OrderRequest, WhatIf

ORDER_TYPES = frozenset({"MKT", "LMT", "STP"})
TIFS = frozenset({"DAY", "GTC"})
ADAPTIVE_PRIORITIES = frozenset({"Urgent", "Normal", "Patient"})
_INVALID = "Error validating request.-'bK' : cause - "
FX_MINIMUM = Decimal(25_000)


@dataclass(frozen=True, slots=True)
class Refusal:
    """IB's code and text."""

    code: int
    text: str


Check = Callable[[OrderRequest, Instrument], Refusal | None]


def refuse_order(request: OrderRequest, instrument: Instrument) -> Refusal | None:
    """The first reason why IB would not take the order."""
    for check in _CHECKS:
        refusal = check(request, instrument)
        if refusal is not None:
            return refusal
    return None


def _action(request: OrderRequest, instrument: Instrument) -> Refusal | None:
    if request.action in ("BUY", "SELL"):
        return None
    return Refusal(321, f"{_INVALID}Invalid action: {request.action or 'none'}; BUY or SELL is needed")


def _tradable(request: OrderRequest, instrument: Instrument) -> Refusal | None:
    if instrument.contract.sec_type != "IND":
        return None
    return Refusal(203, "The security is not available or allowed for this account.")


def _type(request: OrderRequest, instrument: Instrument) -> Refusal | None:
    if request.order_type in ORDER_TYPES:
        return None
    return Refusal(387, f"Unsupported order type for this exchange and security type: {request.order_type or 'none'}")


def _tif(request: OrderRequest, instrument: Instrument) -> Refusal | None:
    if request.tif in TIFS:
        return None
    return Refusal(
        321, f"{_INVALID}The time-in-force {request.tif} is invalid for this combination of exchange and type."
    )


def _size(request: OrderRequest, instrument: Instrument) -> Refusal | None:
    quantity = request.quantity
    if quantity == 0:
        return Refusal(434, "The order size cannot be zero.")
    if not quantity.is_finite() or quantity < 0:
        return Refusal(321, f"{_INVALID}Invalid order size: {quantity}")
    if quantity % instrument.size_increment == 0:
        return None
    if quantity % 1:
        return Refusal(
            10243,
            "Fractional-sized order cannot be placed via API. Please use desktop version to revise this order.",
        )
    return Refusal(
        388, f"The order size {quantity} does not conform to the size increment {instrument.size_increment}."
    )


def _prices(request: OrderRequest, instrument: Instrument) -> Refusal | None:
    needed = {"LMT": request.limit_price, "STP": request.aux_price}
    if request.order_type not in needed:
        return None
    price, name = needed[request.order_type], {"LMT": "limit", "STP": "stop"}[request.order_type]
    if price is None or not price.is_finite() or price <= 0:
        return Refusal(321, f"{_INVALID}The {name} price of the order is missing or not above zero")
    if not conforms(price, instrument.tick(price)):
        return Refusal(110, "The price does not conform to the minimum price variation for this contract.")
    return None


def _algo(request: OrderRequest, instrument: Instrument) -> Refusal | None:
    if not request.algo_strategy:
        return None
    if request.algo_strategy != "Adaptive":
        return Refusal(439, "The order processing failed. Algorithm definition not found.")
    if request.order_type not in ("MKT", "LMT") or instrument.contract.sec_type != "STK":
        return Refusal(442, "Specified algorithm is not allowed for this order.")
    unknown = [tag for tag, _ in request.algo_params if tag != "adaptivePriority"]
    if unknown:
        return Refusal(443, f"Order processing failed. Unknown algo attribute: {unknown[0]}")
    values = [value for _, value in request.algo_params]
    if len(values) != 1 or values[0] not in ADAPTIVE_PRIORITIES:
        return Refusal(441, "Algo attributes validation failed: adaptivePriority must be Urgent, Normal or Patient")
    return None


_CHECKS: tuple[Check, ...] = (_action, _tradable, _type, _tif, _size, _prices, _algo)


def refuse_modification(original: OrderRecord, request: OrderRequest, con_id: int) -> Refusal | None:
    """What may not change in a working order: its contract, side and type, and what has been filled."""
    same = (
        con_id == original.contract.con_id
        and request.action == original.request.action
        and request.order_type == original.request.order_type
        and request.parent_id == original.request.parent_id
    )
    if not same:
        return Refusal(105, "Order being modified does not match original order.")
    if original.filled and request.quantity <= original.filled:
        return Refusal(
            201,
            f"Order rejected - reason:The quantity {request.quantity} is not above what was filled, {original.filled}",
        )
    return None


def refuse_margin(impact: WhatIf, currency: str) -> Refusal | None:
    """Refuse what raises margin above equity; closing is always allowed."""
    if impact.init_margin_change <= 0 or impact.equity_after >= impact.init_margin_after:
        return None
    return Refusal(
        201,
        "Order rejected - reason:YOUR ORDER IS NOT ACCEPTED. IN ORDER TO OBTAIN THE DESIRED POSITION YOUR EQUITY WITH "
        f"LOAN VALUE [{impact.equity_after:.2f} {currency}] MUST EXCEED THE INITIAL MARGIN "
        f"[{impact.init_margin_after:.2f} {currency}]",
    )


def odd_lot_notice(request: OrderRequest, instrument: Instrument) -> Refusal | None:
    """IB's warning about small FX orders: the order lives."""
    if instrument.contract.sec_type != "CASH" or request.quantity >= FX_MINIMUM:
        return None
    contract = instrument.contract
    return Refusal(
        399,
        f"Order Message:\n{request.action} {request.quantity} {contract.local_symbol} Forex\nWarning: Your order size "
        f"is below the {contract.symbol} {FX_MINIMUM:,} IdealPro minimum and will be routed as an odd lot order.",
    )
