"""The real clients understand the answers about chains, single ticks, scans and option figures."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.unit.gateway.test_wire_responses import one
from tests.unit.gateway.wire_clients import ib_async_hears, ibapi_hears
from tests.unit.gateway.wire_fake import DETAILS, NOW
from trading.gateway import protocol_data_responses as respond
from trading.gateway.model import OptionChain, OptionFigures, Tick, TickKind, TradingSession

BOTH = [(ib_async_hears, 178), (ib_async_hears, 157), (ibapi_hears, 157), (ibapi_hears, 151)]
TICK = Tick(NOW, Decimal("187.5"), Decimal(7), Decimal("187.49"), Decimal("187.52"), Decimal(100), Decimal(200))
FIGURES = OptionFigures(0.25, -0.4, 3.5, 0.02, 0.31, -0.05, 187.5)


@pytest.mark.parametrize(("hears", "version"), BOTH)
def test_a_chain_is_understood(hears: Any, version: int) -> None:
    chain = OptionChain("SMART", 265598, "AAPL", "100", ("20260320", "20260417"), (Decimal("187.50"), Decimal(190)))
    _, exchange, under, name, multiplier, expiries, strikes = one(
        hears(respond.option_chain(5, chain), version), "securityDefinitionOptionParameter"
    )
    assert (exchange, int(under), name, multiplier) == ("SMART", 265598, "AAPL", "100")
    assert set(expiries) == {"20260320", "20260417"}
    assert set(strikes) == {187.5, 190.0}


@pytest.mark.parametrize(("hears", "version"), BOTH)
def test_an_option_computation_is_understood(hears: Any, version: int) -> None:
    heard = one(hears(respond.option_computation(5, 13, FIGURES, version), version), "tickOptionComputation")
    assert heard[:2] == (5, 13)
    assert heard[3:] == (0.25, -0.4, 3.5, 0.0, 0.02, 0.31, -0.05, 187.5)


@pytest.mark.parametrize(("hears", "version"), BOTH[1:])
def test_what_cannot_be_computed_says_so(hears: Any, version: int) -> None:
    nothing = OptionFigures(None, None, 3.5, None, None, None, 187.5)
    heard = one(hears(respond.option_computation(5, 53, nothing, version), version), "tickOptionComputation")
    assert heard[3:5] in {(None, None), (-1.0, -2.0)}


@pytest.mark.parametrize(("hears", "version"), BOTH)
def test_single_ticks_are_understood(hears: Any, version: int) -> None:
    for kind, number in (("Last", 1), ("AllLast", 2)):
        heard = one(hears(respond.tick_by_tick(5, kind, TICK, "ARCA", version), version), "tickByTickAllLast")
        assert heard[:5] == (5, number, int(NOW.timestamp()), 187.5, 7)
        assert heard[6] == "ARCA"
    heard = one(hears(respond.tick_by_tick(5, "BidAsk", TICK, "ARCA", version), version), "tickByTickBidAsk")
    assert heard[:6] == (5, int(NOW.timestamp()), 187.49, 187.52, 100, 200)
    heard = one(hears(respond.tick_by_tick(5, "MidPoint", TICK, "ARCA", version), version), "tickByTickMidPoint")
    assert heard == (5, int(NOW.timestamp()), 187.505)


@pytest.mark.parametrize(("hears", "version"), BOTH)
@pytest.mark.parametrize(
    ("kind", "callback"),
    [
        (TickKind.MIDPOINT, "historicalTicks"),
        (TickKind.QUOTES, "historicalTicksBidAsk"),
        (TickKind.TRADES, "historicalTicksLast"),
    ],
)
def test_past_ticks_are_understood(hears: Any, version: int, kind: TickKind, callback: str) -> None:
    req_id, ticks, done = one(
        hears(respond.historical_ticks(5, kind, [TICK, TICK], "ARCA", version), version), callback
    )
    assert (req_id, len(ticks), bool(done)) == (5, 2, True)
    price = {"historicalTicks": "price", "historicalTicksBidAsk": "priceAsk", "historicalTicksLast": "price"}[callback]
    wanted = {"historicalTicks": 187.505, "historicalTicksBidAsk": 187.52, "historicalTicksLast": 187.5}[callback]
    assert getattr(ticks[1], price) == wanted


@pytest.mark.parametrize(("hears", "version"), BOTH)
def test_a_histogram_is_understood(hears: Any, version: int) -> None:
    _, rows = one(
        hears(respond.histogram(5, [(Decimal("187.5"), 300), (Decimal("187.6"), 20)]), version), "histogramData"
    )
    assert [(row.price, row.count) for row in rows] == [(187.5, 300), (187.6, 20)]


@pytest.mark.parametrize(("hears", "version"), BOTH)
def test_a_scan_is_understood_from_the_first_rank_to_its_end(hears: Any, version: int) -> None:
    calls = hears(respond.scanner_data(5, [DETAILS, DETAILS]), version)
    assert [name for name, _ in calls] == ["scannerData", "scannerData", "scannerDataEnd"]
    assert [arguments[1] for _, arguments in calls[:2]] == [0, 1]
    assert calls[0][1][2].contract.conId == 265598
    assert [name for name, _ in hears(respond.scanner_data(5, []), version)] == ["scannerDataEnd"]


def test_a_schedule_is_understood_in_the_instruments_zone() -> None:
    sessions = [TradingSession("20260302", NOW, NOW + timedelta(hours=6))]
    frame = respond.historical_schedule(5, "America/New_York", sessions)
    _, start, end, zone, rows = one(ib_async_hears(frame, 178), "historicalSchedule")
    assert (start, end, zone) == ("20260302-10:00:00", "20260302-16:00:00", "US/Eastern")
    assert [row.refDate for row in rows] == ["20260302"]


@pytest.mark.parametrize(("hears", "version"), BOTH[:3])
def test_smart_components_are_understood(hears: Any, version: int) -> None:
    heard = one(hears(respond.smart_components(5, ["NYSE", "ARCA"]), version), "smartComponents")
    assert len(heard[1]) == 2
