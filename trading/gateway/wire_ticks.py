"""Serve single ticks, as they come and of the past, and the histogram of prices.

Owns: tick-by-tick subscriptions with IB's limit of five, historical ticks, histograms.
Leaves: the ticks to the venue. Rule: a reader that is behind, or a gateway that stood still, gets the ticks of the last
two minutes at most.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from . import protocol_data_messages as m
from . import protocol_data_responses as respond
from .model import Contract, RequestError, TickKind
from .protocol_fields import parse_moment
from .session import Session, TickStream
from .wire_context import TICK_PERIOD_S, Context, refuse_duplicate
from .wire_permission import need_live

MAX_STREAMS = 5
MAX_PAST = 1000
CATCH_UP = timedelta(seconds=120)
KINDS = {
    "Last": TickKind.TRADES, "AllLast": TickKind.TRADES, "BidAsk": TickKind.QUOTES, "MidPoint": TickKind.MIDPOINT,
}  # fmt: skip
_HISTORY_KINDS = {"TRADES": TickKind.TRADES, "BID_ASK": TickKind.QUOTES, "MIDPOINT": TickKind.MIDPOINT}
_STREAM_ERROR = "Failed to request tick-by-tick data:"
_PAST_ERROR = "Failed to request historical ticks:"
_UNITS = {"second": "S", "minute": "S", "hour": "S", "day": "D", "week": "W", "month": "M", "year": "Y"}
_SECONDS = {"second": 1, "minute": 60, "hour": 3600}


def tick_by_tick(context: Context, session: Session, request: m.RequestTickByTick) -> None:
    """Subscribe to single ticks, after some of the past where they were asked for."""
    refuse_duplicate(request.req_id in session.single_ticks, 102)
    kind = KINDS.get(request.kind)
    if kind is None:
        raise RequestError(10189, f"{_STREAM_ERROR}Invalid tick type {request.kind!r}")
    if sum(len(each.single_ticks) for each in context.sessions.values()) >= MAX_STREAMS:
        raise RequestError(10190, "Max number of tick-by-tick requests has been reached.")
    contract, now = context.resolve_one(request.contract).contract, context.now()
    need_live(context, contract, 10189, _STREAM_ERROR)
    try:
        count = min(max(request.past, 1), MAX_PAST)
        past = context.venue.past_ticks(contract.con_id, kind, start=None, end=now, count=count, use_rth=False, now=now)
    except RequestError as error:
        raise RequestError(10189, f"{_STREAM_ERROR}{error.text}") from error
    exchange = _venue_of(contract)
    if request.past > 0:
        session.send(respond.historical_ticks(request.req_id, kind, past, exchange, session.version))
    session.single_ticks[request.req_id] = TickStream(contract.con_id, request.kind, exchange, now)


def cancel_tick_by_tick(context: Context, session: Session, request: m.CancelTickByTick) -> None:
    """End it."""
    if session.single_ticks.pop(request.req_id, None) is None:
        raise RequestError(300, f"Can't find EId with tickerId:{request.req_id}")


def historical_ticks(context: Context, session: Session, request: m.RequestHistoricalTicks) -> None:
    """Send up to 1,000 ticks of the past."""
    kind = _HISTORY_KINDS.get(request.what)
    if kind is None:
        raise RequestError(10187, f"{_PAST_ERROR}Invalid data type {request.what!r}")
    if bool(request.start) == bool(request.end):
        raise RequestError(10187, f"{_PAST_ERROR}Please specify either start or end time")
    if not 0 < request.count <= MAX_PAST:
        raise RequestError(10187, f"{_PAST_ERROR}Number of ticks must be between 1 and {MAX_PAST}")
    details = context.resolve_one(request.contract, include_expired=request.include_expired)
    contract, zone = details.contract, details.time_zone
    need_live(context, contract, 10187, _PAST_ERROR)
    try:
        ticks = context.venue.past_ticks(
            contract.con_id, kind, start=_moment(request.start, zone), end=_moment(request.end, zone),
            count=request.count, use_rth=request.use_rth, now=context.now(),
        )  # fmt: skip
    except RequestError as error:
        raise RequestError(10187, f"{_PAST_ERROR}{error.text}") from error
    session.send(respond.historical_ticks(request.req_id, kind, ticks, _venue_of(contract), session.version))


def histogram(context: Context, session: Session, request: m.RequestHistogram) -> None:
    """Tell how much was traded at each price of a period that ends now."""
    contract, now = context.resolve_one(request.contract).contract, context.now()
    need_live(context, contract, 162, "Historical Market Data Service error message:")
    bars = context.venue.bars(
        contract.con_id, end=now, duration=_duration(request.period), bar_size="1 min", what="TRADES",
        use_rth=request.use_rth, now=now,
    )  # fmt: skip
    amounts: Counter[Decimal] = Counter()
    for bar in bars:
        amounts[bar.close] += max(int(bar.volume), 0)
    session.send(respond.histogram(request.req_id, sorted(amounts.items())))


def cancel_histogram(context: Context, session: Session, request: m.CancelHistogram) -> None:
    """Nothing to withdraw: the answer went out with the request."""


def stream(context: Context, now: datetime) -> None:
    """Queue the ticks since the last look, four looks a second."""
    if context.venue.competing or not context.due(context.single_ticked_s, TICK_PERIOD_S):
        return
    context.single_ticked_s = context.uptime_s
    for session in context.sessions.values():
        if session.congested:
            continue
        for req_id, each in list(session.single_ticks.items()):
            since = max(each.until, now - CATCH_UP)
            try:
                ticks = context.venue.ticks(each.con_id, KINDS[each.kind], since, now)
            except RequestError as error:
                del session.single_ticks[req_id]
                session.error(req_id, error.code, error.text)
                continue
            # The half second that runs is not over: it begins where the next look starts.
            each.until = max(since, now.replace(microsecond=now.microsecond // 500_000 * 500_000))
            session.send(
                *(respond.tick_by_tick(req_id, each.kind, tick, each.exchange, session.version) for tick in ticks)
            )


def _moment(text: str, zone: str) -> datetime | None:
    if not text:
        return None
    try:
        return parse_moment(text, zone).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise RequestError(10187, f"{_PAST_ERROR}Invalid time {text!r}") from error


def _duration(period: str) -> str:
    """A histogram's period («3 days») as a duration of bars («3 D»)."""
    number, _, unit = period.strip().lower().partition(" ")
    unit = unit.strip().rstrip("s")
    if not number.isdecimal() or unit not in _UNITS:
        raise RequestError(162, f"Historical Market Data Service error message:Invalid time period {period!r}")
    return f"{int(number) * _SECONDS.get(unit, 1)} {_UNITS[unit]}"


def _venue_of(contract: Contract) -> str:
    return contract.primary_exchange or contract.exchange
