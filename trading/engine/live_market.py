"""The engine's live bars: lines and series on the master's connection, followed from any strategy's loop.

Owns: putting lines, series, history and calendar together, and the way from other loops. Leaves: the parts
(``trading.market``), the master's connection (``session``).
Rule: market data live on the master's connection, orders on the strategies' own: however many strategies follow an
instrument, IB counts one line, and an order never stands behind a request for bars.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from ib_async import IB, Contract

from strategies.bar_series import nanos_of
from strategies.data import BarReader, Keep
from strategies.exceptions import TransientError
from trading.ib.pacing import Budget
from trading.ib.requests import ask, ask_in_turn
from trading.market.calendar_rows import make_time_manager
from trading.market.live_bars import LiveBars
from trading.market.live_feed import Following, Trouble, Turn
from trading.market.live_history import PastBars
from trading.market.shared_lines import SharedLines

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

HISTORY_TIMEOUT_S = 40.0  # a request for small bars may wait for its turn
TIME_TIMEOUT_S = 10.0
FOLLOW_AGAIN_S = 1.0


class DataSession(Protocol):
    """The master's session, as far as market data need it."""

    def begin(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> Future[Any]:
        """Start a coroutine on the master's loop and return at once."""


class LiveMarket:
    """Live bars for the strategies of one engine. Thread-safe, but for ``attach``."""

    def __init__(self, session: DataSession, budget: Budget, store: Callable[[], Any], keep: Keep) -> None:
        self._session, self._store, self._keep = session, store, keep
        self._ib: IB | None = None
        self.lines = SharedLines(self._soon, budget)
        self._bars: LiveBars | None = None

    def open(self) -> None:
        """Read the operators' calendars; called once, where the database may be used."""
        self._bars = LiveBars(self.lines, make_time_manager(), PastBars(self._reader, self._present))

    # -- on the master's loop

    def attach(self, ib: IB) -> None:
        """Take a connection that has just been made; called after every connect."""
        self._ib = ib
        self.lines.attach(ib)

    def _reader(self) -> BarReader:
        return BarReader(self._store(), self._download, lambda: datetime.now(UTC), self._keep)

    async def _download(self, contract: Contract, bar_size: str, duration: str, end: str, use_rth: bool) -> Any:
        ib = self._connected()
        return await ask(
            ib.reqHistoricalDataAsync(contract, end, duration, bar_size, "TRADES", use_rth, formatDate=2),
            f"bars of {contract.symbol}",
            timeout_s=HISTORY_TIMEOUT_S,
        )

    async def read(
        self, contract: Contract, timeframe: str, first: datetime, until: datetime, *, fresh: bool = False
    ) -> pd.DataFrame:
        """Return bars of regular hours that start in [first, until]: the store first, IB for what is missing.

        ``fresh`` asks IB alone. On the master's loop. Shape and errors: as ``BarReader.read``.
        """
        return await self._reader().read(contract, timeframe, first, until, use_rth=True, force_download=fresh)

    async def _present(self) -> int:
        """Return IB's time: a replayed market has its own."""
        ib = self._connected()
        moment = await ask_in_turn(ib, ib.reqCurrentTimeAsync, "the time", timeout_s=TIME_TIMEOUT_S)
        return nanos_of(moment)

    def _connected(self) -> IB:
        ib = self._ib
        if ib is None or not ib.isConnected():
            raise TransientError("The engine has no connection to the gateway.", code="not_connected")
        return ib

    # -- from other loops

    async def follow(
        self,
        contract: Contract,
        intervals: Iterable[str],
        *,
        warm_up: int,
        regular_hours: bool,
        on_turn: Turn,
        on_trouble: Trouble,
    ) -> Following:
        """Follow an instrument, once the master is connected; the callbacks come on the master's loop.

        Raises: as ``LiveBars.follow``.
        """

        async def _follow() -> Following:
            bars = self._bars
            if bars is None:
                raise TransientError("The engine has no connection to the gateway yet.", code="not_connected")
            return await bars.follow(
                contract,
                intervals,
                warm_up=warm_up,
                regular_hours=regular_hours,
                on_turn=on_turn,
                on_trouble=on_trouble,
            )

        while True:
            try:
                return await self._begun(_follow)
            except TransientError as error:
                if error.code == "line_limit":
                    raise
                logger.info("not followed yet symbol=%s reason=%s", contract.symbol, error.message)
            await asyncio.sleep(FOLLOW_AGAIN_S)

    async def _begun(self, make: Callable[[], Coroutine[Any, Any, Following]]) -> Following:
        future = self._session.begin(make)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            future.add_done_callback(self._drop_unwanted)  # it may be done already, and nobody would give it back
            raise

    def _drop_unwanted(self, future: Future[Following]) -> None:
        if not future.cancelled() and future.exception() is None:
            self.unfollow(future.result())

    def unfollow(self, following: Following) -> None:
        """Follow no more; returns at once."""
        self._soon(lambda: self._bars.unfollow(following) if self._bars is not None else None)

    def last_price(self, con_id: int) -> Decimal | None:
        """Return the last close that was heard of an instrument that somebody follows."""
        return None if self._bars is None else self._bars.last_price(con_id)

    def quality(self, following: Following, interval: str) -> float:
        """Return how complete today's bars are, 0–100."""
        return 0.0 if self._bars is None else self._bars.quality(following, interval)

    def _soon(self, work: Callable[[], Any]) -> None:
        async def _do() -> None:
            work()

        with suppress(TransientError):  # no session, no line: the next connect asks for what is wanted
            self._session.begin(_do)
