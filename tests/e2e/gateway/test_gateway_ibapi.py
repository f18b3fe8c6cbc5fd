"""The official ibapi 9.81 against the paper gateway over loopback."""

from collections.abc import Iterator

import pytest
from ibapi.execution import ExecutionFilter
from ibapi.scanner import ScannerSubscription

from tests.e2e.gateway.official import Official, official_client, official_order, stock
from trading.gateway.testing import RunningGateway, running_gateway

pytestmark = pytest.mark.e2e


@pytest.fixture
def gateway() -> Iterator[RunningGateway]:
    """A gateway with a fresh account."""
    with running_gateway() as running:
        yield running


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[Official]:
    """A connected official client."""
    with official_client(gateway.port, 5) as connected:
        yield connected


def test_connect_speaks_157_and_names_the_account(client: Official) -> None:
    assert client.serverVersion() == 157
    assert client.wait("managedAccounts") == ("DU1000001",)
    client.wait("error", lambda req_id, code, *_: code == 2104)
    client.reqCurrentTime()
    assert client.wait("currentTime")[0] > 1_600_000_000


def test_reference_data(client: Official) -> None:
    client.reqContractDetails(1, stock())
    details = client.wait("contractDetails")[1]
    assert (details.contract.conId, details.stockType, details.timeZoneId) == (265598, "COMMON", "US/Eastern")
    client.wait("contractDetailsEnd")
    client.reqContractDetails(2, stock("NOSUCH"))
    client.wait("error", lambda req_id, code, *_: (req_id, code) == (2, 200))
    client.reqMatchingSymbols(3, "AAP")
    assert "AAPL" in [found.contract.symbol for found in client.wait("symbolSamples")[1]]
    client.reqMarketRule(int(details.marketRuleIds.split(",")[0]))
    assert client.wait("marketRule")[1][0].increment > 0
    client.reqSecDefOptParams(4, "AAPL", "", "STK", 265598)
    client.wait("securityDefinitionOptionParameterEnd")


def test_data(client: Official) -> None:
    client.reqMktData(1, stock(), "", True, False, [])
    client.wait("tickSnapshotEnd")
    assert {1, 2, 4} <= {arguments[1] for arguments in client.all("tickPrice")}
    client.reqMktData(2, stock(), "", False, False, [])
    client.wait("tickReqParams", lambda req_id, *_: req_id == 2)
    client.cancelMktData(2)
    client.cancelMktData(2)
    client.wait("error", lambda req_id, code, *_: (req_id, code) == (2, 300))
    client.reqHistoricalData(3, stock(), "", "1 D", "1 hour", "TRADES", 0, 2, False, [])
    client.wait("historicalDataEnd")
    bars = client.all("historicalData")
    assert bars
    assert all(bar.low <= bar.close <= bar.high for _, bar in bars)
    client.reqHeadTimeStamp(4, stock(), "TRADES", 0, 1)
    client.wait("headTimestamp")


def test_futures_and_options(client: Official) -> None:
    future = stock("MES")
    future.secType, future.exchange = "FUT", "CME"
    client.reqContractDetails(1, future)
    client.wait("contractDetailsEnd")
    months = [details.contract for _, details in client.all("contractDetails")]
    assert [contract.multiplier for contract in months] == ["5"] * 5
    client.reqSecDefOptParams(2, "AAPL", "", "STK", 265598)
    client.wait("securityDefinitionOptionParameterEnd")
    _, exchange, _, _, multiplier, expiries, strikes = client.wait("securityDefinitionOptionParameter")
    assert (exchange, multiplier) == ("SMART", "100")
    option = stock()
    option.secType, option.right = "OPT", "C"
    option.lastTradeDateOrContractMonth, option.strike = max(expiries), sorted(strikes)[len(strikes) // 2]
    client.reqMktData(3, option, "", False, False, [])
    client.wait("tickOptionComputation", lambda req_id, tick, *_: tick == 13)
    client.calculateImpliedVolatility(4, option, 60.0, 230.0, [])
    answer = client.wait("tickOptionComputation", lambda req_id, *_: req_id == 4)
    assert 0 < answer[3] < 3
    client.reqMktDepth(5, option, 5, True, [])
    client.wait("error", lambda req_id, code, *_: (req_id, code) == (5, 354))


def test_single_ticks_histogram_and_scans(client: Official) -> None:
    client.reqTickByTickData(1, stock("SPY"), "AllLast", 3, False)
    assert len(client.wait("historicalTicksLast")[1]) == 3
    client.wait("tickByTickAllLast")
    client.reqTickByTickData(2, stock("SPY"), "BidAsk", 0, False)
    client.wait("tickByTickBidAsk")
    client.reqHistoricalTicks(3, stock("SPY"), "20261101 15:00:00", "", 20, "MIDPOINT", 0, False, [])
    assert len(client.wait("historicalTicks")[1]) == 20
    client.reqHistogramData(4, stock("SPY"), False, "1 day")
    assert client.wait("histogramData")[1]
    client.reqScannerParameters()
    client.wait("scannerParameters")
    scan = ScannerSubscription()
    scan.instrument, scan.locationCode, scan.scanCode = "STK", "STK.US.MAJOR", "HOT_BY_VOLUME"
    client.reqScannerSubscription(5, scan, [], [])
    client.wait("scannerDataEnd")
    assert len(client.all("scannerData")) == 50
    client.reqNewsProviders()
    assert client.wait("newsProviders") == ([],)


def test_order_lifecycle(client: Official) -> None:
    (order_id,) = client.wait("nextValidId")
    client.placeOrder(order_id, stock(), official_order("BUY", 100, "MKT"))
    client.wait("orderStatus", lambda number, status, *_: (number, status) == (order_id, "Filled"))
    execution = client.wait("execDetails")[2]
    assert (execution.orderId, execution.side, execution.clientId) == (order_id, "BOT", 5)
    assert client.wait("commissionReport")[0].commission > 0
    low = round(execution.price * 0.5, 2)
    client.placeOrder(order_id + 1, stock(), official_order("BUY", 10, "LMT", low))
    client.wait("orderStatus", lambda number, status, *_: (number, status) == (order_id + 1, "Submitted"))
    client.placeOrder(order_id + 1, stock(), official_order("BUY", 20, "LMT", low))
    client.wait("openOrder", lambda number, _, order, __: number == order_id + 1 and order.totalQuantity == 20)
    client.reqAllOpenOrders()
    client.wait("openOrderEnd")
    client.cancelOrder(order_id + 1)
    client.wait("orderStatus", lambda number, status, *_: (number, status) == (order_id + 1, "Cancelled"))
    client.wait("error", lambda req_id, code, *_: (req_id, code) == (order_id + 1, 202))
    client.reqCompletedOrders(True)
    client.wait("completedOrdersEnd")
    assert len(client.all("completedOrder")) == 2
    client.reqExecutions(9, ExecutionFilter())
    client.wait("execDetailsEnd")
    assert execution.execId in {found.execId for req_id, _, found in client.all("execDetails") if req_id == 9}


def test_what_if_places_nothing(client: Official, gateway: RunningGateway) -> None:
    (order_id,) = client.wait("nextValidId")
    order = official_order("BUY", 100, "MKT")
    order.whatIf = True
    client.placeOrder(order_id, stock(), order)
    state = client.wait("openOrder")[3]
    assert float(state.initMarginChange) > 0
    assert gateway.call(gateway.venue.open_orders) == []


def test_account_and_positions(client: Official) -> None:
    (order_id,) = client.wait("nextValidId")
    client.reqPositions()
    client.wait("positionEnd")
    client.reqAccountUpdates(True, "DU1000001")
    client.wait("accountDownloadEnd")
    client.placeOrder(order_id, stock(), official_order("BUY", 10, "MKT"))
    assert client.wait("position")[2] == 10
    assert client.wait("updatePortfolio")[1] == 10
    client.reqAccountSummary(1, "All", "NetLiquidation,TotalCashValue")
    client.wait("accountSummaryEnd")
    client.reqPnL(2, "DU1000001", "")
    client.wait("pnl")
    client.reqPnLSingle(3, "DU1000001", "", 265598)
    assert client.wait("pnlSingle", lambda req_id, position, *_: position == 10)


def test_duplicate_id_is_refused_and_closed(client: Official, gateway: RunningGateway) -> None:
    with official_client(gateway.port, 5, expect="error") as second:
        second.wait("error", lambda req_id, code, *_: code == 326)
        second.wait("connectionClosed")
        assert second.all("nextValidId") == []
    assert client.isConnected()


def test_both_clients_are_served_at_once(gateway: RunningGateway) -> None:
    with official_client(gateway.port, 1) as first, official_client(gateway.port, 0) as master:
        (order_id,) = first.wait("nextValidId")
        first.placeOrder(order_id, stock(), official_order("BUY", 10, "MKT"))
        assert master.wait("execDetails")[2].clientId == 1
