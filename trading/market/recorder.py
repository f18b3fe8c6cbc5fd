"""Prices of everything held or traded: marks for valuation, 5-second bars for charts and history.

Owns: the market data lines on the master's connection. Leaves: events and marks (``engine``), storage (``bars``).
Rule: one recorder a connection; it starts itself, ends with its connection, and stays below IB's 100 lines so that
strategies find some. A mark is reported at most once a second, and only when it moved.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from ib_async import IB, Contract, RealTimeBar, RealTimeBarList, Ticker

from portfolio.arctic.market_data import Bar
from portfolio.models import Instrument, Position
from strategies.exceptions import TransientError
from strategies.series_names import Listing
from trading.ib import codes
from trading.ib.mapping import to_decimal
from trading.ib.silence import Stream
from trading.market.bars import BarStore
from trading.market.shared_lines import Listening, SharedLines
from trading.models import Order
from trading.orders.db_threads import in_db_thread

logger = logging.getLogger(__name__)

MAX_LINES = 90
LINES_EACH = 2  # quotes and bars count as one line each
LOOK_EVERY_S = 2.0
MARKS_EVERY_S = 1.0
RECENT = timedelta(days=1)
ASKED_FOR_S = 60.0  # by then the order that it was asked for is on record
_SHARED = "shared bars"
_NO_TRADES = frozenset({"CASH", "CMDTY"})
_SMART = frozenset({"STK", "OPT", "WAR", "BOND", "FUND"})

Ohlc = tuple[Decimal, Decimal, Decimal, Decimal]
MarksListener = Callable[[dict[int, Decimal]], None]
BarListener = Callable[[int, str, datetime, Ohlc, Decimal], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """An instrument to record."""

    con_id: int
    symbol: str
    sec_type: str
    exchange: str
    currency: str

    @property
    def listing(self) -> Listing:
        """Return what its bars are of."""
        return Listing(self.con_id, self.symbol, self.sec_type, self.currency)

    def contract(self) -> Contract:
        """Return the contract to ask for."""
        exchange = "SMART" if self.sec_type in _SMART else self.exchange
        return Contract(
            conId=self.con_id, symbol=self.symbol, secType=self.sec_type, exchange=exchange, currency=self.currency
        )


def wanted_instruments() -> list[Wanted]:
    """Return what is held, then what was ordered in the last day; held ones first, for they need marks.

    An order does not say where its contract is listed. What IB does not route and the books do not know waits for them.
    """
    held = Instrument.objects.filter(con_id__in=Position.objects.exclude(quantity=0).values("instrument_id"))
    found = {row.con_id: _known(row) for row in held.order_by("con_id")}
    since = datetime.now(UTC) - RECENT
    recent = Order.objects.filter(created_at__gte=since).exclude(con_id__in=found)
    recent = recent.exclude(sec_type="BAG")  # a combination has no price of its own; its legs are held once it fills
    ordered = list(recent.values("con_id", "symbol", "sec_type", "currency").distinct())
    known = Instrument.objects.in_bulk([row["con_id"] for row in ordered])
    for row in ordered:
        con_id, sec_type = row["con_id"], row["sec_type"]
        if con_id in known:
            found.setdefault(con_id, _known(known[con_id]))
        elif sec_type in _SMART or sec_type == "CASH":
            exchange = "IDEALPRO" if sec_type == "CASH" else "SMART"
            found.setdefault(con_id, Wanted(con_id, row["symbol"], sec_type, exchange, row["currency"]))
    return list(found.values())


def _known(row: Instrument) -> Wanted:
    return Wanted(row.con_id, row.symbol, row.sec_type, row.exchange, row.currency)


@dataclass(slots=True)
class _Line:
    wanted: Wanted
    contract: Contract
    ticker: Ticker
    bars: RealTimeBarList | Listening | None  # None: no line was left for its bars


class MarketRecorder:
    """Records on the loop that made it; ends when its connection does."""

    def __init__(
        self,
        ib: IB,
        *,
        on_marks: MarksListener,
        on_bar: BarListener,
        on_price: Callable[[int, Decimal], None] | None = None,
        wanted: Callable[[], list[Wanted]] = wanted_instruments,
        store: BarStore | None = None,
        lines: SharedLines | None = None,
        max_lines: int = MAX_LINES,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._ib = ib
        self._on_marks, self._on_bar = on_marks, on_bar
        self._wanted = wanted
        self._store = store if store is not None else BarStore()
        self._shared = lines
        self._max_instruments = max_lines // LINES_EACH
        self._look_every_s = look_every_s
        self._lines: dict[int, _Line] = {}
        self._told: dict[int, Decimal] = {}
        self._moved: dict[int, Decimal] = {}
        self._full_told = False
        self._on_price = on_price
        self._asked: dict[int, tuple[Wanted, float]] = {}
        ib.disconnectedEvent += self.stop
        ib.errorEvent += self._on_error
        ib.pendingTickersEvent += self._on_tickers
        self._store.start()
        self._tasks = [asyncio.get_running_loop().create_task(work) for work in (self._look(), self._tell())]

    @property
    def recorded(self) -> frozenset[int]:
        """Return the contract ids that are recorded now."""
        return frozenset(self._lines)

    def follow(self, wanted: Wanted) -> None:
        """Follow a contract at once that somebody wants to trade; on the recorder's loop. No line left: nothing."""
        if self._ib.isConnected():
            self._asked[wanted.con_id] = (wanted, time.monotonic() + ASKED_FOR_S)
            if wanted.con_id not in self._lines and len(self._lines) < self._max_instruments:
                self._lines[wanted.con_id] = self._subscribe(wanted)

    def current(self) -> dict[Any, Stream]:
        """Return the lines by contract id, each with the ids of its requests, and every shared line of bars."""
        wrapper: Any = self._ib.wrapper
        ids: dict[Ticker, int] = wrapper.ticker2ReqId["mktData"]
        shared = {} if self._shared is None else self._shared.current()
        own = {
            con_id: Stream(line.contract, frozenset({self._bars_id(line), ids.get(line.ticker, 0)}))
            for con_id, line in self._lines.items()
        }
        return {**own, **{(_SHARED, con_id): stream for con_id, stream in shared.items()}}

    def _bars_id(self, line: _Line) -> int:
        if isinstance(line.bars, RealTimeBarList):
            return line.bars.reqId
        return 0 if self._shared is None else self._shared.request_id(line.contract.conId)

    def renew(self, key: Any) -> None:
        """End a line at IB and ask for it again."""
        if isinstance(key, tuple):
            if self._shared is not None:
                self._shared.renew(key[1])
            return
        line = self._lines.get(key)
        if line is not None:
            self._unsubscribe(line)
            self._lines[key] = self._subscribe(line.wanted)

    def tell_again(self, con_ids: Iterable[int]) -> None:
        """Report the prices of contracts that were silent, also where they are what they were."""
        for con_id in con_ids:
            line = self._lines.get(con_id)
            self._told.pop(con_id, None)
            if line is not None:
                self._take(con_id, line.ticker)

    def stop(self) -> None:
        """End recording; what waits is still stored."""
        self._ib.disconnectedEvent -= self.stop
        self._ib.errorEvent -= self._on_error
        self._ib.pendingTickersEvent -= self._on_tickers
        for task in self._tasks:
            task.cancel()
        for line in list(self._lines.values()):
            self._unsubscribe(line)
        self._lines.clear()
        self._store.stop()

    def join(self, timeout_s: float) -> bool:
        """Wait until the bars that were taken are appended; tell whether they are. Call ``stop`` first."""
        return self._store.join(timeout_s)

    # lines

    async def _look(self) -> None:
        await self._every(self._look_every_s, self._look_once)

    async def _look_once(self) -> None:
        self._asked = {key: held for key, held in self._asked.items() if held[1] > time.monotonic()}
        wanted = {one.con_id: one for one in await in_db_thread(self._wanted)}
        wanted |= {key: one for key, (one, _) in self._asked.items() if key not in wanted}
        for con_id in set(self._lines) - set(wanted):
            self._unsubscribe(self._lines.pop(con_id))
        for con_id, one in wanted.items():
            line = self._lines.get(con_id)
            if line is not None and line.contract.exchange == one.contract().exchange:
                continue
            if line is not None:  # it was asked for elsewhere before its listing was known
                self._unsubscribe(self._lines.pop(con_id))
            if len(self._lines) >= self._max_instruments:
                if not self._full_told:
                    logger.warning("no market data line left for %s; held instruments come first", one.symbol)
                self._full_told = True
                break
            self._lines[con_id] = self._subscribe(one)

    def _subscribe(self, wanted: Wanted) -> _Line:
        contract = wanted.contract()
        ticker = self._ib.reqMktData(contract, "", False, False)
        return _Line(wanted, contract, ticker, self._subscribe_bars(wanted, contract))

    def _subscribe_bars(self, wanted: Wanted, contract: Contract) -> RealTimeBarList | Listening | None:
        """Follow an instrument's bars, on the line of the strategies that follow it where lines are shared."""
        if self._shared is not None:
            try:
                return self._shared.listen(contract, partial(self._take_bar, wanted), _note_refusal)
            except TransientError as error:
                logger.warning("bars are not recorded symbol=%s reason=%s", wanted.symbol, error.message)
                return None
        what = "MIDPOINT" if wanted.sec_type in _NO_TRADES else "TRADES"
        bars = self._ib.reqRealTimeBars(contract, 5, what, False)
        bars.updateEvent += partial(self._on_real_time_bar, wanted)
        return bars

    def _unsubscribe(self, line: _Line) -> None:
        if isinstance(line.bars, Listening) and self._shared is not None:
            self._shared.drop(line.bars)
        if not self._ib.isConnected():
            return
        self._ib.cancelMktData(line.contract)
        if isinstance(line.bars, RealTimeBarList):
            self._ib.cancelRealTimeBars(line.bars)

    def _on_error(self, req_id: int, code: int, text: str, contract: Any) -> None:
        if code == codes.DATA_LOST:
            wanted = [line.wanted for line in self._lines.values()]
            for line in self._lines.values():
                self._unsubscribe(line)
            self._lines = {one.con_id: self._subscribe(one) for one in wanted}

    # prices

    def _on_tickers(self, tickers: set[Ticker]) -> None:
        for ticker in tickers:
            con_id = ticker.contract.conId if ticker.contract else 0
            if con_id in self._lines:
                self._take(con_id, ticker)

    def _take(self, con_id: int, ticker: Ticker) -> None:
        price = ticker.marketPrice()
        price = ticker.close if math.isnan(price) else price
        if not math.isnan(price) and price > 0:
            self._moved[con_id] = to_decimal(price)
            if self._on_price is not None and not math.isnan(ticker.marketPrice()):
                self._on_price(con_id, self._moved[con_id])

    async def _tell(self) -> None:
        await self._every(MARKS_EVERY_S, self._tell_once)

    async def _tell_once(self) -> None:
        moved, self._moved = self._moved, {}
        news = {con_id: price for con_id, price in moved.items() if self._told.get(con_id) != price}
        if news:
            self._told |= news
            self._on_marks(news)

    def _on_real_time_bar(self, wanted: Wanted, bars: RealTimeBarList, has_new: bool) -> None:
        if not has_new or not bars:
            return
        bar = bars[-1]
        del bars[:-1]  # ib_async keeps every bar for ever
        self._take_bar(wanted, bar)

    def _take_bar(self, wanted: Wanted, bar: RealTimeBar) -> None:
        ohlc = (to_decimal(bar.open_), to_decimal(bar.high), to_decimal(bar.low), to_decimal(bar.close))
        volume = max(to_decimal(bar.volume), Decimal(0))  # −1 where there are no trades
        start = bar.time.astimezone(UTC)
        self._on_bar(wanted.con_id, wanted.symbol, start, ohlc, volume)
        self._store.add(wanted.listing, Bar(start, *ohlc, volume))

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except Exception:  # task border: a failed look must not end the recording
                logger.exception("market recorder")
            await asyncio.sleep(seconds)


def _note_refusal(text: str) -> None:
    logger.warning("bars are not recorded: %s", text)
