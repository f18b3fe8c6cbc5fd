"""Bars wait until they are stored."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from portfolio.arctic.client import ArcticClient, ArcticUnavailableError
from portfolio.arctic.market_data import Bar, append_bars, read_bars, series_of, write_bars
from portfolio.arctic.writer import ArcticWriter
from strategies.exceptions import ConflictError
from strategies.series_names import Listing
from trading.market.bars import BarStore

START = datetime(2026, 3, 2, 14, 30, tzinfo=UTC)
AAPL = Listing(265598, "AAPL", "STK", "USD")
IN_FRANKFURT = Listing(38708077, "SIE", "STK", "EUR")
IN_NEW_YORK = Listing(15124833, "SIE", "STK", "USD")
IN_ZURICH = Listing(29612193, "SIE", "STK", "EUR")  # the same ticker in the same currency, on another exchange
CALL = Listing(700, "SIE", "OPT", "EUR")


def bar(number: int, price: Decimal | None = None) -> Bar:
    price = Decimal(100 + number) if price is None else price
    return Bar(START + timedelta(seconds=5 * number), price, price, price, price, Decimal(10))


def test_bars_that_could_not_be_stored_are_stored_later_in_order(tmp_path: Path) -> None:
    troubles = [ArcticUnavailableError("the folder is not writable")]

    def _lease() -> None:
        if troubles:
            raise troubles.pop()

    client = ArcticClient(f"lmdb://{tmp_path / 'arctic'}?map_size=64MB")
    writer = ArcticWriter(_lease, client=client)
    store = BarStore(writer)
    store.add(AAPL, bar(0))
    assert store.flush() == 0
    store.add(AAPL, bar(1))
    assert store.flush() == 2
    assert store.flush() == 0
    assert list(read_bars(client, "AAPL", "5_secs")["close"]) == [100.0, 101.0]
    writer.close()


def test_stop_stores_what_waits(tmp_path: Path) -> None:
    client = ArcticClient(f"lmdb://{tmp_path / 'arctic'}?map_size=64MB")
    store = BarStore(ArcticWriter(client=client), flush_every_s=3600)
    store.start()
    store.add(AAPL, bar(0))
    store.stop()
    assert store.join(10)
    assert len(read_bars(client, "AAPL", "5_secs")) == 1


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[ArcticWriter]:
    """A writer on a store of its own."""
    found = ArcticWriter(client=ArcticClient(f"lmdb://{tmp_path / 'arctic'}?map_size=64MB"))
    yield found
    found.close()


def closes(writer: ArcticWriter, name: str) -> list[float]:
    return list(read_bars(writer.client, name, "5_secs")["close"])


def test_stocks_of_one_ticker_have_series_of_their_own_and_the_first_has_the_ticker(writer: ArcticWriter) -> None:
    prices = {IN_FRANKFURT: Decimal(180), IN_NEW_YORK: Decimal(95), IN_ZURICH: Decimal(181), CALL: Decimal(4)}
    for number in range(3):
        store = BarStore(writer)  # an engine that was started anew finds the same names
        for listing in prices if number % 2 else reversed(prices):
            if number or listing is IN_FRANKFURT:
                store.add(listing, bar(number, prices[listing]))
        store.flush()
    assert closes(writer, "SIE") == [180.0, 180.0, 180.0]
    assert closes(writer, "SIE.15124833") == [95.0, 95.0]
    assert closes(writer, "SIE.29612193") == [181.0, 181.0]
    assert closes(writer, "SIE.700") == [4.0, 4.0]
    assert sorted(writer.client.list_symbols("market_data")) == [
        "SIE.15124833_5_secs",
        "SIE.29612193_5_secs",
        "SIE.700_5_secs",
        "SIE_5_secs",
    ]


def test_two_stocks_whose_first_bars_come_in_one_batch_are_not_mixed(writer: ArcticWriter) -> None:
    store = BarStore(writer)
    store.add(IN_FRANKFURT, bar(0, Decimal(180)))
    store.add(IN_NEW_YORK, bar(0, Decimal(95)))
    assert store.flush() == 2
    assert (closes(writer, "SIE"), closes(writer, "SIE.15124833")) == ([180.0], [95.0])


def test_a_ticker_that_is_taken_at_one_timeframe_is_taken_at_all(writer: ArcticWriter) -> None:
    append_bars(writer, "SIE", "1_day", [bar(0)], IN_FRANKFURT)
    assert series_of(writer.client, IN_NEW_YORK) == "SIE.15124833"
    assert series_of(writer.client, IN_FRANKFURT) == "SIE"


def test_history_that_names_no_contract_is_left_as_it_is(writer: ArcticWriter) -> None:
    append_bars(writer, "SIE", "1_min", [bar(0)])
    store = BarStore(writer)
    store.add(IN_FRANKFURT, bar(1))
    assert store.flush() == 1
    assert len(read_bars(writer.client, "SIE", "1_min")) == 1
    assert closes(writer, "SIE.38708077") == [101.0]


@pytest.mark.parametrize("known", [IN_FRANKFURT, None])
def test_bars_of_another_contract_are_refused_at_the_door(writer: ArcticWriter, known: Listing | None) -> None:
    append_bars(writer, "SIE", "1_day", [bar(0)], known)
    history = read_bars(writer.client, "SIE", "1_day")
    with pytest.raises(ConflictError) as appended:
        append_bars(writer, "SIE", "1_day", [bar(1)], IN_NEW_YORK)
    with pytest.raises(ConflictError) as replaced:
        write_bars(writer, "SIE", "1_day", history, IN_NEW_YORK)
    assert {appended.value.code, replaced.value.code} == {"series_of_other"}
    assert list(read_bars(writer.client, "SIE", "1_day")["close"]) == [100.0]


def test_a_series_stays_whose_it_is_when_bars_are_appended_by_name(writer: ArcticWriter) -> None:
    append_bars(writer, "SIE", "1_day", [bar(0)], IN_FRANKFURT)
    append_bars(writer, "SIE", "1_day", [bar(1)])
    assert writer.client.metadata("market_data", "SIE_1_day")["con_id"] == IN_FRANKFURT.con_id
    assert series_of(writer.client, IN_FRANKFURT) == "SIE"


def test_a_series_that_was_replaced_by_hand_gets_no_more_bars_of_the_recorder(writer: ArcticWriter) -> None:
    store = BarStore(writer)
    store.add(IN_FRANKFURT, bar(0))
    store.flush()
    write_bars(writer, "SIE", "5_secs", read_bars(writer.client, "SIE", "5_secs"))
    store.add(IN_FRANKFURT, bar(1))
    assert store.flush() == 0  # the name is looked for anew
    assert store.flush() == 1
    assert (closes(writer, "SIE"), closes(writer, "SIE.38708077")) == ([100.0], [101.0])
