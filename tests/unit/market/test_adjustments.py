"""Splits and dividends: found in adjusted closes, applied on read, never stored into the bars."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolio.arctic.client import ArcticClient, get_ac
from portfolio.arctic.market_data import write_bars
from portfolio.arctic.writer import ArcticWriter
from strategies.exceptions import ConfigError
from trading.market.adjustments import Steps, action_frame, merge_actions, read_adjusted, rebase
from trading.market.adjustments_derive import derive_actions, has_splits_applied
from trading.market.sample_data import SAMPLE_FILE

SAMPLE_DAYS = SAMPLE_FILE.with_name("us_stocks_1day_2000_2013.parquet")


def days(closes: list[float], start: str = "2024-01-01") -> pd.DataFrame:
    index = pd.date_range(start, periods=len(closes), freq="D", tz="UTC", name="ts").as_unit("ns")
    frame = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), closes), index=index, dtype="float64")
    return frame.assign(volume=100.0)


def adjusted(bars: pd.DataFrame, actions: pd.DataFrame, *, dividends: bool = False, **metadata: str) -> list[float]:
    steps = Steps.of(bars["close"], actions, "1_day", metadata, dividends=dividends)
    return [round(float(value), 10) for value in steps.apply(bars)["close"]]


def test_prices_before_a_split_are_divided_and_volumes_multiplied() -> None:
    bars, actions = days([100.0, 102.0, 51.0, 52.0]), action_frame({date(2024, 1, 3): 2.0}, {}, "test")
    assert adjusted(bars, actions) == [50.0, 51.0, 51.0, 52.0]
    steps = Steps.of(bars["close"], actions, "1_day", {}, dividends=False)
    assert list(steps.apply(bars)["volume"]) == [200.0, 200.0, 100.0, 100.0]
    assert list(bars["close"]) == [100.0, 102.0, 51.0, 52.0]


def test_reverse_split_multiplies_prices() -> None:
    assert adjusted(days([1.0, 10.0]), action_frame({date(2024, 1, 2): 0.1}, {}, "test")) == [10.0, 10.0]


def test_dividend_lowers_prices_before_its_ex_date_when_asked_for() -> None:
    bars, actions = days([100.0, 98.0, 99.0]), action_frame({}, {date(2024, 1, 2): 2.0}, "test")
    assert adjusted(bars, actions) == [100.0, 98.0, 99.0]
    assert adjusted(bars, actions, dividends=True) == [98.0, 98.0, 99.0]


def test_dividend_of_the_day_of_a_split_is_of_the_new_shares() -> None:
    bars = days([100.0, 49.0])
    actions = action_frame({date(2024, 1, 2): 2.0}, {date(2024, 1, 2): 1.0}, "test")
    assert adjusted(bars, actions, dividends=True) == [49.0, 49.0]


def test_splits_that_the_source_applied_are_not_applied_again() -> None:
    bars, actions = (
        days([50.0, 51.0, 52.0, 27.0]),
        action_frame({date(2024, 1, 2): 2.0, date(2024, 1, 4): 2.0}, {}, "t"),
    )
    assert adjusted(bars, actions, split_basis="2024-01-03") == [25.0, 25.5, 26.0, 27.0]


def test_dividends_are_measured_in_the_shares_of_their_time_whatever_the_source_applied() -> None:
    raw, applied = days([100.0, 98.0, 49.0]), days([50.0, 49.0, 49.0])
    actions = action_frame({date(2024, 1, 3): 2.0}, {date(2024, 1, 2): 2.0}, "test")
    assert adjusted(raw, actions, dividends=True) == [49.0, 49.0, 49.0]
    assert adjusted(applied, actions, dividends=True, split_basis="2024-01-03") == [49.0, 49.0, 49.0]


def test_actions_behind_the_last_bar_change_nothing() -> None:
    actions = action_frame({date(2024, 2, 1): 4.0}, {date(2024, 3, 1): 9.0}, "test")
    assert adjusted(days([100.0, 101.0]), actions, dividends=True) == [100.0, 101.0]


def test_evening_bar_of_new_york_belongs_to_the_day_before_the_split() -> None:
    index = pd.DatetimeIndex(["2024-01-03T00:30Z", "2024-01-03T14:30Z"], name="ts").as_unit("ns")
    bars = pd.DataFrame({name: [100.0, 50.0] for name in ("open", "high", "low", "close", "volume")}, index=index)
    steps = Steps.of(bars["close"], action_frame({date(2024, 1, 3): 2.0}, {}, "t"), "1_min", {}, dividends=False)
    assert list(steps.apply(bars)["close"]) == [50.0, 50.0]


def test_weekly_bars_are_refused_because_a_week_can_hold_both_scales(arctic: ArcticClient) -> None:
    with pytest.raises(ConfigError, match="1_day"):
        read_adjusted(arctic, "AAPL", "1_week")


@pytest.fixture
def arctic(tmp_path: Path) -> ArcticClient:
    return get_ac(f"lmdb://{tmp_path / 'arctic'}?map_size=64MB")


def sample(symbol: str) -> pd.DataFrame:
    table = pd.read_parquet(SAMPLE_DAYS)
    rows = table[table["symbol"] == symbol]
    return rows.set_index(pd.to_datetime(rows["date"], utc=True).dt.as_unit("ns").rename("ts"))


@pytest.mark.parametrize(("symbol", "splits"), [("AAPL", 2), ("MSFT", 1), ("IBM", 0), ("GOOG", 0), ("FB", 0)])
def test_adjusted_closes_of_real_stocks_come_out_of_the_raw_ones(
    arctic: ArcticClient, symbol: str, splits: int
) -> None:
    rows = sample(symbol)
    found = derive_actions(rows["close"], rows["adj_close"])
    assert len(found.splits) == splits
    actions = action_frame(
        {day.date(): ratio for day, ratio in found.splits.items()},
        {day.date(): amount for day, amount in found.dividends.items()},
        "adjusted close",
    )
    writer = ArcticWriter(client=arctic)
    write_bars(writer, symbol, "1_day", rows)
    writer.write("market_data", f"{symbol}_actions", actions, None)
    read = read_adjusted(arctic, symbol, "1_day", dividends=True)
    scale = rows["adj_close"].iloc[-1] / rows["close"].iloc[-1]  # what came after the sample's end
    np.testing.assert_allclose(read["close"] * scale, rows["adj_close"], rtol=1e-9)
    part = read_adjusted(arctic, symbol, "1_day", end=datetime(2012, 8, 1, tzinfo=UTC), dividends=True)
    np.testing.assert_array_equal(part["close"], read["close"].iloc[: len(part)])
    writer.close()


def test_splits_of_apple_lie_on_their_days() -> None:
    rows = sample("AAPL")
    found = derive_actions(rows["close"], rows["adj_close"])
    assert {day.date(): ratio for day, ratio in found.splits.items()} == {
        date(2000, 6, 21): 2.0,
        date(2005, 2, 28): 2.0,
    }
    assert [day.date() for day in found.dividends] == [date(2012, 8, 9), date(2012, 11, 7), date(2013, 2, 7)]


@given(
    st.lists(st.floats(20.0, 500.0).map(lambda price: round(price, 2)), min_size=30, max_size=80),
    st.integers(5, 24),
    st.sampled_from([2.0, 3.0, 1.5, 0.1]),
    st.integers(2, 6),
)
def test_rounded_adjusted_closes_come_back_within_their_rounding(
    base: list[float], place: int, ratio: float, decimals: int
) -> None:
    """A market that moves little, one split: the search finds a factor that fits every rounded close."""
    calm = [round(100.0 + price / 500.0, 2) for price in base]
    raw = days([price * (ratio if row < place else 1.0) for row, price in enumerate(calm)])["close"]
    adj = pd.Series([round(price, decimals) for price in calm], index=raw.index)
    found = derive_actions(raw, adj)
    assert list(found.splits.values()) == [ratio]
    assert raw.index.get_loc(next(iter(found.splits))) == place


def test_prices_tell_whether_splits_are_applied() -> None:
    day = pd.Timestamp("2024-01-02", tz="UTC")
    assert has_splits_applied(days([100.0, 50.5])["close"], {day: 2.0}) is False
    assert has_splits_applied(days([50.0, 50.5])["close"], {day: 2.0}) is True
    assert has_splits_applied(days([50.0, 50.5])["close"], {}) is None


def test_rebasing_there_and_back_is_nothing() -> None:
    bars, actions = days([100.0, 102.0, 51.0]), action_frame({date(2024, 1, 3): 2.0}, {}, "test")
    applied = rebase(bars, actions, "1_day", None, date(2024, 1, 5))
    assert list(applied["close"]) == [50.0, 51.0, 51.0]
    pd.testing.assert_frame_equal(rebase(applied, actions, "1_day", date(2024, 1, 5), None), bars, check_freq=False)


def test_newer_word_on_a_day_counts_and_says_only_what_it_knows() -> None:
    known = action_frame({date(2024, 1, 3): 2.0}, {}, "old")
    merged = merge_actions(known, action_frame({}, {date(2024, 1, 3): 0.5, date(2024, 2, 1): 1.0}, "new"))
    assert merged["ratio"].iloc[0] == 2.0
    assert list(merged["amount"]) == [0.5, 1.0]


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_actions_that_cannot_be_are_refused(value: float) -> None:
    with pytest.raises(ConfigError):
        action_frame({date(2024, 1, 3): value}, {}, "test")
