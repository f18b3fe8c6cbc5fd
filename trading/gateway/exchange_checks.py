"""What IB refuses, with IB's codes and texts.

Owns: checks of one order against instrument and account rules, of a modification against its original.
Leaves: margin (the account says it), contract resolution (``instruments``, ``exchange_combos``), prices and times of an
order (``exchange_price_checks``).
Rule: a check answers None or the refusal; the first refusal counts. What would change an order's fate and is not
simulated is refused, never ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from trading.gateway.exchange_price_checks import Case, Refusal, invalid, refuse_prices, refuse_times
from trading.gateway.exchange_records import OrderRecord
from trading.gateway.instruments import listed_types
from trading.gateway.model import OrderRequest, WhatIf

ADAPTIVE_PRIORITIES = frozenset({"Urgent", "Normal", "Patient"})
_NOT_SIMULATED = (
    "conditions", "hedgeType", "scalePriceIncrement", "minQty", "discretionaryAmt", "percentOffset", "orderComboLegs",
    "deltaNeutralContract", "adjustedOrderType", "deltaNeutralOrderType", "auctionStrategy", "duration",
    "activeStartTime", "activeStopTime", "autoCancelParent", "discretionaryUpToLimitPrice", "faGroup", "faMethod",
    "faPercentage", "faProfile", "modelCode",
)  # fmt: skip
_TRIGGERS = frozenset({"", "0", "2"})  # the default and «last» are the last price

_REFUSED_SWITCHES = (
    ("eTradeOnly", 10268, "The 'EtradeOnly' order attribute is not supported."),
    ("firmQuoteOnly", 10269, "The 'firmQuoteOnly' order attribute is not supported."),
    ("nbboPriceCap", 10270, "The 'nbboPriceCap' order attribute is not supported."),
    ("cashQty", 10244, "Cash Quantity cannot be used for this order"),
)
# What openOrder shows where nothing was asked for: clients send it back.
_NOTHING = frozenset({"", "0", "0.0", "None", "2147483647"})

Check = Callable[[Case], Refusal | None]


def refuse_order(case: Case) -> Refusal | None:
    """The first reason why IB would not take the order."""
    for check in _CHECKS:
        refusal = check(case)
        if refusal is not None:
            return refusal
    return None


def _action(case: Case) -> Refusal | None:
    action = case.request.action
    return None if action in ("BUY", "SELL") else invalid(f"Invalid action: {action or 'none'}; BUY or SELL is needed")


def _tradable(case: Case) -> Refusal | None:
    if case.sec_type != "IND":
        return None
    return Refusal(203, "The security is not available or allowed for this account.")


def _type(case: Case) -> Refusal | None:
    kind = case.request.order_type
    if kind in listed_types(case.sec_type):
        return None
    return Refusal(387, f"Unsupported order type for this exchange and security type: {kind or 'none'}")


def _attributes(case: Case) -> Refusal | None:
    echo = case.request.echo
    for name, code, text in _REFUSED_SWITCHES:
        if echo.get(name, "") not in _NOTHING:
            return Refusal(code, text)
    if echo.get("triggerMethod", "") not in _TRIGGERS:
        return Refusal(10340, "The following order attribute is not supported: triggerMethod")
    asked = next((name for name in _NOT_SIMULATED if _is_asked(echo, name)), None)
    return None if asked is None else Refusal(10340, f"The following order attribute is not supported: {asked}")


def _is_asked(echo: Mapping[str, str], name: str) -> bool:
    text = echo.get(name, "")
    if name == "orderComboLegs":  # a count, then a price for each leg, mostly unset
        return any(price and not price.startswith("1.79769") for price in text.split("\0")[1:])
    return text not in _NOTHING and not text.startswith("1.79769")


def _size(case: Case) -> Refusal | None:
    quantity, instrument = case.request.quantity, case.instrument
    if quantity == 0:
        return Refusal(434, "The order size cannot be zero.")
    if not quantity.is_finite() or quantity < 0:
        return invalid(f"Invalid order size: {quantity}")
    if case.size_limit is not None and quantity > case.size_limit:
        return Refusal(
            383,
            f'The following order "ID:{case.request.order_id}" size exceeds the Size Limit of {case.size_limit}. '
            "Restriction is specified in Precautionary Settings of Global Configuration/Presets.",
        )
    if quantity % instrument.size_increment == 0:
        return None
    if quantity % 1:
        return Refusal(
            10243,
            "Fractional-sized order cannot be placed via API. Please use desktop version to revise this order.",
        )
    step = instrument.size_increment
    if quantity < step:
        return Refusal(388, f"The order size {quantity} is smaller than the minimum required size of {step}.")
    return Refusal(10250, f"The size {quantity} does not conform to the minimum variation of {step} for this contract")


def _algo(case: Case) -> Refusal | None:
    request = case.request
    if not request.algo_strategy:
        return None
    if request.algo_strategy != "Adaptive":
        return Refusal(439, "The order processing failed. Algorithm definition not found.")
    if request.order_type not in ("MKT", "LMT") or case.sec_type != "STK":
        return Refusal(442, "Specified algorithm is not allowed for this order.")
    unknown = [tag for tag, _ in request.algo_params if tag != "adaptivePriority"]
    if unknown:
        return Refusal(443, f"Order processing failed. Unknown algo attribute: {unknown[0]}")
    values = [value for _, value in request.algo_params]
    if len(values) != 1 or values[0] not in ADAPTIVE_PRIORITIES:
        return Refusal(441, "Algo attributes validation failed: adaptivePriority must be Urgent, Normal or Patient")
    return None


_CHECKS: tuple[Check, ...] = (_action, _tradable, _type, _attributes, refuse_times, _size, refuse_prices, _algo)


def refuse_modification(original: OrderRecord, case: Case, con_id: int) -> Refusal | None:
    """What may not change in a working order: contract and legs, side, type, family, and what has been filled."""
    request, before = case.request, original.request
    if con_id != original.contract.con_id or case.terms.legs != original.terms.legs:
        return _MISMATCH
    if request.action != before.action:
        return _MISMATCH
    if request.order_type != before.order_type:
        return Refusal(329, "Order modify failed. Cannot change to the new order type.")
    if request.parent_id != before.parent_id:
        return Refusal(10341, "Parent order id cannot be modified")
    if request.oca_group != before.oca_group:
        return Refusal(10326, "OCA group revision is not allowed")
    if before.oca_group and case.terms.oca_type != original.terms.oca_type:
        return Refusal(10327, "OCA group type revision is not allowed")
    if original.filled and request.quantity <= original.filled:
        return Refusal(
            201,
            f"Order rejected - reason:The quantity {request.quantity} is not above what was filled, {original.filled}",
        )
    return None


GROUP_CLOSED = Refusal(201, "Order rejected - reason:OCA group is already filled")
_MISMATCH = Refusal(105, "Order being modified does not match original order.")


def refuse_crowd(active: int, limit: int) -> Refusal | None:
    """IB's limit of working orders by contract, side and account."""
    if active < limit:
        return None
    return Refusal(
        201,
        f"Order rejected - reason:The limit of {limit} active orders for this contract, side and account is reached",
    )


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


def refuse_parent(parent: OrderRecord | None, request: OrderRequest) -> Refusal | None:
    """A child needs a parent that still works."""
    if not request.parent_id:
        return None
    if parent is None:
        return Refusal(135, f"Can't find order with id = {request.parent_id}")
    return Refusal(10006, "Missing parent order") if parent.is_done else None


def refuse_account(request: OrderRequest, account: str) -> Refusal | None:
    """The one account, or none named."""
    return None if request.account in ("", account) else invalid(f"Invalid account code '{request.account}'.")
