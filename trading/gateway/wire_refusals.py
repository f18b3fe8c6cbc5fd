"""Answer what the gateway has no data for, as TWS does for a user without the subscription: never with silence.

Owns: depth, news, corporate events, fundamentals, advisors, display groups, and message ids that nobody knows.
Rule: an empty list where IB sends one, IB's own code and text elsewhere. Silent are only cancels of what never started
and switches without an answer of their own, as at IB. No refusal of a request that clients wait for is a 321: ib_async
takes that for a warning and waits for ever.
"""

from __future__ import annotations

from collections.abc import Callable

from . import protocol_data_messages as md
from . import protocol_data_responses as respond_data
from . import protocol_messages as m
from . import protocol_responses as respond
from .instrument import STOCK_EXCHANGES
from .session import Session
from .wire_context import Context
from .wire_permission import not_subscribed

_ADVISORS = (321, "Error validating request.-'cb' : cause - FA data operations ignored for non FA customers.")
_NEWS = (10276, "News feed is not allowed.")
_VERIFY = (321, "Error validating request : cause - API verification is not enabled")
_REFUSALS = {
    18: _ADVISORS,
    19: _ADVISORS,
    52: (430, "We are sorry, but fundamentals data for the security specified is not available.failed to fetch"),
    65: _VERIFY,
    66: _VERIFY,
    72: _VERIFY,
    73: _VERIFY,
    84: (10172, "Failed to request news article:No data available"),
    86: _NEWS,
    100: _NEWS,
    102: _NEWS,
}
_EMPTY: dict[int, Callable[[Context, int], bytes]] = {
    67: lambda context, req_id: respond.message("67", "1", str(req_id), ""),
    68: lambda context, req_id: respond_data.display_group_updated(req_id),
    79: lambda context, req_id: respond.soft_dollar_tiers(req_id),
    80: lambda context, req_id: respond.family_codes(context.venue.accounts),
    82: lambda context, req_id: respond.empty_list(80),
    83: lambda context, req_id: respond_data.smart_components(req_id, STOCK_EXCHANGES[1:]),
    85: lambda context, req_id: respond.empty_list(85),
    104: lambda context, req_id: respond.user_info(req_id),
}
# Bulletins (none are ever issued), display groups, and cancels of what never started.
_SILENT = frozenset({11, 12, 13, 53, 69, 70, 101, 103})


def unsupported(context: Context, session: Session, request: m.Unsupported) -> None:
    """Answer a request that the gateway has no data for."""
    req_id, message_id = request.req_id, request.message_id
    empty = _EMPTY.get(message_id)
    if empty is not None:
        session.send(empty(context, req_id))
    elif message_id in _REFUSALS:
        session.error(req_id, *_REFUSALS[message_id])
    elif message_id not in _SILENT:
        session.error(req_id, 322, "Error processing request : cause - This gateway does not serve the request")


def market_depth(context: Context, session: Session, request: md.RequestMarketDepth) -> None:
    """Refuse the order book as for a user without deep data."""
    contract = context.resolve_one(request.contract).contract
    raise not_subscribed(contract, delayed=False, book="DEEP")


def unknown(context: Context, session: Session, request: m.Unknown) -> None:
    """Name the message id that nobody knows."""
    session.error(-1, 505, f"Fatal Error: Unknown message id: {request.message_id}")
