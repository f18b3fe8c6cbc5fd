"""Carry orders to the venue and answer questions about orders and executions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

from . import protocol_executions as executions_wire
from . import protocol_messages as m
from . import protocol_open_order as orders_wire
from .model import Commission, Execution, ExecutionFilter, OrderBound, OrderRequest, OrderSnapshot, RequestError
from .protocol_fields import parse_moment
from .protocol_responses import message
from .session import Session
from .wire_context import Context
from .wire_publish import publish


def place(context: Context, session: Session, placed: m.PlacedOrder) -> None:
    """Hand a new or changed order to the venue and tell everyone concerned what came of it."""
    request = OrderRequest(
        client_id=session.client_id, order_id=placed.order_id, contract=placed.contract, action=placed.action,
        quantity=Decimal(0) if placed.quantity is None else placed.quantity, order_type=placed.order_type,
        limit_price=placed.limit_price, aux_price=placed.aux_price, tif=placed.tif,
        account=context.account(placed.account, "bC"), order_ref=placed.order_ref, parent_id=placed.parent_id,
        transmit=placed.transmit, outside_rth=placed.outside_rth, what_if=placed.what_if,
        oca_group=placed.oca_group, algo_strategy=placed.algo_strategy, algo_params=placed.algo_params,
        echo=placed.echo,
    )  # fmt: skip
    publish(context, context.venue.place(request, context.now()))


def cancel(context: Context, session: Session, request: m.CancelOrder) -> None:
    """Cancel one order of this client."""
    publish(context, context.venue.cancel(session.client_id, request.order_id, context.now()))


def global_cancel(context: Context, session: Session, request: m.GlobalCancel) -> None:
    """Cancel every working order of the account."""
    publish(context, context.venue.global_cancel(context.now()))


def open_orders(context: Context, session: Session, request: m.RequestOpenOrders) -> None:
    """List this client's working orders; client 0 gets those typed into TWS bound to it."""
    if session.client_id == 0:
        bound = context.venue.bind_manual(context.now())
        publish(context, [event for event in bound if isinstance(event, OrderBound)])
    _send_orders(session, context.venue.open_orders(session.client_id))


def all_open_orders(context: Context, session: Session, request: m.RequestAllOpenOrders) -> None:
    """List every client's working orders, once; nothing is bound."""
    _send_orders(session, context.venue.open_orders())


def auto_open_orders(context: Context, session: Session, request: m.RequestAutoOpenOrders) -> None:
    """Bind manual orders to client 0; nobody else may ask."""
    if session.client_id != 0:
        raise RequestError(327, "Only the default client (i.e 0) can auto bind orders.")
    session.auto_bind = request.bind
    context.venue.auto_bind(request.bind)


def completed_orders(context: Context, session: Session, request: m.RequestCompletedOrders) -> None:
    """List the orders that ended today."""
    ended = context.venue.completed_orders(api_only=request.api_only)
    session.send(*(orders_wire.completed_order(order, session.version) for order in ended))
    session.send(message("102"))


def executions(context: Context, session: Session, request: m.RequestExecutions) -> None:
    """Repeat the day's executions that pass the filter, each with its commission when that is known."""
    client_id = request.client_id
    if context.strict_executions and session.client_id != context.master_client_id:
        client_id = session.client_id
    try:
        since = parse_moment(request.time) if request.time else None
    except ValueError as error:
        raise RequestError(
            321, f"Error validating request.-'bH' : cause - Invalid time '{request.time}': {error}"
        ) from error
    found = context.venue.executions(
        ExecutionFilter(
            client_id, request.account, since, request.symbol, request.sec_type, request.exchange, request.side
        )
    )
    session.backlog = _repeated(found, request.req_id, session.version)


def _repeated(found: Sequence[tuple[Execution, Commission | None]], req_id: int, version: int) -> Iterator[bytes]:
    for execution, commission in found:
        yield executions_wire.execution_details(req_id, executions_wire.execution_body(execution), version)
        if commission is not None:
            yield executions_wire.commission_report(commission)
    yield executions_wire.execution_details_end(req_id)


def _send_orders(session: Session, orders: Sequence[OrderSnapshot]) -> None:
    for order in orders:
        session.send(orders_wire.open_order(order, session.version), executions_wire.order_status(order))
    session.send(message("53", "1"))
