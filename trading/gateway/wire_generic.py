"""Serve generic ticks: what a subscription gets beyond prices and sizes when it asks for it by number.

Owns: which numbers are legal, and the ticks of those that the gateway has figures for: 104 and 411 historical, 106
implied volatility, 165 ranges and average volume, 221 mark price, 233 and 375 trades, 236 shortable, 318 last regular
trade, 456 dividends, 588 open interest.
Leaves: subscriptions (``wire_market``). Rule: a legal number without figures here is silent, as at IB; any other is
refused with the legal ones.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from decimal import Decimal

from . import protocol_responses as respond
from .model import Bar, ContractDetails, Quote, RequestError
from .session import Session, TickSubscription
from .wire_context import Context

HIST_VOLATILITY, IMPLIED_VOLATILITY, RT_HIST_VOLATILITY = 23, 24, 58
AVERAGE_VOLUME, MARK, SHORTABLE, RT_VOLUME, LAST_RTH, DIVIDENDS = 21, 37, 46, 48, 57, 59
RT_TRADE_VOLUME, OPEN_INTEREST, SHORTABLE_SHARES = 77, 86, 89
RANGES = ((15, 16, 65), (17, 18, 130), (19, 20, 260))  # low and high tick of so many days
EASY_TO_BORROW = Decimal("3.0")
_SHARES = Decimal(10_000_000)
_DAYS_A_YEAR = 252
_VOLUME_DAYS = 90
_PRICES_AND_SIZES = "100 101 104 105 106 107 125 165 166 221 225 232 233 236 256 258 292 293 294 295 318 370 375 377"
_FUNDS_AND_REST = "381 384 387 388 391 407 411 428 439 456 459 460 499 506 511 512 513 514 515 516 517 545 576 577 578"
_LATEST = "586 587 588 595 596 597 614 623 645 mdoff"
LEGAL = frozenset(f"{_PRICES_AND_SIZES} {_FUNDS_AND_REST} {_LATEST}".split())
_OF_STOCKS = frozenset({"236", "456"})


def check(asked: Sequence[str], sec_type: str) -> None:
    """Refuse numbers that IB does not have.

    Raises: RequestError 321.
    """
    for number in asked:
        name = number.partition(":")[0]
        if name not in LEGAL or (name in _OF_STOCKS and sec_type != "STK"):
            legal = ",".join(sorted(LEGAL - (frozenset() if sec_type == "STK" else _OF_STOCKS)))
            raise RequestError(
                321,
                f"Error validating request.-'bM' : cause - Incorrect generic tick list of {','.join(asked)}.  "
                f"Legal ones for ({sec_type}) are: {legal}",
            )


def send_standing(
    context: Context, session: Session, req_id: int, subscription: TickSubscription, details: ContractDetails
) -> None:
    """Queue what does not change within a day."""
    asked = frozenset(subscription.generic_ticks)
    if "236" in asked:
        session.send(
            respond.tick_generic(req_id, SHORTABLE, EASY_TO_BORROW),
            respond.tick_size(req_id, SHORTABLE_SHARES, _SHARES, session.version),
        )
    if "456" in asked:
        session.send(respond.tick_string(req_id, DIVIDENDS, ",,,"))  # none are paid here
    if "588" in asked and details.contract.sec_type == "FUT":
        session.send(respond.tick_size(req_id, OPEN_INTEREST, Decimal(0), session.version))
    if asked & {"104", "106", "165", "411"}:
        _send_statistics(context, session, req_id, subscription, details.contract.sec_type)


def _send_statistics(
    context: Context, session: Session, req_id: int, subscription: TickSubscription, sec_type: str
) -> None:
    now, asked = context.now(), frozenset(subscription.generic_ticks)
    what = "MIDPOINT" if sec_type == "CASH" else "TRADES"
    bars = context.venue.bars(
        subscription.con_id, end=now, duration="1 Y", bar_size="1 day", what=what, use_rth=False, now=now
    )
    figures = context.venue.option_figures(subscription.con_id, None, now)
    realised = _volatility(bars)
    implied = realised if figures is None or figures.volatility is None else Decimal(str(figures.volatility))
    for number, tick, value in (
        ("104", HIST_VOLATILITY, realised),
        ("106", IMPLIED_VOLATILITY, implied),
        ("411", RT_HIST_VOLATILITY, realised),
    ):
        if number in asked and value is not None:
            session.send(respond.tick_generic(req_id, tick, value))
    if "165" in asked:
        _send_ranges(session, req_id, bars)


def _send_ranges(session: Session, req_id: int, bars: Sequence[Bar]) -> None:
    for low_tick, high_tick, days in RANGES:
        low, high = min(bar.low for bar in bars[-days:]), max(bar.high for bar in bars[-days:])
        session.send(respond.tick_price(req_id, low_tick, low, Decimal(0), session.version))
        session.send(respond.tick_price(req_id, high_tick, high, Decimal(0), session.version))
    recent = bars[-_VOLUME_DAYS:]
    average = sum((bar.volume for bar in recent), Decimal(0)) / len(recent)
    if average >= 0:
        session.send(respond.tick_size(req_id, AVERAGE_VOLUME, average.quantize(Decimal(1)), session.version))


def _volatility(bars: Sequence[Bar]) -> Decimal | None:
    """Yearly volatility of the last 30 daily closes."""
    closes = [float(bar.close) for bar in bars[-31:] if bar.close > 0]
    moves = [math.log(b / a) for a, b in itertools.pairwise(closes)]
    if len(moves) < 2:
        return None
    mean = sum(moves) / len(moves)
    variance = sum((move - mean) ** 2 for move in moves) / (len(moves) - 1)
    return Decimal(f"{math.sqrt(variance * _DAYS_A_YEAR):.6f}")


def send_trade(session: Session, req_id: int, subscription: TickSubscription, quote: Quote) -> None:
    """Queue what a trade moves."""
    if quote.last is None:
        return
    moment = int(quote.time.timestamp() * 1000)
    text = f"{quote.last:f};{quote.last_size:f};{moment};{quote.volume:f};{quote.last:f};true"
    for number, tick in (("233", RT_VOLUME), ("375", RT_TRADE_VOLUME)):
        if number in subscription.generic_ticks:
            session.send(respond.tick_string(req_id, tick, text))
    for number, tick in (("221", MARK), ("232", MARK), ("318", LAST_RTH)):
        if number in subscription.generic_ticks:
            session.send(respond.tick_price(req_id, tick, quote.last, Decimal(0), session.version))
