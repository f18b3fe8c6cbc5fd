"""Files of others: what is taken, and what is refused with its row."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from strategies.exceptions import ConfigError
from trading.market.importers import Imported, ImportWish, read_file, read_table

OURS = "ts,open,high,low,close,volume\n"
YAHOO = "Date,Open,High,Low,Close,Adj Close,Volume\n"
MINUTES = [
    "2024-01-02 09:30:00,100,101,99,100.5,1000",
    "2024-01-02 09:31:00,100.5,101,100,100.25,900",
    "2024-01-02 09:32:00,100.25,101,100,100.75,800",
]
DAYS = [
    "2024-01-02,187.15,188.44,183.89,185.64,184.73,82488700",
    "2024-01-03,184.22,185.88,183.43,184.25,183.35,5841450",
]


def imported(tmp_path: Path, text: str, name: str = "AAPL.csv", **wish: str) -> Imported:
    path = tmp_path / name
    path.write_text(text)
    [found] = read_file(path, ImportWish(**wish))
    return found


def refused(tmp_path: Path, text: str, **wish: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        imported(tmp_path, text, **wish)
    return caught.value


def test_naive_minutes_are_placed_in_the_zone_that_was_said(tmp_path: Path) -> None:
    found = imported(tmp_path, OURS + "\n".join(MINUTES), zone="America/New_York")
    assert (found.symbol, found.timeframe.key) == ("AAPL", "1_min")
    assert found.bars.index[0] == pd.Timestamp("2024-01-02T14:30Z")
    assert str(found.bars.index.dtype) == "datetime64[ns, UTC]"
    assert list(found.bars.columns) == ["open", "high", "low", "close", "volume"]


def test_naive_minutes_without_a_zone_are_refused_and_the_way_out_is_named(tmp_path: Path) -> None:
    error = refused(tmp_path, OURS + "\n".join(MINUTES))
    assert (error.code, error.fields["row"]) == ("naive_time", 1)
    assert "--zone" in error.message


def test_times_with_offsets_are_taken_through_a_change_of_clocks(tmp_path: Path) -> None:
    rows = [
        "2024-03-08 15:59:00-05:00,1,1,1,1,1",
        "2024-03-11 09:30:00-04:00,1,1,1,1,1",
        "2024-03-11T13:31:00Z,1,1,1,1,1",
    ]
    found = imported(tmp_path, OURS + "\n".join(rows))
    assert list(found.bars.index) == [
        pd.Timestamp("2024-03-08T20:59Z"),
        pd.Timestamp("2024-03-11T13:30Z"),
        pd.Timestamp("2024-03-11T13:31Z"),
    ]


@pytest.mark.parametrize(
    ("rows", "code", "row", "word"),
    [
        ([MINUTES[1], MINUTES[0], MINUTES[2]], "bad_bars", 2, "does not come after"),
        ([MINUTES[0], MINUTES[1], MINUTES[1]], "bad_bars", 3, "twice"),
        ([MINUTES[0], "2024-01-02 09:31:00,100.5,,100,100.25,900"], "bad_bars", 2, "high"),
        ([MINUTES[0], "2024-01-02 09:31:00,nan,101,100,100.25,900"], "bad_bars", 2, "open"),
        ([MINUTES[0], "2024-01-02 09:31:00,100.5,100,100,100.25,900"], "bad_bars", 2, "high below"),
        ([MINUTES[0], "2024-01-02 09:31:00,100.5,101,100,100.25,-1"], "bad_bars", 2, "negative volume"),
        ([MINUTES[0], "2024-01-02 09:31:00,inf,inf,100,100.25,1"], "bad_bars", 2, "unset"),
        ([MINUTES[0], "2024-01-02 09:31:00,0,1,-1,0,1"], "bad_bars", 2, "not above 0"),
        ([MINUTES[0], "soon,1,1,1,1,1"], "bad_time", 2, "no time"),
        ([MINUTES[0], "2024-01-02 09:31:00Z,1,1,1,1,1"], "bad_time", 2, "zone"),
        ([MINUTES[0], "2024-01-02 09:30:07,1,1,1,1,1"], "unknown_timeframe", None, "00:00:07"),
    ],
)
def test_bad_rows_are_refused_with_their_place(
    tmp_path: Path, rows: list[str], code: str, row: int | None, word: str
) -> None:
    error = refused(tmp_path, OURS + "\n".join(rows), zone="America/New_York")
    assert (error.code, error.fields.get("row")) == (code, row), error.message
    assert word in error.message


def test_zone_that_puts_bars_outside_of_trading_hours_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, OURS + "\n".join(row.replace("09:3", "02:3") for row in MINUTES), zone="America/New_York")
    assert (error.code, error.fields["row"], error.fields["count"]) == ("outside_hours", 1, 3)
    sunday = refused(
        tmp_path, OURS + "\n".join(row.replace("01-02", "01-07") for row in MINUTES), zone="America/New_York"
    )
    assert sunday.code == "outside_hours"
    assert imported(tmp_path, OURS + "\n".join(MINUTES), zone="UTC", calendar="").bars.index[0].hour == 9


def test_times_that_the_clocks_skip_or_repeat_are_refused(tmp_path: Path) -> None:
    skipped = refused(
        tmp_path, OURS + "2024-03-10 02:30:00,1,1,1,1,1\n2024-03-10 03:30:00,1,1,1,1,1", zone="America/New_York"
    )
    twice = refused(
        tmp_path, OURS + "2024-11-03 01:30:00,1,1,1,1,1\n2024-11-03 02:30:00,1,1,1,1,1", zone="America/New_York"
    )
    assert {skipped.code, twice.code} == {"bad_time"}
    assert "skip or show twice" in skipped.message


def test_bars_of_another_length_than_said_are_refused(tmp_path: Path) -> None:
    rows = OURS + "\n".join(f"2024-01-02 {9 + n // 12:02}:{n % 12 * 5:02}:00-05:00,1,1,1,1,1" for n in range(6, 20))
    assert refused(tmp_path, rows, timeframe="1m").code == "wrong_timeframe"
    assert refused(tmp_path, rows, timeframe="15m").code == "wrong_timeframe"
    assert imported(tmp_path, rows).timeframe.key == "5_min"


def test_yahoos_days_are_stamped_at_midnight_utc_of_their_day(tmp_path: Path) -> None:
    found = imported(tmp_path, YAHOO + "\n".join(DAYS))
    assert [stamp.isoformat() for stamp in found.bars.index] == [
        "2024-01-02T00:00:00+00:00",
        "2024-01-03T00:00:00+00:00",
    ]
    zoned = imported(tmp_path, YAHOO + "\n".join(row.replace(",", " 00:00:00-05:00,", 1) for row in DAYS))
    pd.testing.assert_frame_equal(zoned.bars, found.bars)


def test_midnights_of_another_zone_need_the_zone(tmp_path: Path) -> None:
    rows = YAHOO + "\n".join(row.replace(",", " 05:00:00+00:00,", 1) for row in DAYS)
    assert refused(tmp_path, rows, timeframe="1d").code == "bad_time"
    found = imported(tmp_path, rows, timeframe="1d", zone="America/New_York")
    assert found.bars.index[0] == pd.Timestamp("2024-01-02", tz="UTC")


def test_holiday_among_days_is_refused(tmp_path: Path) -> None:
    rows = [row.replace("2024-01-02", "2024-01-01") for row in DAYS[:1]] + DAYS[1:]
    assert refused(tmp_path, YAHOO + "\n".join(rows), timeframe="1d").code == "outside_hours"


def yahoo_frame(**columns: Any) -> pd.DataFrame:
    index = pd.DatetimeIndex(["2024-01-02", "2024-01-03", "2024-01-04"], name="Date", tz="America/New_York")
    base = {"Open": 10.0, "High": 11.0, "Low": 9.0, "Close": [10.0, 10.1, 10.2], "Volume": 100}
    return pd.DataFrame({**base, **columns}, index=index)


def test_frame_of_a_client_is_taken_as_it_is() -> None:
    [found] = read_table(yahoo_frame(), ImportWish(symbol="aapl"))
    assert (found.symbol, found.timeframe.key, len(found.bars)) == ("AAPL", "1_day", 3)
    assert found.bars.index[0] == pd.Timestamp("2024-01-02", tz="UTC")


def test_columns_of_several_tickers_become_series_of_their_own(tmp_path: Path) -> None:
    frame = pd.concat({"AAPL": yahoo_frame(), "MSFT": yahoo_frame()}, axis=1).swaplevel(axis=1).sort_index(axis=1)
    frame.columns = frame.columns.set_names(["Price", "Ticker"])
    frame.loc[frame.index[1], (slice(None), "MSFT")] = np.nan  # the days of one are not those of the other
    by_memory = read_table(frame, ImportWish())
    frame.to_csv(tmp_path / "two.csv")
    by_file = read_file(tmp_path / "two.csv", ImportWish())
    for found in (by_memory, by_file):
        assert [(one.symbol, len(one.bars)) for one in found] == [("AAPL", 3), ("MSFT", 2)]


def test_prices_with_splits_applied_are_brought_back_to_what_was_traded() -> None:
    splits, dividends = [0.0, 2.0, 0.0], [0.5, 0.0, 0.0]
    [found] = read_table(yahoo_frame(**{"Stock Splits": splits, "Dividends": dividends}), ImportWish(symbol="A"))
    assert list(found.bars["close"]) == [20.0, 10.1, 10.2]
    assert list(found.bars["volume"]) == [50.0, 100.0, 100.0]
    assert found.actions["ratio"].dropna().tolist() == [2.0]
    assert found.actions["amount"].dropna().tolist() == [1.0]  # as it was paid, for the old shares


def test_raw_prices_with_splits_stay_as_they_are() -> None:
    frame = yahoo_frame(**{"Close": [10.0, 5.1, 5.2], "Low": 4.0, "Stock Splits": [0.0, 2.0, 0.0]})
    [found] = read_table(frame, ImportWish(symbol="A"))
    assert list(found.bars["close"]) == [10.0, 5.1, 5.2]
    assert [stamp.date() for stamp in found.actions.index] == [date(2024, 1, 3)]


def test_long_table_gives_a_series_for_each_symbol(tmp_path: Path) -> None:
    rows = OURS.replace("ts,", "symbol,ts,") + "\n".join(
        f"{symbol},{row.replace(',', '-05:00,', 1)}" for symbol in ("B", "A") for row in MINUTES
    )
    path = tmp_path / "many.csv"
    path.write_text(rows)
    assert [one.symbol for one in read_file(path, ImportWish())] == ["A", "B"]


def test_parquet_comes_out_as_it_went_in(tmp_path: Path) -> None:
    found = imported(tmp_path, OURS + "\n".join(MINUTES), zone="America/New_York")
    found.bars.to_parquet(tmp_path / "SPY.parquet")
    [again] = read_file(tmp_path / "SPY.parquet", ImportWish())
    assert again.symbol == "SPY"
    pd.testing.assert_frame_equal(again.bars, found.bars, check_freq=False)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", "AAPL.csv"),
        ("a,b\n1,2\n", "AAPL.csv"),
        (YAHOO, "AAPL.csv"),
        (YAHOO + DAYS[0], "AAPL.xls"),
        (YAHOO + DAYS[0] + "\n" + DAYS[1], "-.csv"),
        ("ts,Date,open,high,low,close\n1,2,3,4,5,6\n", "AAPL.csv"),
        ("PAR1", "AAPL.parquet"),
    ],
)
def test_files_that_are_none_are_refused_in_words(tmp_path: Path, text: str, name: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError):
        read_file(tmp_path / name, ImportWish())


def test_unknown_zone_and_prices_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, OURS + "\n".join(MINUTES), zone="New York").code == "bad_zone"
    assert refused(tmp_path, YAHOO + "\n".join(DAYS), prices="adjusted").code == "bad_prices"
