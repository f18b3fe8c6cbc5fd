"""What the venue's tests share: a venue at a fixed moment, orders in a line, events sorted by kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from trading.gateway.exchange import Exchange, VenueOptions, build_venue
from trading.gateway.model import (
    CommissionReported,
    Contract,
    Executed,
    OrderChanged,
    OrderError,
    OrderRequest,
    VenueEvent,
)

START = datetime(2026, 11, 18, 15, 30, 10, tzinfo=UTC)  # a Wednesday, 10:30:10 in New York
SPY = Contract(symbol="SPY", sec_type="STK", exchange="SMART", currency="USD")
AAPL = Contract(symbol="AAPL", sec_type="STK", exchange="SMART", currency="USD")
EURUSD = Contract(symbol="EUR", sec_type="CASH", exchange="IDEALPRO", currency="USD")
SPY_ID, AAPL_ID, EURUSD_ID = 756733, 265598, 12087792
MS = timedelta(milliseconds=1)
SECOND = timedelta(seconds=1)

E = TypeVar("E")


def venue(**options: Any) -> Exchange:
    """A started venue."""
    exchange = build_venue(VenueOptions(**options))
    exchange.advance(START)
    return exchange


def order(order_id: int, action: str = "BUY", quantity: int | str = 100, **fields: Any) -> OrderRequest:
    """A market order for SPY of client 1, unless the fields say otherwise."""
    given: dict[str, Any] = {"client_id": 1, "contract": SPY, "order_type": "MKT", **fields}
    for name in ("limit_price", "aux_price"):
        if name in given:
            given[name] = Decimal(given[name])
    # Fields beyond the head, by IB's names: trailStopPrice="1", goodTillDate=…
    beyond = {name: str(given.pop(name)) for name in list(given) if any(letter.isupper() for letter in name)}
    given["echo"] = {**given.get("echo", {}), **beyond}
    return OrderRequest(order_id=order_id, action=action, quantity=Decimal(quantity), **given)


def last_price(exchange: Exchange, now: datetime = START) -> Decimal:
    """SPY's last price."""
    price = exchange.quote(SPY_ID, now).last
    assert price is not None
    return price


def status_of(exchange: Exchange, order_id: int, client_id: int = 1) -> str:
    """The status of an order of today, ``unknown`` when nobody knows it."""
    for each in (*exchange.open_orders(), *exchange.completed_orders(api_only=False)):
        if (each.request.client_id, each.request.order_id) == (client_id, order_id):
            return each.status
    return "unknown"


def changed(request: OrderRequest, **fields: Any) -> OrderRequest:
    """The same order with other values."""
    return replace(request, **fields)


def only(kind: type[E], events: Iterable[VenueEvent]) -> list[E]:
    """Events of one kind, in order."""
    return [event for event in events if isinstance(event, kind)]


def statuses(events: Iterable[VenueEvent]) -> list[str]:
    """What orderStatus would say, repetitions left out."""
    seen: list[str] = []
    for event in only(OrderChanged, events):
        if not seen or seen[-1] != event.order.status:
            seen.append(event.order.status)
    return seen


def codes(events: Iterable[VenueEvent]) -> list[int]:
    """Codes of the errors and notices."""
    return [event.code for event in only(OrderError, events)]


def executed(events: Iterable[VenueEvent]) -> Decimal:
    """Quantity of all executions."""
    return sum((e.execution.quantity for e in only(Executed, events)), Decimal(0))


def commissions(events: Iterable[VenueEvent]) -> list[CommissionReported]:
    """Reported commissions."""
    return only(CommissionReported, events)


def run(exchange: Exchange, since: datetime, until: datetime, step: timedelta = 50 * MS) -> list[VenueEvent]:
    """Let the venue advance as a server would."""
    events: list[VenueEvent] = []
    moment = since
    while moment < until:
        moment = min(moment + step, until)
        events.extend(exchange.advance(moment))
    return events
