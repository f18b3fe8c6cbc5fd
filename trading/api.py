"""Routes of the engine: connections, orders, commands, events, bars.

Rule: a GET reads tables and nothing else; a POST queues a command and answers 202 with where to read its outcome.
"""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Path, Query, Router, Status

from strategies.exceptions import ConflictError
from strategies.schemas import Limit, Page, RowId, Symbol
from trading import api_queries, queries, schemas
from trading.api_queue import queue
from trading.engine.events import EventKind
from trading.models import CommandState, EngineCommand
from trading.orders.state import FINAL, OrderState

connection_router = Router()
trade_router = Router()
engine_router = Router()
command_router = Router()
market_router = Router()

QUEUED = {202: schemas.QueuedOut}


@connection_router.get("/ib-status", response=schemas.ConnectionsOut)
def ib_status(request: HttpRequest) -> dict[str, Any]:
    """Tell which IB connections stand (master 0, message queue 99, strategies 1–98), the link and the budget."""
    return queries.connection_status()


@connection_router.post("/ib-connect", response=QUEUED)
def ib_connect(request: HttpRequest, response: HttpResponse) -> Status[dict[str, Any]]:
    """Have the engine connect its master to the gateway."""
    return Status(202, queue(request, response, "connect"))


@connection_router.post("/ib-disconnect-client/{client_id}", response=QUEUED)
def ib_disconnect_client(
    request: HttpRequest, response: HttpResponse, client_id: Path[schemas.ClientId]
) -> Status[dict[str, Any]]:
    """Have the engine disconnect one client."""
    return Status(202, queue(request, response, "disconnect_client", client_id=client_id))


@trade_router.get("/orders", response=Page[schemas.OrderOut])
def list_orders(
    request: HttpRequest,
    strategy: Symbol | None = None,
    open_only: bool = False,
    limit: Limit = 100,
    cursor: RowId | None = None,
) -> dict[str, Any]:
    """List orders of all clients, newest first."""
    items, following = api_queries.orders_page(strategy, open_only=open_only, before=cursor, limit=limit)
    return {"items": items, "next": following}


@trade_router.post("/orders/{path:order_ref}/cancel", response=QUEUED)
def cancel_order(
    request: HttpRequest, response: HttpResponse, order_ref: Path[schemas.OrderRef]
) -> Status[dict[str, Any]]:
    """Have the client that owns the order cancel it."""
    order = api_queries.find_order(order_ref)
    if OrderState(order.state) in FINAL:
        raise ConflictError(
            f"Order {order_ref} is {order.state}; there is nothing to cancel.", code="order_done", state=order.state
        )
    return Status(202, queue(request, response, "cancel_order", order_ref=order_ref))


@trade_router.post("", response=QUEUED)
def place_order(request: HttpRequest, response: HttpResponse, payload: schemas.TradeIn) -> Status[dict[str, Any]]:
    """Have the engine place one order; flat, or as ``{contract, order}``."""
    return Status(202, queue(request, response, "place_order", **payload.as_args()))


@trade_router.post("/preview", response=QUEUED)
def preview_order(request: HttpRequest, response: HttpResponse, payload: schemas.TradeIn) -> Status[dict[str, Any]]:
    """Have the engine say what would be sent, whether the checks let it pass, and what it would do to margin."""
    return Status(202, queue(request, response, "preview_order", **payload.as_args()))


@trade_router.post("/brackets", response=QUEUED)
def place_bracket(request: HttpRequest, response: HttpResponse, payload: schemas.BracketIn) -> Status[dict[str, Any]]:
    """Have the engine place an entry together with its exits."""
    return Status(202, queue(request, response, "place_bracket", **payload.as_args()))


@trade_router.post("/rolls", response=QUEUED)
def roll_future(request: HttpRequest, response: HttpResponse, payload: schemas.RollIn) -> Status[dict[str, Any]]:
    """Have the engine move a position from one future to another in one order."""
    return Status(202, queue(request, response, "roll_future", **payload.as_args()))


@trade_router.post("/contracts", response=QUEUED)
def find_contracts(request: HttpRequest, response: HttpResponse, payload: schemas.PatternIn) -> Status[dict[str, Any]]:
    """Have the engine look instruments up by symbol or a part of a name."""
    return Status(202, queue(request, response, "find_contracts", pattern=payload.pattern))


@trade_router.post("/orders/{path:order_ref}/modify", response=QUEUED)
def modify_order(
    request: HttpRequest, response: HttpResponse, order_ref: Path[schemas.OrderRef], payload: schemas.ChangeIn
) -> Status[dict[str, Any]]:
    """Have the client that owns the order change it; the order's own row tells whether IB took the change."""
    order = api_queries.find_order(order_ref)
    if OrderState(order.state) in FINAL:
        raise ConflictError(
            f"Order {order_ref} is {order.state}; there is nothing to change.", code="order_done", state=order.state
        )
    return Status(202, queue(request, response, "modify_order", order_ref=order_ref, **payload.dict(exclude_none=True)))


@trade_router.post("/orders/{path:order_ref}/settle", response=QUEUED)
def settle_order(
    request: HttpRequest, response: HttpResponse, order_ref: Path[schemas.OrderRef], payload: schemas.SettleIn
) -> Status[dict[str, Any]]:
    """End an order of state unknown on the caller's word; a fill that comes all the same is booked."""
    order = api_queries.find_order(order_ref)
    if order.state != OrderState.UNKNOWN:
        raise ConflictError(f"Order {order_ref} is {order.state}, not unknown.", code="order_known", state=order.state)
    return Status(202, queue(request, response, "settle_order", order_ref=order_ref, reason=payload.reason))


@engine_router.get("/state", response=schemas.EngineOut)
def engine_state(request: HttpRequest) -> dict[str, Any]:
    """Tell whether an engine runs, and what its last heartbeat said."""
    return queries.engine_state()


@engine_router.get("/events", response=Page[schemas.EventOut])
def list_events(
    request: HttpRequest,
    after: RowId = 0,
    limit: Limit = 500,
    kind: Annotated[list[EventKind] | None, Query()] = None,
) -> dict[str, Any]:
    """List events with a greater id, oldest first; pass ``next`` (or the last id seen) as ``after`` to go on."""
    return api_queries.page(queries.events_after(after, limit + 1, kind), limit, "id")


@command_router.get("", response=Page[schemas.CommandOut])
def list_commands(
    request: HttpRequest,
    limit: Limit = 100,
    cursor: UUID | None = None,
    state: Annotated[list[CommandState] | None, Query()] = None,
) -> dict[str, Any]:
    """List commands, newest first."""
    items, following = api_queries.commands_page(before=cursor, limit=limit, states=state or ())
    return {"items": items, "next": following}


@command_router.get("/{uuid:command_id}", response=schemas.CommandOut, url_name="get_command")
def get_command(request: HttpRequest, command_id: UUID) -> EngineCommand:
    """Read a command and its outcome."""
    return api_queries.find_command(command_id)


@market_router.get("/bars", response=Page[schemas.BarOut])
def list_bars(request: HttpRequest, con_id: RowId, limit: Limit = 720) -> dict[str, Any]:
    """List the newest 5-second bars of an instrument, oldest first."""
    return {"items": queries.recent_bars(con_id, limit), "next": None}
