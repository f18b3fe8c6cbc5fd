"""Bars of a live session: history from the store and IB, then closed bars from the engine's shared lines.

Owns: the contract of a symbol, handing bars from the master's loop over to the session's thread, asking again for gaps.
Leaves: lines, building bars and history (``live_market``), what is made of them (``market.processor``).
Rule: the session's thread waits for IB with a time limit, the master's loop for nobody. An answer that does not come is
an error, never «no bars».
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

import pandas as pd
from ib_async import IB, Contract, ScannerSubscription, Stock

from strategies.bar_series import Bar, BarSeries, moment_of, nanos_of
from strategies.exceptions import ConfigError, MatsError, NotFoundError
from strategies.intervals import parse_interval
from trading.engine.live_market import LiveMarket
from trading.ib.requests import ask, qualify
from trading.market.feeds import FIELDS, part_of, series_of
from trading.market.live_feed import Following
from trading.market.scanners.base import MarketScan
from trading.market.session_table import TradingSession

CONTRACT_S, HISTORY_S, FOLLOW_S, SCAN_S = 15.0, 60.0, 90.0, 20.0
CURRENCY = "USD"


class Master(Protocol):
    """The engine's master session."""

    @property
    def connection(self) -> Any:
        """Return its connection, None before the first."""

    def run(self, make: Callable[[], Coroutine[Any, Any, Any]], timeout_s: float) -> Any:
        """Run a coroutine on the master's loop and return its result."""


class LiveStream:
    """The bars of one symbol as they close."""

    def __init__(self, base: str, begin_ns: int, news: threading.Event, unfollow: Callable[[Following], None]) -> None:
        self._base, self._begin_ns, self._news, self._unfollow = base, begin_ns, news, unfollow
        self._bars: list[Bar] = []
        self._seen = 0  # of the series, which grows at its end only
        self._following: Following | None = None
        self._lock = threading.Lock()

    def on_turn(self, con_id: int, end_ns: int, intervals: Sequence[str]) -> None:
        """Take note of an instant; on the master's loop."""
        if self._following is not None and self._base in intervals:
            self._collect(self._following)

    def begin(self, following: Following) -> None:
        """Take what closed so far today, and follow."""
        self._following = following
        self._collect(following)

    def _collect(self, following: Following) -> None:
        with self._lock:
            series = following.feeds[self._base].series
            seen, self._seen = self._seen, len(series)
            self._bars += [bar for bar in series[seen : self._seen] if bar.start_ns >= self._begin_ns]
        self._news.set()

    @property
    def next_end(self) -> int | None:
        """Return None: when the next bar closes is not known before it did."""
        return None

    def take(self, until_ns: int) -> list[Bar]:
        """Return the bars that closed since the last time."""
        with self._lock:
            taken, self._bars = self._bars, []
        return taken

    def close(self) -> None:
        """Follow no more."""
        following, self._following = self._following, None
        if following is not None:
            self._unfollow(following)


class LiveFeed:
    """The feed of live sessions. ``tell`` takes words about trouble with a line."""

    def __init__(self, market: LiveMarket, master: Master, tell: Callable[[str], None]) -> None:
        self._market, self._master, self._tell = market, master, tell
        self._contracts: dict[str, Contract] = {}
        self._news = threading.Event()

    # -- contracts

    def problem(self, symbol: str, interval: str) -> str:
        """Return why a symbol cannot be had."""
        try:
            self.contract(symbol)
        except MatsError as error:
            return error.message
        return ""

    def contract(self, symbol: str) -> Contract:
        """Return the stock that a symbol means.

        Raises: NotFoundError when IB knows none, or several; TransientError when it cannot be asked.
        """
        known = self._contracts.get(symbol)
        if known is None:
            wanted = Stock(symbol, "SMART", CURRENCY)
            known = self._ask(lambda ib: qualify(ib, wanted, timeout_s=CONTRACT_S), CONTRACT_S)
            self._contracts[symbol] = known
        return known

    def _ask(self, make: Callable[[IB], Awaitable[Any]], timeout_s: float) -> Any:
        connection = self._master.connection
        if connection is None or not connection.connected:
            raise NotFoundError("The engine has no connection to the gateway.", code="not_connected")

        async def _asked() -> Any:
            return await make(connection.ib)

        return self._master.run(_asked, timeout_s + 5.0)

    # -- history

    def history(self, symbol: str, interval: str, first: datetime, until: datetime) -> BarSeries:
        """Return the closed bars that start in [first, until)."""
        end = min(until, datetime.now(UTC))
        whole = series_of(symbol, interval, self.read_or_nothing(symbol, interval, first, end))
        return part_of(whole, 0, int(whole.starts.searchsorted(nanos_of(until))))

    def read(
        self, symbol: str, interval: str, first: datetime, until: datetime, *, fresh: bool = False
    ) -> pd.DataFrame:
        """Return bars that start in [first, until], the store's first.

        Raises: NotFoundError (no_bars), TransientError, ConfigError.
        """
        contract, key = self.contract(symbol), parse_interval(interval).key
        frame: pd.DataFrame = self._master.run(
            lambda: self._market.read(contract, key, first, until, fresh=fresh), HISTORY_S
        )
        return frame[list(FIELDS)]

    def read_or_nothing(self, symbol: str, interval: str, first: datetime, until: datetime) -> pd.DataFrame:
        """Return bars that start in [first, until]; an empty frame where there are none.

        Raises: TransientError, ConfigError, NotFoundError for a symbol that IB does not know.
        """
        try:
            return self.read(symbol, interval, first, until)
        except NotFoundError as error:
            if error.code != "no_bars":
                raise
            return pd.DataFrame(columns=list(FIELDS), index=pd.DatetimeIndex([], tz="UTC"), dtype="float64")

    def request_bars(self, symbol: str, interval: str, start_ns: int, end_ns: int) -> list[Bar]:
        """Ask IB again for bars that are missing, with stamps in [start_ns, end_ns)."""
        first, until = moment_of(start_ns), moment_of(end_ns)
        try:
            frame = self.read(symbol, interval, first, until, fresh=True)
        except NotFoundError:
            return []
        return [bar for bar in series_of(symbol, interval, frame) if start_ns <= bar.start_ns < end_ns]

    # -- the day

    def stream(self, symbol: str, interval: str, session: TradingSession) -> LiveStream:
        """Follow a symbol from the open on; what closed before is taken from history."""
        opens = session.regular_open
        if opens is None:
            raise ConfigError(f"{session.day} has no session.", code="no_session")
        contract = self.contract(symbol)
        made = LiveStream(interval, nanos_of(opens), self._news, self._market.unfollow)
        follow = partial(
            self._market.follow,
            contract,
            [interval],
            warm_up=1,  # and all of today, which series of the day always have
            regular_hours=True,
            on_turn=made.on_turn,
            on_trouble=lambda text: self._tell(f"{symbol}: {text}"),
        )
        made.begin(self._master.run(follow, FOLLOW_S))
        return made

    def wait(self, timeout_s: float) -> None:
        """Return when a bar closed, or the time is over."""
        self._news.wait(timeout_s)
        self._news.clear()

    # -- rankings

    def market_scan(self, scan: MarketScan) -> list[str]:
        """Return the symbols of one of IB's rankings, best first.

        Raises: TransientError when IB refuses or does not answer.
        """
        wanted = ScannerSubscription(
            numberOfRows=scan.rows,
            instrument=scan.instrument,
            locationCode=scan.location,
            scanCode=scan.code,
            **{name: value for name, value in _filters(scan).items() if value is not None},
        )
        rows = self._ask(
            lambda ib: ask(ib.reqScannerDataAsync(wanted), f"the ranking {scan.code}", timeout_s=SCAN_S), SCAN_S
        )
        ranked = sorted(rows, key=lambda row: row.rank)
        return list(dict.fromkeys(row.contractDetails.contract.symbol for row in ranked))


def _filters(scan: MarketScan) -> dict[str, Any]:
    return {"abovePrice": scan.above_price, "belowPrice": scan.below_price, "aboveVolume": scan.above_volume}
