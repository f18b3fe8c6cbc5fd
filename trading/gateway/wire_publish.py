"""Spread what the venue says to those who may hear it.

Owns: the audience of each event (own client, master id; subscribers for positions), one spelling for all its readers.
Rule: events keep the venue's order for every reader; positions and account values follow once per batch, after them.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from . import protocol_executions as executions_wire
from . import protocol_open_order as orders_wire
from . import protocol_responses as respond
from .model import (
    AccountChanged,
    CommissionReported,
    Contract,
    Executed,
    OrderBound,
    OrderChanged,
    OrderError,
    OrderWhatIf,
    PositionChanged,
    PositionRow,
    RequestError,
    VenueEvent,
)
from .session import Session
from .wire_context import Context


def publish(context: Context, events: Iterable[VenueEvent]) -> None:
    """Queue the frames of a batch of events in the outboxes of all concerned."""
    listeners: dict[int, list[Session]] = {}  # nobody comes or goes while a batch is spread
    changed: dict[int, None] = {}
    for event in events:
        if isinstance(event, PositionChanged):
            changed[event.con_id] = None
            context.account_dirty = True
        elif isinstance(event, AccountChanged):
            context.account_dirty = True
        else:
            _tell(context, event, listeners)
    if changed:
        _send_positions(context, list(changed))


Told = OrderChanged | OrderWhatIf | OrderBound | Executed | CommissionReported | OrderError


def _tell(context: Context, event: Told, listeners: dict[int, list[Session]]) -> None:
    owner = _owner(event)
    audience = listeners.get(owner)
    if audience is None:
        audience = listeners[owner] = context.listeners(owner)
    if not audience:
        return
    if isinstance(event, Executed):
        body = executions_wire.execution_body(event.execution)
        for session in audience:
            session.outbox.append(executions_wire.execution_details(-1, body, session.version))
    elif isinstance(event, CommissionReported):
        report = executions_wire.commission_report(event.commission)
        for session in audience:
            session.outbox.append(report)
    elif isinstance(event, OrderChanged):
        _tell_order(context, event, audience)
    else:
        _tell_owner(event, audience, owner)


def _owner(event: Told) -> int:
    if isinstance(event, Executed):
        return event.execution.client_id
    if isinstance(event, CommissionReported):
        return event.commission.client_id
    if isinstance(event, OrderError | OrderBound):
        return event.client_id
    return event.order.request.client_id


def _tell_order(context: Context, event: OrderChanged, audience: list[Session]) -> None:
    status = executions_wire.order_status(event.order)
    opened: dict[int, bytes] = {}
    for session in audience:
        if event.send_open_order:
            version = session.version
            if version not in opened:
                opened[version] = context.open_order(event.order, version)
            session.outbox.append(opened[version])
        session.outbox.append(status)


def _tell_owner(event: OrderWhatIf | OrderBound | OrderError, audience: list[Session], owner: int) -> None:
    """Errors and whatIf answers are private: the id spaces of other clients give the same number another meaning."""
    for session in audience:
        if session.client_id != owner:
            continue
        if isinstance(event, OrderError):
            session.error(event.order_id, event.code, event.text)
        elif isinstance(event, OrderBound):
            session.send(executions_wire.order_bound(event))
        else:
            session.send(orders_wire.open_order(event.order, session.version, event.what_if))


def _send_positions(context: Context, con_ids: list[int]) -> None:
    readers = [s for s in context.sessions.values() if s.positions or s.positions_multi or s.account_updates]
    if not readers:
        return
    rows = {row.contract.con_id: row for row in context.venue.positions(context.now())}
    changed = [rows.get(con_id) or _flat(context, con_id) for con_id in con_ids]
    for session in readers:
        for row in changed:
            send_position(session, row)
        if session.account_updates:
            session.send(respond.account_time(context.now()))


def send_position(session: Session, row: PositionRow) -> None:
    """Queue one position for every subscription of a session."""
    if session.positions:
        session.send(respond.position(row))
    for req_id in session.positions_multi:
        session.send(respond.position_multi(req_id, row))
    if session.account_updates:
        session.send(respond.portfolio_value(row))


def _flat(context: Context, con_id: int) -> PositionRow:
    """A closed position is reported once more, with quantity 0."""
    try:
        contract = context.resolve_one(Contract(con_id=con_id), include_expired=True).contract
    except RequestError:
        contract = Contract(con_id=con_id)
    nothing = Decimal(0)
    return PositionRow(context.venue.accounts[0], contract, nothing, nothing, nothing, nothing, nothing, nothing)
