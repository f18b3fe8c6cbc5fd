"""Stored bars for a session: each source, each day, in order, at their ends and never before."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from strategies.bar_series import nanos_of
from strategies.exceptions import ConfigError, NotFoundError
from trading.market.feeds import StoredFeed, frames_reader, read_parquet, stored_reader
from trading.market.session_table import TradingSession
from trading.market.time_manager import TimeManager

FIRST, UNTIL = datetime(2019, 11, 1, tzinfo=UTC), datetime(2020, 2, 28, tzinfo=UTC)
MINUTE = 60_000_000_000


def session_of(day: date) -> TradingSession:
    clock = TimeManager("backtest")
    clock.set_time(datetime(day.year, day.month, day.day, tzinfo=UTC))
    return clock.get_trading_session(day)


def frame(start: str, minutes: int, price: float = 10.0) -> pd.DataFrame:
    index = pd.date_range(start, periods=minutes, freq="1min", tz="UTC", name="ts")
    prices = price + np.arange(minutes) / 100
    return pd.DataFrame(
        {"open": prices, "high": prices + 1, "low": prices - 1, "close": prices, "volume": 100.0}, index=index
    )


def feed_of(bars: pd.DataFrame, symbol: str = "AAA") -> StoredFeed:
    return StoredFeed(frames_reader({(symbol, "1m"): bars}), FIRST, UNTIL)


def test_the_shipped_sample_is_a_source_without_any_store() -> None:
    feed = StoredFeed(stored_reader("sample"), FIRST, UNTIL)
    assert feed.problem("SPY", "1m") == ""
    assert "no stored bars of NONE 1m from 2019-11-01 to 2020-02-28" in feed.problem("NONE", "1m")
    bars = feed.whole("SPY", "1m")
    assert len(bars) > 5_000
    assert feed.whole("SPY", "1m") is bars


def test_a_day_hands_out_bars_at_their_ends_and_keeps_the_one_that_ends_at_the_close() -> None:
    session = session_of(date(2020, 1, 2))
    assert session.regular_open is not None
    assert session.regular_close is not None
    stream = feed_of(frame("2020-01-02 14:00", 8 * 60)).stream("AAA", "1m", session)
    opens, closes = nanos_of(session.regular_open), nanos_of(session.regular_close)
    assert stream.next_end == opens + MINUTE  # pre-market is left out
    assert stream.take(opens + MINUTE - 1) == []
    [first] = stream.take(opens + MINUTE)
    assert first.start_ns == opens
    assert [bar.start_ns for bar in stream.take(opens + 3 * MINUTE)] == [opens + MINUTE, opens + 2 * MINUTE]
    rest = stream.take(closes)
    assert rest[-1].start_ns == closes - MINUTE
    assert len(rest) == 387
    left: Any = stream.next_end
    assert left is None
    assert stream.take(closes + 10**15) == []


def test_a_day_without_bars_is_empty_and_a_closed_stream_gives_nothing() -> None:
    feed = feed_of(frame("2020-01-02 14:30", 30))
    assert feed.stream("AAA", "1m", session_of(date(2020, 1, 3))).next_end is None
    stream = feed.stream("AAA", "1m", session_of(date(2020, 1, 2)))
    stream.close()
    assert stream.next_end is None
    assert stream.take(10**19 // 2) == []


def test_a_day_without_trading_is_refused() -> None:
    feed = feed_of(frame("2020-01-01 14:30", 30))
    with pytest.raises(ConfigError, match="2020-01-01 has no session"):
        feed.stream("AAA", "1m", session_of(date(2020, 1, 1)))


def test_history_is_what_starts_in_the_window() -> None:
    feed = feed_of(frame("2020-01-02 14:30", 30))
    bars = feed.history("AAA", "1m", datetime(2020, 1, 2, 14, 35, tzinfo=UTC), datetime(2020, 1, 2, 14, 40, tzinfo=UTC))
    assert [bar.timestamp.minute for bar in bars] == [35, 36, 37, 38, 39]
    assert len(feed.history("BBB", "1m", FIRST, UNTIL)) == 0


def test_bars_that_no_market_prints_are_a_problem_and_not_a_fill() -> None:
    wrong = frame("2020-01-02 14:30", 30)
    wrong.loc[wrong.index[7], "high"] = 0.5
    assert "14:37" in feed_of(wrong).problem("AAA", "1m")


def test_a_parquet_file_is_a_source(tmp_path: Path) -> None:
    rows = pd.concat(
        [
            frame("2020-01-02 14:30", 5).assign(symbol="AAA", interval="1m"),
            frame("2020-01-02 00:00", 2, 50.0).assign(symbol="BBB", interval="1d"),
        ]
    ).reset_index()
    rows.to_parquet(tmp_path / "mine.parquet")
    read = stored_reader("parquet:mine.parquet", tmp_path)
    assert len(read("AAA", "1m", FIRST, UNTIL)) == 5
    assert len(read("BBB", "1d", FIRST, UNTIL)) == 2
    assert len(read("BBB", "1m", FIRST, UNTIL)) == 0
    rows.drop(columns="interval").query("symbol == 'AAA'").to_parquet(tmp_path / "plain.parquet")
    assert len(stored_reader("parquet:plain.parquet", tmp_path)("AAA", "1m", FIRST, UNTIL)) == 5


def test_times_without_a_zone_and_unsorted_bars_of_a_parquet_file_are_refused(tmp_path: Path) -> None:
    rows = frame("2020-01-02 14:30", 5).assign(symbol="AAA").reset_index(names="ts")
    rows.assign(ts=rows["ts"].dt.tz_localize(None)).to_parquet(tmp_path / "naive.parquet")
    with pytest.raises(ConfigError, match="row 1 is at 2020-01-02 14:30:00, which names no zone"):
        read_parquet(tmp_path / "naive.parquet")
    rows.assign(ts=["2020-01-02T14:30Z", *rows["ts"].astype(str)[1:4], "2020-01-02T14:34"]).to_parquet(
        tmp_path / "mixed.parquet"
    )
    with pytest.raises(ConfigError, match="row 5"):
        read_parquet(tmp_path / "mixed.parquet")
    rows.iloc[[0, 2, 1, 3]].to_parquet(tmp_path / "order.parquet")
    feed = StoredFeed(stored_reader("parquet:order.parquet", tmp_path), FIRST, UNTIL)
    assert "does not come after the bar before it" in feed.problem("AAA", "1m")


def test_a_parquet_file_with_other_columns_is_told(tmp_path: Path) -> None:
    pd.DataFrame({"symbol": ["A"], "when": [1]}).to_parquet(tmp_path / "odd.parquet")
    with pytest.raises(ConfigError, match="needs the columns symbol, ts"):
        read_parquet(tmp_path / "odd.parquet")
    (tmp_path / "junk.parquet").write_bytes(b"no parquet")
    with pytest.raises(ConfigError):
        read_parquet(tmp_path / "junk.parquet")


@pytest.mark.parametrize("source", ["parquet:../x.parquet", "parquet:/etc/passwd", "yahoo", ""])
def test_a_name_of_a_source_never_becomes_a_path_unchecked(tmp_path: Path, source: str) -> None:
    with pytest.raises(ConfigError) as caught:
        stored_reader(source, tmp_path)
    assert caught.value.code == "unknown_source"


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no file none\.parquet"):
        stored_reader("parquet:none.parquet", tmp_path)
