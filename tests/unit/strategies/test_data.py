"""Bars: a real ArcticDB store first, IB for the tail, nothing guessed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from ib_async import Contract, Stock

from portfolio.arctic.client import get_ac
from strategies.bar_requests import bars_of
from strategies.data import BarReader, names_library, parse_timeframe, resolve_universe
from strategies.exceptions import ConfigError, NotFoundError, TransientError
from strategies.series_names import Listing
from tests.unit.strategies.fakes import history_bars

NOW = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
SPY = Stock("SPY", "SMART", "USD")
SPY_ID = 756733
MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("arctic")
    ac = get_ac(f"lmdb://{folder}?map_size=200MB")
    bars = ac.library("market_data")
    index = pd.date_range(NOW - timedelta(minutes=20), periods=10, freq="1min", name="ts")
    bars.write("SPY_1_min", frame_of(index, 100.0))
    bars.write("TLT_1_day", frame_of(index, 90.0))
    owner = {"con_id": 38708077, "currency": "EUR", "sec_type": "STK"}
    bars.write("SIE_1_min", frame_of(index, 180.0), metadata=owner)
    bars.write("SIE.15124833_1_min", frame_of(index, 95.0), metadata={**owner, "con_id": 15124833, "currency": "USD"})
    bars.write("TLT_actions", frame_of(index, 90.0))
    ac.library("univ").write("tech", pd.DataFrame({"Symbol": ["AAPL", "MSFT", "AAPL"]}))
    return ac


def frame_of(index: pd.DatetimeIndex, close: float) -> pd.DataFrame:
    columns = dict.fromkeys(("open", "high", "low", "close", "volume"), close)
    return pd.DataFrame(columns, index=index)


class Broker:
    """Answers historical requests and remembers them."""

    def __init__(self, bars: list[Any] | None = None, error: Exception | None = None) -> None:
        self.bars, self.error = bars or [], error
        self.requests: list[tuple[str, str, str, str, bool]] = []

    async def __call__(self, contract: Contract, bar_size: str, duration: str, end: str, use_rth: bool) -> Any:
        self.requests.append((contract.symbol, bar_size, duration, end, use_rth))
        if self.error is not None:
            raise self.error
        return self.bars


def bars_from(start: datetime, count: int, close: float = 200.0, step: timedelta = MINUTE) -> list[Any]:
    bars = history_bars([close] * count, step)
    for number, bar in enumerate(bars):
        bar.date = start + number * step
    return bars


async def _identified(_: Any) -> int:
    return SPY_ID


Kept = list[tuple[str, str, pd.DataFrame, bool, datetime | None, Listing]]


async def read(
    store: Any, broker: Any, start: Any = "max", end: Any = "today", kept: Kept | None = None, **options: Any
) -> pd.DataFrame:
    given = {"use_rth": True, "force_download": False, **options}
    timeframe, of = given.pop("timeframe", "1_min"), given.pop("of", SPY)
    keep = None if kept is None else lambda *args: kept.append(args)
    reader = BarReader(store, broker, lambda: NOW, keep, given.pop("identify", _identified))
    return await reader.read(of, timeframe, start, end, **given)


async def test_stale_tail_is_completed_by_ib_without_doubling(store: Any) -> None:
    broker = Broker(bars_from(NOW - timedelta(minutes=12), 12, close=101.0))
    bars = await read(store, broker)
    assert len(bars) == 20
    assert bars.index.is_monotonic_increasing
    assert bars.index.is_unique
    assert bars["close"].iloc[9] == 100.0  # what is stored wins
    assert bars["close"].iloc[10] == 101.0
    assert broker.requests == [("SPY", "1 min", "660 S", "20260302-15:00:00", True)]


async def test_closed_bars_of_the_tail_are_kept_with_what_they_join_on_to(store: Any) -> None:
    kept: Kept = []
    await read(store, Broker(bars_from(NOW - timedelta(minutes=12), 13, close=101.0)), kept=kept)
    [(series, timeframe, bars, use_rth, after, of)] = kept
    assert of == Listing(SPY_ID, "SPY", "STK", "USD")
    assert (series, timeframe, use_rth) == ("SPY", "1_min", True)
    assert after == NOW - timedelta(minutes=11)
    assert bars.index[0] == NOW - timedelta(minutes=10)
    assert bars.index[-1] == NOW - timedelta(minutes=1)  # the minute under way is not over


async def test_bars_of_a_contract_that_nobody_can_name_are_not_kept(store: Any) -> None:
    kept: Kept = []
    broker = Broker(bars_from(NOW - timedelta(minutes=12), 13, close=101.0))
    assert len(await read(store, broker, kept=kept, identify=None)) > 10
    assert kept == []


async def test_tail_whose_price_contradicts_the_store_is_neither_mixed_nor_kept(store: Any) -> None:
    kept: Kept = []
    bars = await read(store, Broker(bars_from(NOW - timedelta(minutes=12), 12, close=50.0)), kept=kept)
    assert set(bars["close"]) == {50.0}  # a split: IB alone answers, on one scale
    assert kept == []


async def test_dates_behind_the_store_leave_no_hole_and_keep_nothing(store: Any) -> None:
    kept: Kept = []
    broker = Broker(bars_from(NOW - timedelta(minutes=5), 5))
    assert len(await read(store, broker, NOW - timedelta(minutes=5), kept=kept)) == 5
    assert kept == []


async def test_start_before_the_store_is_asked_of_ib(store: Any) -> None:
    since = NOW - timedelta(days=6)

    async def ib(contract: Contract, bar_size: str, duration: str, end: str, use_rth: bool) -> Any:
        until = datetime.strptime(end, "%Y%m%d-%H:%M:%S").replace(tzinfo=UTC)
        return bars_from(until - timedelta(minutes=3), 3, close=100.0)

    bars = await read(store, ib, since)
    assert bars.index[0] == NOW - timedelta(minutes=23)
    assert bars.index.is_unique
    assert bars.index.is_monotonic_increasing


async def test_more_history_than_a_question_may_cost_is_an_error_that_says_what_to_do() -> None:
    async def ib(contract: Contract, bar_size: str, duration: str, end: str, use_rth: bool) -> Any:
        until = datetime.strptime(end, "%Y%m%d-%H:%M:%S").replace(tzinfo=UTC)
        return bars_from(until - timedelta(days=7), 3)

    with pytest.raises(ConfigError, match="ingest_bars SPY") as caught:
        await read(None, ib, NOW - timedelta(days=400))
    assert caught.value.code == "too_much"


async def test_long_stretches_are_asked_for_in_pages_without_a_seam() -> None:
    asked: list[str] = []

    async def ib(contract: Contract, bar_size: str, duration: str, end: str, use_rth: bool) -> Any:
        asked.append(duration)
        until = datetime.strptime(end, "%Y%m%d-%H:%M:%S").replace(tzinfo=UTC)
        return bars_from(until - timedelta(days=7), 7 * 24, step=timedelta(hours=1))

    bars = await read(None, ib, NOW - timedelta(days=20))
    assert len(asked) == 3
    steps = pd.Series(bars.index).diff().dropna()
    assert set(steps) == {pd.Timedelta(hours=1)}


async def test_bars_of_other_hours_are_not_taken_from_the_store(store: Any) -> None:
    store.library("market_data").write_metadata("SPY_1_min", {"use_rth": False})
    try:
        bars = await read(store, Broker(bars_from(NOW - timedelta(minutes=2), 2)))
        assert set(bars["close"]) == {200.0}
    finally:
        store.library("market_data").write_metadata("SPY_1_min", {})


def test_weekly_bars_are_stamped_with_their_monday_wherever_ib_stamps_them() -> None:
    friday = SimpleNamespace(date=date(2026, 2, 27), open=1, high=1, low=1, close=1, volume=-1)
    [bar] = bars_of([friday], parse_timeframe("1w")).itertuples()
    assert (bar.Index, bar.volume) == (pd.Timestamp("2026-02-23", tz="UTC"), 0.0)


async def test_store_alone_answers_the_past(store: Any) -> None:
    broker = Broker()
    bars = await read(store, broker, end=NOW - timedelta(minutes=11))
    assert len(bars) == 10
    assert broker.requests == []


async def test_dates_are_applied_to_what_the_store_has(store: Any) -> None:
    since, until = NOW - timedelta(minutes=15), NOW - timedelta(minutes=12)
    bars = await read(store, Broker(), since, until)
    assert (bars.index[0], bars.index[-1]) == (since, until)


async def test_without_a_store_ib_answers(store: Any) -> None:
    bars = await read(None, Broker(bars_from(NOW - timedelta(minutes=5), 5)), NOW - timedelta(minutes=3))
    assert len(bars) == 3
    assert bars.dtypes.astype(str).eq("float64").all()
    assert str(pd.DatetimeIndex(bars.index).tz) == "UTC"


async def test_forced_download_leaves_the_store_aside(store: Any) -> None:
    bars = await read(store, Broker(bars_from(NOW - timedelta(minutes=20), 20)), force_download=True)
    assert set(bars["close"]) == {200.0}


async def test_store_answers_when_ib_cannot(store: Any) -> None:
    assert len(await read(store, Broker(error=TransientError("no")))) == 10


async def test_error_of_ib_is_told_when_there_is_nothing_else() -> None:
    with pytest.raises(TransientError):
        await read(None, Broker(error=TransientError("no")))


async def test_no_bars_anywhere_is_an_error() -> None:
    with pytest.raises(NotFoundError):
        await read(None, Broker())


@pytest.mark.parametrize("text", ["1 fortnight", "7_min", "", "min", "1_minute_", "2_day"])
async def test_unknown_timeframe_is_an_error_not_a_guess(store: Any, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        await read(store, Broker(), timeframe=text)
    assert caught.value.code == "unknown_timeframe"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("1_min", "1_min"),
        ("1 min", "1_min"),
        ("5m", "5_min"),
        ("1 hour", "1_hour"),
        ("1D", "1_day"),
        ("5 secs", "5_secs"),
        ("60m", "1_hour"),
        ("120m", "2_hour"),
        ("1w", "1_week"),
        ("1 week", "1_week"),
    ],
)
def test_timeframes_have_the_keys_of_the_store(text: str, key: str) -> None:
    assert parse_timeframe(text).key == key


@pytest.mark.parametrize("value", ["yesterday", "2026-13-01", "max"])
async def test_bad_end_date_is_an_error(store: Any, value: str) -> None:
    with pytest.raises(ConfigError):
        await read(store, Broker(), end=value)


async def test_dates_count_whole_days(store: Any) -> None:
    assert len(await read(store, Broker(), date(2026, 3, 2), "2026-03-02")) == 10


@pytest.mark.parametrize(
    ("universe", "symbols"),
    [
        ("SPY", ["SPY"]),
        ("SPY, TNA,,SPY", ["SPY", "TNA"]),
        ("", []),
        ("market_data", ["SIE", "SPY", "TLT"]),  # their splits and dividends are no symbols
        ("univ/tech", ["AAPL", "MSFT"]),
        ("BRK.B", ["BRK.B"]),
    ],
)
def test_universe_is_symbols_or_a_library(store: Any, universe: str, symbols: list[str]) -> None:
    assert resolve_universe(store, universe) == symbols


@pytest.mark.parametrize("universe", ["SPY", "SPY,TNA", "BRK.B", " AAPL "])
def test_plain_tickers_never_ask_the_store(universe: str) -> None:
    assert not names_library(universe)
    assert resolve_universe(None, universe) == [name.strip() for name in universe.split(",")]


@pytest.mark.parametrize("universe", ["us_equities", "univ/tech", "Tech"])
def test_other_single_names_may_be_libraries(universe: str) -> None:
    assert names_library(universe)


@pytest.mark.parametrize(("con_id", "close"), [(38708077, 180.0), (15124833, 95.0), (29612193, 200.0)])
@pytest.mark.parametrize("asks", [True, False])
async def test_bars_of_one_stock_are_never_completed_by_another_of_its_ticker(
    store: Any, con_id: int, close: float, asks: bool
) -> None:
    """The third has no series, so that only IB's bars are its."""

    async def identify(contract: Contract) -> int:
        return con_id

    of = Stock("SIE", "SMART", "EUR", conId=0 if asks else con_id)
    broker = Broker(bars_from(NOW - timedelta(minutes=5), 5))
    bars = await read(store, broker, of=of, identify=identify)
    assert set(bars["close"]) == {close, 200.0}


async def test_without_ib_the_currency_decides_whose_the_series_of_a_ticker_is(store: Any) -> None:
    async def identify(contract: Contract) -> int:
        raise TransientError("not connected")

    for asked in (identify, None):
        past = NOW - timedelta(minutes=11)
        assert set(
            (await read(store, Broker(), end=past, of=Stock("SIE", "SMART", "EUR"), identify=asked))["close"]
        ) == {180.0}
        with pytest.raises(NotFoundError):
            await read(store, Broker(), end=past, of=Stock("SIE", "SMART", "USD"), identify=asked)


async def test_ib_is_not_asked_whose_a_series_is_that_names_no_contract(store: Any) -> None:
    async def identify(contract: Contract) -> int:
        raise AssertionError(contract)

    assert len(await read(store, Broker(), end=NOW - timedelta(minutes=11), identify=identify)) == 10
