"""Instruments and market data of the paper gateway, through unmodified ib_async 2.1 over loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import ib_async
import pytest

from tests.e2e.gateway.test_gateway_ib_async import connected, eventually, qualified
from trading.gateway.testing import RunningGateway, running_gateway

pytestmark = pytest.mark.e2e
ANSWER_S = 15.0


@pytest.fixture(scope="module")
def gateway() -> Iterator[RunningGateway]:
    """One gateway for all: its data depend on nothing that a test does."""
    with running_gateway() as running:
        yield running


@pytest.fixture
async def ib(gateway: RunningGateway) -> AsyncIterator[ib_async.IB]:
    """A connected client that raises on request errors."""
    async with connected(gateway, 1) as client:
        yield client


async def refused(awaitable: Any) -> int:
    """The code with which a request is refused."""
    with pytest.raises(ib_async.wrapper.RequestError) as caught:
        await asyncio.wait_for(awaitable, ANSWER_S)
    return int(caught.value.code)


async def near_option(ib: ib_async.IB, symbol: str = "SPY", right: str = "C") -> ib_async.Contract:
    """A monthly option near the money."""
    stock = await qualified(ib, symbol)
    chains = await ib.reqSecDefOptParamsAsync(symbol, "", "STK", stock.conId)
    chain = next(chain for chain in chains if chain.exchange == "SMART")
    (ticker,) = await ib.reqTickersAsync(stock)
    strike = min(chain.strikes, key=lambda each: abs(each - ticker.last))
    option = ib_async.Option(symbol, sorted(chain.expirations)[4], strike, right, "SMART")
    await ib.qualifyContractsAsync(option)
    assert option.conId
    return option


async def test_futures_are_found_by_month_as_a_chain_and_continuous(ib: ib_async.IB) -> None:
    chain = await ib.reqContractDetailsAsync(ib_async.Future("ES", exchange="CME"))
    assert len(chain) == 5
    assert all(details.contract and details.contract.multiplier == "50" for details in chain)
    assert await refused(ib.reqHeadTimeStampAsync(ib_async.Future("ES", exchange="CME"), "TRADES", True, 1)) == 200
    month = ib_async.Future("VXM", chain[0].contractMonth, "CFE")
    await ib.qualifyContractsAsync(month)
    assert (month.multiplier, month.currency) == ("100", "USD")
    front = ib_async.ContFuture("NQ", "CME")
    await ib.qualifyContractsAsync(front)
    bars = await ib.reqHistoricalDataAsync(front, "", "2 D", "1 hour", "TRADES", False)
    assert bars
    rule = await ib.reqMarketRuleAsync(67)
    assert rule is not None
    assert rule[0].increment == 0.25


async def test_an_option_streams_its_figures_and_answers_calculations(ib: ib_async.IB) -> None:
    option = await near_option(ib)
    ticker = ib.reqMktData(option)
    await eventually(lambda: ticker.bidGreeks and ticker.askGreeks and ticker.lastGreeks and ticker.modelGreeks)
    greeks = ticker.modelGreeks
    assert greeks is not None
    assert greeks.delta is not None
    assert 0.3 < greeks.delta < 0.7
    spot, price = greeks.undPrice or 0.0, greeks.optPrice or 0.0
    implied = await ib.calculateImpliedVolatilityAsync(option, price, spot)
    assert implied is not None
    assert implied.impliedVol == pytest.approx(greeks.impliedVol, abs=1e-4)
    again = await ib.calculateOptionPriceAsync(option, implied.impliedVol or 0.0, spot)
    assert again is not None
    assert again.optPrice == pytest.approx(price, abs=1e-3)


async def test_derivatives_trade_and_show_in_portfolio_and_margin(gateway: RunningGateway, ib: ib_async.IB) -> None:
    option = await near_option(ib, right="P")
    future = (await ib.reqContractDetailsAsync(ib_async.Future("MES", exchange="CME")))[1].contract
    assert future is not None
    state = await ib.whatIfOrderAsync(future, ib_async.MarketOrder("BUY", 2))
    assert float(state.initMarginChange) == 3520
    trades = [ib.placeOrder(each, ib_async.MarketOrder("BUY", 2)) for each in (option, future)]
    await eventually(lambda: all(trade.orderStatus.status == "Filled" for trade in trades))
    await eventually(lambda: {row.contract.conId for row in ib.portfolio()} >= {option.conId, future.conId})
    held = {row.contract.secType: row for row in ib.portfolio()}
    assert held["OPT"].contract.lastTradeDateOrContractMonth == option.lastTradeDateOrContractMonth
    assert held["FUT"].averageCost == pytest.approx(5 * trades[1].fills[0].execution.price + 0.62, abs=1e-6)


async def test_single_ticks_come_in_four_kinds_and_five_streams(gateway: RunningGateway, ib: ib_async.IB) -> None:
    spy, quick = await qualified(ib, "SPY"), await qualified(ib, "QQQ")
    seen: set[str] = set()
    codes: list[int] = []
    ib.errorEvent += lambda req_id, code, *_: codes.append(code)
    ib.pendingTickersEvent += lambda tickers: seen.update(
        f"{type(tick).__name__}{getattr(tick, 'tickType', '')}" for ticker in tickers for tick in ticker.tickByTicks
    )
    for kind in ("Last", "AllLast", "BidAsk", "MidPoint"):
        ib.reqTickByTickData(spy, kind)
    wanted = {"TickByTickAllLast1", "TickByTickAllLast2", "TickByTickBidAsk", "TickByTickMidPoint"}
    await eventually(lambda: seen >= wanted)
    ib.reqTickByTickData(quick, "Last")
    ib.reqTickByTickData(quick, "BidAsk")
    await eventually(lambda: 10190 in codes)
    for kind in ("Last", "AllLast", "BidAsk", "MidPoint"):
        ib.cancelTickByTickData(spy, kind)
    ib.reqTickByTickData(quick, "MidPoint")
    await ib.reqCurrentTimeAsync()
    assert codes.count(10190) == 1


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        ("TRADES", ib_async.HistoricalTickLast),
        ("BID_ASK", ib_async.HistoricalTickBidAsk),
        ("MIDPOINT", ib_async.HistoricalTick),
    ],
)
async def test_past_ticks_are_served(ib: ib_async.IB, what: str, kind: type) -> None:
    spy = await qualified(ib, "SPY")
    start = datetime.now(UTC) - timedelta(minutes=10)
    ticks = await ib.reqHistoricalTicksAsync(spy, start, "", 50, what, False)
    assert len(ticks) == 50
    assert all(type(tick) is kind for tick in ticks)
    assert ticks[0].time >= start.replace(microsecond=0)
    assert await refused(ib.reqHistoricalTicksAsync(spy, "", "", 50, what, False)) == 10187


async def test_histogram_schedule_and_head_timestamp_are_served(ib: ib_async.IB) -> None:
    spy = await qualified(ib, "SPY")
    rows = await ib.reqHistogramDataAsync(spy, False, "1 day")
    assert sum(row.count for row in rows) > 0
    assert [row.price for row in rows] == sorted(row.price for row in rows)
    schedule = await ib.reqHistoricalScheduleAsync(spy, 5)
    assert len(schedule.sessions) == 5
    assert schedule.timeZone == "US/Eastern"


async def test_scans_are_served(ib: ib_async.IB) -> None:
    assert "<scanCode>TOP_PERC_GAIN</scanCode>" in await ib.reqScannerParametersAsync()
    subscription = ib_async.ScannerSubscription(
        instrument="STK", locationCode="STK.US.MAJOR", scanCode="TOP_PERC_GAIN", numberOfRows=10, abovePrice=100.0
    )
    rows = await asyncio.wait_for(ib.reqScannerDataAsync(subscription), ANSWER_S)
    assert [row.rank for row in rows] == list(range(10))
    assert all(row.contractDetails.contract and row.contractDetails.contract.conId for row in rows)
    wrong = ib_async.ScannerSubscription(instrument="STK", locationCode="STK.US.MAJOR", scanCode="NO_SUCH_SCAN")
    assert await refused(ib.reqScannerDataAsync(wrong)) == 162


async def test_small_bars_are_paced_and_bars_are_kept_up_to_date(ib: ib_async.IB) -> None:
    spy = await qualified(ib, "SPY")
    assert await ib.reqHistoricalDataAsync(spy, "", "60 S", "5 secs", "TRADES", False)
    assert await refused(ib.reqHistoricalDataAsync(spy, "", "60 S", "5 secs", "TRADES", False)) == 162
    bars = await ib.reqHistoricalDataAsync(spy, "", "120 S", "5 secs", "TRADES", False, keepUpToDate=True)
    count = len(bars)
    await eventually(lambda: len(bars) > count)
    ib.cancelHistoricalData(bars)


async def test_without_subscription_data_are_refused_or_delayed() -> None:
    with running_gateway(subscriptions="FUT,CASH") as poor:
        async with connected(poor, 1) as ib:
            codes: list[int] = []
            ib.errorEvent += lambda req_id, code, *_: codes.append(code)
            spy = await qualified(ib, "SPY")
            ib.reqMktData(spy)
            await eventually(lambda: 10089 in codes)
            ib.cancelMktData(spy)
            ib.reqMarketDataType(3)
            ticker = ib.reqMktData(spy)
            await eventually(lambda: ticker.bid > 0 and ticker.ask > 0 and ticker.last > 0)
            assert ticker.marketDataType == 3
            assert 10167 in codes
            assert await refused(ib.reqHistoricalDataAsync(spy, "", "1 D", "1 hour", "TRADES", False)) == 162
            poor.call(lambda: poor.venue.compete(True))
            await eventually(lambda: 10197 in codes)


STOCK = ib_async.Stock("SPY", "SMART", "USD", conId=756733)
SCAN = ib_async.ScannerSubscription(instrument="STK", locationCode="STK.US.MAJOR", scanCode="MOST_ACTIVE")
NOW = datetime.now(UTC)
# Every asynchronous request of ib_async with arguments that a user would give.
REQUESTS: dict[str, tuple[Any, ...]] = {
    "qualifyContractsAsync": (ib_async.Stock("SPY", "SMART", "USD"),),
    "reqTickersAsync": (STOCK,),
    "whatIfOrderAsync": (STOCK, ib_async.MarketOrder("BUY", 1)),
    "reqCurrentTimeAsync": (),
    "reqAccountUpdatesAsync": ("DU1000001",),
    "reqAccountUpdatesMultiAsync": ("DU1000001",),
    "accountSummaryAsync": (),
    "reqAccountSummaryAsync": (),
    "reqOpenOrdersAsync": (),
    "reqAllOpenOrdersAsync": (),
    "reqCompletedOrdersAsync": (False,),
    "reqExecutionsAsync": (),
    "reqPositionsAsync": (),
    "reqContractDetailsAsync": (STOCK,),
    "reqMatchingSymbolsAsync": ("SP",),
    "reqMarketRuleAsync": (26,),
    "reqHistoricalDataAsync": (STOCK, "", "1 D", "1 hour", "TRADES", True),
    "reqHistoricalScheduleAsync": (STOCK, 3),
    "reqHistoricalTicksAsync": (STOCK, "", NOW, 10, "TRADES", False),
    "reqHeadTimeStampAsync": (STOCK, "TRADES", True, 1),
    "reqSmartComponentsAsync": ("a6",),
    "reqMktDepthExchangesAsync": (),
    "reqHistogramDataAsync": (STOCK, True, "1 day"),
    "reqFundamentalDataAsync": (STOCK, "ReportSnapshot"),
    "reqScannerDataAsync": (SCAN,),
    "reqScannerParametersAsync": (),
    "calculateImpliedVolatilityAsync": (STOCK, 4.0, 320.0),
    "calculateOptionPriceAsync": (STOCK, 0.2, 320.0),
    "reqSecDefOptParamsAsync": ("SPY", "", "STK", 756733),
    "reqNewsProvidersAsync": (),
    "reqNewsArticleAsync": ("BZ", "BZ$1"),
    "reqHistoricalNewsAsync": (756733, "BZ", "", "", 10),
    "requestFAAsync": (1,),
    "getWshMetaDataAsync": (),
    "getWshEventDataAsync": (ib_async.WshEventData(conId=756733),),
    "reqUserInfoAsync": (),
}
NOT_REQUESTS = {"connectAsync", "timeRangeAsync"}
# These give up by themselves after four seconds and answer None.
GIVES_UP = {
    "reqMatchingSymbolsAsync", "reqMarketRuleAsync", "calculateImpliedVolatilityAsync", "calculateOptionPriceAsync",
    "reqHistoricalNewsAsync",
}  # fmt: skip


def test_the_list_of_requests_is_complete() -> None:
    known = {name for name in dir(ib_async.IB) if name.endswith("Async") and not name.startswith("_")}
    assert known - NOT_REQUESTS == set(REQUESTS)


@pytest.mark.parametrize("subscriptions", ["all", "CASH"])
async def test_no_request_of_ib_async_is_left_without_an_answer(subscriptions: str) -> None:
    """Data or an error; the advisors' request alone has no id that an error could name, and gives up by itself."""

    async def left(ib: ib_async.IB, name: str) -> str | None:
        try:
            answer = await asyncio.wait_for(getattr(ib, name)(*REQUESTS[name]), ANSWER_S)
        except ib_async.wrapper.RequestError:
            return None
        except TimeoutError:
            return name
        return name if answer is None and name in GIVES_UP else None

    with running_gateway(subscriptions=subscriptions, max_messages_per_s=0) as running:
        async with connected(running, 1) as ib:
            advisors = asyncio.create_task(left(ib, "requestFAAsync"))
            unanswered = [await left(ib, name) for name in REQUESTS if name != "requestFAAsync"]
            assert [name for name in [*unanswered, await advisors] if name] == []
            assert await ib.reqCurrentTimeAsync()


# Requests without an awaitable: subscriptions, cancels, switches. Each must leave the session alive, and those that are
# refused must say so.
RAW: dict[str, tuple[Any, ...]] = {
    "reqMktDepth": (901, STOCK, 5, True, []),
    "cancelMktDepth": (901, True),
    "reqNewsBulletins": (True,),
    "cancelNewsBulletins": (),
    "replaceFA": (902, 1, "<xml/>"),
    "exerciseOptions": (903, STOCK, 1, 1, "DU1000001", 0),
    "cancelScannerSubscription": (904,),
    "cancelFundamentalData": (905,),
    "verifyRequest": ("api", "1"),
    "verifyMessage": ("data",),
    "verifyAndAuthRequest": ("api", "1", "key"),
    "verifyAndAuthMessage": ("data", "response"),
    "queryDisplayGroups": (906,),
    "subscribeToGroupEvents": (907, 1),
    "updateDisplayGroup": (907, "756733"),
    "unsubscribeFromGroupEvents": (907,),
    "reqSoftDollarTiers": (908,),
    "reqFamilyCodes": (),
    "cancelHistogramData": (909,),
    "cancelTickByTickData": (910,),
    "cancelWshMetaData": (911,),
    "cancelWshEventData": (912,),
    "setServerLogLevel": (5,),
    "cancelCalculateImpliedVolatility": (913,),
    "cancelCalculateOptionPrice": (914,),
}
REFUSED = {901: 354, 902: 321, 903: 322, 904: 162, 910: 300}


async def test_every_other_request_leaves_the_session_alive_and_refusals_are_told(ib: ib_async.IB) -> None:
    told: dict[int, int] = {}
    ib.errorEvent += lambda req_id, code, *_: told.setdefault(req_id, code)
    for name, arguments in RAW.items():
        getattr(ib.client, name)(*arguments)
        assert await asyncio.wait_for(ib.reqCurrentTimeAsync(), ANSWER_S), name
    ib.client.send(777, 1, "what nobody knows")  # type: ignore[no-untyped-call]  # ib_async leaves it untyped
    await eventually(lambda: told.items() >= REFUSED.items() and told.get(-1) is not None)
    assert ib.isConnected()
