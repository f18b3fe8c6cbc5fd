"""When the opening and closing auctions of an instrument take place, for MOC, LOC and OPG orders.

Owns: the moment of the auction that an order waits for, and until when it is taken.
Rule: with exchange hours the auctions are those of the calendar's sessions. Round the clock every day is a trading day
and has its auctions at the times of the calendar's next session: 09:30 and 16:00 in New York for US stocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from trading.gateway import hours
from trading.gateway.instruments import Instrument
from trading.gateway.model import OrderRequest

# The exchanges stop taking them at 15:50 (NYSE) and 15:55 (Nasdaq), at 09:28 before the opening: one figure for all.
CLOSE_DEADLINE = timedelta(minutes=10)
OPEN_DEADLINE = timedelta(minutes=2)
CLOSING_TYPES = frozenset({"MOC", "LOC"})


@dataclass(frozen=True, slots=True)
class Auction:
    """One auction; orders for it are taken, changed and cancelled before ``deadline``."""

    at: datetime
    deadline: datetime


def auction_of(request: OrderRequest, instrument: Instrument, now: datetime, *, exchange_hours: bool) -> Auction | None:
    """The auction that an order placed now waits for; None for an order that works at any time."""
    if request.order_type in CLOSING_TYPES:
        at = _next(instrument, now, exchange_hours, closing=True)
        return Auction(at, at - CLOSE_DEADLINE)
    if request.tif == "OPG":
        at = _next(instrument, now, exchange_hours, closing=False)
        return Auction(at, at - OPEN_DEADLINE)
    return None


def deadline_of(request: OrderRequest, auction_us: int) -> int:
    """Until when an order for a known auction may be changed. Units: epoch microseconds."""
    before = CLOSE_DEADLINE if request.order_type in CLOSING_TYPES else OPEN_DEADLINE
    return auction_us - int(before.total_seconds() * 1_000_000)


def _next(instrument: Instrument, now: datetime, exchange_hours: bool, *, closing: bool) -> datetime:
    find = hours.next_close if closing else hours.next_open
    found = find(instrument.calendar, now, extended=False)
    zone = ZoneInfo(instrument.time_zone)
    if exchange_hours and found is not None:
        return found
    # Round the clock, or beyond the calendar's end: today or tomorrow at that time of the day.
    usual = found.astimezone(zone) if found else now.astimezone(zone).replace(hour=16 if closing else 9, minute=0)
    local = now.astimezone(zone)
    at = local.replace(hour=usual.hour, minute=usual.minute, second=0, microsecond=0)
    return at if at > local else at + timedelta(days=1)
