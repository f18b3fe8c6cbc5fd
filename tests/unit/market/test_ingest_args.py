"""Arguments of an ingest: checked before anybody waits for it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from strategies.exceptions import ConfigError
from trading.market.ingest_args import importable, read_args


def test_defaults_are_regular_hours_of_a_us_stock(tmp_path: Path) -> None:
    found = read_args({"symbols": "aapl, msft aapl", "timeframe": "5m", "start": "2024-01-02"}, tmp_path)
    assert (found.symbols, found.use_rth, found.what) == (("AAPL", "MSFT"), True, "TRADES")
    assert found.start == datetime(2024, 1, 2, tzinfo=UTC)
    assert found.end is None
    contract = found.contract("AAPL")
    assert (contract.secType, contract.exchange, contract.currency) == ("STK", "SMART", "USD")


def test_pair_is_asked_for_as_midpoints_around_the_clock(tmp_path: Path) -> None:
    found = read_args({"symbols": ["EUR.USD"], "timeframe": "1h", "sec_type": "CASH"}, tmp_path)
    contract = found.contract("EUR.USD")
    assert (contract.symbol, contract.currency, contract.exchange) == ("EUR", "USD", "IDEALPRO")
    assert (found.what, found.use_rth, found.calendar) == ("MIDPOINT", False, "")


@pytest.mark.parametrize(
    ("args", "name"),
    [
        ({"symbols": ["../x"], "timeframe": "1m"}, "symbols"),
        ({"symbols": [], "timeframe": "1m"}, "symbols"),
        ({"symbols": ["A"], "timeframe": "7m"}, "timeframe"),
        ({"symbols": ["A"], "timeframe": "1m", "start": "01/02/2024"}, "start"),
        ({"symbols": ["A"], "timeframe": "1m", "start": "2024-01-02T09:30"}, "start"),
        ({"symbols": ["A"], "timeframe": "1m", "sec_type": "OPT"}, "sec_type"),
        ({"symbols": ["A"], "timeframe": "1m", "exchange": "a/b"}, "exchange"),
        ({"symbols": ["A"], "timeframe": "1m", "speed": 9}, "speed"),
        ({"source": "ftp"}, "source"),
        ({"source": "file", "file": "../secret.csv"}, "path"),
        ({"source": "file", "file": "/etc/passwd"}, "path"),
        ({"source": "file", "file": "none.csv"}, "path"),
        ({"source": "actions", "symbols": ["A", "B"]}, "symbols"),
        ({"source": "actions", "symbols": ["A"], "splits": {"2024-01-02": "0"}}, "splits"),
        ({"source": "actions", "symbols": ["A"], "splits": {"soon": "2"}}, "splits"),
        ({"symbols": ["A"], "timeframe": "1m", "ask_again": True}, "ask_again"),
        ({"fill_gaps": True, "currency": "EUR"}, "currency"),
        ({"fill_gaps": True, "use_rth": True}, "use_rth"),
        ({"fill_gaps": True, "timeframe": "7m"}, "timeframe"),
    ],
)
def test_what_cannot_be_is_refused_by_name(tmp_path: Path, args: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_args(args, tmp_path)
    assert name in caught.value.fields["errors"]


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        ({"2020": "4:1"}, "2020 is no day; write 2020-08-31."),
        ({"2020-08-31": "four"}, "four is no ratio; write 4:1."),
        ({"2020-08-31": "4:0"}, "4:0 is no ratio"),
    ],
)
def test_nonsense_of_splits_is_told_in_words(tmp_path: Path, splits: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_args({"source": "actions", "symbols": ["A"], "splits": splits}, tmp_path)


def test_pages_choose_among_the_files_of_the_import_folder_alone(tmp_path: Path) -> None:
    assert importable(tmp_path) == []
    folder = tmp_path / "import"
    folder.mkdir()
    for name in ("AAPL.csv", "notes.txt", ".hidden.csv", "b.parquet"):
        (folder / name).write_text("x")
    assert importable(tmp_path) == ["AAPL.csv", "b.parquet"]
    assert read_args({"source": "file", "file": "AAPL.csv"}, tmp_path).path == folder / "AAPL.csv"


def test_ratios_are_written_as_people_write_them(tmp_path: Path) -> None:
    args = {"source": "actions", "symbols": ["A"], "splits": {"2020-08-31": "4:1", "2024-01-02": "1:10"}}
    assert read_args(args, tmp_path).splits == {date(2020, 8, 31): 4.0, date(2024, 1, 2): 0.1}


def test_gaps_are_of_all_stored_series_unless_some_are_named(tmp_path: Path) -> None:
    found = read_args({"source": "ib", "fill_gaps": True}, tmp_path)
    assert (found.fill_gaps, found.symbols, found.timeframe, found.ask_again) == (True, (), None, False)
    one = read_args({"fill_gaps": True, "symbols": "aapl", "timeframe": "1m"}, tmp_path)
    assert one.timeframe is not None
    assert (one.symbols, one.timeframe.key) == (("AAPL",), "1_min")
