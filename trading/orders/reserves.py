"""What working orders may still cost their owners.

Owns: the estimate: what is left of an order at its limit, without one at the dearer of its stop and the last price. A
sale costs nothing as far as the owner holds what it sells; beyond that it opens a short position, which binds as much
as a long one.
Leaves: who may not give that money away (``portfolio.rebalance``).
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from portfolio.ledger.money import ONE, ZERO, exact
from portfolio.models import Instrument, Mark, Position
from portfolio.reserved import Need
from trading.models import Order
from trading.orders.state import WORKING

_WORKING = [str(state) for state in WORKING]
_PLAIN = "STK"  # a share is one unit; what else is traded has a multiplier that only its instrument tells


def order_needs(account_id: str) -> Iterator[Need]:
    """Give what each working order of an account may still cost, those that cost nothing left out."""
    working = Order.objects.filter(state__in=_WORKING, account_id__in=[account_id, ""]).order_by("id")
    orders = _without_exits(list(working))
    con_ids = {order.con_id for order in orders}
    instruments, marks = Instrument.objects.in_bulk(con_ids), Mark.objects.in_bulk(con_ids)
    held = {
        (row.owner, row.instrument_id): row.quantity
        for row in Position.objects.filter(account_id=account_id, instrument_id__in=con_ids)
    }
    for order in orders:
        units = order.quantity - order.filled
        if order.side != "BUY":
            units = _uncovered(held, order, units)
        if units > 0:
            yield _need(order, units, instruments.get(order.con_id), marks.get(order.con_id))


def _without_exits(orders: list[Order]) -> list[Order]:
    """Leave out what costs nothing: an exit never trades more than its entry brought."""
    refs = {order.parent_ref for order in orders if order.parent_ref}
    sides = dict(Order.objects.filter(order_ref__in=refs).values_list("order_ref", "side")) if refs else {}
    return [order for order in orders if sides.get(order.parent_ref, order.side) == order.side]


def _uncovered(held: dict[tuple[str, int], Decimal], order: Order, units: Decimal) -> Decimal:
    """Return what a sale sells beyond what its owner holds; two sales do not sell the same holding."""
    key = order.owner, order.con_id
    have = max(ZERO, held.get(key, ZERO))
    held[key] = have - units
    return units - have


def _need(order: Order, units: Decimal, instrument: Instrument | None, mark: Mark | None) -> Need:
    currency = instrument.currency if instrument else order.currency
    multiplier = instrument.multiplier if instrument else ONE if order.sec_type == _PLAIN else None
    price = order.limit_price
    if price is None:
        last = None if mark is None else mark.price
        price = max((known for known in (order.stop_price, last) if known is not None), default=None)
    if price is None or multiplier is None or not currency:
        text = f"What the working order {order.order_ref} in {order.symbol} will cost is not known: no price yet."
        return Need(order.owner, currency, None, text)
    return Need(order.owner, currency, exact(abs(price) * units * multiplier))
