"""When a contract trades with liquidity, as the venue says it; for US stocks the exchange's calendar where it does not.

Owns: reading IB's text, and the answers of a day. Leaves: what follows from it (``orders.conduct_checks``).
Rule: hours that are not known are None, never «open».
"""

from __future__ import annotations

import logging
import threading
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ib_async import IB, Contract

from strategies.exceptions import NotFoundError, TransientError
from trading.ib.requests import contract_details

logger = logging.getLogger(__name__)

Session = tuple[datetime, datetime]
_US_STOCKS = "XNYS"


def read_hours(text: str, zone: str) -> tuple[Session, ...] | None:
    """Return the sessions in UTC that IB's hours text names; None when it cannot be read.

    Shape: ``20261127:0930-20261127:1300;20261128:CLOSED`` in the contract's zone.
    """
    try:
        tz = ZoneInfo(zone)
        return (
            tuple(_session(part, tz) for part in text.split(";") if part and not part.endswith("CLOSED"))
            if text
            else None
        )
    except (ValueError, ZoneInfoNotFoundError):
        logger.warning("hours cannot be read text=%s zone=%s", text[:200], zone)
        return None


def _session(part: str, zone: ZoneInfo) -> Session:
    opens, closes = part.split("-")
    read = [datetime.strptime(one, "%Y%m%d:%H%M").replace(tzinfo=zone).astimezone(UTC) for one in (opens, closes)]
    return read[0], read[1]


class LiquidHours:
    """Sessions by contract id, read again each day. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[int, tuple[date, tuple[Session, ...]]] = {}

    def get(self, con_id: int, now: datetime) -> tuple[Session, ...] | None:
        """Return the sessions of today and the next days; None when they were not read today."""
        with self._lock:
            found = self._known.get(con_id)
        return found[1] if found is not None and found[0] == now.date() else None

    def put(self, con_id: int, sessions: tuple[Session, ...], now: datetime) -> None:
        """Keep what was read."""
        with self._lock:
            self._known[con_id] = (now.date(), sessions)

    async def learn(self, ib: IB, contract: Contract, now: datetime, timeout_s: float) -> None:
        """Ask IB for a contract's hours, unless read today; without an answer the calendar serves US stocks."""
        if self.get(contract.conId, now) is not None:
            return
        sessions: tuple[Session, ...] | None = None
        try:
            [details, *_] = await contract_details(ib, contract, timeout_s=timeout_s)
            sessions = read_hours(details.liquidHours, details.timeZoneId)
        except (TransientError, NotFoundError) as error:
            logger.warning("hours not read con_id=%s reason=%s", contract.conId, error.message)
        if sessions is None and contract.secType == "STK" and contract.currency == "USD":
            sessions = calendar_hours(now.date())
        if sessions is not None:
            self.put(contract.conId, sessions, now)


@lru_cache(maxsize=4)
def calendar_hours(day: date) -> tuple[Session, ...]:
    """Return the sessions of the New York Stock Exchange around a day."""
    import exchange_calendars  # takes a second to import

    calendar: Any = exchange_calendars.get_calendar(_US_STOCKS)
    found = calendar.sessions_in_range(str(day - timedelta(days=1)), str(day + timedelta(days=6)))
    return tuple(
        (calendar.session_open(one).to_pydatetime(), calendar.session_close(one).to_pydatetime()) for one in found
    )
