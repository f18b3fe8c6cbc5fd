"""What the scanner ranks, filters and refuses, and what market data subscriptions mean."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from xml.etree import ElementTree

import pytest

from strategies.exceptions import ConfigError
from tests.unit.gateway.venue_desk import START
from trading.gateway.exchange import VenueOptions, build_venue
from trading.gateway.instruments import load_table
from trading.gateway.market_entitlements import parse_subscriptions
from trading.gateway.market_scanner import SCANS, parameters_xml, run_scan
from trading.gateway.model import Contract, Entitlement, Quote, RequestError, Scan

LISTED = [i for i in load_table() if i.contract.symbol in ("AAPL", "MSFT", "IBM", "SPX", "VOD", "EUR")]
ZERO = Decimal(0)
# symbol: close of yesterday, open, last, volume
DAYS = {
    "AAPL": (100, 101, 110, 50_000_000),  # +10 %, its usual volume
    "MSFT": (100, 106, 95, 60_000_000),  # −5 %, three times its volume
    "IBM": (100, 97, 101, 2_000_000),  # +1 %, half its volume
    "VOD": (70, 70, 77, 1_000_000),
}
SYMBOLS = {i.con_id: i.contract.symbol for i in LISTED}


def quote_of(con_id: int) -> Quote:
    close, opened, last, volume = (Decimal(each) for each in DAYS[SYMBOLS[con_id]])
    return Quote(START, None, None, ZERO, ZERO, last, ZERO, volume, last, last, opened, close)


def ranked(code: str, location: str = "STK.US.MAJOR", rows: int = 50, **limits: Decimal) -> list[str]:
    scan = Scan(code, "STK", location, rows, **limits)
    return [i.contract.symbol for i in run_scan(scan, LISTED, quote_of)]


@pytest.mark.parametrize(
    ("code", "order"),
    [
        ("TOP_PERC_GAIN", ["AAPL", "IBM", "MSFT"]),
        ("TOP_PERC_LOSE", ["MSFT", "IBM", "AAPL"]),
        ("MOST_ACTIVE", ["MSFT", "AAPL", "IBM"]),
        ("MOST_ACTIVE_USD", ["MSFT", "AAPL", "IBM"]),
        ("HOT_BY_VOLUME", ["MSFT", "AAPL", "IBM"]),
        ("HIGH_OPEN_GAP", ["MSFT", "AAPL", "IBM"]),
        ("LOW_OPEN_GAP", ["IBM", "AAPL", "MSFT"]),
    ],
)
def test_a_scan_code_ranks_the_stocks_of_its_place(code: str, order: list[str]) -> None:
    assert ranked(code) == order


def test_every_scan_code_is_in_the_parameters() -> None:
    root = ElementTree.fromstring(parameters_xml())  # noqa: S314 - our own text
    assert {node.text for node in root.iter("scanCode")} == set(SCANS)
    assert {"STK.US.MAJOR", "STK.NASDAQ"} <= {node.text for node in root.iter("locationCode")}


def test_filters_and_the_number_of_rows_limit_the_list() -> None:
    assert ranked("TOP_PERC_GAIN", above_price=Decimal(101)) == ["AAPL", "IBM"]
    assert ranked("TOP_PERC_GAIN", below_price=Decimal(101)) == ["IBM", "MSFT"]
    assert ranked("TOP_PERC_GAIN", above_volume=Decimal(3_000_000)) == ["AAPL", "MSFT"]
    assert ranked("TOP_PERC_GAIN", above_change=Decimal(5)) == ["AAPL"]
    assert ranked("TOP_PERC_GAIN", below_change=Decimal(-5)) == ["MSFT"]
    assert ranked("TOP_PERC_GAIN", rows=1) == ["AAPL"]
    assert ranked("TOP_PERC_GAIN", rows=-1) == ["AAPL", "IBM", "MSFT"]
    assert ranked("MOST_ACTIVE", "STK.NASDAQ") == ["MSFT", "AAPL"]
    assert ranked("MOST_ACTIVE", "STK.EU.LSE") == ["VOD"]


def test_fifty_rows_are_the_most() -> None:
    many = [replace(LISTED[0], contract=replace(LISTED[0].contract, local_symbol=str(n))) for n in range(80)]
    assert len(run_scan(Scan("MOST_ACTIVE", "STK", "STK.US", 100), many, quote_of)) == 50


@pytest.mark.parametrize(("code", "location"), [("NO_SUCH", "STK.US"), ("MOST_ACTIVE", "STK.MOON")])
def test_an_unknown_scan_is_refused(code: str, location: str) -> None:
    with pytest.raises(RequestError) as refused:
        ranked(code, location)
    assert refused.value.code == 162


APPLE = Contract(sec_type="STK", exchange="SMART", primary_exchange="NASDAQ")
LONDON = Contract(sec_type="STK", exchange="SMART", primary_exchange="LSE")
CALL = Contract(sec_type="OPT", exchange="SMART")
FUTURE = Contract(sec_type="FUT", exchange="CME")
EURO = Contract(sec_type="CASH", exchange="IDEALPRO")


@pytest.mark.parametrize(
    ("text", "entitled"),
    [
        ("all", ["full", "full", "full", "full", "full"]),
        ("", ["delayed", "delayed", "none", "delayed", "full"]),
        ("STK", ["full", "full", "none", "delayed", "full"]),
        ("NASDAQ,OPT", ["full", "delayed", "full", "delayed", "full"]),
        ("STK~,FUT", ["partial", "partial", "none", "full", "full"]),
        ("STK~, LSE", ["partial", "full", "none", "delayed", "full"]),
    ],
)
def test_subscriptions_name_types_and_exchanges(text: str, entitled: list[str]) -> None:
    found = parse_subscriptions(text)
    assert [found.of(each) for each in (APPLE, LONDON, CALL, FUTURE, EURO)] == [Entitlement(each) for each in entitled]


def test_an_unknown_subscription_stops_the_gateway() -> None:
    with pytest.raises(ConfigError, match="STOCKS"):
        build_venue(VenueOptions(subscriptions="STOCKS"))
