"""A strategy's orders, positions and lives out of the ledger.

Owns: the queries. Leaves: what they are asked for (``shadow_day``), asking by moment (``shadow_record``).
Rule: an order is as it was placed, and each change of it stands with its moment; a position is what was booked by then.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db.models import Q

from portfolio.bulk import chunks
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


def record_of(strategy: str, first: datetime, until: datetime) -> Record:
    """Return what the ledger has of a strategy from a moment to another, and what stood at the first one.

    Orders that had ended by then are left out, positions and equity are those of that moment.
    """
    wanted = Q(updated_at__gte=first) | Q(state__in=_WORKING)
    orders = list(Order.objects.filter(wanted, owner=strategy, created_at__lt=until).order_by("id"))
    events: dict[int, list[OrderEvent]] = defaultdict(list)
    for block in chunks([row.pk for row in orders]):
        for event in OrderEvent.objects.filter(order_id__in=block).order_by("id"):
            events[event.order_id].append(event)
    return Record(
        [_order(row, events[row.pk]) for row in orders], _moves(strategy, first, until), _equity(strategy, first, until)
    )


def _moves(strategy: str, first: datetime, until: datetime) -> list[Move]:
    """The positions at a moment, then every change of them."""
    rows = Movement.objects.filter(owner=strategy, instrument__isnull=False).exclude(quantity=0)
    held: dict[str, Decimal] = defaultdict(Decimal)
    for symbol, quantity in rows.filter(booked_at__lt=first).values_list("instrument__symbol", "quantity").iterator():
        held[symbol] += quantity
    later = rows.filter(booked_at__gte=first, booked_at__lt=until).order_by("id")
    changes = later.values_list("booked_at", "instrument__symbol", "quantity")
    return [
        *(Move(nanos_of(first) - 1, symbol, quantity) for symbol, quantity in held.items()),
        *(Move(nanos_of(at), symbol, quantity) for at, symbol, quantity in changes),
    ]


def _equity(strategy: str, first: datetime, until: datetime) -> list[tuple[int, Decimal]]:
    """The last equity before a moment, then every one."""
    rows = EquitySnapshot.objects.filter(owner=strategy)
    before = rows.filter(taken_at__lt=first).order_by("-taken_at")[:1]
    later = rows.filter(taken_at__gte=first, taken_at__lt=until).order_by("taken_at")
    return [(nanos_of(one.taken_at), one.equity) for one in [*before, *later]]


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
