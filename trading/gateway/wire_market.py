"""Serve ticks and 5-second bars.

Owns: subscriptions of level-1 data and real-time bars, IB's tick types, the 100-line limit.
Leaves: prices to the venue. Rule: only what changed since the last look travels, four looks a second; a reader that is
behind gets no ticks at all until it has caught up, since the next ones say more.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from . import protocol_messages as m
from . import protocol_responses as respond
from .model import ContractDetails, Quote, RequestError
from .session import BarSubscription, Session, TickSubscription
from .wire_context import BAR_SECONDS, MAX_TICKER_LINES, TICK_PERIOD_S, Context, refuse_duplicate

BID_SIZE, BID, ASK, ASK_SIZE, LAST, LAST_SIZE = 0, 1, 2, 3, 4, 5
HIGH, LOW, VOLUME, CLOSE, OPEN = 6, 7, 8, 9, 14
LAST_TIMESTAMP, SHORTABLE, RT_VOLUME, HALTED = 45, 46, 48, 49
EASY_TO_BORROW = Decimal("3.0")
LIVE, DELAYED_FROZEN = 1, 4
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
    con_id = details.contract.con_id
    if not snapshot:
        _check_lines(context, con_id)
    quote = context.venue.quote(con_id, context.now())
    subscription = TickSubscription(con_id, request.generic_ticks)
    _open(session, request.req_id, details)
    _send_ticks(session, request.req_id, subscription, quote)
    if snapshot:
        session.send(respond.tick_snapshot_end(request.req_id))
        return
    session.ticks[request.req_id] = subscription
    session.send(respond.tick_generic(request.req_id, HALTED, Decimal(0)))
    if "236" in request.generic_ticks:
        session.send(respond.tick_generic(request.req_id, SHORTABLE, EASY_TO_BORROW))


def cancel_market_data(context: Context, session: Session, request: m.CancelMarketData) -> None:
    """End a tick subscription."""
    if session.ticks.pop(request.req_id, None) is None:
        raise RequestError(300, f"Can't find EId with tickerId:{request.req_id}")


def market_data_type(context: Context, session: Session, request: m.RequestMarketDataType) -> None:
    """Remember the wish; the gateway's data are live, and TWS gives live data to whoever asks for less."""
    if not LIVE <= request.data_type <= DELAYED_FROZEN:
        raise RequestError(321, f"Error validating request : cause - Invalid market data type {request.data_type}")
    session.data_type = request.data_type


def real_time_bars(context: Context, session: Session, request: m.RequestRealTimeBars) -> None:
    """Subscribe to 5-second bars; the first comes when the running one closes."""
    refuse_duplicate(request.req_id in session.bars, 102)
    if request.what not in _BAR_KINDS:
        raise RequestError(321, f"Error validating request.-'cf' : cause - Invalid data type {request.what!r}")
    con_id = context.resolve_one(request.contract).contract.con_id
    newest = context.venue.latest_bar(con_id, seconds=BAR_SECONDS, what=request.what, now=context.now())
    session.bars[request.req_id] = BarSubscription(con_id, request.what, newest.start if newest else None)


def cancel_real_time_bars(context: Context, session: Session, request: m.CancelRealTimeBars) -> None:
    """End a bar subscription."""
    if session.bars.pop(request.req_id, None) is None:
        raise RequestError(300, f"Can't find EId with tickerId:{request.req_id}")


def stream(context: Context, streams: MarketStreams, now: datetime) -> None:
    """Queue changed ticks and closed bars."""
    if not context.due(streams.ticked_s, TICK_PERIOD_S):
        return
    streams.ticked_s = context.uptime_s
    quotes: dict[int, Quote] = {}
    for session in context.sessions.values():
        _stream_bars(context, session, now)
        if session.congested:
            continue
        for req_id, subscription in list(session.ticks.items()):
            con_id = subscription.con_id
            try:
                quote = quotes.get(con_id) or quotes.setdefault(con_id, context.venue.quote(con_id, now))
            except RequestError as error:
                del session.ticks[req_id]
                session.error(req_id, error.code, error.text)
                continue
            _send_ticks(session, req_id, subscription, quote)


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


def _open(session: Session, req_id: int, details: ContractDetails) -> None:
    exchange = details.contract.primary_exchange or details.contract.exchange
    session.send(
        respond.market_data_type(req_id, LIVE), respond.tick_request_parameters(req_id, details.min_tick, exchange)
    )


def _send_ticks(session: Session, req_id: int, subscription: TickSubscription, quote: Quote) -> None:
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
            session.send(respond.tick_price(req_id, tick, value, amount, version))
        elif sent.get(size_tick) != amount:
            session.send(respond.tick_size(req_id, size_tick, amount, version))
        sent[tick], sent[size_tick] = value, amount
    traded = sent.get(VOLUME) != quote.volume
    for tick, value in ((HIGH, quote.high), (LOW, quote.low), (CLOSE, quote.close), (OPEN, quote.open)):
        if value is not None and sent.get(tick) != value:
            sent[tick] = value
            session.send(respond.tick_price(req_id, tick, value, Decimal(0), version))
    if traded:
        sent[VOLUME] = quote.volume
        session.send(respond.tick_size(req_id, VOLUME, quote.volume, version))
        _send_trade(session, req_id, subscription, quote)


def _send_trade(session: Session, req_id: int, subscription: TickSubscription, quote: Quote) -> None:
    """What only a trade moves: its time, and RTVolume for those who asked (generic tick 233)."""
    session.send(respond.tick_string(req_id, LAST_TIMESTAMP, str(int(quote.time.timestamp()))))
    if "233" in subscription.generic_ticks and quote.last is not None:
        moment = int(quote.time.timestamp() * 1000)
        text = f"{quote.last:f};{quote.last_size:f};{moment};{quote.volume:f};{quote.last:f};true"
        session.send(respond.tick_string(req_id, RT_VOLUME, text))
