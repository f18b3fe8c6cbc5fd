"""A strategy's orders, positions and lives out of the ledger.

Owns: the queries. Leaves: what they are asked for (``shadow_day``), asking by moment (``shadow_record``).
Rule: an order is as it was placed, and each change of it stands with its moment; a position is what was booked by then.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from portfolio.models import EquitySnapshot, Movement
from strategies.bar_series import nanos_of
from trading.backtest.shadow import Life
from trading.backtest.shadow_record import Change, LiveOrder, Move, Record
from trading.engine.events import EventKind
from trading.engine.lifecycle import StrategyState
from trading.models import EngineEvent, Order, OrderEvent, StrategyRun
from trading.orders.state import WORKING

_WORKING = frozenset(str(state) for state in WORKING)
_ALIVE = frozenset({StrategyState.RUNNING.value})


def record_of(strategy: str, until: datetime) -> Record:
    """Return what the ledger has of a strategy up to a moment."""
    orders = list(Order.objects.filter(owner=strategy, created_at__lt=until).order_by("id"))
    events: dict[int, list[OrderEvent]] = defaultdict(list)
    for event in OrderEvent.objects.filter(order__owner=strategy, order__created_at__lt=until).order_by("id"):
        events[event.order_id].append(event)
    moves = Movement.objects.filter(owner=strategy, booked_at__lt=until, instrument__isnull=False).exclude(quantity=0)
    rows = moves.order_by("id").values_list("booked_at", "instrument__symbol", "quantity")
    snapshots = EquitySnapshot.objects.filter(owner=strategy, taken_at__lt=until).order_by("taken_at")
    return Record(
        [_order(row, events[row.pk]) for row in orders],
        [Move(nanos_of(at), symbol, quantity) for at, symbol, quantity in rows],
        [(nanos_of(one.taken_at), one.equity) for one in snapshots],
    )


def _order(row: Order, events: list[OrderEvent]) -> LiveOrder:
    """An order with what its first event says of it: the row has what it was changed to since."""
    placed: Any = events[0] if events and events[0].quantity is not None else row
    return LiveOrder(
        ref=row.order_ref,
        symbol=row.symbol,
        placed_ns=nanos_of(row.created_at),
        side=row.side,
        quantity=placed.quantity,
        order_type=placed.order_type or row.order_type,
        limit=placed.limit_price,
        stop=placed.stop_price,
        trail=row.trail_amount,
        trail_percent=row.trail_percent,
        tif=placed.tif or row.tif,
        parent_ref=row.parent_ref,
        state=row.state,
        code_hash=row.code_hash,
        params_revision=row.params_revision,
        changes=[_change(row, event) for event in events],
    )


def _change(row: Order, event: OrderEvent) -> Change:
    ordered = row.quantity if event.quantity is None else event.quantity
    return Change(nanos_of(event.at), event.state in _WORKING, max(ordered - event.filled, Decimal(0)))


def lives_of(strategy: str, first: datetime, last: datetime) -> tuple[list[Life], str]:
    """Return when the strategy ran in [first, last), each from its start on, and what is not known of it.

    A start before the day counts, so that the strategy gathers what it had gathered by then.
    """
    rows = EngineEvent.objects.filter(kind=EventKind.STRATEGY.value, strategy=strategy, at__lt=last).order_by("id")
    lives: list[Life] = []
    begun: datetime | None = None
    for at, payload in rows.values_list("at", "payload"):
        is_alive = payload.get("state") in _ALIVE
        if is_alive and begun is None:
            begun = at
        elif not is_alive and begun is not None:
            if at > first:
                lives.append(Life(nanos_of(begun), nanos_of(at)))
            begun = None
    if begun is not None:
        lives.append(Life(nanos_of(begun), nanos_of(min(last, datetime.now(UTC)))))
    if lives:
        return lives, ""
    run = StrategyRun.objects.filter(symbol=strategy).first()
    if run is not None and run.started_at is not None and run.started_at < last and run.state in _ALIVE:
        return [Life(nanos_of(run.started_at), nanos_of(min(last, datetime.now(UTC))))], ""
    if rows.exists():
        return [], ""
    if Order.objects.filter(owner=strategy, created_at__gte=first, created_at__lt=last).exists():
        note = "When it was started is no longer on record: it was replayed from the day's first moment on."
        return [Life(nanos_of(first), nanos_of(last))], note
    return [], ""
