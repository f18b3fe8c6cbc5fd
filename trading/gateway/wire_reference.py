"""Answer what needs no subscription: ids, time, instruments, rules."""

from __future__ import annotations

from . import protocol_messages as m
from . import protocol_responses as respond
from .model import RequestError
from .session import Session
from .wire_context import Context

CONNECTED_NOTICES = (
    (2104, "Market data farm connection is OK:usfarm"),
    (2106, "HMDS data farm connection is OK:ushmds"),
    (2158, "Sec-def data farm connection is OK:secdefil"),
)


def start_api(context: Context, session: Session, request: m.StartApi) -> None:
    """Let a client in under its id, or refuse: the id is taken (326), the house is full (502)."""
    if session.started:
        session.error(-1, 501, "Already Connected.")
        return
    if request.client_id in context.sessions or request.client_id in context.squatted:
        session.error(-1, 326, "Unable to connect as the client id is already in use. Retry with a unique client id.")
        session.closing = True
        return
    if len(context.sessions) >= context.max_clients:
        session.error(
            -1, 502, f"Couldn't connect to TWS: the maximum of {context.max_clients} API clients is connected."
        )
        session.closing = True
        return
    session.client_id = request.client_id
    context.sessions[request.client_id] = session
    session.send(
        respond.managed_accounts(context.venue.accounts),
        respond.next_valid_id(context.venue.next_order_id(request.client_id)),
    )
    for code, text in CONNECTED_NOTICES:
        session.error(-1, code, text)


def request_ids(context: Context, session: Session, request: m.RequestIds) -> None:
    """Tell the next order id of this client."""
    session.send(respond.next_valid_id(context.venue.next_order_id(session.client_id)))


def managed_accounts(context: Context, session: Session, request: m.RequestManagedAccounts) -> None:
    """List the accounts."""
    session.send(respond.managed_accounts(context.venue.accounts))


def current_time(context: Context, session: Session, request: m.RequestCurrentTime) -> None:
    """Tell the gateway's time."""
    session.send(respond.current_time(context.now()))


def server_log_level(context: Context, session: Session, request: m.SetServerLogLevel) -> None:
    """Accept TWS' log level; our own logging is set elsewhere."""


def contract_details(context: Context, session: Session, request: m.RequestContractDetails) -> None:
    """List the instruments that match, then the end."""
    found = context.venue.resolve(request.contract, include_expired=request.include_expired)
    if not found:
        raise RequestError(200, "No security definition has been found for the request")
    session.send(*(respond.contract_details(request.req_id, details, session.version) for details in found))
    session.send(respond.contract_details_end(request.req_id))


def matching_symbols(context: Context, session: Session, request: m.RequestMatchingSymbols) -> None:
    """List the instruments whose symbol or name begins with the pattern."""
    session.send(respond.symbol_samples(request.req_id, context.venue.search(request.pattern), session.version))


def market_rule(context: Context, session: Session, request: m.RequestMarketRule) -> None:
    """List a rule's price steps."""
    session.send(respond.market_rule(request.rule_id, context.venue.market_rule(request.rule_id)))
