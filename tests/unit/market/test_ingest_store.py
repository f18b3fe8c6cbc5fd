"""What becomes of bars that are new, known, or stored otherwise."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from portfolio.arctic.client import ArcticClient
from portfolio.arctic.market_data import last_start, read_bars
from strategies.exceptions import ConfigError, ConflictError
from trading.market.adjustments import action_frame
from trading.market.ingest import run_ingest
from trading.market.ingest_store import Put, store_actions, store_bars

pytestmark = pytest.mark.django_db(transaction=True)


def bars(days: int, first: str = "2024-01-01", close: float = 10.0) -> pd.DataFrame:
    index = pd.date_range(first, periods=days, freq="D", tz="UTC", name="ts").as_unit("ns")
    return pd.DataFrame(dict.fromkeys(("open", "high", "low", "close", "volume"), close), index=index)


def put(frame: pd.DataFrame, **options: Any) -> Put:
    return store_bars("AAPL", "1_day", frame, options.pop("metadata", {}), source="test", **options)


def closes(store: ArcticClient) -> list[float]:
    return list(read_bars(store, "AAPL", "1_day")["close"])


def test_known_bars_are_left_out_and_new_ones_added_on_both_sides(store: ArcticClient) -> None:
    assert put(bars(3, "2024-01-05")) == Put(new=3, version=0)
    found = put(bars(9, "2024-01-03"))
    assert (found.new, found.known, found.replaced) == (6, 3, 0)
    assert len(closes(store)) == 9
    assert put(bars(9, "2024-01-03")).version is None
    assert last_start(store, "AAPL", "1_day") == pd.Timestamp("2024-01-11", tz="UTC")


def test_bars_of_a_hole_are_laid_in_and_what_is_around_stays(store: ArcticClient) -> None:
    put(bars(2, "2024-01-01", 1.0))
    put(bars(2, "2024-01-07", 2.0))
    put(bars(3, "2024-01-04", 3.0))
    assert closes(store) == [1.0, 1.0, 3.0, 3.0, 3.0, 2.0, 2.0]


def test_bars_that_are_stored_otherwise_are_refused_and_nothing_changes(store: ArcticClient) -> None:
    put(bars(5))
    with pytest.raises(ConflictError, match=r"2024-01-03.*stored with open 10, here it is 11; 3 of 3") as caught:
        put(bars(3, "2024-01-03", 11.0))
    assert caught.value.code == "bars_differ"
    assert closes(store) == [10.0] * 5


def test_keep_adds_only_what_is_missing_and_replace_changes_what_was_meant(store: ArcticClient) -> None:
    put(bars(3))
    assert put(bars(4, "2024-01-02", 11.0), on_conflict="keep").new == 2
    assert closes(store) == [10.0, 10.0, 10.0, 11.0, 11.0]
    found = put(bars(2, "2024-01-02", 12.0), on_conflict="replace")
    assert (found.new, found.replaced) == (0, 2)
    assert closes(store) == [10.0, 12.0, 12.0, 11.0, 11.0]
    with pytest.raises(ConfigError):
        put(bars(1), on_conflict="whatever")


def test_raw_bars_come_onto_the_scale_of_a_series_that_has_splits_applied(store: ArcticClient) -> None:
    put(bars(2, "2024-01-10", 5.0), metadata={"split_basis": "2024-06-01"}, is_on_scale=True)
    store_actions("AAPL", action_frame({date(2024, 1, 9): 2.0}, {}, "test"), source="test")
    put(bars(2, "2024-01-07", 10.0))
    assert closes(store) == [5.0, 5.0, 5.0, 5.0]


def test_bars_of_other_hours_are_refused(store: ArcticClient) -> None:
    put(bars(2), metadata={"use_rth": True})
    with pytest.raises(ConfigError) as caught:
        put(bars(2, "2024-01-03"), metadata={"use_rth": False})
    assert caught.value.code == "other_hours"


def test_large_frames_go_in_parts(store: ArcticClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trading.market.ingest_store._LARGEST", 4)
    assert put(bars(10)).new == 10
    assert len(closes(store)) == 10


def test_file_is_ingested_with_its_actions_and_a_second_time_changes_nothing(
    store: ArcticClient, tmp_path: Path
) -> None:
    text = "Date,Open,High,Low,Close,Adj Close,Volume\n"
    text += "2024-01-02,100,100,100,100,50,1\n2024-01-03,51,51,51,51,51,1\n2024-01-04,52,52,52,52,52,1\n"
    (tmp_path / "X.csv").write_text(text)
    args = {"source": "file", "path": str(tmp_path / "X.csv")}
    heard: list[float] = []
    first = run_ingest(args, lambda done, _: heard.append(done), lambda: False)
    assert (first["bars"], first["failed"], heard[-1]) == (3, [], 1.0)
    assert run_ingest(args, lambda *_: None, lambda: False)["bars"] == 0
    actions = store.read("market_data", "X_actions").data
    assert actions["ratio"].tolist() == [2.0]


def test_one_bad_symbol_of_a_file_is_named_and_the_good_ones_are_stored(store: ArcticClient, tmp_path: Path) -> None:
    store_bars("B", "1_day", bars(1, "2024-01-02", 7.0), {}, source="test")
    rows = "".join(f"{name},2024-01-0{n},9,9,9,9,1\n" for name in ("A", "B") for n in (2, 3))
    (tmp_path / "two.csv").write_text("symbol,date,open,high,low,close,volume\n" + rows)
    result = run_ingest({"source": "file", "path": str(tmp_path / "two.csv")}, lambda *_: None, lambda: False)
    assert [row["series"] for row in result["series"]] == ["A"]
    assert [row["symbol"] for row in result["failed"]] == ["B"]
    assert len(read_bars(store, "B", "1_day")) == 1
