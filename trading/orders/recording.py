"""Record what IB says about orders: rows move along ``orders.state`` by evidence, inside the engine's batch.

Owns: Order and OrderEvent rows after the intent. Leaves: quantities and cash (``portfolio.services``), who writes and
when (``engine.handlers``), what goes to the pages (``engine.events``).
Rule: every function takes a batch, reads the rows it touches with one query and writes them with one, or leaves both to
who gives it an open batch; repeating a message changes nothing; an event row is written only when the order changed.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import QuerySet

from portfolio.facts import ExecutionFact
from portfolio.models import Execution, Instrument
from strategies.events import FillSnapshot, StatusSnapshot, TradeSnapshot
from trading.alerts import raise_alert
from trading.ib.codes import order_verdict
from trading.models import Order, Severity
from trading.orders import combos
from trading.orders.owners import Owners
from trading.orders.progress import (
    WORKING_WORDS,
    Progress,
    add_fill,
    on_error,
    on_status,
    with_fills,
    with_quantity,
)
from trading.orders.refs import NAMELESS, foreign_ref, is_ours, nameless_ref, row_ref
from trading.orders.rows import OrderBatch
from trading.orders.state import OrderState

logger = logging.getLogger(__name__)

owners = Owners()
_ACKNOWLEDGING = WORKING_WORDS | {"PendingSubmit", "ApiPending", "Inactive"}


def owner_of(fill: FillSnapshot) -> str:
    """Return the owner of an execution: strategy symbol or Discretionary."""
    return owners.of_fill(fill)


def owners_of_batch(before_reading: Callable[[], object] = lambda: None) -> Callable[[FillSnapshot], str]:
    """Return ``owner_of`` for the executions of one batch; ``before_reading`` writes orders not written yet."""
    return owners.for_batch(before_reading)


def owner_of_ref(order_ref: str) -> str:
    """Return the owner of an order reference: strategy symbol or Discretionary."""
    return owners.of_ref(order_ref)


def open_batch(trades: Iterable[TradeSnapshot], fills: Iterable[FillSnapshot], now: datetime) -> OrderBatch:
    """Read the orders that these name, for the functions below to share; whoever opens it writes it."""
    named = [(one.order_ref, one.perm_id) for one in trades]
    named += [(one.order_ref, one.perm_id) for one in fills]
    refs = {row_ref(*one) for one in named}
    return OrderBatch([ref for ref in refs if ref is not None], now, is_open=True)


def record_order(trade: TradeSnapshot, now: datetime) -> list[Order]:
    """Record one order as placed or as IB describes it; return it if it changed."""
    return record_orders([trade], now)


def record_orders(trades: Sequence[TradeSnapshot], now: datetime, opened: OrderBatch | None = None) -> list[Order]:
    """Record orders as placed or as IB describes them; return those that changed."""
    batch = _batch_of(trades, now, opened)
    for trade in trades:
        row = _row_for(batch, trade)
        if row is None:
            continue
        changed = _take_description(row, trade, now)
        progress = with_quantity(batch.progress(row), trade.quantity) if trade.quantity else batch.progress(row)
        if trade.status in _ACKNOWLEDGING:  # final words are believed from a status, which says how much was filled
            progress = on_status(progress, trade.status, trade.filled)
        word = trade.status if trade.status in _ACKNOWLEDGING else ""
        batch.advance(row, progress, ib_status=word, message=trade.message, changed=changed)
    return batch.save()


def record_status(trade: TradeSnapshot, status: StatusSnapshot, now: datetime) -> list[Order]:
    """Record one status or error of an order; return the order if it changed."""
    return record_statuses([(trade, status)], now)


def record_statuses(
    items: Sequence[tuple[TradeSnapshot, StatusSnapshot]], now: datetime, opened: OrderBatch | None = None
) -> list[Order]:
    """Record statuses and errors in order of arrival; return the orders that changed."""
    batch = _batch_of([trade for trade, _ in items], now, opened)
    for trade, status in items:
        row = _row_for(batch, trade)
        if row is None:
            continue
        changed = _take_description(row, trade, now)
        before = batch.progress(row)
        if status.code:
            after = on_error(before, status.code, status.text, order_verdict(status.code))
            message = f"{status.code} {status.text}"
        else:
            after, message = on_status(before, status.status, status.filled), status.text
        batch.advance(row, after, ib_status=status.status, ib_filled=status.filled, message=message, changed=changed)
    return batch.save()


def record_executions(facts: Sequence[ExecutionFact], now: datetime, opened: OrderBatch | None = None) -> list[Order]:
    """Record executions that the ledger just took in for the first time; return the orders that changed."""
    by_order: dict[tuple[str, int], list[ExecutionFact]] = defaultdict(list)
    for fact in facts:
        ref = row_ref(fact.order_ref, fact.perm_id) or nameless_ref(fact.exec_id)
        by_order[ref, fact.perm_id].append(fact)
    batch = _batch_for([ref for ref, _ in by_order], now, opened)
    for (named, perm_id), group in by_order.items():
        ref, row = _order_meant(batch, named, perm_id)
        if row is None:
            row = _row_from_execution(ref, group[0], now)
            batch.add(row)
        _take_executions(batch, row, group)
    return batch.save()


def note_orders(order_refs: Sequence[str], text: str, now: datetime) -> list[Order]:
    """Put a word about orders on record without moving them."""
    batch = OrderBatch(order_refs, now)
    for ref in order_refs:
        row = batch.get(ref)
        if row is not None:
            batch.advance(row, batch.progress(row), message=text, changed=True)
    return batch.save()


def _take_executions(batch: OrderBatch, row: Order, facts: Sequence[ExecutionFact]) -> None:
    before = batch.progress(row)
    after = before
    if row.legs:
        after = with_fills(before, *_units(row, facts))
    elif any(fact.corrects or fact.superseded for fact in facts):
        after = with_fills(before, *_totals(row, facts))
    else:
        for fact in facts:
            after = add_fill(after, abs(fact.quantity_change), fact.price)
    if row.order_type == "":  # known through executions alone: no more than these was ordered, as far as we know
        after = Progress(after.state, max(after.quantity, after.filled), after.filled, after.average_price)
    last = facts[-1]
    changed = _take_ids(row, last.client_id, last.order_id, last.perm_id)
    message = ""
    if after.is_overfilled and not before.is_overfilled:
        message = f"Overfilled: {after.filled.normalize():f} of {after.quantity.normalize():f}."
        after = Progress(
            after.state, after.quantity, after.filled, after.average_price, after.cancelled_at, reason=message
        )
        logger.error("order_ref=%s overfilled filled=%s quantity=%s", row.order_ref, after.filled, after.quantity)
    if row.state == OrderState.DENIED:
        message = "Executed although MATS denied it."
        logger.error("order_ref=%s executed although denied exec_id=%s", row.order_ref, last.exec_id)
    batch.advance(row, after, message=message, changed=changed)


def _totals(row: Order, facts: Sequence[ExecutionFact]) -> tuple[Decimal, Decimal | None]:
    """Return filled and average price from the ledger's live executions; corrections cannot be added up."""
    parts = list(_live_of(row, facts[0].perm_id).values_list("quantity", "price"))
    filled = sum((abs(quantity) for quantity, _ in parts), Decimal(0))
    value = sum((abs(quantity) * price for quantity, price in parts), Decimal(0))
    return filled, value / filled if filled else None


def _units(row: Order, facts: Sequence[ExecutionFact]) -> tuple[Decimal, Decimal | None]:
    """Return how many units of a combination its legs' live executions make, and at what price."""
    executed = combos.add_up(_live_of(row, facts[0].perm_id).values_list("instrument_id", "quantity", "price"))
    multipliers = dict(Instrument.objects.filter(con_id__in=executed).values_list("con_id", "multiplier"))
    return combos.units_filled(combos.legs_of_text(row.legs), executed, multipliers)


def _live_of(row: Order, perm_id: int) -> QuerySet[Execution]:
    """Return the live executions of an order. A statement names ours by reference alone, without IB's number."""
    live = Execution.objects.filter(superseded=False)
    if row.order_ref.startswith(NAMELESS):
        return live.filter(family=row.order_ref.removeprefix(NAMELESS))
    if not is_ours(row.order_ref):
        return live.filter(perm_id=perm_id)
    number = perm_id or row.perm_id
    own = live.filter(order_ref=row.order_ref)
    return own.filter(perm_id__in=(0, number)) if number else own


def _batch_of(trades: Sequence[TradeSnapshot], now: datetime, opened: OrderBatch | None) -> OrderBatch:
    refs = (row_ref(trade.order_ref, trade.perm_id) for trade in trades)
    return _batch_for([ref for ref in refs if ref is not None], now, opened)


def _batch_for(refs: Sequence[str], now: datetime, opened: OrderBatch | None) -> OrderBatch:
    if opened is None:
        return OrderBatch(refs, now)
    opened.load(refs)
    return opened


def _row_for(batch: OrderBatch, trade: TradeSnapshot) -> Order | None:
    ref = row_ref(trade.order_ref, trade.perm_id)
    if ref is None:
        return None  # a foreign order that IB has not numbered yet; its next message carries the number
    ref, row = _order_meant(batch, ref, trade.perm_id)
    if row is None:
        namesake = batch.get(trade.order_ref)
        owner = owners.of_new_ref(trade.order_ref) if namesake is None else namesake.owner
        row = _row_from_trade(ref, trade, owner, batch.now)
        batch.add(row)
    owners.learn(ref, row.owner)
    return row


def _order_meant(batch: OrderBatch, ref: str, perm_id: int) -> tuple[str, Order | None]:
    """Return where an order is kept, and its row if there is one; IB's number tells two under one reference apart."""
    row = batch.get(ref)
    if row is None or not perm_id or row.perm_id in (None, perm_id):
        return ref, row
    # MATS sends a reference once; someone copied the order, reference and all. What becomes of it is no news of ours.
    copy = foreign_ref(perm_id)
    found = batch.find(copy)
    if found is None:
        _tell_twice(row, perm_id, copy)
    return copy, found


def _tell_twice(row: Order, perm_id: int, copy: str) -> None:
    """Have a second order under one reference stand as an alert; joins the batch's transaction."""
    logger.error("order_ref=%s has two permIds first=%s second=%s", row.order_ref, row.perm_id, perm_id)
    text = (
        f"IB has two orders under {row.order_ref}: permId {row.perm_id} and permId {perm_id}, which is kept as {copy}. "
        "MATS sends a reference once: somebody copied the order, or IB took it twice. Compare both in TWS and cancel "
        "the one that is not meant."
    )
    title = f"Two orders at IB under one reference in {row.symbol}"
    raise_alert(f"order_twice:{perm_id}", Severity.CRITICAL, title, text, row.owner)


def _row_from_trade(ref: str, trade: TradeSnapshot, owner: str, now: datetime) -> Order:
    contract = trade.contract
    return Order(
        order_ref=ref,
        owner=owner,
        state=OrderState.SENT,
        account_id=trade.account,
        con_id=contract.con_id,
        symbol=contract.symbol,
        sec_type=contract.sec_type,
        currency=contract.currency,
        side=trade.action,
        quantity=trade.quantity,
        order_type=trade.order_type,
        limit_price=trade.limit_price,
        stop_price=trade.stop_price,
        tif=trade.tif,
        client_id=trade.client_id,
        order_id=trade.order_id,
        perm_id=trade.perm_id or None,
        created_at=now,
        sent_at=now,
        updated_at=now,
        **{name: value for name, value in _described(trade).items() if value not in (None, "")},
    )


def _row_from_execution(ref: str, fact: ExecutionFact, now: datetime) -> Order:
    return Order(
        order_ref=ref,
        owner=fact.strategy,
        state=OrderState.UNKNOWN,
        con_id=fact.con_id,
        symbol=fact.symbol,
        sec_type=fact.sec_type,
        currency=fact.currency,
        side="BUY" if fact.side == "BOT" else "SELL",
        quantity=Decimal(0),
        order_type="",
        tif="",
        client_id=fact.client_id,
        order_id=fact.order_id,
        perm_id=fact.perm_id or None,
        reason="Known through its executions only.",
        created_at=now,
        updated_at=now,
    )


def _take_description(row: Order, trade: TradeSnapshot, now: datetime) -> bool:
    """Take over what IB says the order is; tell whether that is news."""
    changed = _take_ids(row, trade.client_id, trade.order_id, trade.perm_id)
    basics = {
        "account_id": trade.account,
        "order_type": trade.order_type,
        "limit_price": trade.limit_price,
        "stop_price": trade.stop_price,
        "tif": trade.tif,
    }
    for name, value in (basics | _described(trade)).items():
        if value not in (None, "") and getattr(row, name) != value:
            setattr(row, name, value)
            changed = True
    if row.sent_at is None:
        row.sent_at = now
        changed = True
    return changed


def _described(trade: TradeSnapshot) -> dict[str, Any]:
    """Return what IB says of the less usual terms of an order; what is None or empty is not said."""
    return {
        "trail_amount": trade.trail_amount,
        "trail_percent": trade.trail_percent,
        "limit_offset": trade.limit_offset,
        "good_till": trade.good_till,
        "good_after": trade.good_after,
        "outside_rth": trade.outside_rth,
        "algo": trade.algo,
        "oca_group": trade.oca_group[:64],
        "legs": combos.legs_text(trade.contract.legs),
    }


def _take_ids(row: Order, client_id: int, order_id: int, perm_id: int) -> bool:
    changed = False
    if perm_id and row.perm_id is None:
        row.perm_id, changed = perm_id, True
    if order_id and (row.client_id, row.order_id) != (client_id, order_id):
        row.client_id, row.order_id, changed = client_id, order_id, True
    return changed
