"""Serve historical bars, their continuation, and how far back they reach.

Owns: IB's date texts in bars, the growing last bar of requests kept up to date.
Leaves: the bars to the venue.
Rule: intraday bars carry the exchange's time or epoch seconds, as the client chose; daily and longer ones a bare date.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from . import protocol_data_responses as respond_data
from . import protocol_messages as m
from . import protocol_responses as respond
from .model import Bar, ContractDetails, RequestError
from .protocol_fields import dashed_utc, parse_moment, stamp
from .session import HistorySubscription, Session
from .wire_context import BAR_SECONDS, Context, refuse_duplicate
from .wire_history_pacing import SMALL_BAR_S, BarRequest
from .wire_permission import need_live

MAX_OPEN_REQUESTS = 50
MAX_SCHEDULE_DAYS = 365
EPOCH_SECONDS = 2
DAY = 86_400
_UNITS = {"sec": 1, "min": 60, "hour": 3600, "day": DAY, "week": 7 * DAY, "month": 30 * DAY}
_WITHOUT_VOLUME = frozenset({"MIDPOINT", "BID", "ASK", "BID_ASK", "HISTORICAL_VOLATILITY", "OPTION_IMPLIED_VOLATILITY"})


def historical_data(context: Context, session: Session, request: m.RequestHistoricalData) -> None:
    """Send the bars of one request, and remember it if it is to be continued."""
    refuse_duplicate(request.req_id in session.history)
    if len(session.history) >= MAX_OPEN_REQUESTS:
        raise RequestError(162, "Historical Market Data Service error message:Too many open historical data requests")
    details = context.resolve_one(request.contract, include_expired=request.include_expired)
    zone, now = details.time_zone, context.now()
    need_live(context, details.contract, 162, "Historical Market Data Service error message:")
    end = _end(request, zone, now)
    if request.what == "SCHEDULE":
        _send_schedule(context, session, request, details, end)
        return
    con_id, symbol = details.contract.con_id, details.contract.symbol
    _pace(context, request, con_id)
    bars = context.venue.bars(
        con_id, end=end, duration=request.duration, bar_size=request.bar_size, what=request.what,
        use_rth=request.use_rth, now=now,
    )  # fmt: skip
    if not bars:
        raise RequestError(
            162,
            "Historical Market Data Service error message:HMDS query returned no data: "
            f"{symbol}@{request.contract.exchange} {request.what.capitalize()}",
        )
    subscription = HistorySubscription(
        con_id, request.what, bar_seconds(request.bar_size), request.format_date, zone, current=bars[-1]
    )
    dated = [(_date(bar.start, subscription), bar) for bar in bars]
    session.send(
        respond.historical_data(
            request.req_id,
            stamp(bars[0].start, zone),
            stamp(end, zone),
            dated,
            session.version,
            traded=request.what not in _WITHOUT_VOLUME,
        )
    )
    if request.keep_up_to_date:
        newest = context.venue.latest_bar(con_id, seconds=BAR_SECONDS, what=request.what, now=now)
        subscription.last_start = newest.start if newest else None
        session.history[request.req_id] = subscription


def _pace(context: Context, request: m.RequestHistoricalData, con_id: int) -> None:
    """Count requests for small bars.

    Raises: RequestError 162 when they come too fast.
    """
    if bar_seconds(request.bar_size) > SMALL_BAR_S:
        return
    asked = BarRequest(
        con_id, request.contract.exchange, request.what, request.end, request.bar_size, request.duration,
        request.use_rth,
    )  # fmt: skip
    if not context.history_pacer.may_ask(asked, context.uptime_s):
        raise RequestError(162, "Historical Market Data Service error message:Historical data request pacing violation")


def _send_schedule(
    context: Context, session: Session, request: m.RequestHistoricalData, details: ContractDetails, end: datetime
) -> None:
    """Send the sessions of so many days instead of bars."""
    number, _, unit = request.duration.strip().partition(" ")
    if not number.isdecimal() or not 0 < int(number) <= MAX_SCHEDULE_DAYS or unit.strip() != "D":
        raise RequestError(
            162, f"Historical Market Data Service error message:Invalid schedule duration {request.duration!r}"
        )
    sessions = context.venue.schedule(
        details.contract.con_id, end=end, days=int(number), use_rth=request.use_rth, now=context.now()
    )
    if not sessions:
        raise RequestError(162, "Historical Market Data Service error message:HMDS query returned no data: schedule")
    session.send(respond_data.historical_schedule(request.req_id, details.time_zone, sessions))


def cancel_historical_data(context: Context, session: Session, request: m.CancelHistoricalData) -> None:
    """End a request that is kept up to date."""
    if session.history.pop(request.req_id, None) is None:
        raise RequestError(366, f"No historical data query found for ticker id:{request.req_id}")


def head_timestamp(context: Context, session: Session, request: m.RequestHeadTimestamp) -> None:
    """Tell the start of the oldest bar."""
    con_id = context.resolve_one(request.contract).contract.con_id
    first = context.venue.head_timestamp(con_id, request.what, request.use_rth)
    text = str(int(first.timestamp())) if request.format_date == EPOCH_SECONDS else dashed_utc(first)
    session.send(respond.head_timestamp(request.req_id, text))


def cancel_head_timestamp(context: Context, session: Session, request: m.CancelHeadTimestamp) -> None:
    """Nothing to withdraw: the answer went out with the request."""


def stream(context: Context, now: datetime) -> None:
    """Grow the last bar of every continued request by the 5-second bars that closed."""
    for session in context.sessions.values():
        for req_id, subscription in list(session.history.items()):
            try:
                _continue(context, session, req_id, subscription, now)
            except RequestError as error:
                del session.history[req_id]
                session.error(req_id, error.code, error.text)


def _continue(
    context: Context, session: Session, req_id: int, subscription: HistorySubscription, now: datetime
) -> None:
    traded = subscription.what not in _WITHOUT_VOLUME
    for piece in context.closed_bars(subscription.con_id, subscription.what, subscription.last_start, now):
        subscription.last_start = piece.start
        subscription.current = bar = _grown(subscription, piece)
        date = _date(bar.start, subscription)
        session.send(respond.historical_data_update(req_id, date, bar, session.version, traded=traded))


def bar_seconds(text: str) -> int:
    """Return the length of IB's bar-size text (``5 secs``, ``1 min``, ``1 day``); months count 30 days.

    Raises: RequestError 321 when the text is none.
    """
    number, _, unit = text.strip().partition(" ")
    seconds = _UNITS.get(unit.strip().lower().rstrip("s"))
    if seconds is None or not number.isdecimal() or not 0 < int(number) <= 60:
        raise RequestError(
            321, f"Error validating request.-'bT' : cause - Historical data bar size '{text}' is invalid"
        )
    return int(number) * seconds


def _end(request: m.RequestHistoricalData, zone: str, now: datetime) -> datetime:
    if not request.end:
        return now
    if request.keep_up_to_date:
        raise RequestError(321, "Error validating request.-'bT' : cause - End date not supported with keepUpToDate")
    try:
        return parse_moment(request.end, zone).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise RequestError(
            321, f"Error validating request.-'bT' : cause - Invalid end date/time '{request.end}'"
        ) from error


def _date(start: datetime, subscription: HistorySubscription) -> str:
    if subscription.bar_seconds >= DAY:
        return f"{start.astimezone(ZoneInfo(subscription.zone)):%Y%m%d}"
    if subscription.format_date == EPOCH_SECONDS:
        return str(int(start.timestamp()))
    return stamp(start, subscription.zone)


def _grown(subscription: HistorySubscription, piece: Bar) -> Bar:
    """Join a piece to the running bar, or open the next bar with it."""
    start = _bucket(piece.start, subscription)
    current = subscription.current
    if current is None or current.start < start:
        return replace(piece, start=start)
    volume = current.volume + piece.volume
    weighted = current.wap * current.volume + piece.wap * piece.volume
    return Bar(
        start=current.start, open=current.open, high=max(current.high, piece.high), low=min(current.low, piece.low),
        close=piece.close, volume=volume, wap=_rounded(weighted / volume) if volume else piece.wap,
        count=current.count + piece.count,
    )  # fmt: skip


def _bucket(start: datetime, subscription: HistorySubscription) -> datetime:
    seconds = subscription.bar_seconds
    if seconds < DAY:
        return datetime.fromtimestamp(int(start.timestamp()) // seconds * seconds, UTC)
    if subscription.current is not None and seconds > DAY:
        return subscription.current.start
    local = start.astimezone(ZoneInfo(subscription.zone))
    return local.replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)


def _rounded(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.0001"))
