"""After a reconnect: settle the orders of which nobody can say from memory where they stand.

Rule: absence proves something only in complete answers. «Never reached the broker» needs all three of them — open
orders, completed orders, executions — and an order that is not just being sent; otherwise an order without evidence
is UNKNOWN, is asked about again, and is never resent.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from datetime import date, datetime
from zoneinfo import ZoneInfo

from strategies.events import StatusSnapshot, TradeSnapshot
from trading.models import Order
from trading.orders.inflight import in_flight
from trading.orders.progress import CANCEL_WORDS, FILLED_WORD
from trading.orders.recording import record_orders, record_statuses
from trading.orders.rows import OrderBatch
from trading.orders.state import WORKING, OrderState, can_move

NEVER_REACHED = "Never reached the broker."
GONE = "No longer open at the broker, and neither completed nor executed today."

_PERHAPS_NEVER_SENT = frozenset({OrderState.INTENT, OrderState.SENT, OrderState.UNKNOWN})
_DAY = "DAY"
_NEW_YORK = ZoneInfo("America/New_York")  # IB answers for executions and completed orders of the day there


def resolve_unconfirmed(
    open_orders: Sequence[TradeSnapshot],
    completed_orders: Sequence[TradeSnapshot] | None,
    executed_refs: Container[str] | None,
    now: datetime,
) -> list[Order]:
    """Settle working orders against the broker's answers; return those that changed.

    ``open_orders`` must be complete (all clients). None for another answer means that it failed: then nothing is
    concluded from absence. Orders that this process is just sending are left alone: the answers may be older.
    """
    changed = {row.order_ref: row for row in record_orders(open_orders, now)}
    ended = [trade for trade in completed_orders or () if trade.status in CANCEL_WORDS | {FILLED_WORD, "Inactive"}]
    statuses = [
        (trade, StatusSnapshot(trade.status, trade.filled, trade.remaining, trade.average_price, now))
        for trade in ended
    ]
    changed |= {row.order_ref: row for row in record_statuses(statuses, now)}
    seen_refs = {trade.order_ref for trade in (*open_orders, *ended)}
    seen_perm_ids = {trade.perm_id for trade in (*open_orders, *ended) if trade.perm_id}
    rows = [
        row
        for row in Order.objects.filter(state__in=[str(state) for state in WORKING])
        if row.order_ref not in seen_refs and row.perm_id not in seen_perm_ids and not in_flight.has(row.order_ref)
    ]
    complete = completed_orders is not None and executed_refs is not None
    executed: Container[str] = () if executed_refs is None else executed_refs
    changed |= {row.order_ref: row for row in _settle(rows, executed, now, complete=complete)}
    return list(changed.values())


def _settle(rows: Sequence[Order], executed: Container[str], now: datetime, *, complete: bool) -> list[Order]:
    batch = OrderBatch([row.order_ref for row in rows], now)
    for found in rows:
        row = batch.get(found.order_ref)
        if row is None:
            continue
        progress = batch.progress(row)
        target, reason = _verdict(row, progress.state, executed, now, complete=complete)
        if target is not progress.state and can_move(progress.state, target):
            batch.advance(row, progress.ended(target, reason), message=reason)
    return batch.save()


def _verdict(
    row: Order, state: OrderState, executed: Container[str], now: datetime, *, complete: bool
) -> tuple[OrderState, str]:
    is_of_today = _day(row.created_at) >= _day(now)
    unexecuted = row.order_ref not in executed and not row.filled
    if complete and is_of_today and unexecuted and row.perm_id is None and state in _PERHAPS_NEVER_SENT:
        return OrderState.CANCELLED, NEVER_REACHED
    if complete and row.order_ref not in executed and row.tif == _DAY and not is_of_today:
        return OrderState.CANCELLED, GONE
    return OrderState.UNKNOWN, "The broker neither lists it as open nor says how it ended."


def _day(moment: datetime) -> date:
    return moment.astimezone(_NEW_YORK).date()
