"""Serve market scans: their parameters, and lists that are renewed."""

from __future__ import annotations

from . import protocol_data_messages as m
from . import protocol_data_responses as respond
from .market_scanner import parameters_xml
from .model import RequestError
from .session import ScanSubscription, Session
from .wire_context import Context, refuse_duplicate

MAX_SCANS = 10
PERIOD_S = 30.0  # IB renews a list at this interval
_ERROR = "Historical Market Data Service error message:"


def parameters(context: Context, session: Session, request: m.RequestScannerParameters) -> None:
    """Send the XML."""
    session.send(respond.scanner_parameters(parameters_xml()))


def scanner(context: Context, session: Session, request: m.RequestScanner) -> None:
    """Send a list now, and again every half minute."""
    refuse_duplicate(request.req_id in session.scans, 102)
    if sum(len(each.scans) for each in context.sessions.values()) >= MAX_SCANS:
        raise RequestError(162, f"{_ERROR}Only {MAX_SCANS} simultaneous API scanner subscriptions are allowed.")
    subscription = ScanSubscription(request.scan)
    _send(context, session, request.req_id, subscription)
    session.scans[request.req_id] = subscription


def cancel_scanner(context: Context, session: Session, request: m.CancelScanner) -> None:
    """End it; IB confirms with an error, also when there was none."""
    session.scans.pop(request.req_id, None)
    raise RequestError(162, f"{_ERROR}API scanner subscription cancelled: {request.req_id}")


def stream(context: Context) -> None:
    """Queue the lists whose time has come."""
    for session in context.sessions.values():
        for req_id, subscription in session.scans.items():
            if context.due(subscription.sent_s, PERIOD_S) and not session.congested:
                _send(context, session, req_id, subscription)


def _send(context: Context, session: Session, req_id: int, subscription: ScanSubscription) -> None:
    found = context.venue.scan(subscription.scan, context.now())
    subscription.sent_s = context.uptime_s
    session.send(respond.scanner_data(req_id, found))
    if not found:
        session.error(req_id, 165, "Historical Market Data Service query message:no items retrieved")
