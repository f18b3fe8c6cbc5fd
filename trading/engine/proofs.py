"""The invariants of orders and of the lease that can be checked at rest; registered for ``verify_ledger``.

Owns: I6, I9, I11 over orders, their events, commands and the lease. Rule: reads in order of an index, adds up here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal

from django.db.models import Count, F, Max, Min, Q

from portfolio.models import Execution
from portfolio.verification import Check, register_check
from portfolio.verification.checks import Progress
from trading.models import EngineCommand, EngineLease, Order, OrderEvent
from trading.orders import combos
from trading.orders.refs import NAMELESS
from trading.orders.state import OrderState

_BLOCK = 500
_FOREIGN = "perm/"

Key = tuple[str, int]


def register() -> None:
    """Add these checks to ``verify_ledger``; safe to call twice."""
    register_check("I6", fills_make_the_orders)
    register_check("I9", intents_come_first)
    register_check("I11", one_epoch_writes)


def fills_make_the_orders(progress: Progress | None) -> Check:
    """I6: what an order has filled is the sum of its live executions; more than was ordered is noted, not dropped."""
    check = Check("I6", "Σ executions = what each order has filled")
    overfilled = 0
    block: list[Order] = []
    for row in Order.objects.order_by("id").iterator(chunk_size=_BLOCK):
        check.checked += 1
        block.append(row)
        if len(block) == _BLOCK:
            overfilled += _compare(check, block)
            block = []
    overfilled += _compare(check, block)
    check.note = f"{overfilled} orders are overfilled" if overfilled else ""
    return check


def _compare(check: Check, orders: list[Order]) -> int:
    sums = _filled(orders)
    for row in orders:
        booked = _units(row, sums[_key(row)])
        if row.filled != booked:
            check.fail(f"order {row.order_ref}: filled {row.filled.normalize():f}, executions {booked.normalize():f}")
    return sum(1 for row in orders if row.quantity and row.filled > row.quantity)


def _units(row: Order, by_contract: dict[int, Decimal]) -> Decimal:
    """Return what these executions fill: whole units of a combination, else their sum."""
    if not row.legs:
        return sum(by_contract.values(), Decimal(0))
    executed = {con_id: (quantity, Decimal(0)) for con_id, quantity in by_contract.items()}
    return combos.units_filled(combos.legs_of_text(row.legs), executed)[0]


def _key(row: Order) -> Key:
    if row.order_ref.startswith(_FOREIGN):
        return f"{_FOREIGN}{row.perm_id}", 0
    return row.order_ref, 0 if row.order_ref.startswith(NAMELESS) else row.perm_id or 0


def _filled(orders: Iterable[Order]) -> dict[Key, dict[int, Decimal]]:
    """Return by order and contract the units of its live executions.

    A foreign order is known by its number alone, one that nobody names by its execution. A statement names ours
    without the number: what it brought counts for the order that has the reference.
    """
    found: dict[Key, dict[int, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    numbers = {row.order_ref: row.perm_id or 0 for row in orders if not row.order_ref.startswith(_FOREIGN)}
    foreign = [row.perm_id for row in orders if row.perm_id is not None and row.order_ref.startswith(_FOREIGN)]
    nameless = [ref.removeprefix(NAMELESS) for ref in numbers if ref.startswith(NAMELESS)]
    live = Execution.objects.filter(superseded=False)
    what = ("instrument_id", "quantity")
    for ref, perm_id, con_id, quantity in live.filter(order_ref__in=numbers).values_list("order_ref", "perm_id", *what):
        found[ref, perm_id or numbers[ref]][con_id] += abs(quantity)
    for perm_id, con_id, quantity in live.filter(perm_id__in=foreign).values_list("perm_id", *what):
        found[f"{_FOREIGN}{perm_id}", 0][con_id] += abs(quantity)
    for family, con_id, quantity in live.filter(family__in=nameless).values_list("family", *what):
        found[f"{NAMELESS}{family}", 0][con_id] += abs(quantity)
    return found


def intents_come_first(progress: Progress | None) -> Check:
    """I9: each reference of ours was written down before it was sent, and sent under one order id at most."""
    check = Check("I9", "Each order was written down before it was sent, and sent once")
    ours = OrderEvent.objects.exclude(order__order_ref__startswith=_FOREIGN)
    sent, intent = Q(state=OrderState.SENT), Q(state=OrderState.INTENT)
    rows = ours.values("order_id", "order__order_ref").annotate(
        sent=Count("sent_id", distinct=True),
        first_sent=Min("id", filter=sent),
        meant=Min("id", filter=intent),
    )
    for row in rows.order_by("order_id").iterator(chunk_size=_BLOCK):
        check.checked += 1
        if row["sent"] > 1:
            check.fail(f"order {row['order__order_ref']} was sent under {row['sent']} order ids")
        if row["meant"] is not None and row["first_sent"] is not None and row["first_sent"] < row["meant"]:
            check.fail(f"order {row['order__order_ref']} was sent before it was written down")
    early = Order.objects.filter(sent_at__lt=F("created_at")).values_list("order_ref", flat=True)
    for ref in early.iterator(chunk_size=_BLOCK):
        check.fail(f"order {ref} was sent before it was written down")
    return check


def one_epoch_writes(progress: Progress | None) -> Check:
    """I11: nothing bears an epoch that the lease has not reached."""
    check = Check("I11", "Nothing was written under an epoch that never was")
    epoch = EngineLease.objects.aggregate(epoch=Max("epoch"))["epoch"] or 0
    latest = EngineCommand.objects.aggregate(epoch=Max("epoch"))["epoch"] or 0
    check.checked = 1
    if latest > epoch:
        check.fail(f"a command was claimed under epoch {latest}, the lease is at {epoch}")
    if EngineLease.objects.count() > 1:
        check.fail("there is more than one lease")
    return check
