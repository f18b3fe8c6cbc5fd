"""Bars wait until they are stored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from portfolio.arctic.client import ArcticClient, ArcticUnavailableError
from portfolio.arctic.market_data import Bar, read_bars
from portfolio.arctic.writer import ArcticWriter
from trading.market.bars import BarStore

START = datetime(2026, 3, 2, 14, 30, tzinfo=UTC)


def bar(number: int) -> Bar:
    price = Decimal(100 + number)
    return Bar(START + timedelta(seconds=5 * number), price, price, price, price, Decimal(10))


def test_bars_that_could_not_be_stored_are_stored_later_in_order(tmp_path: Path) -> None:
    troubles = [ArcticUnavailableError("the folder is not writable")]

    def _lease() -> None:
        if troubles:
            raise troubles.pop()

    client = ArcticClient(f"lmdb://{tmp_path / 'arctic'}?map_size=64MB")
    writer = ArcticWriter(_lease, client=client)
    store = BarStore(writer)
    store.add("AAPL", bar(0))
    assert store.flush() == 0
    store.add("AAPL", bar(1))
    assert store.flush() == 2
    assert store.flush() == 0
    assert list(read_bars(client, "AAPL", "5_secs")["close"]) == [100.0, 101.0]
    writer.close()


def test_stop_stores_what_waits(tmp_path: Path) -> None:
    client = ArcticClient(f"lmdb://{tmp_path / 'arctic'}?map_size=64MB")
    store = BarStore(ArcticWriter(client=client), flush_every_s=3600)
    store.start()
    store.add("AAPL", bar(0))
    store.stop()
    assert store.join(10)
    assert len(read_bars(client, "AAPL", "5_secs")) == 1
