"""Whether a price still stands: its age counts only while the instrument's market is open.

Owns: which calendar an instrument follows, and the trading time between two moments.
Rule: a mark is fresh for 15 minutes of trading time. So the last price of a session holds over the night, a weekend or
a holiday, and grows old when the market has opened without a new one. Where no calendar is known the clock counts.
Prices that stopped coming while their market is open make a mark stale at once.
Source: regular sessions of ``exchange_calendars``; what is dealt before and after them makes no mark old.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from portfolio.models import Instrument, Mark

MARK_FRESH = timedelta(minutes=15)
LONGEST_CLOSURE = timedelta(days=12)  # Tokyo's Golden Week with its weekends; no regular closure is longer
_HISTORY = timedelta(days=60)
FX_CALENDAR = "24/5"
_BY_EXCHANGE = {
    "AEB": "XAMS",
    "AMEX": "XNYS",
    "ARCA": "XNYS",
    "ASX": "XASX",
    "BATS": "XNYS",
    "BM": "XMAD",
    "BVME": "XMIL",
    "CBOE": "XNYS",
    "CME": "CMES",
    "EBS": "XSWX",
    "IBIS": "XETR",
    "IBIS2": "XETR",
    "LSE": "XLON",
    "LSEETF": "XLON",
    "NASDAQ": "XNYS",
    "NYSE": "XNYS",
    "SBF": "XPAR",
    "SEHK": "XHKG",
    "SFB": "XSTO",
    "TSE": "XTSE",
    "TSEJ": "XTKS",
}
_US_TYPES = {"STK", "OPT", "IND", "BAG", "WAR"}


def is_fresh(instrument: Instrument, marked_at: datetime, now: datetime) -> bool:
    """Tell whether a mark of that moment still stands."""
    age = now - marked_at
    if age <= MARK_FRESH:
        return True
    calendar = calendar_of(instrument)
    if calendar is None or age > LONGEST_CLOSURE:
        return False
    open_time = trading_time(calendar, marked_at, now)
    return open_time is not None and open_time <= MARK_FRESH


def stands(mark: Mark | None, instrument: Instrument, now: datetime) -> bool:
    """Tell whether an instrument's mark stands: there is one, it is fresh, and its prices have not stopped by then."""
    if mark is None or (mark.silent_since is not None and mark.silent_since <= now):
        return False
    return is_fresh(instrument, mark.marked_at, now)


def calendar_of(instrument: Instrument) -> str | None:
    """Return the exchange_calendars name of an instrument's market, None when it is not known.

    >>> calendar_of(Instrument(sec_type="STK", currency="USD", exchange="SMART"))
    'XNYS'
    >>> calendar_of(Instrument(sec_type="STK", currency="EUR", exchange="SMART", primary_exchange="IBIS"))
    'XETR'
    >>> calendar_of(Instrument(sec_type="CASH", currency="USD", exchange="IDEALPRO"))
    '24/5'
    >>> calendar_of(Instrument(sec_type="CRYPTO", currency="USD", exchange="PAXOS")) is None
    True
    """
    if instrument.sec_type == "CASH":
        return FX_CALENDAR
    for exchange in (instrument.primary_exchange, instrument.exchange):
        if exchange in _BY_EXCHANGE:
            return _BY_EXCHANGE[exchange]
    return "XNYS" if instrument.currency == "USD" and instrument.sec_type in _US_TYPES else None


def trading_time(calendar: str, since: datetime, until: datetime) -> timedelta | None:
    """Return how long a market was open between two moments, None when its calendar does not reach so far."""
    opens, closes, first, last = _sessions(calendar, until.year)
    if since < first or until > last:
        return None
    start, end = int(since.timestamp()), int(until.timestamp())
    inside = (closes > start) & (opens < end)
    seconds = (closes[inside].clip(max=end) - opens[inside].clip(min=start)).sum()
    return timedelta(seconds=int(seconds))


@lru_cache(maxsize=64)
def _sessions(calendar: str, year: int) -> tuple[Any, Any, datetime, datetime]:
    """Return opens and closes of a year's sessions in epoch seconds, and the span that they cover.

    Loaded here and not at the top: the calendars bring pandas, and a process that only serves pages starts without.
    """
    import exchange_calendars

    first = datetime(year, 1, 1, tzinfo=UTC) - _HISTORY
    last = datetime(year + 1, 1, 1, tzinfo=UTC)
    found = exchange_calendars.get_calendar(calendar, start=first.date().isoformat(), end=last.date().isoformat())
    second = 1_000_000_000
    return found.opens_nanos // second, found.closes_nanos // second, first + timedelta(days=4), last
