"""What a strategy can ask of the market, on its own connection: contracts, prices, bars, universes.

Owns: qualified contracts, the latest price, history and subscriptions, and the time limit of every request.
Leaves: which bars lie in ArcticDB and how IB completes them (``data.py``).
Rule: every request ends: ib_async never ends one that IB answered with a warning code.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ib_async import Contract, RealTimeBar, RealTimeBarList, Stock
from ib_async.wrapper import RequestError

from strategies.data import TIMEFRAMES, BarReader, names_library, resolve_universe
from strategies.exceptions import NotFoundError, OrderDeniedError, TransientError
from strategies.life import StrategyLife
from strategies.sizing import says_multiplier, to_decimal

if TYPE_CHECKING:
    import pandas as pd
    from ib_async import IB

REQUEST_TIMEOUT_S = 20.0
UNKNOWN_TO_IB = 200  # «No security definition has been found»
KEPT_BARS = 2_000  # ib_async keeps every real-time bar of a subscription for ever
LIVE_TIMEFRAME = "5_secs"  # the only length of IB's real-time bars

T = TypeVar("T")


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Bars(Protocol):
    """Where a strategy's bars come from."""

    async def read(
        self,
        contract: Contract,
        timeframe: str,
        start: str | date | datetime,
        end: str | date | datetime,
        *,
        use_rth: bool,
        force_download: bool,
    ) -> pd.DataFrame:
        """Return the bars of one contract within [start, end]; see ``BarReader.read``."""


class MarketAccess(StrategyLife):
    """Market data for one strategy.

    ``live_timeframe`` is the length of the bars that ``subscribe_bars`` brings: five seconds, in a backtest the run's.
    """

    params: dict[str, Any]
    live_timeframe = LIVE_TIMEFRAME

    def __init__(self) -> None:
        super().__init__()
        self._world_clock: Callable[[], datetime] = _utc_now
        self._world_bars: Bars | None = None
        self._subscribed: list[RealTimeBarList] = []
        self._con_ids: dict[tuple[str, str, str], int] = {}

    def on_bar(self, contract: Contract, bar: RealTimeBar) -> Any:
        """React to a completed 5-second bar of ``subscribe_bars``, each exactly once and in order. May be async."""

    def now(self) -> datetime:
        """Return the present, aware UTC; strategies never ask the wall clock themselves."""
        return self._world_clock()

    def live_in(self, clock: Callable[[], datetime], bars: Bars, timeframe: str) -> None:
        """Take another world's present, bars, and length of live bars: those of a backtest. Before the start only."""
        self._world_clock, self._world_bars, self.live_timeframe = clock, bars, timeframe

    async def qualify(self, contract: Contract) -> Contract:
        """Return the contract completed by IB; one that has its id already costs no request.

        Raises: OrderDeniedError when IB knows none or several.
        """
        if contract.conId and contract.symbol and contract.exchange and says_multiplier(contract):
            return contract
        try:
            found = await self._request(self._connection.qualifyContractsAsync(contract))
        except TransientError as error:
            if error.fields.get("ib_code") != UNKNOWN_TO_IB:
                raise
            found = []  # as ib_async says it where request errors do not raise
        if not found or not isinstance(found[0], Contract):  # ib_async fills the place of an unknown one with None
            raise OrderDeniedError(f"IB does not know {contract}, or not only one of it.", code="unknown_contract")
        return found[0]

    async def get_market_price(self, contract: Contract) -> Decimal:
        """Return the latest price: between bid and ask the last trade, else their middle, else the close.

        Raises: TransientError while IB has none.
        """
        qualified = await self.qualify(contract)
        [ticker] = await self._request(self._connection.reqTickersAsync(qualified))
        price = ticker.marketPrice()
        price = ticker.close if math.isnan(price) else price
        if math.isnan(price) or price <= 0:
            raise TransientError(f"IB has no price of {qualified.symbol} now.", code="no_price")
        return to_decimal(price)

    async def get_data(
        self,
        symbols: str | Sequence[str],
        timeframe: str = "1_day",
        start_date: str | date | datetime = "max",
        end_date: str | date | datetime = "today",
        use_rth: bool = True,
        force_download: bool = False,
    ) -> pd.DataFrame | dict[str, pd.DataFrame]:
        """Return bars from ArcticDB, completed by IB; one symbol gives a frame, several a dict.

        Closed bars that join on to the stored ones are stored, so that the next call finds them there.
        Shape: index UTC, the bar's start; columns open, high, low, close, volume as float. Prices as they were traded:
        splits and dividends are adjusted on request only (``trading.market.adjustments``).
        Raises: ConfigError for an unknown timeframe or too many requests; NotFoundError when neither has a bar.
        """
        names = [symbols] if isinstance(symbols, str) else list(symbols)
        frames = {
            name: await self._reader.read(
                Stock(name, "SMART", self.params["currency"]),
                timeframe,
                start_date,
                end_date,
                use_rth=use_rth,
                force_download=force_download,
            )
            for name in names
        }
        return frames[symbols] if isinstance(symbols, str) else frames

    async def get_universe(self) -> list[str]:
        """Return the symbols that the parameter ``universe`` means.

        Raises: NotFoundError when it names none.
        """
        universe = str(self.params["universe"])
        # Plain tickers must not need the store: a strategy trades on while ArcticDB is away.
        store = self.strategy_manager.ac if names_library(universe) else None
        symbols = await asyncio.to_thread(resolve_universe, store, universe)
        if not symbols:
            raise NotFoundError(f"The universe of {self.symbol} is empty.", code="empty_universe")
        return symbols

    async def recent_closes(self, contract: Contract, count: int) -> list[float]:
        """Return up to ``count`` closes of the latest live bars from IB, oldest first; fewer when it has fewer."""
        since = self.now() - 2 * count * TIMEFRAMES[self.live_timeframe].length
        try:
            frame = await self._reader.read(
                contract, self.live_timeframe, since, "today", use_rth=False, force_download=True
            )
        except NotFoundError:
            return []
        return [float(close) for close in frame["close"].iloc[-count:]]

    def subscribe_bars(self, contract: Contract, what: str = "TRADES", use_rth: bool = False) -> RealTimeBarList:
        """Subscribe to IB's 5-second bars; ``on_bar`` follows for each. Lost with the connection."""
        bars = self._connection.reqRealTimeBars(contract, 5, what, use_rth)
        bars.updateEvent += self._on_bars
        self._subscribed.append(bars)
        return bars

    def _on_disconnected(self) -> None:
        self._subscribed.clear()
        super()._on_disconnected()

    def _drop_subscriptions(self) -> None:
        """Cancel them as well: should IB have kept one, its bars would come twice."""
        dropped, self._subscribed = self._subscribed, []
        for bars in dropped:
            bars.updateEvent -= self._on_bars
            if self.ib is not None and self.is_connected:
                self.ib.cancelRealTimeBars(bars)

    def _on_bars(self, bars: RealTimeBarList, has_new_bar: bool) -> None:
        if has_new_bar and self.is_running:
            del bars[:-KEPT_BARS]
            self._enqueue(self.on_bar, bars.contract, bars[-1])  # the list grows on while hooks wait

    @property
    def _reader(self) -> Bars:
        if self._world_bars is not None:
            return self._world_bars
        manager = self.strategy_manager
        return BarReader(manager.ac, self._historical_bars, self.now, manager.keep_bars, self._identify)

    async def _identify(self, contract: Contract) -> int:
        """Return the id of the contract that is meant; IB is asked once for each."""
        key = (contract.symbol, contract.secType, contract.currency)
        if key not in self._con_ids:
            self._con_ids[key] = (await self.qualify(contract)).conId
        return self._con_ids[key]

    async def _historical_bars(self, contract: Contract, bar_size: str, duration: str, end: str, use_rth: bool) -> Any:
        qualified = await self.qualify(contract)
        return await self._request(
            self._connection.reqHistoricalDataAsync(qualified, end, duration, bar_size, "TRADES", use_rth, formatDate=2)
        )

    @property
    def _connection(self) -> IB:
        if self.ib is None or not self.ib.isConnected():
            raise TransientError(f"{self.symbol} is not connected to IB.", code="not_connected")
        return self.ib

    async def _request(self, answer: Awaitable[T]) -> T:
        try:
            return await asyncio.wait_for(answer, REQUEST_TIMEOUT_S)
        except TimeoutError as error:
            raise TransientError(f"IB did not answer within {REQUEST_TIMEOUT_S:g} s.", code="no_answer") from error
        except ConnectionError as error:
            raise TransientError("The connection to IB was lost.", code="not_connected") from error
        except RequestError as error:
            text = f"IB answered {error.code}: {error.message}"
            raise TransientError(text, code="ib_error", ib_code=error.code) from error
