"""Downloads from the paper gateway into a real store: pages that join on, kills, splits, pace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from django.conf import settings

from portfolio.arctic.client import ArcticClient
from portfolio.arctic.market_data import read_bars
from portfolio.arctic.parcels import deliver, submit
from strategies.exceptions import ConfigError, NotFoundError, TransientError
from tests.e2e.data.conftest import Home
from tests.support.database import ledger_url
from trading.gateway.testing import RunningGateway, running_gateway
from trading.ib.history_span import SharedSpan
from trading.ib.pacing import HISTORY_SPAN_S
from trading.market.adjustments import action_frame, read_adjusted
from trading.market.frames import nanos_of_index
from trading.market.ingest import run_ingest
from trading.market.ingest_store import store_actions

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]
ROOT = Path(__file__).resolve().parents[3]
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def day(back: int) -> str:
    return f"{TODAY - timedelta(days=back):%Y-%m-%d}"


@pytest.fixture(scope="module")
def gateway() -> Iterator[RunningGateway]:
    """A market that never closes, so that every minute has its bar."""
    with running_gateway(market="synthetic", seed=7) as running:
        yield running


@pytest.fixture
def ingest(gateway: RunningGateway, home: Home) -> Callable[..., Any]:
    """Run an ingest; ``heard`` takes its progress."""
    home(ib_port=gateway.port)

    def run(*symbols: str, should_stop: Callable[[], bool] = lambda: False, heard: Any = None, **args: Any) -> Any:
        told = heard if heard is not None else []
        return run_ingest({"source": "ib", "symbols": symbols, **args}, lambda *say: told.append(say), should_stop)

    return run


def assert_whole(store: ArcticClient, symbol: str, first: str, last: str, step: str = "1min") -> pd.DataFrame:
    """Every bar of a stretch is there, once."""
    bars = read_bars(store, symbol, "1_min")
    wanted = pd.date_range(f"{first}T00:00Z", f"{last}T23:59Z", freq=step)
    pd.testing.assert_index_equal(bars.index, wanted, check_names=False, exact=False)
    return bars


def test_minutes_come_in_pages_that_join_on(store: ArcticClient, ingest: Any) -> None:
    heard: list[tuple[float, str]] = []
    result = ingest("AAPL", timeframe="1m", start=day(20), end=day(2), heard=heard)
    [row] = result["series"]
    assert (row["new"], row["is_whole"], result["failed"]) == (19 * 1440, True, [])
    assert row["requests"] >= 3
    assert_whole(store, "AAPL", day(20), day(2))
    fractions = [done for done, _ in heard]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert any("bars/s" in words for _, words in heard)


def test_second_run_asks_for_what_is_new_alone(store: ArcticClient, ingest: Any) -> None:
    ingest("AAPL", timeframe="1m", start=day(10), end=day(5))
    again = ingest("AAPL", timeframe="1m", start=day(10), end=day(5))
    assert (again["series"][0]["new"], again["series"][0]["requests"]) == (0, 0)
    longer = ingest("AAPL", timeframe="1m", start=day(12), end=day(3))
    assert longer["series"][0]["new"] == 4 * 1440
    assert_whole(store, "AAPL", day(12), day(3))


def test_bar_under_way_is_not_stored(store: ArcticClient, ingest: Any) -> None:
    ingest("AAPL", timeframe="1m", start=day(1))
    last = read_bars(store, "AAPL", "1_min").index[-1]
    assert last <= pd.Timestamp.now("UTC") - pd.Timedelta(minutes=1)
    ingest("AAPL", timeframe="1d", start=day(30))
    assert read_bars(store, "AAPL", "1_day").index[-1] == pd.Timestamp(TODAY - timedelta(days=1))


def test_stop_keeps_what_was_stored_and_the_next_run_goes_on(store: ArcticClient, ingest: Any) -> None:
    heard: list[Any] = []
    result = ingest("AAPL", timeframe="1m", start=day(30), end=day(2), heard=heard, should_stop=lambda: len(heard) > 3)
    assert result["cancelled"]
    assert not result["series"][0]["is_whole"]
    part = read_bars(store, "AAPL", "1_min")
    assert 0 < len(part) < 29 * 1440
    assert set(np.diff(nanos_of_index(part.index))) == {60 * 10**9}
    ingest("AAPL", timeframe="1m", start=day(30), end=day(2))
    assert_whole(store, "AAPL", day(30), day(2))


@pytest.mark.kill
@pytest.mark.parametrize(
    "point", ["parcel_row:2", pytest.param("parcel_written:2", marks=pytest.mark.proof), "parcel_written:3"]
)
def test_killed_ingest_goes_on_without_holes_or_doubles(
    store: ArcticClient, ingest: Any, gateway: RunningGateway, point: str
) -> None:
    assert _command(gateway, point, day(20), day(2)) == -signal.SIGKILL
    ingest("AAPL", timeframe="1m", start=day(20), end=day(2))
    assert_whole(store, "AAPL", day(20), day(2))


def _command(gateway: RunningGateway, point: str, start: str, end: str) -> int:
    """Run the command in a process of its own, which dies at a point."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "mats_site.settings",
        "DATABASE_URL": ledger_url(),
        "MATS_HOME": str(settings.MATS.mats_home),
        "MATS_ARCTIC_URI": settings.MATS.arctic_uri,
        "MATS_IB_PORT": str(gateway.port),
        "MATS_CRASH_AT": point,
    }
    command = [sys.executable, "manage.py", "ingest_bars", "AAPL", "--timeframe", "1m", "--start", start, "--end", end]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode


def test_price_that_contradicts_the_store_stops_before_anything_is_mixed(store: ArcticClient, ingest: Any) -> None:
    ingest("AAPL", timeframe="1d", start=day(40), end=day(20))
    _rewrite(store, factor=2.0)  # as IB would have said before a split of 2 for 1
    result = ingest("AAPL", timeframe="1d", start=day(40), end=day(5))
    assert "If the stock was split" in result["failed"][0]["error"]
    assert len(read_bars(store, "AAPL", "1_day")) == 21


def test_recorded_split_lets_the_download_go_on_with_prices_as_they_were(store: ArcticClient, ingest: Any) -> None:
    ingest("AAPL", timeframe="1d", start=day(40), end=day(20))
    before = read_bars(store, "AAPL", "1_day")
    _rewrite(store, factor=2.0)
    split = (TODAY - timedelta(days=10)).date()
    run_ingest(
        {"source": "actions", "symbols": ["AAPL"], "splits": {str(split): "2:1"}}, lambda *_: None, lambda: False
    )
    result = ingest("AAPL", timeframe="1d", start=day(40), end=day(5))
    assert result["failed"] == []
    bars, adjusted = read_bars(store, "AAPL", "1_day"), read_adjusted(store, "AAPL", "1_day")
    np.testing.assert_allclose(bars["close"].iloc[:21], before["close"] * 2)
    np.testing.assert_allclose(adjusted["close"].iloc[:21], before["close"])
    cut = pd.Timestamp(split, tz="UTC")
    np.testing.assert_allclose(bars["close"][bars.index < cut], adjusted["close"][bars.index < cut] * 2)
    np.testing.assert_allclose(bars["close"][bars.index >= cut], adjusted["close"][bars.index >= cut])


def _rewrite(store: ArcticClient, factor: float) -> None:
    """Make the store as it was before a split that IB has applied since."""
    name, known = "AAPL_1_day", store.metadata("market_data", "AAPL_1_day")
    bars = read_bars(store, "AAPL", "1_day")
    bars[["open", "high", "low", "close"]] *= factor
    old = {**{key: value for key, value in known.items() if key != "parcel"}, "split_basis": day(20)}
    deliver(submit("market_data", name, bars, mode="write", metadata=old, source="test"), 30.0)


def test_pairs_come_as_midpoints_without_volume(store: ArcticClient, ingest: Any) -> None:
    ingest("EUR.USD", timeframe="1h", start=day(5), end=day(3), sec_type="CASH")
    bars = read_bars(store, "EUR.USD", "1_hour")
    assert len(bars) > 40
    assert (bars["volume"] == 0).all()


def test_unknown_symbol_leaves_the_others_alone(store: ArcticClient, ingest: Any) -> None:
    result = ingest("NOSUCH", "AAPL", timeframe="1d", start=day(10), end=day(5))
    assert [row["symbol"] for row in result["failed"]] == ["NOSUCH"]
    assert [row["series"] for row in result["series"]] == ["AAPL"]
    with pytest.raises((NotFoundError, TransientError)):
        ingest("NOSUCH", timeframe="1d", start=day(10))


def test_client_id_in_use_is_passed_over(store: ArcticClient, ingest: Any, gateway: RunningGateway, home: Home) -> None:
    import asyncio

    from trading.ib.connection import IBConnection

    async def held() -> Any:
        made = IBConnection(900, host="127.0.0.1", port=gateway.port, role="x", name="x", connect_timeout_s=5.0)
        await made.connect_once()
        home(ib_port=gateway.port, ingest_client_ids=(900, 901))
        result = await asyncio.to_thread(ingest, "AAPL", timeframe="1d", start=day(10), end=day(5))
        made.disconnect()
        return result

    assert asyncio.run(held())["failed"] == []


def test_small_bars_wait_for_what_every_process_used_of_ibs_limit(store: ArcticClient, ingest: Any) -> None:
    import time

    span = SharedSpan(settings.MATS.mats_home / "run" / "history.span", HISTORY_SPAN_S)
    span.add(time.monotonic(), 50)  # of the engine's strategies
    heard: list[tuple[float, str]] = []
    began = time.monotonic()
    result = ingest(
        "AAPL", timeframe="5_secs", start=day(1), heard=heard, should_stop=lambda: time.monotonic() - began > 1.5
    )
    assert result["cancelled"]
    assert any("60 requests for small bars in ten minutes" in words for _, words in heard)
    assert span.count(time.monotonic()) == 50


def test_five_second_bars_are_counted_for_all(store: ArcticClient, ingest: Any) -> None:
    import time

    now = datetime.now(UTC)
    ingest(
        "AAPL",
        timeframe="5_secs",
        start=(now - timedelta(minutes=90)).isoformat(),
        end=(now - timedelta(minutes=5)).isoformat(),
    )
    span = SharedSpan(settings.MATS.mats_home / "run" / "history.span", HISTORY_SPAN_S)
    assert span.count(time.monotonic()) >= 2
    bars = read_bars(store, "AAPL", "5_secs")
    assert set(np.diff(nanos_of_index(bars.index))) == {5 * 10**9}
    assert len(bars) >= 12 * 84


def test_only_one_ingest_runs_at_a_time(store: ArcticClient, ingest: Any) -> None:
    import fcntl

    path = settings.MATS.mats_home / "run" / "ingest.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    heard: list[tuple[float, str]] = []
    with path.open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        result = ingest("AAPL", timeframe="1d", heard=heard, should_stop=lambda: len(heard) > 1)
    assert result["cancelled"]
    assert "Another ingest runs" in heard[0][1]


def test_no_gateway_is_said_in_words(store: ArcticClient, home: Home, free_port: int) -> None:
    home(ib_port=free_port)
    with pytest.raises(TransientError, match="Nothing listens"):
        run_ingest({"source": "ib", "symbols": ["AAPL"], "timeframe": "1d"}, lambda *_: None, lambda: False)


def test_bars_of_other_hours_do_not_join_a_series(store: ArcticClient, ingest: Any) -> None:
    ingest("AAPL", timeframe="1h", start=day(6), end=day(5))
    result = ingest("AAPL", timeframe="1h", start=day(8), end=day(3), use_rth=False)
    assert "do not belong together" in result["failed"][0]["error"]


def test_splits_are_kept_beside_the_bars(store: ArcticClient, home: Home) -> None:
    store_actions("AAPL", action_frame({date(2020, 8, 31): 4.0}, {}, "test"), source="test")
    with pytest.raises(ConfigError):
        run_ingest({"source": "actions", "symbols": ["AAPL"]}, lambda *_: None, lambda: False)


def _holed(store: ArcticClient, symbol: str, *stretches: tuple[str, str], frame: str = "1_min") -> None:
    """Take bars out of a stored series."""
    name = f"{symbol}_{frame}"
    bars, known = read_bars(store, symbol, frame), store.metadata("market_data", name)
    for first, last in stretches:
        bars = bars[(bars.index < first) | (bars.index > last)]
    kept = {key: value for key, value in known.items() if key != "parcel"}
    deliver(submit("market_data", name, bars, mode="write", metadata=kept, source="test"), 30.0)


def test_gaps_are_filled_with_exactly_what_was_missing_and_nothing_else_is_asked_for(
    store: ArcticClient, ingest: Any
) -> None:
    ingest("AAPL", timeframe="1m", start=day(20), end=day(2), calendar="24/7", use_rth=False)
    before = read_bars(store, "AAPL", "1_min")
    _holed(store, "AAPL", (f"{day(15)}T10:00Z", f"{day(12)}T09:59Z"), (f"{day(5)}T00:00Z", f"{day(5)}T00:04Z"))
    result = ingest(fill_gaps=True)
    [row] = result["series"]
    assert (row["new"], row["is_whole"], result["failed"]) == (3 * 1440 + 5, True, [])
    assert row["requests"] == 2
    assert "4,325 bars were missing in 2 gaps, 0 still are." in row["notes"]
    pd.testing.assert_frame_equal(read_bars(store, "AAPL", "1_min"), before)
    assert store.metadata("market_data", "AAPL_1_min")["gaps_from"] == "ib"
    assert ingest(fill_gaps=True)["series"] == []


def test_filling_that_was_stopped_goes_on_with_the_rest(store: ArcticClient, ingest: Any) -> None:
    ingest("AAPL", timeframe="1m", start=day(30), end=day(2), calendar="24/7", use_rth=False)
    before = read_bars(store, "AAPL", "1_min")
    _holed(store, "AAPL", (f"{day(25)}T00:00Z", f"{day(10)}T23:59Z"))
    heard: list[Any] = []
    part = ingest(
        "AAPL", fill_gaps=True, heard=heard, should_stop=lambda: len(read_bars(store, "AAPL", "1_min")) > 20000
    )
    assert part["cancelled"]
    assert 0 < part["bars"] < 16 * 1440
    rest = ingest("AAPL", fill_gaps=True)
    assert part["bars"] + rest["bars"] == 16 * 1440
    pd.testing.assert_frame_equal(read_bars(store, "AAPL", "1_min"), before)
