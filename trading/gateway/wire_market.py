"""Serve ticks and 5-second bars.

Owns: subscriptions of level-1 data and real-time bars, live, frozen and delayed; the 100-line limit.
Leaves: prices to the venue, generic ticks to ``wire_generic``, who may see what to ``wire_permission``.
Rule: only what changed since the last look travels, four looks a second; a reader that is behind gets no ticks at all
until it has caught up, since the next ones say more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from . import protocol_data_responses as respond_data
from . import protocol_messages as m
from . import protocol_responses as respond
from . import wire_generic, wire_permission
from .model import ContractDetails, Entitlement, Quote, RequestError
from .session import BarSubscription, Session, TickSubscription
from .wire_context import BAR_SECONDS, MAX_TICKER_LINES, TICK_PERIOD_S, Context, refuse_duplicate

BID_SIZE, BID, ASK, ASK_SIZE, LAST, LAST_SIZE = 0, 1, 2, 3, 4, 5
HIGH, LOW, VOLUME, CLOSE, OPEN = 6, 7, 8, 9, 14
LAST_TIMESTAMP, HALTED = 45, 49
DELAYED_IDS = {
    BID: 66, ASK: 67, LAST: 68, BID_SIZE: 69, ASK_SIZE: 70, LAST_SIZE: 71, HIGH: 72, LOW: 73, VOLUME: 74, CLOSE: 75,
    OPEN: 76, LAST_TIMESTAMP: 88, HALTED: 90,
}  # fmt: skip
LIVE, FROZEN, DELAYED, DELAYED_FROZEN = 1, 2, 3, 4
OPTION_TICKS = {LIVE: (10, 11, 12, 13), DELAYED: (80, 81, 82, 83)}
NO_QUOTE = Decimal(-1)  # IB's price for «no bid» and «no ask»
_BAR_KINDS = frozenset({"TRADES", "MIDPOINT", "BID", "ASK"})


@dataclass(slots=True)
class MarketStreams:
    """When ticks last went out."""

    ticked_s: float | None = None


def market_data(context: Context, session: Session, request: m.RequestMarketData) -> None:
    """Subscribe to ticks, or send one snapshot and its end."""
    refuse_duplicate(request.req_id in session.ticks, 102)
    snapshot = request.snapshot or request.regulatory_snapshot
    if snapshot and request.generic_ticks:
        raise RequestError(
            321,
            "Error validating request.-'bM' : cause - "
            "Snapshot market data subscription is not applicable to generic ticks",
        )
    details = context.resolve_one(request.contract)
    wire_generic.check(request.generic_ticks, details.contract.sec_type)
    con_id = details.contract.con_id
    if not snapshot:
        _check_lines(context, con_id)
    subscription = TickSubscription(con_id, request.generic_ticks)
    wire_permission.open_ticks(context, session, request.req_id, subscription, details.contract)
    quote = _quote(context, subscription, context.now())
    _open(session, request.req_id, subscription, details)
    _send_ticks(context, session, request.req_id, subscription, quote)
    if snapshot:
        session.send(respond.tick_snapshot_end(request.req_id))
        return
    session.ticks[request.req_id] = subscription
    session.send(respond.tick_generic(request.req_id, _id(subscription, HALTED), Decimal(0)))
    if subscription.entitlement is Entitlement.FULL:
        wire_generic.send_standing(context, session, request.req_id, subscription, details)


def cancel_market_data(context: Context, session: Session, request: m.CancelMarketData) -> None:
    """End a tick subscription."""
    if session.ticks.pop(request.req_id, None) is None:
        raise RequestError(300, f"Can't find EId with tickerId:{request.req_id}")


def market_data_type(context: Context, session: Session, request: m.RequestMarketDataType) -> None:
    """Choose what requests from now on get: live, frozen, delayed or delayed and frozen data."""
    if not LIVE <= request.data_type <= DELAYED_FROZEN:
        raise RequestError(321, f"Error validating request : cause - Invalid market data type {request.data_type}")
    session.data_type = request.data_type


def real_time_bars(context: Context, session: Session, request: m.RequestRealTimeBars) -> None:
    """Subscribe to 5-second bars; the first comes when the running one closes."""
    refuse_duplicate(request.req_id in session.bars, 102)
    if request.what not in _BAR_KINDS:
        raise RequestError(321, f"Error validating request.-'cf' : cause - Invalid data type {request.what!r}")
    contract = context.resolve_one(request.contract).contract
    wire_permission.need_live(context, contract, 420, "Invalid Real-time Query:")
    newest = context.venue.latest_bar(contract.con_id, seconds=BAR_SECONDS, what=request.what, now=context.now())
    if not context.history_pacer.may_stream(context.uptime_s):
        raise RequestError(420, "Invalid Real-time Query:Historical data request pacing violation")
    session.bars[request.req_id] = BarSubscription(contract.con_id, request.what, newest.start if newest else None)


def cancel_real_time_bars(context: Context, session: Session, request: m.CancelRealTimeBars) -> None:
    """End a bar subscription."""
    if session.bars.pop(request.req_id, None) is None:
        raise RequestError(300, f"Can't find EId with tickerId:{request.req_id}")


def stream(context: Context, streams: MarketStreams, now: datetime) -> None:
    """Queue changed ticks and closed bars."""
    if not context.due(streams.ticked_s, TICK_PERIOD_S):
        return
    streams.ticked_s = context.uptime_s
    quotes: dict[tuple[int, int], Quote] = {}
    for session in context.sessions.values():
        _stream_bars(context, session, now)
        if wire_permission.silenced(context, session) or session.congested:
            continue
        for req_id, subscription in list(session.ticks.items()):
            try:
                _follow_hours(context, session, req_id, subscription, now)
                key = (subscription.con_id, subscription.data_type)
                quote = quotes.get(key) or quotes.setdefault(key, _quote(context, subscription, now))
            except RequestError as error:
                del session.ticks[req_id]
                session.error(req_id, error.code, error.text)
                continue
            _send_ticks(context, session, req_id, subscription, quote)


def stream_bars(context: Context, now: datetime) -> None:
    """Queue closed bars."""
    for session in context.sessions.values():
        _stream_bars(context, session, now)


def _stream_bars(context: Context, session: Session, now: datetime) -> None:
    for req_id, subscription in list(session.bars.items()):
        try:
            bars = context.closed_bars(subscription.con_id, subscription.what, subscription.last_start, now)
        except RequestError as error:
            del session.bars[req_id]
            session.error(req_id, error.code, error.text)
            continue
        for bar in bars:
            subscription.last_start = bar.start
            session.send(respond.real_time_bar(req_id, bar, session.version))


def _check_lines(context: Context, con_id: int) -> None:
    """TWS counts instruments over all its clients."""
    lines = {ticks.con_id for session in context.sessions.values() for ticks in session.ticks.values()}
    if con_id not in lines and len(lines) >= MAX_TICKER_LINES:
        raise RequestError(101, "Max number of tickers has been reached.")


def _quote(context: Context, subscription: TickSubscription, now: datetime) -> Quote:
    quote = context.venue.quote(
        subscription.con_id,
        now,
        frozen=subscription.data_type in (FROZEN, DELAYED_FROZEN),
        delayed=subscription.data_type in (DELAYED, DELAYED_FROZEN),
    )
    if subscription.entitlement is Entitlement.PARTIAL:
        return replace(quote, bid=None, ask=None, bid_size=Decimal(0), ask_size=Decimal(0))
    return quote


def _follow_hours(
    context: Context, session: Session, req_id: int, subscription: TickSubscription, now: datetime
) -> None:
    """Frozen data become live when the market opens, and the other way round; message 58 says so."""
    data_type = wire_permission.type_now(context, subscription, now)
    if data_type != subscription.data_type:
        subscription.data_type = data_type
        session.send(respond.market_data_type(req_id, data_type))


def _open(session: Session, req_id: int, subscription: TickSubscription, details: ContractDetails) -> None:
    exchange = details.contract.primary_exchange or details.contract.exchange
    session.send(
        respond.market_data_type(req_id, subscription.data_type),
        respond.tick_request_parameters(req_id, details.min_tick, exchange),
    )


def _id(subscription: TickSubscription, tick: int) -> int:
    """The number under which a tick travels: delayed data have their own."""
    return DELAYED_IDS[tick] if subscription.data_type in (DELAYED, DELAYED_FROZEN) else tick


def _send_ticks(context: Context, session: Session, req_id: int, subscription: TickSubscription, quote: Quote) -> None:
    sent, version = subscription.sent, session.version
    _send_sides(session, req_id, subscription, quote)
    traded = sent.get(VOLUME) != quote.volume
    for tick, value in ((HIGH, quote.high), (LOW, quote.low), (CLOSE, quote.close), (OPEN, quote.open)):
        if value is not None and sent.get(tick) != value:
            sent[tick] = value
            session.send(respond.tick_price(req_id, _id(subscription, tick), value, Decimal(0), version))
    if traded:
        sent[VOLUME] = quote.volume
        session.send(respond.tick_size(req_id, _id(subscription, VOLUME), quote.volume, version))
        moment = str(int(quote.time.timestamp()))
        session.send(respond.tick_string(req_id, _id(subscription, LAST_TIMESTAMP), moment))
        wire_generic.send_trade(session, req_id, subscription, quote)
    if subscription.is_option:
        _send_option(context, session, req_id, subscription, quote)


def _send_sides(session: Session, req_id: int, subscription: TickSubscription, quote: Quote) -> None:
    sent, version = subscription.sent, session.version
    sides = (
        (BID, BID_SIZE, NO_QUOTE if quote.bid is None else quote.bid, quote.bid_size),
        (ASK, ASK_SIZE, NO_QUOTE if quote.ask is None else quote.ask, quote.ask_size),
        (LAST, LAST_SIZE, quote.last, quote.last_size),
    )
    for tick, size_tick, value, amount in sides:
        if value is None:
            continue
        amount = Decimal(0) if value is NO_QUOTE else amount
        if sent.get(tick) != value:
            session.send(respond.tick_price(req_id, _id(subscription, tick), value, amount, version))
        elif sent.get(size_tick) != amount:
            session.send(respond.tick_size(req_id, _id(subscription, size_tick), amount, version))
        sent[tick], sent[size_tick] = value, amount


def _send_option(context: Context, session: Session, req_id: int, subscription: TickSubscription, quote: Quote) -> None:
    """Bid, ask, last and model computations, each when its price has changed."""
    delayed = subscription.data_type in (DELAYED, DELAYED_FROZEN)
    ticks = OPTION_TICKS[DELAYED if delayed else LIVE]
    prices = (quote.bid, quote.ask, quote.last, None)
    for tick, price in zip(ticks, prices, strict=True):
        is_model = price is None and tick == ticks[-1]
        if (price is None and not is_model) or subscription.computed.get(tick) == (price or quote.last):
            continue
        subscription.computed[tick] = price or quote.last
        figures = context.venue.option_figures(subscription.con_id, price, quote.time)
        if figures is not None:
            session.send(respond_data.option_computation(req_id, tick, figures, session.version))
