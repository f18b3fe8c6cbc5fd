"""Longer bars from shorter ones: alignment, full sets, days and weeks by the calendar, mending of history."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from strategies.bar_series import Bar, moment_of, nanos_of
from strategies.exceptions import ConfigError
from strategies.intervals import parse_interval
from tests.support.minutes import (
    BLACK_FRIDAY,
    MINUTE,
    MONDAY,
    NEW_YORK,
    TUESDAY,
    at,
    bar,
    columns_of,
    minutes,
    real_minutes,
    table,
)
from trading.market.calendars import build_table
from trading.market.derived import check_derivable, derive, make_deriver
from trading.market.gaps import fill_from_shorter
from trading.market.session_table import SessionTable


def derived(bars: list[Bar], target: str, source: str = "1m", on: SessionTable | None = None) -> list[Bar]:
    """Both ways, which must agree."""
    calendar = on or table()
    starts, columns = columns_of(bars)
    got, values = derive(starts, columns, parse_interval(source), parse_interval(target), calendar)
    whole = [Bar(*row) for row in zip(got.tolist(), *(one.tolist() for one in values), strict=True)]
    maker = make_deriver(parse_interval(source), parse_interval(target), lambda: calendar)
    steps = [made for one in bars if (made := maker.step(one)) is not None]
    assert whole == steps
    return whole


class TestWindows:
    def test_hours_are_aligned_to_the_open_and_the_one_that_reaches_over_the_close_never_comes(self) -> None:
        made = derived(minutes(TUESDAY, 0, 390), "60m")
        assert [one.start_ns for one in made] == [at(TUESDAY, 9 + n, 30) for n in range(6)]

    def test_first_open_highest_high_lowest_low_last_close_summed_volume(self) -> None:
        parts = [
            Bar(at(TUESDAY, 9, 30 + n), *row)
            for n, row in enumerate([(5, 9, 4, 6, 1), (6, 7, 2, 3, 2), (3, 8, 3, 8, 4)])
        ]
        assert derived(parts, "3m") == [Bar(at(TUESDAY, 9, 30), 5, 9, 2, 8, 7)]

    @pytest.mark.parametrize("missing", [0, 2, 4])
    def test_window_that_lacks_a_bar_is_skipped(self, missing: int) -> None:
        made = derived(minutes(TUESDAY, 0, 15, without=[missing]), "5m")
        assert [one.start_ns for one in made] == [at(TUESDAY, 9, 35), at(TUESDAY, 9, 40)]

    def test_bar_of_another_day_or_between_minutes_makes_up_for_nothing(self) -> None:
        strays = [*minutes(MONDAY, 388, 390), *minutes(TUESDAY, 0, 3)]
        assert derived(strays, "5m") == []
        off = [*minutes(TUESDAY, 0, 4), bar(at(TUESDAY, 9, 33, 30)), *minutes(TUESDAY, 5, 10)]
        assert [one.start_ns for one in derived(off, "5m")] == [at(TUESDAY, 9, 35)]

    def test_bars_outside_of_regular_hours_are_left_out(self) -> None:
        early = [bar(at(TUESDAY, 9, 25) + n * MINUTE) for n in range(15)]
        assert [one.start_ns for one in derived(early, "5m")] == [at(TUESDAY, 9, 30), at(TUESDAY, 9, 35)]

    def test_short_day_has_no_window_over_its_close(self) -> None:
        made = derived(minutes(BLACK_FRIDAY, 0, 210), "60m")
        assert [one.start_ns for one in made] == [at(BLACK_FRIDAY, 9 + n, 30) for n in range(3)]

    def test_after_a_lunch_break_windows_begin_anew(self) -> None:
        tokyo, zone = build_table("XTKS", date(2020, 1, 1), date(2020, 2, 1)), ZoneInfo("Asia/Tokyo")
        noon = nanos_of(datetime(2020, 1, 6, 11, 0, tzinfo=zone))
        bars = [bar(noon + n * MINUTE) for n in range(180) if not 30 <= n < 90]
        made = derived(bars, "60m", on=tokyo)
        assert [one.start_ns for one in made] == [nanos_of(datetime(2020, 1, 6, 12, 30, tzinfo=zone))]

    def test_seconds_make_minutes_and_minutes_longer_minutes(self) -> None:
        seconds = [bar(at(TUESDAY, 9, 30) + n * 5_000_000_000) for n in range(24)]
        assert len(derived(seconds, "1m", "5s")) == 2
        assert len(derived(minutes(TUESDAY, 0, 30)[::5], "15m", "5m")) == 2


class TestDays:
    def test_day_is_made_of_its_regular_bars(self) -> None:
        bars = [bar(at(TUESDAY, 8), 999.0), *minutes(TUESDAY, 0, 390), bar(at(TUESDAY, 17), 1.0)]
        [day] = derived(bars, "1d")
        assert day == Bar(at(TUESDAY, 9, 30), 99.75, 104.39, 99.5, 103.89, sum(10.0 + n % 7 for n in range(390)))

    def test_short_day_is_whole_with_fewer_bars(self) -> None:
        assert len(derived(minutes(BLACK_FRIDAY, 0, 210), "1d")) == 1

    def test_minute_without_a_trade_costs_no_day_but_a_missing_open_or_close_does(self) -> None:
        assert len(derived(minutes(TUESDAY, 0, 390, without=[100]), "1d")) == 1
        assert derived(minutes(TUESDAY, 1, 390), "1d") == []
        assert derived(minutes(TUESDAY, 0, 389), "1d") == []
        assert derived(minutes(BLACK_FRIDAY, 0, 209), "1d") == []

    def test_minutes_of_consecutive_days_make_a_bar_each(self) -> None:
        made = derived([*minutes(BLACK_FRIDAY, 0, 210), *minutes(MONDAY, 0, 390), *minutes(TUESDAY, 0, 100)], "1d")
        assert [one.start_ns for one in made] == [at(BLACK_FRIDAY, 9, 30), at(MONDAY, 9, 30)]


class TestWeeks:
    def days(self, *numbers: int) -> list[Bar]:
        return [bar(nanos_of(datetime(2019, 11, n, tzinfo=UTC)), 100.0 + n) for n in numbers]

    def test_week_needs_all_its_trading_days_and_no_more(self) -> None:
        [week] = derived(self.days(25, 26, 27, 29), "1w", "1d")  # the 28th is Thanksgiving
        assert (week.start_ns, week.open, week.close) == (self.days(25)[0].start_ns, 124.75, 129.0)
        assert derived(self.days(25, 26, 29), "1w", "1d") == []
        assert derived(self.days(25, 26, 27, 28, 29), "1w", "1d") == [week]

    def test_minutes_make_weeks_through_days(self) -> None:
        days = [date(2019, 11, n) for n in (25, 26, 27, 29)]
        bars = [one for day in days for one in minutes(day, 0, 210 if day == BLACK_FRIDAY else 390)]
        [week] = derived(bars, "1w")
        assert week.start_ns == at(days[0], 9, 30)
        assert week.volume == sum(one.volume for one in bars)

    def test_week_at_the_calendars_end_is_not_known_to_be_whole(self) -> None:
        short = build_table("US_EQUITY", date(2019, 11, 1), date(2019, 11, 27))
        assert derived(self.days(25, 26, 27), "1w", "1d", on=short) == []


@pytest.mark.parametrize(
    ("source", "target"),
    [("1m", "1m"), ("5m", "1m"), ("5m", "7m"), ("1d", "5m"), ("1d", "2d"), ("1m", "2w"), ("1w", "1d"), ("1w", "1w")],
)
def test_pairs_of_intervals_that_do_not_fit_are_refused(source: str, target: str) -> None:
    with pytest.raises(ConfigError, match=f"{target} bars cannot be made of {source} bars"):
        check_derivable(parse_interval(source), parse_interval(target))


def local_day(start_ns: int) -> date:
    return moment_of(start_ns).astimezone(NEW_YORK).date()


@pytest.mark.parametrize("symbol", ["SPY", "XBI", "IBB", "VXX"])
def test_real_minutes_give_what_pandas_gives(symbol: str) -> None:
    bars = real_minutes(symbol)
    frame: Any = pd.DataFrame(bars, columns=["ts", "open", "high", "low", "close", "volume"])
    frame.index = pd.to_datetime(frame.pop("ts"), utc=True).dt.tz_convert("America/New_York")
    rules = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    for length in (5, 15, 60):
        wanted = []
        for _, day in frame.groupby(frame.index.date):
            opens = day.index[0].normalize() + pd.Timedelta(hours=9, minutes=30)
            grouped = day.resample(f"{length}min", origin=opens)
            full = grouped.agg(rules)[grouped["close"].count() == length]
            wanted += [Bar(stamp.value, *row) for stamp, row in zip(full.index, full.to_numpy().tolist(), strict=True)]
        made = derived(bars, f"{length}m")
        assert made == wanted
        assert len(made) > 20


def test_real_days_are_whole_where_open_and_close_are_there() -> None:
    days: dict[date, list[Bar]] = {}
    for one in real_minutes("SPY"):
        day = local_day(one.start_ns)
        if one.start_ns < at(day, 13 if day == date(2019, 12, 24) else 16):  # the sample has a print after a close
            days.setdefault(day, []).append(one)
    whole = {
        day: bars
        for day, bars in days.items()
        if bars[0].start_ns == at(day, 9, 30)
        and bars[-1].start_ns == (at(day, 12, 59) if day == date(2019, 12, 24) else at(day, 15, 59))
    }
    made = derived(real_minutes("SPY"), "1d")
    assert [local_day(one.start_ns) for one in made] == list(whole)
    assert len(made) == 21
    assert [one.volume for one in made] == [sum(one.volume for one in bars) for bars in whole.values()]
    assert [one.high for one in made] == [max(one.high for one in bars) for bars in whole.values()]


class TestFillingHistory:
    def test_longer_bars_that_are_missing_come_from_full_sets_of_shorter_ones(self) -> None:
        parts = minutes(MONDAY, 0, 20, without=[12])
        have = np.array([at(MONDAY, 9, 30)], dtype=np.int64)
        starts, columns = columns_of(parts)
        found = fill_from_shorter(have, parse_interval("5m"), starts, columns, parse_interval("1m"), table())
        assert [one.start_ns for one in found] == [at(MONDAY, 9, 35), at(MONDAY, 9, 45)]

    def test_day_that_is_stored_under_midnight_is_not_made_again(self) -> None:
        have = np.array([nanos_of(datetime(2019, 12, 2, tzinfo=UTC))], dtype=np.int64)
        starts, columns = columns_of([*minutes(MONDAY, 0, 390), *minutes(TUESDAY, 0, 390)])
        found = fill_from_shorter(have, parse_interval("1d"), starts, columns, parse_interval("1m"), table())
        assert [one.start_ns for one in found] == [at(TUESDAY, 9, 30)]
        assert found[0].timestamp - timedelta(hours=14, minutes=30) == datetime(2019, 12, 3, tzinfo=UTC)

    def test_day_with_a_hole_among_its_minutes_is_not_made(self) -> None:
        holed = [*minutes(MONDAY, 0, 390, without=[200]), *minutes(TUESDAY, 0, 390)]
        starts, columns = columns_of(holed)
        none = np.empty(0, dtype=np.int64)
        found = fill_from_shorter(none, parse_interval("1d"), starts, columns, parse_interval("1m"), table())
        assert [one.start_ns for one in found] == [at(TUESDAY, 9, 30)]
