"""Stored bars against the exchange's calendar."""

from __future__ import annotations

from datetime import date, datetime, time
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from strategies.bar_series import Nanos
from strategies.exceptions import ConfigError
from strategies.timeframes import parse_timeframe
from trading.market.calendars import HolidayOverride, Overrides
from trading.market.coverage import expected_starts, measure, table_of
from trading.market.sample_data import read_sample

NEW_YORK = ZoneInfo("America/New_York")


def ns(text: str) -> int:
    return int(pd.Timestamp(text, tz=NEW_YORK).value)


def whole(timeframe: str, first: str, last: str) -> Nanos:
    table = table_of("XNYS", pd.Timestamp(first).date(), pd.Timestamp(last).date())
    return expected_starts(table, parse_timeframe(timeframe), ns(first), ns(last))


def test_a_regular_day_has_390_minutes_and_a_half_day_210() -> None:
    assert len(whole("1m", "2024-11-27 00:00", "2024-11-27 23:59")) == 390
    assert len(whole("1m", "2024-11-29 00:00", "2024-11-29 23:59")) == 210
    assert len(whole("1m", "2024-11-28 00:00", "2024-11-28 23:59")) == 0


def test_hours_begin_with_the_session_and_the_last_is_short() -> None:
    starts = whole("60m", "2024-11-27 00:00", "2024-11-27 23:59")
    assert [datetime.fromtimestamp(n / 1e9, NEW_YORK).time() for n in starts] == [time(9 + n, 30) for n in range(7)]


def test_hours_that_ib_cut_on_the_clock_are_whole_too() -> None:
    starts = np.array([ns(f"2024-11-27 {text}") for text in ("09:30", *(f"{hour}:00" for hour in range(10, 16)))])
    table, hour = table_of("XNYS", date(2024, 11, 27), date(2024, 11, 27)), parse_timeframe("1h")
    assert (measure(starts, table, hour).percent, measure(starts, table, hour).outside) == (100.0, 0)
    holed = measure(np.delete(starts, 3), table, hour)
    assert [(gap.first_ns, gap.bars) for gap in holed.gaps] == [(ns("2024-11-27 12:00"), 1)]


def test_days_and_weeks_are_counted_by_the_calendar() -> None:
    table = table_of("XNYS", date(2024, 12, 23), date(2025, 1, 3))
    first, last = (int(pd.Timestamp(day, tz="UTC").value) for day in ("2024-12-23", "2025-01-03"))
    assert len(expected_starts(table, parse_timeframe("1d"), first, last)) == 8
    assert len(expected_starts(table, parse_timeframe("1w"), first, last)) == 2


def test_gaps_are_grouped_over_nights_and_counted() -> None:
    starts = whole("1m", "2024-11-25 00:00", "2024-11-27 23:59")
    gone = (starts >= ns("2024-11-25 15:00")) & (starts <= ns("2024-11-26 09:59")) | (starts == ns("2024-11-27 12:00"))
    table = table_of("XNYS", date(2024, 11, 25), date(2024, 11, 27))
    found = measure(starts[~gone], table, parse_timeframe("1m"))
    assert [gap.bars for gap in found.gaps] == [90, 1]
    assert (found.gaps[0].first_ns, found.gaps[0].last_ns) == (ns("2024-11-25 15:00"), ns("2024-11-26 09:59"))
    assert (found.expected, found.missing) == (1170, 91)
    assert found.percent == pytest.approx(100 * 1079 / 1170)
    assert found.quality == pytest.approx(100 * (330 / 390 + 360 / 390 + 389 / 390) / 3)


def test_bars_outside_of_regular_hours_cover_nothing() -> None:
    starts = np.append(whole("1m", "2024-11-27 00:00", "2024-11-27 23:59"), ns("2024-11-27 17:00"))
    table = table_of("XNYS", date(2024, 11, 27), date(2024, 11, 27))
    found = measure(starts, table, parse_timeframe("1m"))
    assert (found.present, found.outside, found.percent) == (390, 1, 100.0)


def test_holidays_that_operators_entered_are_not_missing() -> None:
    starts = whole("1d", "2025-01-02 00:00", "2025-01-12 23:59")
    day = int(pd.Timestamp("2025-01-09", tz="UTC").value)
    kept = np.sort(np.append(starts, day)) if day not in starts else starts
    overrides = Overrides(holidays=(HolidayOverride("US_EQUITY", date(2025, 1, 8), "test"),))
    table = table_of("XNYS", date(2025, 1, 2), date(2025, 1, 12), overrides)
    found = measure(kept[kept != int(pd.Timestamp("2025-01-08", tz="UTC").value)], table, parse_timeframe("1d"))
    assert found.gaps == []


def test_sample_is_as_whole_as_its_source() -> None:
    bars = read_sample()["SPY"]
    starts = bars.index.to_numpy(dtype="datetime64[ns]").astype(np.int64)
    table = table_of("XNYS", bars.index[0].date(), bars.index[-1].date())
    found = measure(starts, table, parse_timeframe("1m"))
    assert 95 < (found.percent or 0) < 100
    assert found.present + found.outside == len(bars)
    assert sum(gap.bars for gap in found.gaps) == found.missing


def test_unknown_calendar_is_an_error() -> None:
    with pytest.raises(ConfigError):
        table_of("NOWHERE", date(2024, 1, 1), date(2024, 1, 2))
