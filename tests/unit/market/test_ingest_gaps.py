"""Filling the gaps of stored series: what is asked for, what of an answer is taken, what is remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ib_async import BarData, Contract

from portfolio.arctic.client import ArcticClient
from portfolio.arctic.market_data import read_bars
from strategies.exceptions import ConflictError, NotFoundError
from strategies.timeframes import TIMEFRAMES
from trading.market.coverage import Gap
from trading.market.holes import AskedBefore, Lacking, Stretch, cut_into_pages, find_lacking
from trading.market.ingest import run_ingest
from trading.market.ingest_gaps import IbGaps
from trading.market.ingest_ib import IbDone
from trading.market.ingest_line import EMPTY
from trading.market.ingest_progress import Meter
from trading.market.ingest_store import store_bars

pytestmark = pytest.mark.django_db(transaction=True)
MINUTE = 60 * 10**9
# Three sessions before Thanksgiving.
OPENS = [pd.Timestamp(f"2024-11-{day} 09:30", tz="America/New_York").tz_convert("UTC") for day in (25, 26, 27)]


def minutes(*, but: tuple[int, int]) -> pd.DataFrame:
    """Three sessions of minutes that rise by a cent; those from place ``but[0]`` up to ``but[1]`` are missing."""
    index = pd.DatetimeIndex(
        np.concatenate([pd.date_range(opens, periods=390, freq="1min").to_numpy() for opens in OPENS]), tz="UTC"
    )
    closes = 100 + np.arange(len(index)) / 100
    frame = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), closes), index=index.as_unit("ns"))
    frame.index.name = "ts"
    frame["volume"] = 10.0
    places = np.arange(len(frame))
    return frame[(places < but[0]) | (places >= but[1])]


def stored(*, but: tuple[int, int], **known: Any) -> None:
    store_bars("AAPL", "1_min", minutes(but=but), {"use_rth": True, **known}, source="test")


class Line:
    """A gateway that has the minutes but for some, times a factor."""

    def __init__(self, *, but: tuple[int, int] = (0, 0), factor: float = 1.0) -> None:
        self.frame, self.factor, self.asked = minutes(but=but), factor, list[tuple[str, str]]()

    async def qualify(self, contract: Contract) -> Contract:
        return contract

    async def bars(self, contract: Contract, end: str, duration: str, *_: Any) -> Any:
        self.asked.append((end, duration))
        until = pd.Timestamp(datetime.strptime(end, "%Y%m%d-%H:%M:%S").replace(tzinfo=UTC))
        count, unit = duration.split()
        since = until - pd.Timedelta(int(count), unit="s" if unit == "S" else "D")
        found = self.frame[(self.frame.index >= since) & (self.frame.index < until)]
        return [
            BarData(
                date=moment,
                open=row[0] * self.factor,
                high=row[1] * self.factor,
                low=row[2] * self.factor,
                close=row[3] * self.factor,
                volume=row[4],
            )
            for moment, row in zip(found.index, found.to_numpy().tolist(), strict=True)
        ] or EMPTY


Fill = Callable[..., IbDone]


@pytest.fixture
def fill(store: ArcticClient, tmp_path: Path) -> Fill:
    """Fill the gaps of the one series from a line."""

    def run(line: Line, *, again: bool = False) -> IbDone:
        [lacking] = find_lacking(store)
        gateway: Any = line
        made = IbGaps(
            gateway, lacking, Meter(1, lambda *_: None), lambda: False, AskedBefore(tmp_path / "asked"), store, again,
        )  # fmt: skip
        return asyncio.run(made.run())

    return run


def test_only_missing_bars_are_taken_though_the_answer_has_more(store: ArcticClient, fill: Fill) -> None:
    stored(but=(100, 130))
    line = Line()
    line.frame = line.frame.assign(volume=11.0)  # IB counts volumes anew; what is stored is not touched
    done = fill(line)
    bars = read_bars(store, "AAPL", "1_min")
    assert (done.new, done.requests, len(bars)) == (30, 1, 3 * 390)
    assert bars["volume"].iloc[98:132].tolist() == [10.0] * 2 + [11.0] * 30 + [10.0] * 2
    assert find_lacking(store) == []


def test_what_the_source_lacks_too_is_asked_for_once_until_it_is_wished_again(store: ArcticClient, fill: Fill) -> None:
    stored(but=(100, 130))
    line = Line(but=(110, 120))
    done = fill(line)
    assert done.new == 20
    assert done.notes == ["30 bars were missing in 1 gaps, 10 still are."]
    again = fill(line)
    assert (again.requests, len(line.asked)) == (0, 1)
    assert "asked for all of it before" in again.notes[-1]
    assert fill(Line(), again=True).new == 10


def test_answer_with_other_prices_beside_the_gap_is_refused_whole(store: ArcticClient, fill: Fill) -> None:
    stored(but=(100, 130))
    with pytest.raises(ConflictError, match=r"16:09Z, beside a gap, is stored with close 100.99, here it is 50.495"):
        fill(Line(factor=0.5))
    assert len(read_bars(store, "AAPL", "1_min")) == 3 * 390 - 30


def test_whole_days_are_compared_with_the_bar_before_the_night(store: ArcticClient, fill: Fill) -> None:
    stored(but=(390, 780))
    with pytest.raises(ConflictError):
        fill(Line(factor=2.0))
    assert fill(Line()).new == 390


def test_bars_that_nothing_can_be_compared_with_are_left_out(store: ArcticClient, fill: Fill) -> None:
    stored(but=(100, 130))
    done = fill(Line(but=(0, 105)))  # the bar before is missing at the source as well, the one after is there
    assert done.new == 25
    line = Line(but=(130, 1170))
    line.frame = line.frame.iloc[100:105]
    left = fill(line, again=True)
    assert left.new == 0
    assert "no bar beside them" in left.notes[-1]


def test_series_without_gaps_or_calendar_are_not_asked_for(store: ArcticClient) -> None:
    assert find_lacking(store) == []
    stored(but=(0, 0))
    assert find_lacking(store) == []
    store_bars("X.1", "1_min", minutes(but=(5, 9)), {"sec_type": "FUT"}, source="test")
    assert find_lacking(store) == []
    with pytest.raises(NotFoundError, match="no calendar is known"):
        find_lacking(store, ["X.1"])
    with pytest.raises(NotFoundError, match="No bars of TSLA are stored"):
        find_lacking(store, ["TSLA"])


def test_gaps_are_filled_from_a_file_and_the_rest_of_the_file_is_ignored(store: ArcticClient, tmp_path: Path) -> None:
    stored(but=(100, 130))
    path = tmp_path / "AAPL.csv"
    minutes(but=(120, 122)).assign(volume=12).iloc[90:200].reset_index().to_csv(path, index=False)
    args = {"source": "file", "path": str(path), "timeframe": "1m", "fill_gaps": True}
    [row] = run_ingest(args, lambda *_: None, lambda: False)["series"]
    assert (row["new"], row["replaced"]) == (28, 0)
    assert "30 bars were missing in 1 gaps, 2 still are." in row["notes"]
    bars = read_bars(store, "AAPL", "1_min")
    assert (bars["volume"] == 12).sum() == 28
    minutes(but=(0, 0)).assign(close=9, low=9).reset_index().to_csv(path, index=False)
    with pytest.raises(ConflictError, match="beside a gap"):
        run_ingest(args, lambda *_: None, lambda: False)


def test_gaps_share_a_page_when_they_are_near_and_long_ones_are_cut() -> None:
    frame = TIMEFRAMES["1_min"]
    day = 1440 * MINUTE
    near = cut_into_pages([Stretch(0, 0), Stretch(day, 2 * day), Stretch(30 * day, 30 * day)], frame)
    assert [len(page) for page in near] == [2, 1]
    pages = cut_into_pages([Stretch(0, 10 * day - MINUTE)], frame)
    assert [page[0].first_ns for page in pages] == [0, 5040 * MINUTE, 10080 * MINUTE]
    assert pages[0][0].last_ns + MINUTE == pages[1][0].first_ns
    assert pages[-1][0].last_ns == 10 * day - MINUTE


def test_memory_of_answers_survives_a_line_that_a_kill_cut_short(tmp_path: Path) -> None:
    path, frame = tmp_path / "asked", TIMEFRAMES["1_min"]
    AskedBefore(path).add("A_1_min", Stretch(10 * MINUTE, 19 * MINUTE))
    with path.open("a") as handle:
        handle.write('\n["A_1_min", 3')
    AskedBefore(path).add("A_1_min", Stretch(40 * MINUTE, 40 * MINUTE))
    gaps = [Gap(5 * MINUTE, 24 * MINUTE, 20), Gap(40 * MINUTE, 40 * MINUTE, 1)]
    left = AskedBefore(path).left("A_1_min", gaps, frame)
    assert left == [Stretch(5 * MINUTE, 9 * MINUTE), Stretch(20 * MINUTE, 24 * MINUTE)]
    assert len(AskedBefore(path).left("B_1_min", gaps, frame)) == 2


def test_lacking_counts_its_bars() -> None:
    one = Lacking("A", TIMEFRAMES["1_min"], [Gap(0, MINUTE, 2), Gap(5 * MINUTE, 5 * MINUTE, 1)], {})
    assert (one.name, one.missing) == ("A_1_min", 3)
