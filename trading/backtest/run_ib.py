"""What a strategy's ``ib`` is in a backtest: the requests that strategies make, answered from the run's bars.

Owns: contracts, tickers, live bars, history in ib_async's shapes. Leaves: orders (``brokers.backtest``), bars as frames
(``run_bars``). Rule: a request that a run cannot answer is refused by its name; nothing answered is later than now.
Not there: bids and asks beyond the run's half spread, account values, other people's orders, anything of options.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from eventkit import Event
from ib_async import BarData, BarDataList, Contract, RealTimeBar, RealTimeBarList, Ticker

from strategies.bar_requests import parse_duration
from strategies.bar_series import moment_of
from strategies.exceptions import NotFoundError, StrategyError
from strategies.timeframes import parse_timeframe
from trading.backtest.lane import Lane
from trading.backtest.run_bars import RunBars

_WHOLE_TYPES = frozenset({"", "STK", "FUT", "CONTFUT", "CASH", "CRYPTO", "IND", "CFD", "CMDTY"})
FIRST_CON_ID = 1_000_001


class Instruments:
    """The instruments of a run, as contracts with numbers of their own."""

    def __init__(self, lanes: Mapping[str, Lane]) -> None:
        self.lanes = lanes
        self._ids = {symbol: FIRST_CON_ID + place for place, symbol in enumerate(lanes)}
        self._symbols = {con_id: symbol for symbol, con_id in self._ids.items()}

    def symbol_of(self, contract: Contract) -> str | None:
        """Return the run's symbol of a contract; None for options, single expiries and what has no bars."""
        if contract.conId:
            return self._symbols.get(contract.conId)
        lane = self.lanes.get(contract.symbol)
        if lane is None or contract.secType not in _WHOLE_TYPES or contract.lastTradeDateOrContractMonth:
            return None
        return contract.symbol if contract.currency in ("", lane.terms.currency) else None

    def complete(self, contract: Contract) -> Contract | None:
        """Fill in what is known of a contract, in place as ib_async does."""
        symbol = self.symbol_of(contract)
        if symbol is None:
            return None
        terms = self.lanes[symbol].terms
        contract.conId, contract.symbol, contract.currency = self._ids[symbol], symbol, terms.currency
        contract.secType = contract.secType or "STK"
        contract.exchange = contract.exchange or "SMART"
        contract.multiplier = "" if terms.multiplier == 1 else f"{terms.multiplier:f}"
        contract.localSymbol = contract.localSymbol or symbol
        return contract

    def contract_of(self, symbol: str) -> Contract:
        """Return the whole contract of a symbol."""
        made = self.complete(Contract(symbol=symbol))
        assert made is not None  # noqa: S101 - callers name symbols of the run
        return made


class RunIB:
    """One strategy's connection to the past."""

    def __init__(self, instruments: Instruments, bars: RunBars, now_ns: Callable[[], int]) -> None:
        self.disconnectedEvent = Event("disconnectedEvent")
        self.execDetailsEvent = Event("execDetailsEvent")
        self.orderStatusEvent = Event("orderStatusEvent")
        self._instruments, self._bars, self._now_ns = instruments, bars, now_ns
        self._live: dict[str, list[RealTimeBarList]] = {}
        self._tickers: dict[str, Ticker] = {}
        self._is_connected = True

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise StrategyError(
            f"ib.{name} does not exist in a backtest. There are qualifyContractsAsync, reqTickersAsync, reqMktData, "
            "reqRealTimeBars and reqHistoricalDataAsync; orders and books are the strategy's own methods.",
            code="not_in_backtest",
        )

    def isConnected(self) -> bool:
        """Tell whether the run still goes on."""
        return self._is_connected

    def disconnect(self) -> None:
        """End it for this strategy."""
        self._is_connected = False
        self._live.clear()
        self._tickers.clear()

    # -- contracts and prices

    async def qualifyContractsAsync(self, *contracts: Contract) -> list[Contract]:
        """Return the contracts that the run has bars of, completed in place."""
        found = (self._instruments.complete(contract) for contract in contracts)
        return [contract for contract in found if contract is not None]

    async def reqTickersAsync(self, *contracts: Contract, regulatorySnapshot: bool = False) -> list[Ticker]:
        """Return the latest closes as last prices; unset before the first bar."""
        return [self._written(Ticker(contract=contract), self._symbol(contract)) for contract in contracts]

    def reqMktData(self, contract: Contract, *_: Any, **__: Any) -> Ticker:
        """Return a ticker that moves with each bar."""
        symbol = self._symbol(contract)
        ticker = self._tickers.get(symbol)
        if ticker is None:
            ticker = self._tickers[symbol] = self._written(Ticker(contract=contract), symbol)
        return ticker

    def cancelMktData(self, contract: Contract) -> bool:
        """Let a ticker rest."""
        return self._tickers.pop(self._symbol(contract), None) is not None

    def _symbol(self, contract: Contract) -> str:
        symbol = self._instruments.symbol_of(contract)
        if symbol is None:
            raise NotFoundError(f"The run has no bars of {contract.symbol or contract}.", code="no_bars")
        return symbol

    def _written(self, ticker: Ticker, symbol: str) -> Ticker:
        lane = self._instruments.lanes[symbol]
        ticker.time = moment_of(self._now_ns())
        close = lane.last_float()
        if math.isinf(close):
            return ticker
        bars = lane.series
        ticker.last = close
        ticker.open, ticker.high, ticker.low, ticker.volume = (
            bars.last_open, bars.last_high, bars.last_low, bars.last_volume,
        )  # fmt: skip
        if len(bars) > 1:
            ticker.close = bars[-2].close
        half = float(lane.models.half_spread)
        if half:
            ticker.bid, ticker.ask = close - half, close + half
        return ticker

    # -- bars

    def reqRealTimeBars(
        self, contract: Contract, barSize: int, whatToShow: str, useRTH: bool, realTimeBarsOptions: Sequence[Any] = ()
    ) -> RealTimeBarList:
        """Return a list that gets each base bar of the run when it ended, whatever length was asked for."""
        bars = RealTimeBarList()  # type: ignore[no-untyped-call]
        bars.contract, bars.barSize, bars.whatToShow, bars.useRTH = contract, barSize, whatToShow, useRTH
        self._live.setdefault(self._symbol(contract), []).append(bars)
        return bars

    def cancelRealTimeBars(self, bars: RealTimeBarList) -> None:
        """Let a list rest."""
        for some in self._live.values():
            some[:] = [one for one in some if one is not bars]

    def hears(self, symbol: str) -> bool:
        """Tell whether anything is subscribed to of a symbol."""
        return bool(self._live.get(symbol)) or symbol in self._tickers

    def bring(self, symbol: str) -> None:
        """Tell of the bar of a symbol that just became visible."""
        lists, ticker = self._live.get(symbol), self._tickers.get(symbol)
        if lists:
            bar = self._instruments.lanes[symbol].series[-1]
            for bars in list(lists):
                bars.append(
                    RealTimeBar(
                        time=bar.timestamp,
                        open_=bar.open,
                        high=bar.high,
                        low=bar.low,
                        close=bar.close,
                        volume=bar.volume,
                        wap=bar.close,
                    )
                )
                bars.updateEvent.emit(bars, True)
        if ticker is not None:
            self._written(ticker, symbol).updateEvent.emit(ticker)

    async def reqHistoricalDataAsync(
        self,
        contract: Contract,
        endDateTime: datetime | str | None,
        durationStr: str,
        barSizeSetting: str,
        whatToShow: str,
        useRTH: bool,
        formatDate: int = 1,
        keepUpToDate: bool = False,
        **_: Any,
    ) -> BarDataList:
        """Return the bars that ended by now, or by an earlier end; dates are aware UTC.

        Raises: StrategyError for keepUpToDate; NotFoundError, ConfigError as ``RunBars.read``.
        """
        if keepUpToDate:
            raise StrategyError("A backtest keeps no history up to date; subscribe to bars.", code="not_in_backtest")
        now = moment_of(self._now_ns())
        end = min(_end_of(endDateTime, now), now)
        frame = await self._bars.read(
            contract, parse_timeframe(barSizeSetting).key, end - parse_duration(durationStr), end
        )
        found = BarDataList()  # type: ignore[no-untyped-call]
        found.contract = contract
        columns = (frame[name].tolist() for name in ("open", "high", "low", "close", "volume"))
        for stamp, opened, high, low, close, volume in zip(frame.index, *columns, strict=True):
            found.append(BarData(stamp.to_pydatetime(), opened, high, low, close, volume, average=close, barCount=0))
        return found


def _end_of(given: datetime | str | None, now: datetime) -> datetime:
    if not given:
        return now
    if isinstance(given, str):
        try:
            return datetime.strptime(f"{given}+0000", "%Y%m%d-%H:%M:%S%z")
        except ValueError as error:
            raise StrategyError(
                f"{given!r} is no end in a backtest; give an aware datetime or yyyymmdd-hh:mm:ss in UTC.",
                code="bad_time",
            ) from error
    if given.tzinfo is None:
        raise StrategyError(f"{given.isoformat()} has no time zone.", code="naive_time")
    return given
