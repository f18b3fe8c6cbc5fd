"""Marks and bars of what is held or traded, from the master's connection to ArcticDB."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from portfolio.arctic.client import ArcticClient
from portfolio.arctic.market_data import read_bars
from portfolio.arctic.writer import ArcticWriter
from tests.e2e.engine.test_derivatives import call_in_the_money
from tests.e2e.orders.conftest import until
from tests.unit.ib import wire
from trading.gateway.exchange import Exchange
from trading.gateway.model import Contract as ListedContract
from trading.gateway.testing import running_gateway
from trading.ib.connection import IBConnection
from trading.market.bars import BarStore
from trading.market.recorder import MarketRecorder, Wanted

pytestmark = pytest.mark.e2e
AAPL = Wanted(265598, "AAPL", "STK", "NASDAQ", "USD")
SPY = Wanted(756733, "SPY", "STK", "ARCA", "USD")


class Page:
    """What the engine would publish."""

    def __init__(self) -> None:
        self.marks: list[dict[int, Decimal]] = []
        self.bars: list[tuple[int, str, datetime]] = []

    def bar(self, con_id: int, symbol: str, start: datetime, ohlc: Any, volume: Decimal) -> None:
        assert ohlc[2] <= min(ohlc[0], ohlc[3]) <= max(ohlc[0], ohlc[3]) <= ohlc[1]
        self.bars.append((con_id, symbol, start))


async def connected(port: int) -> IBConnection:
    connection = IBConnection(0, host="127.0.0.1", port=port, role="master", name="Master", connect_timeout_s=5)
    await connection.connect_once()
    return connection


def future_of(venue: Exchange) -> int:
    """The front month of MES, at today's listing."""
    venue.advance(venue.market_now(datetime.now(UTC)))
    return venue.resolve(ListedContract(symbol="MES", sec_type="CONTFUT", exchange="CME"))[0].contract.con_id


def call_of(venue: Exchange) -> ListedContract:
    """A call on SPY, at today's listing."""
    venue.advance(venue.market_now(datetime.now(UTC)))
    return call_in_the_money(venue)


async def test_marks_and_bars_flow_and_are_stored(tmp_path: Path) -> None:
    client = ArcticClient(f"lmdb://{tmp_path / 'arctic'}?map_size=64MB")
    store = BarStore(ArcticWriter(client=client))
    page = Page()
    with running_gateway(market="synthetic", seed=7) as gateway:
        connection = await connected(gateway.port)
        recorder = MarketRecorder(
            connection.ib, on_marks=page.marks.append, on_bar=page.bar, wanted=lambda: [AAPL], store=store
        )
        await until(lambda: page.marks and page.bars, "a mark and a bar")
        connection.disconnect()
    assert set(page.marks[0]) == {AAPL.con_id}
    assert page.marks[0][AAPL.con_id] > 0
    assert recorder.recorded == frozenset()
    assert await asyncio.to_thread(store.join, 10)
    stored = await asyncio.to_thread(read_bars, client, "AAPL", "5_secs")
    assert stored.index[0].to_pydatetime() == page.bars[0][2]


async def test_lines_stay_below_the_limit_and_follow_what_is_wanted(tmp_path: Path) -> None:
    wanted: list[Wanted] = [AAPL, SPY]
    page = Page()
    store = BarStore(ArcticWriter(client=ArcticClient(f"lmdb://{tmp_path / 'arctic'}?map_size=64MB")))
    with running_gateway(market="synthetic", seed=7) as gateway:
        connection = await connected(gateway.port)
        recorder = MarketRecorder(
            connection.ib,
            on_marks=page.marks.append,
            on_bar=page.bar,
            wanted=lambda: list(wanted),
            store=store,
            max_lines=3,
            look_every_s=0.02,
        )
        await until(lambda: recorder.recorded == {AAPL.con_id}, "one instrument fits into three lines")
        wanted.remove(AAPL)
        await until(lambda: recorder.recorded == {SPY.con_id}, "the other took its place")
        connection.disconnect()
    await asyncio.to_thread(store.join, 10)


async def test_lost_market_data_is_requested_again(tmp_path: Path) -> None:
    page = Page()
    store = BarStore(ArcticWriter(client=ArcticClient(f"lmdb://{tmp_path / 'arctic'}?map_size=64MB")))
    with running_gateway(market="synthetic", seed=7) as gateway:
        connection = await connected(gateway.port)
        recorder = MarketRecorder(
            connection.ib, on_marks=page.marks.append, on_bar=page.bar, wanted=lambda: [AAPL], store=store
        )
        await until(lambda: page.marks, "marks")
        sent = connection.ib.client.conn.numMsgSent
        wire.say(connection.ib, *wire.error(1101, "Connectivity restored - data lost", req_id=-1))
        assert connection.ib.client.conn.numMsgSent == sent + 4  # two cancels, two requests
        assert recorder.recorded == {AAPL.con_id}
        page.marks.clear()
        await until(lambda: page.marks, "marks again")
        connection.disconnect()
    await asyncio.to_thread(store.join, 10)


async def test_a_future_that_was_followed_before_its_listing_was_known_gets_prices_once_it_is(tmp_path: Path) -> None:
    page = Page()
    store = BarStore(ArcticWriter(client=ArcticClient(f"lmdb://{tmp_path / 'arctic'}?map_size=64MB")))
    with running_gateway(market="synthetic", seed=7) as gateway:
        con_id = gateway.call(lambda: future_of(gateway.venue))
        known = [Wanted(con_id, "MES", "FUT", "SMART", "USD")]
        connection = await connected(gateway.port)
        recorder = MarketRecorder(
            connection.ib,
            on_marks=page.marks.append,
            on_bar=page.bar,
            wanted=lambda: list(known),
            store=store,
            look_every_s=0.02,
        )
        await until(lambda: recorder.recorded == {con_id}, "it is asked for")
        known[:] = [Wanted(con_id, "MES", "FUT", "CME", "USD")]
        await until(lambda: page.marks, "a price")
        assert set(page.marks[0]) == {con_id}
        connection.disconnect()
    await asyncio.to_thread(store.join, 10)


async def test_bars_of_an_option_never_enter_the_series_of_its_underlying(tmp_path: Path) -> None:
    client = ArcticClient(f"lmdb://{tmp_path / 'arctic'}?map_size=64MB")
    store, page = BarStore(ArcticWriter(client=client)), Page()
    with running_gateway(market="synthetic", seed=7) as gateway:
        option = gateway.call(lambda: call_of(gateway.venue))
        call = Wanted(option.con_id, "SPY", "OPT", "SMART", "USD")
        connection = await connected(gateway.port)
        recorder = MarketRecorder(
            connection.ib, on_marks=page.marks.append, on_bar=page.bar, wanted=lambda: [SPY, call], store=store
        )
        await until(lambda: {bar[0] for bar in page.bars} == {SPY.con_id, call.con_id}, "bars of both")
        connection.disconnect()
    assert recorder.recorded == frozenset()
    assert await asyncio.to_thread(store.join, 10)
    stock = await asyncio.to_thread(read_bars, client, "SPY", "5_secs")
    calls = await asyncio.to_thread(read_bars, client, f"SPY.{option.con_id}", "5_secs")
    assert stock["low"].min() > 2 * calls["high"].max()
