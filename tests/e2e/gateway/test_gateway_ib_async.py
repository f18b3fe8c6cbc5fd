"""Unmodified ib_async 2.1 against the paper gateway over loopback."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import ib_async
import pytest

from trading.gateway.testing import RunningGateway, running_gateway

pytestmark = pytest.mark.e2e
DEADLINE_S = 15.0
STOCK = ("AAPL", "SMART", "USD")


@pytest.fixture
def gateway() -> Iterator[RunningGateway]:
    """A gateway with a fresh account."""
    with running_gateway() as running:
        yield running


@asynccontextmanager
async def connected(gateway: RunningGateway, client_id: int, **options: Any) -> AsyncIterator[ib_async.IB]:
    """A client that raises on request errors."""
    ib = ib_async.IB()
    ib.RaiseRequestErrors = True
    await ib.connectAsync("127.0.0.1", gateway.port, client_id, timeout=10, raiseSyncErrors=True, **options)
    try:
        yield ib
    finally:
        ib.disconnect()


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until a condition holds, or fail."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)


async def qualified(ib: ib_async.IB, symbol: str = "AAPL") -> ib_async.Contract:
    """A stock with its conId."""
    (contract,) = await ib.qualifyContractsAsync(ib_async.Stock(symbol, "SMART", "USD"))
    assert isinstance(contract, ib_async.Contract)
    return contract


async def last_price(ib: ib_async.IB, contract: ib_async.Contract) -> float:
    """The price of a snapshot."""
    (ticker,) = await ib.reqTickersAsync(contract)
    return round(ticker.last, 2)


async def test_connect_fetches_everything_and_speaks_178(gateway: RunningGateway) -> None:
    async with connected(gateway, 1) as ib:
        assert ib.client.serverVersion() == 178
        assert ib.managedAccounts() == ["DU1000001"]
        values = {(value.tag, value.currency): value.value for value in ib.accountValues()}
        assert float(values["NetLiquidation", "USD"]) == 1_000_000
        assert ib.positions() == []
        assert (await ib.reqCurrentTimeAsync()).tzinfo is not None


@pytest.mark.parametrize("version", [157, 163, 164, 166, 169, 170, 176, 177])
async def test_older_versions_of_the_client_trade_too(
    gateway: RunningGateway, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ib_async.client.Client, "MaxClientVersion", version)
    async with connected(gateway, 1) as ib:
        assert ib.client.serverVersion() == version
        contract = await qualified(ib)
        trade = ib.placeOrder(contract, ib_async.MarketOrder("BUY", 10))
        await eventually(lambda: trade.orderStatus.status == "Filled" and trade.fills)
        await ib.reqCompletedOrdersAsync(False)


async def test_reference_data(gateway: RunningGateway) -> None:
    async with connected(gateway, 1) as ib:
        (details,) = await ib.reqContractDetailsAsync(ib_async.Stock(*STOCK))
        assert details.contract is not None
        assert (details.contract.conId, details.contract.primaryExchange) == (265598, "NASDAQ")
        rule = await ib.reqMarketRuleAsync(int(details.marketRuleIds.split(",")[0]))
        assert rule is not None
        assert rule[0].increment == details.minTick
        found = await ib.reqMatchingSymbolsAsync("AAP")
        assert found is not None
        assert "AAPL" in [row.contract.symbol for row in found if row.contract]
        assert await ib.reqSecDefOptParamsAsync("EUR", "", "CASH", 12087792) == []
        assert (await ib.reqHeadTimeStampAsync(details.contract, "TRADES", True, 2)).year < 2026


async def test_unknown_contract_raises_200(gateway: RunningGateway) -> None:
    async with connected(gateway, 1) as ib:
        with pytest.raises(ib_async.wrapper.RequestError) as caught:
            await ib.reqContractDetailsAsync(ib_async.Stock("NOSUCH", "SMART", "USD"))
        assert caught.value.code == 200


async def test_market_order_fills_then_its_commission_arrives(gateway: RunningGateway) -> None:
    async with connected(gateway, 1) as ib:
        contract = await qualified(ib)
        seen: list[str] = []
        order = ib_async.MarketOrder("BUY", 100, orderRef="DEMO/1", algoStrategy="Adaptive")
        order.algoParams = [ib_async.TagValue("adaptivePriority", "Patient")]
        trade = ib.placeOrder(contract, order)
        trade.fillEvent += lambda *_: seen.append("fill")
        trade.commissionReportEvent += lambda *_: seen.append("commission")
        await eventually(lambda: seen.count("commission") == len(trade.fills) > 0 and trade.isDone())
        assert sum(fill.execution.shares for fill in trade.fills) == 100
        assert {fill.execution.orderRef for fill in trade.fills} == {"DEMO/1"}
        assert all(fill.commissionReport.commission > 0 for fill in trade.fills)
        assert trade.orderStatus.status == "Filled"
        await eventually(lambda: [row.position for row in ib.positions()] == [100])
        await eventually(lambda: [row.position for row in ib.portfolio()] == [100])


async def test_limit_order_rests_is_modified_and_cancelled(gateway: RunningGateway) -> None:
    async with connected(gateway, 1) as ib:
        contract = await qualified(ib)
        price = await last_price(ib, contract)
        trade = ib.placeOrder(contract, ib_async.LimitOrder("BUY", 10, round(price * 0.5, 2)))
        await eventually(lambda: trade.orderStatus.status == "Submitted")
        perm_id = trade.order.permId
        trade.order.lmtPrice = round(price * 0.4, 2)
        ib.placeOrder(contract, trade.order)
        await eventually(
            lambda: (
                gateway.call(lambda: gateway.venue.open_orders()[0].request.limit_price)
                == Decimal(str(trade.order.lmtPrice))
            )
        )
        shown = await ib.reqAllOpenOrdersAsync()  # ib_async adds live news of the order to the answer
        assert {(same.order.permId, same.order.lmtPrice) for same in shown} == {(perm_id, round(price * 0.4, 2))}
        ib.cancelOrder(trade.order)
        await eventually(lambda: trade.orderStatus.status == "Cancelled")
        assert await ib.reqAllOpenOrdersAsync() == []
        (done,) = await ib.reqCompletedOrdersAsync(True)
        assert (done.order.permId, done.orderStatus.status) == (perm_id, "Cancelled")


async def test_stop_order_waits_with_its_trigger_price(gateway: RunningGateway) -> None:
    async with connected(gateway, 1) as ib:
        contract = await qualified(ib)
        price = await last_price(ib, contract)
        trade = ib.placeOrder(contract, ib_async.StopOrder("SELL", 10, round(price * 0.5, 2)))
        await eventually(lambda: trade.orderStatus.status in {"PreSubmitted", "Submitted"})
        (shown,) = await ib.reqAllOpenOrdersAsync()
        assert (shown.order.orderType, shown.order.auxPrice) == ("STP", round(price * 0.5, 2))
        ib.reqGlobalCancel()  # type: ignore[no-untyped-call]  # ib_async leaves it untyped
        await eventually(lambda: trade.orderStatus.status == "Cancelled")


async def test_what_if_answers_margin_and_places_nothing(gateway: RunningGateway) -> None:
    async with connected(gateway, 1) as ib:
        contract = await qualified(ib)
        async with asyncio.timeout(DEADLINE_S):
            state = await ib.whatIfOrderAsync(contract, ib_async.MarketOrder("BUY", 100))
        assert float(state.initMarginChange) > 0
        assert state.commission > 0
        assert await ib.reqAllOpenOrdersAsync() == []
        assert gateway.call(lambda: sum(gateway.venue.received_order_refs.values())) == 0


async def test_ticks_bars_and_history(gateway: RunningGateway) -> None:
    async with connected(gateway, 1) as ib:
        contract = await qualified(ib)
        ticker = ib.reqMktData(contract, "233", False, False)
        await eventually(lambda: ticker.bid > 0 and ticker.ask > ticker.bid and ticker.volume > 0)
        first = ticker.last
        await eventually(lambda: ticker.last != first)
        assert ticker.marketDataType == 1
        assert ticker.minTick == 0.01
        bars = await ib.reqHistoricalDataAsync(contract, "", "1 D", "5 mins", "TRADES", False, 1, True)
        assert len(bars) > 20
        assert bars[-1].low <= bars[-1].close <= bars[-1].high
        live = ib.reqRealTimeBars(contract, 5, "TRADES", False)
        before = bars[-1].barCount
        await eventually(lambda: len(live) >= 1 and bars[-1].barCount != before)
        ib.cancelHistoricalData(bars)
        ib.cancelRealTimeBars(live)
        ib.cancelMktData(contract)
        midpoints = await ib.reqHistoricalDataAsync(contract, "", "3600 S", "1 min", "MIDPOINT", False, 2)
        assert {bar.volume for bar in midpoints} == {-1}


async def test_pnl_streams(gateway: RunningGateway) -> None:
    async with connected(gateway, 1) as ib:
        contract = await qualified(ib)
        trade = ib.placeOrder(contract, ib_async.MarketOrder("BUY", 10))
        await eventually(trade.isDone)
        account = ib.reqPnL("DU1000001")
        single = ib.reqPnLSingle("DU1000001", "", contract.conId)
        await eventually(lambda: single.position == 10 and single.value > 0 and account.dailyPnL == account.dailyPnL)
        summary = await ib.accountSummaryAsync()
        assert "NetLiquidation" in {row.tag for row in summary}


async def test_executions_are_replayed_to_a_later_client_with_commissions(gateway: RunningGateway) -> None:
    async with connected(gateway, 1) as ib:
        trade = ib.placeOrder(await qualified(ib), ib_async.MarketOrder("BUY", 10, orderRef="DEMO/2"))
        await eventually(lambda: trade.isDone() and all(fill.commissionReport.execId for fill in trade.fills))
        lived = {fill.execution.execId for fill in trade.fills}
    async with connected(gateway, 2) as ib:
        fills = await ib.reqExecutionsAsync(ib_async.ExecutionFilter())
        assert {fill.execution.execId for fill in fills} == lived
        assert {fill.commissionReport.execId for fill in ib.fills()} == lived
        assert await ib.reqExecutionsAsync(ib_async.ExecutionFilter(symbol="MSFT")) == []


async def test_master_hears_of_all_orders_and_a_plain_client_of_its_own(gateway: RunningGateway) -> None:
    async with connected(gateway, 0) as master, connected(gateway, 1) as owner, connected(gateway, 2) as other:
        trade = owner.placeOrder(await qualified(owner), ib_async.MarketOrder("BUY", 10))
        await eventually(lambda: trade.isDone() and master.fills())
        assert {fill.execution.clientId for fill in master.fills()} == {1}
        await eventually(lambda: [row.position for row in other.positions()] == [10])
        assert other.trades() == []
        assert other.fills() == []


async def test_foreign_order_cannot_be_cancelled(gateway: RunningGateway) -> None:
    async with connected(gateway, 1) as owner, connected(gateway, 2) as other:
        contract = await qualified(owner)
        price = await last_price(owner, contract)
        trade = owner.placeOrder(contract, ib_async.LimitOrder("BUY", 10, round(price * 0.5, 2)))
        await eventually(lambda: trade.orderStatus.status == "Submitted")
        codes: list[int] = []
        other.errorEvent += lambda req_id, code, *_: codes.append(code)
        other.client.cancelOrder(trade.order.orderId)  # type: ignore[no-untyped-call]  # ib_async leaves it untyped
        await eventually(lambda: 10147 in codes)
        assert trade.orderStatus.status == "Submitted"


async def test_duplicate_client_id_is_told_326(gateway: RunningGateway) -> None:
    async with connected(gateway, 1):
        second, codes = ib_async.IB(), []
        second.errorEvent += lambda req_id, code, *_: codes.append(code)
        with pytest.raises((asyncio.TimeoutError, ConnectionError)):
            await second.connectAsync("127.0.0.1", gateway.port, 1, timeout=1)
        assert 326 in codes


async def test_thirty_third_client_is_refused_until_one_leaves(gateway: RunningGateway) -> None:
    clients = [ib_async.IB() for _ in range(32)]
    try:
        for number, ib in enumerate(clients):
            await ib.connectAsync("127.0.0.1", gateway.port, number, fetchFields=ib_async.StartupFetchNONE)
        late, codes = ib_async.IB(), []
        late.errorEvent += lambda req_id, code, *_: codes.append(code)
        with pytest.raises((asyncio.TimeoutError, ConnectionError)):
            await late.connectAsync("127.0.0.1", gateway.port, 99, timeout=1)
        assert 502 in codes
        clients.pop().disconnect()
        await eventually(lambda: len(gateway.server.hub.context.sessions) == 31)
        async with connected(gateway, 99) as ib:
            assert ib.isConnected()
    finally:
        for ib in clients:
            ib.disconnect()


async def test_restart_keeps_account_orders_executions_and_ids(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    with running_gateway(state_file=state) as gateway:
        async with connected(gateway, 1) as ib:
            contract = await qualified(ib)
            price = await last_price(ib, contract)
            bought = ib.placeOrder(contract, ib_async.MarketOrder("BUY", 10, orderRef="DEMO/3"))
            await eventually(lambda: bought.isDone() and all(f.commissionReport.execId for f in bought.fills))
            resting = ib.placeOrder(contract, ib_async.LimitOrder("BUY", 7, round(price * 0.5, 2), tif="GTC"))
            await eventually(lambda: resting.orderStatus.status == "Submitted")
            last_id = resting.order.orderId
    with running_gateway(state_file=state) as gateway:
        async with connected(gateway, 1) as ib:
            assert [row.position for row in ib.positions()] == [10]
            (still,) = ib.openTrades()
            assert (still.order.permId, still.order.totalQuantity) == (resting.order.permId, 7)
            assert {fill.execution.execId for fill in ib.fills()} == {fill.execution.execId for fill in bought.fills}
            assert ib.client.getReqId() > last_id
            assert gateway.call(lambda: gateway.venue.received_order_refs["DEMO/3"]) == 1
            ib.cancelOrder(still.order)
            await eventually(lambda: still.orderStatus.status == "Cancelled")


async def test_ten_thousand_fills_reach_the_client_complete(gateway: RunningGateway) -> None:
    async with connected(gateway, 1, fetchFields=ib_async.StartupFetchNONE) as ib:
        contract = await qualified(ib)
        count = 0

        def counted(*_: object) -> None:
            nonlocal count
            count += 1

        for name in ("openOrder", "orderStatus", "commissionReport"):
            setattr(ib.wrapper, name, lambda *_: None)
        setattr(ib.wrapper, "execDetails", counted)  # noqa: B010 - a plain assignment to a method is no typed code
        gateway.call(lambda: gateway.server.publish(gateway.venue.inject_fills(contract.conId, 10_000, "DEMO/4", 1)))
        await eventually(lambda: count == 10_000)
