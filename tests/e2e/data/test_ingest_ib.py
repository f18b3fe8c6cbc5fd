"""Downloads from the paper gateway into a real store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from portfolio.arctic.client import ArcticClient
from portfolio.arctic.market_data import read_bars
from tests.e2e.data.conftest import Home
from trading.gateway.testing import RunningGateway, running_gateway
from trading.market.ingest import run_ingest

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]


def quiet(_: float, __: str) -> None:
    """Nobody listens."""


def ingest(gateway: RunningGateway, home: Home, *symbols: str, should_stop: Any = lambda: False, **args: Any) -> Any:
    home(ib_port=gateway.port)
    return run_ingest({"source": "ib", "symbols": symbols, **args}, quiet, should_stop)


def test_minutes_come_in_pages_that_join_on(store: ArcticClient, home: Home) -> None:
    with running_gateway(market="synthetic", seed=7) as gateway:
        start = f"{datetime.now(UTC) - timedelta(days=20):%Y-%m-%d}"
        result = ingest(gateway, home, "AAPL", timeframe="1m", start=start)
        print(result)
        again = ingest(gateway, home, "AAPL", timeframe="1m", start=start)
        print(again)
    bars = read_bars(store, "AAPL", "1_min")
    print(bars, store.metadata("market_data", "AAPL_1_min"))
    assert 0
