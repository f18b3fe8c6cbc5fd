"""Every other request of the real clients is read; random ones are read or refused, never more."""

import random
from typing import Any

import ib_async
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ibapi.contract import Contract
from ibapi.execution import ExecutionFilter
from ibapi.scanner import ScannerSubscription

from tests.unit.gateway.wire_clients import UnpluggedIbapi, UnpluggedIbAsync
from tests.unit.gateway.wire_fake import Bench, heard
from trading.gateway import protocol_data_messages as md
from trading.gateway import protocol_messages as m
from trading.gateway.protocol_errors import DecodeError
from trading.gateway.protocol_requests import decode

STOCK = ib_async.Stock("AAPL", "SMART", "USD", conId=265598)
BAG = ib_async.Contract(symbol="AAPL", secType="BAG", comboLegs=[ib_async.ComboLeg(1, 1, "BUY", "SMART")])
IB_ASYNC_CALLS: list[tuple[str, tuple[Any, ...], type[m.Request]]] = [
    ("startApi", (), m.StartApi),
    ("reqIds", (1,), m.RequestIds),
    ("reqManagedAccts", (), m.RequestManagedAccounts),
    ("reqCurrentTime", (), m.RequestCurrentTime),
    ("setServerLogLevel", (5,), m.SetServerLogLevel),
    ("reqContractDetails", (5, STOCK), m.RequestContractDetails),
    ("reqMatchingSymbols", (5, "AA"), m.RequestMatchingSymbols),
    ("reqMarketRule", (26,), m.RequestMarketRule),
    ("reqSecDefOptParams", (5, "AAPL", "", "STK", 265598), md.RequestOptionParameters),
    ("reqMktData", (5, STOCK, "233,236", False, False, []), m.RequestMarketData),
    ("reqMktData", (5, BAG, "", True, False, []), m.RequestMarketData),
    ("cancelMktData", (5,), m.CancelMarketData),
    ("reqMarketDataType", (3,), m.RequestMarketDataType),
    ("reqRealTimeBars", (5, STOCK, 5, "TRADES", True, []), m.RequestRealTimeBars),
    ("cancelRealTimeBars", (5,), m.CancelRealTimeBars),
    ("reqHistoricalData", (5, STOCK, "", "1 D", "1 min", "TRADES", True, 2, True, []), m.RequestHistoricalData),
    ("reqHistoricalData", (5, BAG, "", "1 D", "1 min", "TRADES", True, 1, False, []), m.RequestHistoricalData),
    ("cancelHistoricalData", (5,), m.CancelHistoricalData),
    ("reqHeadTimeStamp", (5, STOCK, "TRADES", True, 1), m.RequestHeadTimestamp),
    ("cancelHeadTimeStamp", (5,), m.CancelHeadTimestamp),
    ("cancelOrder", (5,), m.CancelOrder),
    ("reqGlobalCancel", (), m.GlobalCancel),
    ("reqOpenOrders", (), m.RequestOpenOrders),
    ("reqAutoOpenOrders", (True,), m.RequestAutoOpenOrders),
    ("reqAllOpenOrders", (), m.RequestAllOpenOrders),
    ("reqCompletedOrders", (False,), m.RequestCompletedOrders),
    ("reqExecutions", (5, ib_async.ExecutionFilter()), m.RequestExecutions),
    ("reqAccountUpdates", (True, "DU1"), m.RequestAccountUpdates),
    ("reqAccountUpdatesMulti", (5, "DU1", "", False), m.RequestAccountUpdatesMulti),
    ("cancelAccountUpdatesMulti", (5,), m.CancelAccountUpdatesMulti),
    ("reqAccountSummary", (5, "All", "NetLiquidation,TotalCashValue"), m.RequestAccountSummary),
    ("cancelAccountSummary", (5,), m.CancelAccountSummary),
    ("reqPositions", (), m.RequestPositions),
    ("cancelPositions", (), m.CancelPositions),
    ("reqPositionsMulti", (5, "DU1", ""), m.RequestPositionsMulti),
    ("cancelPositionsMulti", (5,), m.CancelPositionsMulti),
    ("reqPnL", (5, "DU1", ""), m.RequestPnl),
    ("cancelPnL", (5,), m.CancelPnl),
    ("reqPnLSingle", (5, "DU1", "", 265598), m.RequestPnlSingle),
    ("cancelPnLSingle", (5,), m.CancelPnlSingle),
    ("reqMktDepth", (5, STOCK, 5, True, []), md.RequestMarketDepth),
    ("calculateImpliedVolatility", (5, STOCK, 4.5, 187.0, []), md.CalculateImpliedVolatility),
    ("calculateOptionPrice", (5, STOCK, 0.3, 187.0, []), md.CalculateOptionPrice),
    ("cancelCalculateOptionPrice", (5,), md.CancelCalculation),
    ("exerciseOptions", (5, STOCK, 1, 2, "DU1", 0), md.ExerciseOption),
    ("reqTickByTickData", (5, STOCK, "AllLast", 0, False), md.RequestTickByTick),
    ("cancelTickByTickData", (5,), md.CancelTickByTick),
    (
        "reqHistoricalTicks",
        (5, STOCK, "", "20260302-15:00:00", 10, "TRADES", True, False, []),
        md.RequestHistoricalTicks,
    ),
    ("reqHistogramData", (5, STOCK, True, "3 days"), md.RequestHistogram),
    ("cancelHistogramData", (5,), md.CancelHistogram),
    ("reqScannerParameters", (), md.RequestScannerParameters),
    ("reqScannerSubscription", (5, ib_async.ScannerSubscription(scanCode="MOST_ACTIVE"), [], []), md.RequestScanner),
    ("cancelScannerSubscription", (5,), md.CancelScanner),
    ("requestFA", (1,), m.Unsupported),
    ("reqFundamentalData", (5, STOCK, "ReportSnapshot", []), m.Unsupported),
    ("reqWshMetaData", (5,), m.Unsupported),
    ("reqNewsProviders", (), m.Unsupported),
    ("reqUserInfo", (5,), m.Unsupported),
]
MESSAGE_IDS = [str(number) for number in (*range(-1, 110), 999)]


@pytest.mark.parametrize("version", [157, 163, 169, 176, 178])
@pytest.mark.parametrize(("method", "arguments", "expected"), IB_ASYNC_CALLS)
def test_request_of_ib_async_is_read_to_the_end(
    version: int, method: str, arguments: tuple[Any, ...], expected: type[m.Request]
) -> None:
    client = UnpluggedIbAsync(version)
    getattr(client, method)(*arguments)
    request, req_id = decode(client.fields(), version)
    assert type(request) is expected
    assert req_id in {-1, 5}


def test_market_data_request_of_ib_async_carries_contract_and_ticks() -> None:
    client = UnpluggedIbAsync(178)
    client.reqMktData(5, STOCK, "233,236", False, False, [])  # type: ignore[no-untyped-call]  # ib_async leaves it untyped
    request, _ = decode(client.fields(), 178)
    assert isinstance(request, m.RequestMarketData)
    assert (request.contract.con_id, request.generic_ticks, request.snapshot) == (265598, ("233", "236"), False)


def official_contract() -> Contract:
    """AAPL in the official client's words."""
    contract = Contract()
    contract.symbol, contract.secType, contract.exchange, contract.currency = "AAPL", "STK", "SMART", "USD"
    return contract


@pytest.mark.parametrize("version", [151, 157])
@pytest.mark.parametrize(
    ("method", "arguments", "expected"),
    [
        ("startApi", (), m.StartApi),
        ("reqContractDetails", (5, official_contract()), m.RequestContractDetails),
        ("reqMktData", (5, official_contract(), "", False, False, []), m.RequestMarketData),
        ("reqRealTimeBars", (5, official_contract(), 5, "TRADES", True, []), m.RequestRealTimeBars),
        (
            "reqHistoricalData",
            (5, official_contract(), "", "1 D", "1 min", "TRADES", 1, 1, False, []),
            m.RequestHistoricalData,
        ),
        ("reqHeadTimeStamp", (5, official_contract(), "TRADES", 1, 1), m.RequestHeadTimestamp),
        ("reqExecutions", (5, ExecutionFilter()), m.RequestExecutions),
        ("cancelOrder", (5,), m.CancelOrder),
        ("reqAccountUpdates", (True, "DU1"), m.RequestAccountUpdates),
        ("reqAccountSummary", (5, "All", "NetLiquidation"), m.RequestAccountSummary),
        ("reqAccountUpdatesMulti", (5, "DU1", "", False), m.RequestAccountUpdatesMulti),
        ("reqPositions", (), m.RequestPositions),
        ("reqPnLSingle", (5, "DU1", "", 1), m.RequestPnlSingle),
        ("reqMatchingSymbols", (5, "AA"), m.RequestMatchingSymbols),
        ("reqSecDefOptParams", (5, "AAPL", "", "STK", 1), md.RequestOptionParameters),
        ("reqCompletedOrders", (True,), m.RequestCompletedOrders),
        ("reqGlobalCancel", (), m.GlobalCancel),
        ("reqIds", (1,), m.RequestIds),
        ("reqAllOpenOrders", (), m.RequestAllOpenOrders),
        ("reqMarketDataType", (3,), m.RequestMarketDataType),
        ("reqMktDepth", (5, official_contract(), 5, True, []), md.RequestMarketDepth),
        ("calculateImpliedVolatility", (5, official_contract(), 4.5, 187.0, []), md.CalculateImpliedVolatility),
        ("calculateOptionPrice", (5, official_contract(), 0.3, 187.0, []), md.CalculateOptionPrice),
        ("exerciseOptions", (5, official_contract(), 1, 2, "DU1", 0), md.ExerciseOption),
        ("reqTickByTickData", (5, official_contract(), "AllLast", 0, False), md.RequestTickByTick),
        (
            "reqHistoricalTicks",
            (5, official_contract(), "", "20260302 15:00:00", 10, "TRADES", 1, False, []),
            md.RequestHistoricalTicks,
        ),
        ("reqHistogramData", (5, official_contract(), True, "3 days"), md.RequestHistogram),
        ("reqScannerSubscription", (5, ScannerSubscription(), [], []), md.RequestScanner),
        ("reqScannerParameters", (), md.RequestScannerParameters),
    ],
)
def test_request_of_the_official_client_is_read_to_the_end(
    version: int, method: str, arguments: tuple[Any, ...], expected: type[m.Request]
) -> None:
    client = UnpluggedIbapi(version)
    client.clientId, client.optCapab = 3, ""
    getattr(client, method)(*arguments)
    assert type(decode(client.fields(), version)[0]) is expected


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.one_of(st.sampled_from(["", "0", "1", "-1", "AAPL", "1.5", "x" * 200, "nan", "inf"]), st.text(max_size=12)),
        max_size=130,
    ),
    st.sampled_from(MESSAGE_IDS),
    st.integers(151, 178),
)
def test_random_fields_are_read_or_refused(fields: list[str], message_id: str, version: int) -> None:
    try:
        decode([message_id, *fields], version)
    except DecodeError:
        return


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(IB_ASYNC_CALLS))
def test_damaged_requests_never_break_the_session(
    seed: int, call: tuple[str, tuple[Any, ...], type[m.Request]]
) -> None:
    bench = Bench()
    session = bench.connect(1)
    client = UnpluggedIbAsync(178)
    getattr(client, call[0])(*call[1])
    fields = client.fields()
    dice = random.Random(seed)
    for _ in range(dice.randint(1, 4)):
        fields[dice.randrange(1, len(fields)) if len(fields) > 1 else 0] = dice.choice(
            ["", "-1", "1e400", "nan", "é", "9" * 30]
        )
    bench.hub.handle(session, fields)
    bench.tick()
    heard(session)
    assert bench.say(session, "49", "1")[0][0] == "49"
