"""Bars in ArcticDB."""

# Whole Decimals are compared with ints to stay readable.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from portfolio.arctic.client import ArcticClient
from portfolio.arctic.market_data import Bar, append_bars, last_start, read_bars, symbol_name, write_bars
from portfolio.arctic.writer import ArcticWriter
from strategies.exceptions import ConfigError

START = datetime(2026, 3, 2, 14, 30, tzinfo=UTC)


def bars(count: int, first: int = 0) -> list[Bar]:
    return [Bar(START + timedelta(seconds=5 * n), n, n + 1, n - 1, n, 100) for n in range(first, first + count)]


@pytest.fixture
def writer(arctic: ArcticClient) -> ArcticWriter:
    return ArcticWriter(client=arctic)


def test_bars_come_back_in_utc_by_their_start(arctic: ArcticClient, writer: ArcticWriter) -> None:
    assert append_bars(writer, "AAPL", "5_secs", bars(3)) == 3
    found = read_bars(arctic, "AAPL", "5_secs")
    assert list(found["close"]) == [0.0, 1.0, 2.0]
    assert found.index[0] == pd.Timestamp(START)
    assert last_start(arctic, "AAPL", "5_secs") == START + timedelta(seconds=10)


def test_bars_that_are_there_already_are_left_out(arctic: ArcticClient, writer: ArcticWriter) -> None:
    append_bars(writer, "AAPL", "5_secs", bars(3))
    assert append_bars(writer, "AAPL", "5_secs", [*reversed(bars(4)), *bars(2)]) == 1
    assert append_bars(writer, "AAPL", "5_secs", bars(4)) == 0
    assert len(read_bars(arctic, "AAPL", "5_secs")) == 4


def test_limit_gives_the_newest(arctic: ArcticClient, writer: ArcticWriter) -> None:
    append_bars(writer, "AAPL", "5_secs", bars(10))
    assert list(read_bars(arctic, "AAPL", "5_secs", limit=2)["close"]) == [8.0, 9.0]


def test_range_is_inclusive(arctic: ArcticClient, writer: ArcticWriter) -> None:
    append_bars(writer, "AAPL", "5_secs", bars(10))
    found = read_bars(arctic, "AAPL", "5_secs", start=START + timedelta(seconds=5), end=START + timedelta(seconds=15))
    assert list(found["close"]) == [1.0, 2.0, 3.0]


def test_unknown_series_is_an_empty_frame_and_makes_no_library(arctic: ArcticClient) -> None:
    found = read_bars(arctic, "NONE", "1_min")
    assert found.empty
    assert list(found.columns) == ["open", "high", "low", "close", "volume"]
    assert arctic.list_libraries() == []


def test_whole_series_can_be_replaced_and_appended_to(arctic: ArcticClient, writer: ArcticWriter) -> None:
    index = pd.date_range(START, periods=3, freq="5s")
    data = pd.DataFrame({name: [1.0, 2.0, 3.0] for name in ("open", "high", "low", "close", "volume")}, index=index)
    assert write_bars(writer, "SPY", "5_secs", data) == 3
    assert append_bars(writer, "SPY", "5_secs", bars(4)) == 1
    assert len(read_bars(arctic, "SPY", "5_secs")) == 4


@pytest.mark.parametrize("change", ["naive", "unsorted", "columns"])
def test_history_of_another_shape_is_refused(writer: ArcticWriter, change: str) -> None:
    index = pd.date_range(START, periods=2, freq="1min")
    data = pd.DataFrame({name: [1.0, 2.0] for name in ("open", "high", "low", "close", "volume")}, index=index)
    if change == "naive":
        data = data.tz_localize(None)
    elif change == "unsorted":
        data = data[::-1]
    else:
        data = data.drop(columns="volume")
    with pytest.raises(ConfigError):
        write_bars(writer, "SPY", "1_min", data)


@pytest.mark.parametrize(
    ("symbol", "timeframe"), [("AAPL", "7_min"), ("", "1_min"), ("A*", "1_min"), ("../x", "1_min")]
)
def test_names_that_cannot_be_are_refused(symbol: str, timeframe: str) -> None:
    with pytest.raises(ConfigError):
        symbol_name(symbol, timeframe)
