"""History of a session's symbols: stored days with a hole are mended from whole minutes, or left as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import pandas as pd
import pytest

from strategies.bar_series import Bar, BarSeries
from tests.support.sessions import config_of, minutes
from trading.market.feeds import Frames, StoredFeed, frames_reader
from trading.market.session_config import parse_session_config
from trading.market.session_symbols import SessionSymbols
from trading.market.time_manager import BACKTEST, TimeManager

DAY = date(2024, 1, 9)
BEFORE = [date(2024, 1, n) for n in (2, 3, 4, 5, 8)]


class Store:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.history: dict[str, Mapping[str, BarSeries]] = {}

    def add_symbol(
        self, symbol: str, intervals: Any, history: Mapping[str, BarSeries], today: Sequence[Bar], *, light: bool
    ) -> None:
        self.history[symbol] = history

    def remove_symbol(self, symbol: str) -> None:
        del self.history[symbol]

    def warm_up_bars(self) -> Mapping[str, int]:
        return {}


def one_day(frame: pd.DataFrame, factor: float = 1.0) -> dict[str, float]:
    first, last = frame.iloc[0], frame.iloc[-1]
    prices = {"open": first["open"], "high": frame["high"].max(), "low": frame["low"].min(), "close": last["close"]}
    return {**{name: value * factor for name, value in prices.items()}, "volume": frame["volume"].sum()}


def loaded(*, stored: Sequence[date], minutes_of: Sequence[date], factor: float = 1.0, hole: int = 0) -> BarSeries:
    """Load five days of history before a day, of which some are stored, and some have minutes."""
    bars = {day: minutes(7, day) for day in (*BEFORE, DAY)}
    base = pd.concat([bars[day] for day in (*minutes_of, DAY)])
    if hole:
        base = base.drop(base.index[hole])
    index = pd.DatetimeIndex([pd.Timestamp(day, tz="UTC") for day in stored])
    frames: Frames = {
        ("AAPL", "1m"): base,
        ("AAPL", "1d"): pd.DataFrame([one_day(bars[day], factor) for day in stored], index=index),
    }
    raw = config_of("test_single_strategy")
    raw["backtest_config"] |= {"start_date": str(DAY), "end_date": str(DAY)}
    raw["session_data_config"]["historical"] = {"data": [{"trailing_days": 5, "intervals": ["1d"], "apply_to": "all"}]}
    clock = TimeManager(BACKTEST)
    session = clock.get_trading_session(DAY)
    assert session.regular_open is not None
    clock.set_time(session.regular_open)
    feed = StoredFeed(frames_reader(frames), datetime(2023, 12, 1, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC))
    store = Store()
    symbols = SessionSymbols(parse_session_config(raw), feed, store, clock, None)
    symbols.begin_day(session)
    symbols.load("AAPL")
    return store.history["AAPL"]["1d"]


def days(series: BarSeries) -> list[date]:
    return [bar.timestamp.date() for bar in series]


def test_missing_day_is_made_of_its_minutes_in_its_place() -> None:
    found = loaded(stored=[BEFORE[0], BEFORE[1], BEFORE[3], BEFORE[4]], minutes_of=BEFORE)
    assert days(found) == BEFORE
    want = one_day(minutes(7, BEFORE[2]))
    assert found[2][1:] == pytest.approx(tuple(want.values()))


def test_day_without_all_of_its_minutes_stays_missing() -> None:
    stored = [BEFORE[0], BEFORE[1], BEFORE[3], BEFORE[4]]
    assert days(loaded(stored=stored, minutes_of=BEFORE, hole=2 * 390 + 200)) == stored


def test_days_of_another_scale_are_not_mixed(caplog: pytest.LogCaptureFixture) -> None:
    stored = [BEFORE[0], BEFORE[1], BEFORE[3], BEFORE[4]]
    assert days(loaded(stored=stored, minutes_of=BEFORE, factor=2.0)) == stored
    assert "close otherwise" in caplog.text


def test_day_that_nothing_can_be_compared_with_stays_missing(caplog: pytest.LogCaptureFixture) -> None:
    stored = [BEFORE[0], BEFORE[1], BEFORE[3], BEFORE[4]]
    assert days(loaded(stored=stored, minutes_of=[BEFORE[2]])) == stored
    assert "no day is there both ways" in caplog.text


def test_whole_history_asks_for_no_minutes_and_days_before_the_window_are_not_added() -> None:
    assert days(loaded(stored=BEFORE, minutes_of=[])) == BEFORE
    assert days(loaded(stored=BEFORE[1:], minutes_of=BEFORE)) == BEFORE
