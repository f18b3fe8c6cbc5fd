"""The instrument table: what is listed, how it is found, and a user's own rows."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from strategies.exceptions import ConfigError
from tests.unit.gateway.venue_desk import AAPL_ID, SPY, SPY_ID, START, venue
from trading.gateway import hours
from trading.gateway.exchange import Exchange, VenueOptions, build_venue
from trading.gateway.instruments import COLUMNS, MARKET_RULES, SHIPPED_TABLE, load_table, tick_at
from trading.gateway.market_source import SAMPLE
from trading.gateway.model import Contract, RequestError


@pytest.fixture(scope="module")
def exchange() -> Exchange:
    return venue()


def found(venue_: Exchange, /, **fields: object) -> list[int]:
    return [d.contract.con_id for d in venue_.resolve(Contract(**fields))]  # type: ignore[arg-type]


def test_every_symbol_of_the_sample_and_forty_companies_are_listed() -> None:
    table = load_table()
    stocks = [i for i in table if i.contract.sec_type == "STK"]
    sample = set(pq.read_table(SAMPLE, columns=["symbol"])["symbol"].to_pylist())
    assert sample <= {i.contract.symbol for i in stocks}
    assert sum(i.stock_type == "COMMON" for i in stocks) >= 40
    assert {"SPX", "NDX", "VIX", "RUT"} == {i.contract.symbol for i in table if i.contract.sec_type == "IND"}
    assert {"EUR.USD", "GBP.USD", "USD.JPY"} <= {i.contract.local_symbol for i in table}
    assert len({i.con_id for i in table}) == len(table)


def test_a_contract_is_found_by_id_and_by_name(exchange: Exchange) -> None:
    assert found(exchange, con_id=AAPL_ID) == [AAPL_ID]
    assert found(exchange, symbol="AAPL", sec_type="STK", currency="USD", exchange="SMART") == [AAPL_ID]
    assert found(exchange, symbol="AAPL", sec_type="STK", exchange="NASDAQ") == [AAPL_ID]
    assert found(exchange, symbol="AAPL", sec_type="STK", primary_exchange="ISLAND") == [AAPL_ID]
    assert found(exchange, local_symbol="EUR.USD", sec_type="CASH") == [12087792]
    assert found(exchange, symbol="EUR", sec_type="CASH", currency="USD", exchange="IDEALPRO") == [12087792]


def test_the_answer_names_the_exchange_that_was_asked_for(exchange: Exchange) -> None:
    details = exchange.resolve(Contract(con_id=AAPL_ID, exchange="ARCA"))[0]
    assert (details.contract.exchange, details.contract.primary_exchange) == ("ARCA", "NASDAQ")


def test_a_symbol_listed_twice_is_found_twice(exchange: Exchange) -> None:
    assert len(found(exchange, symbol="SHOP", sec_type="STK", exchange="SMART")) == 2
    assert len(found(exchange, symbol="SHOP", sec_type="STK", exchange="SMART", currency="CAD")) == 1


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"symbol": "NOPE", "sec_type": "STK"}, 200),
        ({"con_id": 1}, 200),
        ({"con_id": AAPL_ID, "exchange": "IDEALPRO"}, 200),
        ({"symbol": "AAPL", "sec_type": "STK", "currency": "EUR"}, 200),
        ({"symbol": "AAPL", "sec_type": "FOP"}, 200),
        ({"symbol": "AAPL"}, 321),
        ({"symbol": "AAPL", "sec_type": "SHARES"}, 321),
        ({"sec_type": "STK"}, 321),
    ],
)
def test_what_is_not_listed_or_badly_asked_gets_ibs_code(
    exchange: Exchange, fields: dict[str, object], code: int
) -> None:
    with pytest.raises(RequestError) as refused:
        found(exchange, **fields)
    assert refused.value.code == code


def test_details_tell_ticks_rules_and_hours(exchange: Exchange) -> None:
    details = exchange.resolve(SPY)[0]
    assert details.min_tick == Decimal("0.01")
    assert len(details.market_rule_ids) == len(details.valid_exchanges)
    assert details.trading_hours.startswith("20261118:0400-20261118:2000;20261119:0400")
    assert details.liquid_hours.startswith("20261118:0930-20261118:1600;")
    assert "20261121:CLOSED" in details.liquid_hours


def test_search_puts_the_exact_symbol_first_and_knows_names(exchange: Exchange) -> None:
    assert exchange.search("spy")[0].contract.con_id == SPY_ID
    assert [d.contract.symbol for d in exchange.search("MICROSOFT")] == ["MSFT"]
    assert {"AAPL"} <= {d.contract.symbol for d in exchange.search("AA")}
    assert exchange.search("") == exchange.search("zzzzzz") == []


def test_market_rules_give_the_tick_at_a_price(exchange: Exchange) -> None:
    assert tick_at(MARKET_RULES[32], Decimal("0.99")) == Decimal("0.0001")
    assert tick_at(MARKET_RULES[32], Decimal(1)) == Decimal("0.01")
    assert exchange.market_rule(239)[0].increment == Decimal("0.00005")
    with pytest.raises(RequestError) as refused:
        exchange.market_rule(5)
    assert refused.value.code == 321


def test_head_timestamps_exist_for_what_is_kept(exchange: Exchange) -> None:
    assert exchange.head_timestamp(SPY_ID, "TRADES", True) < START
    with pytest.raises(RequestError):
        exchange.head_timestamp(12087792, "TRADES", True)


ROW = "987654321,ZZZ,STK,SMART,NYSE,USD,ZZZ,ZZZ,,ZED INC,COMMON,,,,26,XNYS,America/New_York,1,42,100000,0.3"


def own_table(tmp_path: Path, *rows: str, header: str = ",".join(COLUMNS)) -> Path:
    path = tmp_path / "own.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_users_table_adds_and_replaces(tmp_path: Path) -> None:
    apple = next(line for line in SHIPPED_TABLE.read_text().splitlines() if line.startswith("265598,"))
    path = own_table(tmp_path, ROW, apple.replace("APPLE INC", "MY APPLE"))
    exchange = build_venue(VenueOptions(instruments_file=path))
    exchange.advance(START)
    assert found(exchange, symbol="ZZZ", sec_type="STK", exchange="SMART") == [987654321]
    assert exchange.resolve(Contract(con_id=AAPL_ID))[0].long_name == "MY APPLE"
    assert exchange.quote(987654321, START).last is not None


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (ROW.replace("987654321", "x"), "line 2"),
        (ROW.replace("987654321", "0"), "con_id"),
        (ROW.replace(",26,", ",999,"), "market_rule 999"),
        (ROW.replace(",42,", ",0,"), "reference_price"),
        (ROW.replace(",42,", ",cheap,"), "line 2"),
        (ROW.replace("USD", "XXX"), "XXX"),
        (ROW.replace("XNYS", "XXXX"), "calendar"),
        (ROW.replace("America/New_York", "Mars/Base"), "time_zone"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        build_venue(VenueOptions(instruments_file=own_table(tmp_path, row)))


def test_a_table_without_its_columns_or_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lacks the columns"):
        load_table(own_table(tmp_path, header="con_id,symbol"))
    with pytest.raises(ConfigError, match="cannot be read"):
        load_table(tmp_path / "none.csv")


class TestHours:
    def test_holidays_are_closed_and_half_days_short(self) -> None:
        thanksgiving = date(2026, 11, 26)
        assert hours.sessions_of("XNYS", thanksgiving) == ()
        text = hours.liquid_text("XNYS", "America/New_York", thanksgiving)
        assert text.startswith("20261126:CLOSED;20261127:0930-20261127:1300")

    def test_forex_trades_from_sunday_evening_to_friday(self) -> None:
        assert hours.session_at("FX", START.replace(hour=3), extended=False) is not None
        assert hours.session_at("FX", START.replace(day=21), extended=False) is None
        assert hours.sessions_of("FX", date(2026, 11, 21)) == ()

    def test_days_beyond_the_calendar_are_closed_not_wrong(self) -> None:
        assert hours.sessions_of("XNYS", date(2045, 1, 3)) == ()
        assert hours.next_open("XNYS", START.replace(year=2045), extended=False) is None
