"""When a contract trades with liquidity, as the venue says it; for US stocks the exchange's calendar where it does not.

Owns: reading IB's text, the answers of a day, narrowing them by what operators entered. Leaves: what follows from it
(``orders.conduct_checks``), the calendars (``calendars``).
Rules: hours that are not known are None, never «open». On a day that operators changed, both must agree: a holiday or
an early close of theirs holds whatever IB says, and none of their rows opens what IB says is closed.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from ib_async import IB, Contract

from strategies.bar_series import moment_of
from strategies.exceptions import ConfigError, NotFoundError, TransientError
from trading.ib.requests import contract_details
from trading.market.calendars import NO_OVERRIDES, US_EQUITY, Overrides, build_table
from trading.market.live_history import group_of_contract
from trading.market.session_table import SessionTable

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


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read of a contract, and what operators leave of it."""

    day: date
    contract: Contract
    said: tuple[Session, ...]
    overrides: Overrides
    sessions: tuple[Session, ...] | None


class LiquidHours:
    """Sessions by contract id, read again each day. Thread-safe."""

    def __init__(self, overrides: Callable[[], Overrides] = lambda: NO_OVERRIDES) -> None:
        """``overrides`` returns what operators entered, as it is now."""
        self._lock = threading.Lock()
        self._known: dict[int, _Read] = {}
        self._overrides = overrides

    def follow(self, overrides: Callable[[], Overrides]) -> None:
        """Heed what operators enter."""
        self._overrides = overrides

    def get(self, con_id: int, now: datetime) -> tuple[Session, ...] | None:
        """Return the sessions of today and the next days; None when they were not read today."""
        with self._lock:
            found = self._known.get(con_id)
        if found is None or found.day != now.date():
            return None
        if found.overrides is not self._overrides():
            self.put(con_id, found.said, now, found.contract)
            found = self._known[con_id]
        return found.sessions

    def put(self, con_id: int, sessions: tuple[Session, ...], now: datetime, contract: Contract | None = None) -> None:
        """Keep what was read, narrowed by what operators entered for the contract's exchange; None: a US stock's."""
        overrides, listed = self._overrides(), contract or Contract(secType="STK", exchange="SMART", currency="USD")
        left = _narrowed(listed, sessions, overrides)
        with self._lock:
            self._known[con_id] = _Read(now.date(), listed, sessions, overrides, left)

    async def learn(self, ib: IB, contract: Contract, now: datetime, timeout_s: float) -> None:
        """Ask IB for a contract's hours, unless read today; without an answer the calendar serves US stocks."""
        if self.get(contract.conId, now) is not None:
            return
        con_id, sessions = contract.conId, None
        try:
            [details, *_] = await contract_details(ib, contract, timeout_s=timeout_s)
            sessions = read_hours(details.liquidHours, details.timeZoneId)
            contract = details.contract or contract  # as it is listed
        except (TransientError, NotFoundError) as error:
            logger.warning("hours not read con_id=%s reason=%s", contract.conId, error.message)
        if sessions is None and contract.secType == "STK" and contract.currency == "USD":
            sessions = calendar_hours(now.date())
        if sessions is not None:
            await asyncio.to_thread(self.put, con_id, sessions, now, contract)  # calendars take a second to load


def _narrowed(contract: Contract, said: tuple[Session, ...], overrides: Overrides) -> tuple[Session, ...] | None:
    """Return what is left of sessions on the days that operators changed; None where that cannot be told."""
    if not said or not (overrides.hours or overrides.holidays):
        return said
    group = _group_of(contract)
    if not group:
        return said
    try:
        first, last = said[0][0].date() - timedelta(days=2), said[-1][1].date() + timedelta(days=2)
        plain, ours = build_table(group, first, last), build_table(group, first, last, overrides=overrides.of(group))
    except ConfigError as error:
        logger.warning("hours not known con_id=%s group=%s reason=%s", contract.conId, group, error.message)
        return None
    return tuple(part for one in said for part in _on_day(one, plain, ours))


def _group_of(contract: Contract) -> str:
    """Return whose rows count for a contract; empty for an exchange that has no calendar."""
    try:
        return group_of_contract(contract)
    except ConfigError:
        return US_EQUITY if (contract.secType, contract.currency) == ("STK", "USD") else ""  # PINK and the like


def _on_day(session: Session, plain: SessionTable, ours: SessionTable) -> list[Session]:
    day = np.datetime64(session[0].astimezone(ZoneInfo(ours.zone)).date())
    usual, entered = _hours_of(plain, day), _hours_of(ours, day)
    if usual == entered or usual is None:
        return [session]
    if entered is None:
        return []
    opens, closes = max(session[0], entered[0]), min(session[1], entered[1])
    return [(opens, closes)] if opens < closes else []


def _hours_of(table: SessionTable, day: np.datetime64) -> Session | None:
    place = int(np.searchsorted(table.days, day))
    if place >= len(table.days) or table.days[place] != day:
        return None
    return moment_of(int(table.opens[place])), moment_of(int(table.closes[place]))


@lru_cache(maxsize=4)
def calendar_hours(day: date) -> tuple[Session, ...]:
    """Return the sessions of the New York Stock Exchange around a day."""
    import exchange_calendars  # takes a second to import

    calendar: Any = exchange_calendars.get_calendar(_US_STOCKS)
    found = calendar.sessions_in_range(str(day - timedelta(days=1)), str(day + timedelta(days=6)))
    return tuple(
        (calendar.session_open(one).to_pydatetime(), calendar.session_close(one).to_pydatetime()) for one in found
    )
