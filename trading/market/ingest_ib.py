"""Download bars from IB into ``market_data``, page by page, so that what is stored has no hole at any moment.

Owns: the way through time, progress. Leaves: one answer (``ingest_pages``), storing (``ingest_store``), pacing
(``trading.ib.pacing``), the connection's life (``ingest_line``).
Rules: from the last stored bar forwards first, each page joining on to the one before; then from the first stored bar
backwards. A series that does not exist yet begins with the newest page. So the store itself says where to go on after a
kill, and nothing is asked for twice but the page that was under way. Only bars that are over are stored. Where a page
overlaps the stored bar that it joins on to and says another price, nothing is written: a split lies between them.
Source: IB's pages on historical bars; TRADES have splits applied up to the day of the request, dividends not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

import pandas as pd
from ib_async import Contract

from portfolio.arctic.client import ArcticClient, get_ac
from portfolio.arctic.market_data import LIBRARY, symbol_name
from strategies.data import SAME_PRICE
from strategies.exceptions import ConflictError, MatsError
from strategies.series_names import Listing, owner_of
from strategies.timeframes import TIMEFRAMES, Timeframe
from trading.market.ingest_line import IngestLine, StoppedError
from trading.market.ingest_pages import IbPages
from trading.market.ingest_progress import Meter
from trading.market.ingest_store import KEEP, Put, store_bars
from trading.orders.db_threads import in_db_thread

logger = logging.getLogger(__name__)

EMPTY_PAGES = 3  # one after another, going back: IB has nothing older
FARTHEST = timedelta(days=365 * 40)
ShouldStop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class IbWish:
    """What to download: ``start`` None is as far back as IB goes, ``end`` None is now."""

    contract: Contract
    frame: Timeframe
    start: datetime | None
    end: datetime | None
    use_rth: bool = True
    what: str = "TRADES"
    calendar: str = "XNYS"


@dataclass(slots=True)
class IbDone:
    """What came of one series."""

    series: str
    timeframe: str
    new: int = 0
    known: int = 0
    requests: int = 0
    first: datetime | None = None
    last: datetime | None = None
    version: int | None = None
    notes: list[str] = field(default_factory=list)
    is_whole: bool = False

    def take(self, put: Put) -> None:
        """Add what was stored."""
        self.new, self.known = self.new + put.new, self.known + put.known
        self.version = put.version if put.version is not None else self.version


class IbSeries:
    """The download of one series. Runs on the line's loop."""

    def __init__(
        self,
        line: IngestLine,
        wish: IbWish,
        meter: Meter,
        should_stop: ShouldStop,
        *,
        client: ArcticClient | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._line, self._wish, self._meter, self._should_stop = line, wish, meter, should_stop
        self._client = client or get_ac()
        self._now = now
        self._pages = IbPages(line, wish.frame, wish.what, wish.use_rth, self._client, now)
        self.done = IbDone("", wish.frame.key)
        self._begin: datetime
        self._end: datetime
        self._close = 0.0  # of the last stored bar

    async def run(self) -> IbDone:
        """Download what is missing; what was stored before a stop or an error stays.

        Raises: NotFoundError for an unknown contract, ConflictError (history_changed), TransientError.
        """
        wish = self._wish
        self._contract = await self._line.qualify(wish.contract)
        found = self._contract
        self._listing = Listing(found.conId, found.symbol, found.secType, found.currency)
        self.done.series = await in_db_thread(self._series)
        self._name = symbol_name(self.done.series, wish.frame.key)
        self._end = min(wish.end or self._now(), self._now())
        self._begin = wish.start or max(await self._head(), self._end - FARTHEST)
        await in_db_thread(self._look)
        self._meter.begin(self.done.series, self._span_s())
        if self.done.last is None:
            await self._first_page()
        stopped = self.done.last is None or not await self._forwards() or not await self._backwards()
        self.done.is_whole = not stopped
        self._meter.end_series()
        return self.done

    def _series(self) -> str:
        """Return the series of the contract: its wish unless another contract's bars have that name.

        One that was imported by hand names no contract: who downloads it says whose it is, and the prices must agree.
        """
        wish = self._listing.wish
        for timeframe in TIMEFRAMES:
            if owner_of(self._client.metadata(LIBRARY, symbol_name(wish, timeframe))) not in (0, self._listing.con_id):
                return self._listing.own
        return wish

    def _look(self) -> None:
        """Learn what is stored."""
        if not self._client.has_symbol(LIBRARY, self._name):
            return
        head, tail = (end(LIBRARY, self._name, 1).data for end in (self._client.head, self._client.tail))
        if len(tail):
            self.done.first, self.done.last = head.index[0].to_pydatetime(), tail.index[-1].to_pydatetime()
            self._close = float(tail["close"].iloc[-1])

    def _span_s(self) -> float:
        """Return how many seconds of the market's time are to be asked for."""
        if self.done.first is None or self.done.last is None:
            return max(0.0, (self._end - self._begin).total_seconds())
        ahead = (self._end - self.done.last).total_seconds()
        back = (self.done.first - self._begin).total_seconds()
        return max(0.0, ahead) + max(0.0, back)

    async def _head(self) -> datetime:
        found = await self._line.head_timestamp(self._contract, self._wish.what, self._wish.use_rth)
        return found or self._end - FARTHEST

    # -- the way

    async def _first_page(self) -> None:
        """Begin a series with its newest page; an empty one goes back, as for the way backwards."""
        cursor, empty = self._end, 0
        while cursor > self._begin and empty < EMPTY_PAGES and not self._should_stop():
            begin = max(self._begin, cursor - self._wish.frame.longest)
            bars = await self._ask(begin, cursor)
            if len(bars):
                await self._store(bars, cursor - begin)
                return
            cursor, empty = begin, empty + 1
        if not self._should_stop():
            self.done.notes.append("IB has no bars of that time.")

    async def _forwards(self) -> bool:
        """Go from the last stored bar to the end; tell whether it was reached."""
        frame, cursor, stored = self._wish.frame, self.done.last, 1
        assert cursor is not None  # noqa: S101 - asked for after the first page
        while self._end - cursor >= frame.length * (1 + stored):  # the first page begins with a bar that is there
            if self._should_stop():
                return False
            end = min(self._end, cursor + frame.longest)
            bars = await self._ask(cursor, end)
            if stored:
                self._require_join(bars)
            await self._store(bars[bars.index > self.done.last], end - cursor)
            cursor, stored = end, 0
        return True

    def _require_join(self, bars: pd.DataFrame) -> None:
        """Refuse a page that says another price of the bar that it joins on to."""
        if self.done.last is None or self.done.last not in bars.index:
            return
        close = float(bars["close"].loc[pd.Timestamp(self.done.last)])
        if abs(close - self._close) > SAME_PRICE * abs(self._close):
            raise ConflictError(
                f"{self._name}: the bar of {self.done.last:%Y-%m-%d %H:%M}Z is stored with close {self._close:.10g}, "
                f"IB says {close:.10g} now. If the stock was split since, record it (manage.py ingest_bars "
                f"{self.done.series} --split {self._now():%Y-%m-%d}=2:1, with the ex-date and the ratio) and run this "
                "again; nothing was changed.",
                code="history_changed",
            )

    async def _backwards(self) -> bool:
        """Go from the first stored bar to the start; tell whether it was reached, or IB had nothing older."""
        assert self.done.first is not None  # noqa: S101 - asked for after the first page
        cursor, empty = self.done.first, 0
        while cursor - self._begin >= self._wish.frame.length and empty < EMPTY_PAGES:
            if self._should_stop():
                return False
            begin = max(self._begin, cursor - self._wish.frame.longest)
            bars = await self._ask(begin, cursor)
            fresh = bars[bars.index < self.done.first]
            await self._store(fresh, cursor - begin)
            empty = 0 if len(fresh) else empty + 1
            cursor = min(begin, fresh.index[0].to_pydatetime()) if len(fresh) else begin
        if empty == EMPTY_PAGES:
            self.done.notes.append(f"IB has nothing before {self.done.first:%Y-%m-%d %H:%M}Z.")
        return True

    async def _ask(self, begin: datetime, end: datetime) -> pd.DataFrame:
        """Ask for the bars that start in [begin, end), on the series' scale."""
        self.done.requests += 1
        bars = await self._pages.bars(self._contract, begin, end)
        return await in_db_thread(self._on_our_scale, bars)

    def _on_our_scale(self, bars: pd.DataFrame) -> pd.DataFrame:
        known = self._client.metadata(LIBRARY, self._name) if self.done.last is not None else {}
        return self._pages.on_scale(bars, self.done.series, known)

    async def _store(self, bars: pd.DataFrame, asked: timedelta) -> None:
        if len(bars):
            self.done.take(await in_db_thread(self._put, bars))
            first, last = bars.index[0].to_pydatetime(), bars.index[-1].to_pydatetime()
            self.done.first = first if self.done.first is None else min(self.done.first, first)
            if self.done.last is None or last > self.done.last:
                self.done.last, self._close = last, float(bars["close"].iloc[-1])
        self._meter.add(asked.total_seconds(), len(bars))

    def _put(self, bars: pd.DataFrame) -> Put:
        wish = self._wish
        tags = {
            **self._listing.as_metadata(), "use_rth": wish.use_rth, "calendar": wish.calendar, "what": wish.what,
        }  # fmt: skip
        if self.done.last is None and wish.contract.secType in ("", "STK"):
            tags["split_basis"] = f"{self._now():%Y-%m-%d}"
        # What the recorder stored meanwhile stays; the scale is the series' own already.
        return store_bars(
            self.done.series, wish.frame.key, bars, tags, source="ib", on_conflict=KEEP, client=self._client,
            is_on_scale=True,
        )  # fmt: skip


async def download_all(
    line: IngestLine, wishes: list[IbWish], meter: Meter, should_stop: ShouldStop, client: ArcticClient | None = None
) -> tuple[list[IbDone], list[dict[str, str]]]:
    """Download series one after another; one that fails leaves the others alone. Return what was done, and failures."""
    done: list[IbDone] = []
    failed: list[dict[str, str]] = []
    for wish in wishes:
        if should_stop():
            break
        series = IbSeries(line, wish, meter, should_stop, client=client)
        await run_one(series, wish.contract.symbol, failed)
        if series.done.series:
            done.append(series.done)
    return done, failed


class Series(Protocol):
    """What is brought in for one series."""

    async def run(self) -> IbDone:
        """Do it."""


async def run_one(series: Series, symbol: str, failed: list[dict[str, str]]) -> None:
    """Do one series; what went wrong is added to ``failed``, and what it stored stays."""
    try:
        await series.run()
    except StoppedError:
        logger.info("ingest stopped symbol=%s", symbol)
    except MatsError as error:
        logger.warning("ingest failed symbol=%s reason=%s", symbol, error.message)
        failed.append({"symbol": symbol, "error": error.message})
