"""Bring requests to their handlers and time to the streams.

Owns: the table from request type to handler, what is answered when a request fails, the periodic work.
Leaves: sockets and pacing to ``server``.
Rule: a request fails alone. Whatever it holds, the client gets an IB error and every other session goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from . import protocol_data_messages as md
from . import protocol_messages as m
from . import (
    wire_account,
    wire_history,
    wire_market,
    wire_options,
    wire_orders,
    wire_reference,
    wire_refusals,
    wire_scanner,
    wire_ticks,
)
from .model import RequestError, VenueEvent
from .protocol_errors import DecodeError
from .protocol_requests import decode
from .session import Session
from .wire_account import AccountStreams
from .wire_context import Context
from .wire_market import MarketStreams
from .wire_publish import publish

logger = logging.getLogger(__name__)

Handler = Callable[[Context, Session, Any], None]  # Any: each handler takes the one type that it is listed under

_HANDLERS: dict[type[m.Request], Handler] = {
    m.StartApi: wire_reference.start_api,
    m.RequestIds: wire_reference.request_ids,
    m.RequestManagedAccounts: wire_reference.managed_accounts,
    m.RequestCurrentTime: wire_reference.current_time,
    m.SetServerLogLevel: wire_reference.server_log_level,
    m.RequestContractDetails: wire_reference.contract_details,
    m.RequestMatchingSymbols: wire_reference.matching_symbols,
    m.RequestMarketRule: wire_reference.market_rule,
    md.RequestOptionParameters: wire_options.option_parameters,
    md.CalculateImpliedVolatility: wire_options.implied_volatility,
    md.CalculateOptionPrice: wire_options.option_price,
    md.CancelCalculation: wire_options.cancel_calculation,
    md.ExerciseOption: wire_options.exercise,
    md.RequestTickByTick: wire_ticks.tick_by_tick,
    md.CancelTickByTick: wire_ticks.cancel_tick_by_tick,
    md.RequestHistoricalTicks: wire_ticks.historical_ticks,
    md.RequestHistogram: wire_ticks.histogram,
    md.CancelHistogram: wire_ticks.cancel_histogram,
    md.RequestScannerParameters: wire_scanner.parameters,
    md.RequestScanner: wire_scanner.scanner,
    md.CancelScanner: wire_scanner.cancel_scanner,
    md.RequestMarketDepth: wire_refusals.market_depth,
    m.Unsupported: wire_refusals.unsupported,
    m.Unknown: wire_refusals.unknown,
    m.RequestMarketData: wire_market.market_data,
    m.CancelMarketData: wire_market.cancel_market_data,
    m.RequestMarketDataType: wire_market.market_data_type,
    m.RequestRealTimeBars: wire_market.real_time_bars,
    m.CancelRealTimeBars: wire_market.cancel_real_time_bars,
    m.RequestHistoricalData: wire_history.historical_data,
    m.CancelHistoricalData: wire_history.cancel_historical_data,
    m.RequestHeadTimestamp: wire_history.head_timestamp,
    m.CancelHeadTimestamp: wire_history.cancel_head_timestamp,
    m.PlacedOrder: wire_orders.place,
    m.CancelOrder: wire_orders.cancel,
    m.GlobalCancel: wire_orders.global_cancel,
    m.RequestOpenOrders: wire_orders.open_orders,
    m.RequestAllOpenOrders: wire_orders.all_open_orders,
    m.RequestAutoOpenOrders: wire_orders.auto_open_orders,
    m.RequestCompletedOrders: wire_orders.completed_orders,
    m.RequestExecutions: wire_orders.executions,
    m.RequestAccountUpdates: wire_account.account_updates,
    m.RequestAccountUpdatesMulti: wire_account.account_updates_multi,
    m.CancelAccountUpdatesMulti: wire_account.cancel_account_updates_multi,
    m.RequestAccountSummary: wire_account.account_summary,
    m.CancelAccountSummary: wire_account.cancel_account_summary,
    m.RequestPositions: wire_account.positions,
    m.CancelPositions: wire_account.cancel_positions,
    m.RequestPositionsMulti: wire_account.positions_multi,
    m.CancelPositionsMulti: wire_account.cancel_positions_multi,
    m.RequestPnl: wire_account.pnl,
    m.CancelPnl: wire_account.cancel_pnl,
    m.RequestPnlSingle: wire_account.pnl_single,
    m.CancelPnlSingle: wire_account.cancel_pnl_single,
}


class Hub:
    """The gateway without its sockets: requests and time in, frames in the sessions' outboxes out."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._account = AccountStreams()
        self._market = MarketStreams()

    def handle(self, session: Session, fields: list[str]) -> None:
        """Answer one message of one client."""
        req_id = -1
        try:
            request, req_id = decode(fields, session.version)
            if not session.started and not isinstance(request, m.StartApi):
                session.error(req_id, 504, "Not connected")
                return
            _HANDLERS[type(request)](self.context, session, request)
        except DecodeError as error:
            logger.warning("unreadable message client_id=%s message=%s: %s", session.client_id, fields[0][:8], error)
            session.error(error.req_id, 320, f"Error reading request. {error}")
        except RequestError as error:
            session.error(req_id, error.code, error.text)
        except Exception:  # border of one request: the other clients must not suffer for it
            logger.exception("request failed client_id=%s message=%s", session.client_id, fields[0][:8])
            session.error(req_id, 322, "Error processing request : cause - the gateway failed; its log says why")

    def leave(self, session: Session) -> None:
        """Forget a session whose socket is gone; its orders work on."""
        if self.context.sessions.get(session.client_id) is session:
            del self.context.sessions[session.client_id]
            if session.auto_bind:
                self.context.venue.auto_bind(False)

    def publish(self, events: Iterable[VenueEvent]) -> None:
        """Spread events that did not come from a request."""
        publish(self.context, events)

    def stream_bars(self, now: datetime) -> None:
        """Send the 5-second bars that have closed, without waiting for a tick."""
        wire_market.stream_bars(self.context, now)
        wire_history.stream(self.context, now)

    def tick(self, uptime_s: float) -> None:
        """Let the market move and send what is due; ``uptime_s`` are real seconds of a monotonic clock."""
        context = self.context
        context.uptime_s = uptime_s
        now = context.now()
        publish(context, context.venue.advance(now))
        wire_market.stream(context, self._market, now)
        wire_history.stream(context, now)
        wire_ticks.stream(context, now)
        wire_scanner.stream(context)
        wire_account.stream(context, self._account, now)
