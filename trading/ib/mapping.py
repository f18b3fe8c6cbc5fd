"""IB's objects ↔ our snapshots. Pure: no sockets, no Django, no clock.

Owns: every conversion of float, sentinel and text into Decimal, None and aware UTC. Camel case stops here.
Rule: prices and sizes arrive as floats of short decimal texts, so their shortest repr is the number IB meant.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ib_async import Contract, Execution, Fill, Order, Trade
from ib_async.objects import CommissionReport
from ib_async.util import UNSET_DOUBLE, UNSET_INTEGER

from strategies.combos import COMBINATION
from strategies.events import CommissionSnapshot, ContractSnapshot, FillSnapshot, LegSnapshot, TradeSnapshot
from trading.ib.magnifiers import magnifier_said

_SMALLEST = Decimal("0.0000000001")  # the ledger keeps ten places
_PENDING_COMMISSION = Decimal(-1)


@lru_cache(maxsize=4096)
def _decimal_of(value: float) -> Decimal:
    if value.is_integer():
        return Decimal(int(value))
    number = Decimal(repr(value))
    exponent = number.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -10:
        return number.quantize(_SMALLEST, rounding=ROUND_HALF_EVEN)
    return number


def to_decimal(value: float | int | str | Decimal) -> Decimal:
    """Return the number as IB wrote it, at most ten places.

    Raises: ValueError for NaN, infinity and IB's «unset».
    """
    if isinstance(value, Decimal):
        return value
    number = float(value)
    if number != number or number in (UNSET_DOUBLE, float("inf"), float("-inf")):
        raise ValueError(f"{value!r} is not a number IB reports.")
    return _decimal_of(number)


def to_optional_decimal(value: Any) -> Decimal | None:
    """Return the number, or None for IB's ways to say «not set» (None, empty, unset double, NaN)."""
    if value is None or value == "":
        return None
    try:
        return to_decimal(value)
    except ValueError:
        return None


def to_utc(moment: datetime) -> datetime:
    """Return an aware time in UTC.

    Raises: ValueError for a naive time: guessing its zone would move the fill by hours.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone.")
    return moment.astimezone(UTC)


def contract_snapshot(contract: Contract) -> ContractSnapshot:
    """Return what the ledger keeps of a resolved contract.

    Raises: ValueError when the contract has no conId.
    """
    if not contract.conId and contract.secType != COMBINATION:
        raise ValueError(f"The contract {contract.symbol!r} has no conId.")
    strike = to_optional_decimal(contract.strike)
    return ContractSnapshot(
        con_id=contract.conId,
        symbol=contract.symbol,
        sec_type=contract.secType,
        exchange=contract.exchange,
        currency=contract.currency,
        primary_exchange=contract.primaryExchange,
        local_symbol=contract.localSymbol,
        trading_class=contract.tradingClass,
        multiplier=to_optional_decimal(contract.multiplier) or Decimal(1),
        expiry=contract.lastTradeDateOrContractMonth,
        strike=strike if strike else None,
        right="" if contract.right in ("", "0", "?") else contract.right[:1],
        price_magnifier=magnifier_said(contract.conId),
        legs=legs_of(contract),
    )


def legs_of(contract: Contract) -> tuple[LegSnapshot, ...]:
    """Return a combination's legs; none for any other contract."""
    if contract.secType != COMBINATION:
        return ()
    return tuple(
        LegSnapshot(leg.conId, leg.ratio if leg.action == "BUY" else -leg.ratio) for leg in contract.comboLegs or ()
    )


def order_snapshot(
    contract: ContractSnapshot,
    order: Order,
    *,
    status: str,
    filled: Decimal = Decimal(0),
    remaining: Decimal | None = None,
    average_price: Decimal | None = None,
    message: str = "",
) -> TradeSnapshot:
    """Return an order with the status that IB itself sent, not the one ib_async inferred."""
    quantity = to_optional_decimal(order.totalQuantity) or Decimal(0)
    return TradeSnapshot(
        order_ref=order.orderRef,
        client_id=order.clientId,
        order_id=order.orderId,
        perm_id=order.permId,
        account=order.account,
        contract=contract,
        action=order.action,
        quantity=quantity,
        order_type=order.orderType,
        limit_price=limit_of(order),
        stop_price=stop_of(order),
        tif=order.tif or "DAY",
        status=status,
        filled=filled,
        remaining=quantity - filled if remaining is None else remaining,
        average_price=average_price,
        message=message,
        trail_amount=trail_of(order),
        trail_percent=to_optional_decimal(order.trailingPercent) if _trails(order) else None,
        limit_offset=to_optional_decimal(order.lmtPriceOffset) if order.orderType == "TRAIL LIMIT" else None,
        good_till=moment_of(order.goodTillDate),
        good_after=moment_of(order.goodAfterTime),
        outside_rth=bool(order.outsideRth),
        algo=algo_of(order),
        oca_group=order.ocaGroup,
        parent_id=order.parentId,
    )


def limit_of(order: Order) -> Decimal | None:
    """Return the limit price of an order type that has one; IB echoes 0 for the others."""
    has_limit = order.orderType in ("LOC", "LIT") or "LMT" in order.orderType
    return to_optional_decimal(order.lmtPrice) if has_limit else None


def stop_of(order: Order) -> Decimal | None:
    """Return the trigger price of an order type that has one; IB echoes 0 for the others."""
    if _trails(order):
        return to_optional_decimal(order.trailStopPrice) or None
    return to_optional_decimal(order.auxPrice) if order.orderType.startswith(("STP", "MIT", "LIT")) else None


def trail_of(order: Order) -> Decimal | None:
    """Return the amount that a trailing order follows by; None where it follows by per cent."""
    if not _trails(order) or to_optional_decimal(order.trailingPercent):
        return None
    return to_optional_decimal(order.auxPrice) or None


def _trails(order: Order) -> bool:
    return order.orderType.startswith("TRAIL")


def algo_of(order: Order) -> str:
    """Return the algorithm with its parameters as one short text; empty without one."""
    parts = [str(tag.value) for tag in order.algoParams or ()]
    return " ".join([order.algoStrategy, *parts])[:64] if order.algoStrategy else ""


def moment_of(text: str) -> datetime | None:
    """Return an order's time: ``yyyymmdd-hh:mm:ss`` is UTC, else a zone follows; None where none can be told.

    A time that is not known is left out: the order works all the same, and a guessed zone would be wrong by hours.
    """
    form = "%Y%m%d-%H:%M:%S" if "-" in text else "%Y%m%d %H:%M:%S"
    stamp, _, zone = text.strip().partition(" ") if "-" in text else _split_zone(text)
    try:
        return datetime.strptime(stamp, form).replace(tzinfo=ZoneInfo(zone or "UTC")).astimezone(UTC)
    except (ValueError, ZoneInfoNotFoundError):
        return None


def _split_zone(text: str) -> tuple[str, str, str]:
    day, _, rest = text.strip().partition(" ")
    clock, blank, zone = rest.partition(" ")
    return (f"{day} {clock}", blank, zone) if zone else ("", "", "")


def trade_snapshot(trade: Trade, *, status: str | None = None) -> TradeSnapshot:
    """Return a live trade as a snapshot; pass ``status`` when ib_async's own is only inferred."""
    at = trade.orderStatus
    filled = to_decimal(at.filled) or to_optional_decimal(trade.order.filledQuantity) or Decimal(0)  # completed orders
    return order_snapshot(
        contract_snapshot(trade.contract),
        trade.order,
        status=at.status if status is None else status,
        filled=filled,
        remaining=to_decimal(at.remaining) if at.filled or at.remaining else None,
        average_price=positive_or_none(at.avgFillPrice),
        message=at.whyHeld,
    )


def positive_or_none(price: float) -> Decimal | None:
    """Return an average price, None while IB says 0 because nothing is filled."""
    return to_optional_decimal(price) if price else None


def execution_snapshot(
    contract: ContractSnapshot, execution: Execution, *, is_replay: bool = False, received_ns: int = 0
) -> FillSnapshot:
    """Return one execution.

    Raises: ValueError when a size, price or time cannot be used.
    """
    return FillSnapshot(
        exec_id=execution.execId,
        account=execution.acctNumber,
        contract=contract,
        side=execution.side,
        quantity=to_decimal(execution.shares),
        price=to_decimal(execution.price),
        executed_at=to_utc(execution.time),
        perm_id=execution.permId,
        client_id=execution.clientId,
        order_id=0 if execution.orderId == UNSET_INTEGER else execution.orderId,  # manual orders in TWS
        order_ref=execution.orderRef,
        cum_quantity=to_decimal(execution.cumQty),
        average_price=to_decimal(execution.avgPrice),
        exchange=execution.exchange,
        is_replay=is_replay,
        received_ns=received_ns,
    )


def fill_snapshot(fill: Fill, *, is_replay: bool = False, received_ns: int = 0) -> FillSnapshot:
    """Return one of ib_async's fills; its commission is left out, because 0 there means «not reported yet»."""
    contract = contract_snapshot(fill.contract)
    return execution_snapshot(contract, fill.execution, is_replay=is_replay, received_ns=received_ns)


def commission_snapshot(report: CommissionReport) -> CommissionSnapshot | None:
    """Return a commission, or None while IB does not know it: unset, −1, or nothing at all in no currency."""
    return commission_of(report.execId, report.commission, report.currency)


def commission_of(exec_id: str, amount: float | str, currency: str) -> CommissionSnapshot | None:
    """Return a commission from its three fields, decoded or as text; None while IB does not know it."""
    known = to_optional_decimal(amount)
    if known is None or known == _PENDING_COMMISSION or (known == 0 and not currency):
        return None
    return CommissionSnapshot(exec_id=exec_id, amount=known, currency=currency)
