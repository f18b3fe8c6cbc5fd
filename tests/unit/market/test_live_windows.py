"""Windows of live bars: aligned to the open, whole or not at all, and how complete a day is."""

from __future__ import annotations

from datetime import date
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ib_async import Contract, Stock

from strategies.bar_series import Bar
from strategies.exceptions import ConfigError
from strategies.intervals import parse_interval
from tests.support.reactive import MINUTE_NS, OPEN_NS
from trading.market.calendars import US_EQUITY, build_table
from trading.market.derived import derive
from trading.market.live_history import end_of, group_of_contract, live_interval, reach_of, source_of
from trading.market.live_windows import FIVE_SECONDS_NS, WindowBuilder, closed_from, completeness, window_at
from trading.market.session_table import SessionTable

HOUR_NS = 60 * MINUTE_NS
DAY_NS = 24 * HOUR_NS
CLOSE_NS = OPEN_NS + 390 * MINUTE_NS


@cache
def table() -> SessionTable:
    return build_table(US_EQUITY, date(2023, 12, 1), date(2024, 1, 31))


def window(nanos: int, text: str, *, regular_hours: bool = True) -> tuple[int, int] | None:
    return window_at(nanos, parse_interval(text), table(), regular_hours=regular_hours)


def parts(count: int, start: int = OPEN_NS, step: int = FIVE_SECONDS_NS) -> list[Bar]:
    return [Bar(start + n * step, 10 + n, 11 + n, 9 + n, 10.5 + n, 2.0) for n in range(count)]


def test_windows_begin_at_the_open_not_at_the_full_hour() -> None:
    assert window(OPEN_NS, "60m") == (OPEN_NS, OPEN_NS + HOUR_NS)
    assert window(OPEN_NS + HOUR_NS - 1, "60m") == (OPEN_NS, OPEN_NS + HOUR_NS)
    assert window(OPEN_NS + HOUR_NS, "60m") == (OPEN_NS + HOUR_NS, OPEN_NS + 2 * HOUR_NS)


def test_no_window_reaches_over_the_close() -> None:
    assert window(CLOSE_NS - 1, "60m") is None
    assert window(CLOSE_NS - 1, "30m") == (CLOSE_NS - 30 * MINUTE_NS, CLOSE_NS)


@given(st.sets(st.integers(0, 389), min_size=1), st.sampled_from(["5m", "15m", "60m", "45m"]))
def test_windows_and_bars_are_those_of_derived_bars(present: set[int], text: str) -> None:
    minutes = [Bar(OPEN_NS + n * MINUTE_NS, 10 + n, 11 + n, 9 + n, 10.5 + n, 2.0) for n in sorted(present)]
    interval = parse_interval(text)
    ours = closed_from(minutes, MINUTE_NS, interval, table(), regular_hours=True)
    columns = [np.array(column) for column in zip(*(bar[1:] for bar in minutes), strict=True)]
    starts, values = derive(
        np.array([bar.start_ns for bar in minutes], dtype=np.int64), columns, parse_interval("1m"), interval, table()
    )
    assert ours == [Bar(*row) for row in zip(starts.tolist(), *(one.tolist() for one in values), strict=True)]


def test_outside_of_regular_hours_there_is_none_or_one_on_the_clock() -> None:
    early = OPEN_NS - 7 * MINUTE_NS
    assert window(early, "5m") is None
    assert window(CLOSE_NS, "5m") is None
    assert window(early, "5m", regular_hours=False) == (OPEN_NS - 10 * MINUTE_NS, OPEN_NS - 5 * MINUTE_NS)


def test_bar_of_a_window_is_made_of_all_its_parts() -> None:
    builder = WindowBuilder()
    found = [builder.add(part, (OPEN_NS, OPEN_NS + 15_000_000_000)) for part in parts(3)]
    assert found[:2] == [(None, False)] * 2
    assert found[2] == (Bar(OPEN_NS, 10, 13, 9, 12.5, 6.0), False)


@pytest.mark.parametrize("missing", [0, 1, 2, 5, 11])
def test_window_that_lacks_a_part_closes_without_a_bar(missing: int) -> None:
    builder, ends = WindowBuilder(), list[tuple[Bar | None, bool]]()
    for number, part in enumerate(parts(24)):
        if number != missing:
            place = window(part.start_ns, "1m")
            assert place is not None
            ends.append(builder.add(part, place))
    bars = [bar for bar, _ in ends if bar is not None]
    assert [bar.start_ns for bar in bars] == [OPEN_NS + MINUTE_NS]
    assert sum(missed for _, missed in ends) == 1


def test_late_start_closes_its_first_window_as_missed() -> None:
    builder = WindowBuilder()
    first = [builder.add(part, (OPEN_NS, OPEN_NS + MINUTE_NS)) for part in parts(12)[7:]]
    assert first[-1] == (None, True)


def test_whole_windows_that_vanish_are_missed() -> None:
    builder = WindowBuilder()
    builder.add(parts(1)[0], (OPEN_NS, OPEN_NS + MINUTE_NS))
    later = Bar(OPEN_NS + 5 * MINUTE_NS, 1, 1, 1, 1, 1)
    assert builder.add(later, (later.start_ns, later.start_ns + MINUTE_NS)) == (None, True)


def test_five_second_bars_close_at_once() -> None:
    builder = WindowBuilder()
    [part] = parts(1)
    assert builder.add(part, (OPEN_NS, OPEN_NS + FIVE_SECONDS_NS)) == (part, False)


@given(st.sets(st.integers(0, 119), min_size=1))
def test_bars_are_exactly_those_whose_parts_are_all_there(present: set[int]) -> None:
    given_parts = [part for number, part in enumerate(parts(120)) if number in present]
    found = closed_from(given_parts, FIVE_SECONDS_NS, parse_interval("1m"), table(), regular_hours=True)
    whole = [n for n in range(10) if set(range(n * 12, n * 12 + 12)) <= present]
    assert [bar.start_ns for bar in found] == [OPEN_NS + n * MINUTE_NS for n in whole]
    for bar, number in zip(found, whole, strict=True):
        rows = parts(120)[number * 12 : number * 12 + 12]
        assert (bar.open, bar.close, bar.volume) == (rows[0].open, rows[-1].close, 24.0)
        assert (bar.high, bar.low) == (max(row.high for row in rows), min(row.low for row in rows))


def complete(starts: list[int], text: str, now: int) -> float:
    return completeness(np.array(starts, dtype=np.int64), parse_interval(text), table(), now)


def test_completeness_counts_whole_intervals_since_the_open() -> None:
    minutes = [OPEN_NS + n * MINUTE_NS for n in range(10)]
    now = OPEN_NS + 10 * MINUTE_NS + 30_000_000_000
    assert complete(minutes, "1m", now) == 100.0
    assert complete(minutes[:8] + minutes[9:], "1m", now) == 90.0
    assert complete(minutes, "1m", now + MINUTE_NS) == pytest.approx(1000 / 11)


def test_completeness_before_the_open_and_of_nothing() -> None:
    yesterday = [OPEN_NS - 86_400_000_000_000 * 4]
    assert complete(yesterday, "1m", OPEN_NS - MINUTE_NS) == 100.0
    assert complete(yesterday, "1m", OPEN_NS + 30_000_000_000) == 100.0, "no whole minute yet"
    assert complete([], "1m", OPEN_NS + HOUR_NS) == 0.0


def test_completeness_counts_from_the_first_bar_where_it_came_later() -> None:
    late = [OPEN_NS + HOUR_NS + n * MINUTE_NS for n in range(10)]
    assert complete(late, "1m", OPEN_NS + HOUR_NS + 10 * MINUTE_NS) == 100.0


def test_completeness_after_the_close_is_that_of_the_session() -> None:
    minutes = [OPEN_NS + n * MINUTE_NS for n in range(390)]
    assert complete(minutes[:351], "1m", CLOSE_NS + HOUR_NS) == pytest.approx(90.0)
    assert complete([*minutes, CLOSE_NS + MINUTE_NS], "1m", CLOSE_NS + HOUR_NS) == 100.0


def test_completeness_of_days_is_that_of_the_last_sessions() -> None:
    days = [int(stamp) for stamp in table().opens if stamp <= OPEN_NS]
    now = CLOSE_NS + HOUR_NS
    assert complete(days, "1d", now) == 100.0
    assert complete(days[:-3] + days[-2:], "1d", now) == 95.0


@pytest.mark.parametrize("text", ["5s", "10s", "30s", "1m", "5m", "60m", "390m", "1d"])
def test_live_intervals_are_made_of_five_second_bars(text: str) -> None:
    assert live_interval(text).text == text


@pytest.mark.parametrize("text", ["1s", "7s", "2d", "1w", "1h"])
def test_intervals_that_live_bars_do_not_make_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        live_interval(text)


@pytest.mark.parametrize(
    ("text", "source"),
    [("5s", "5_secs"), ("1m", "1_min"), ("20m", "10_min"), ("30m", "30_min"), ("45m", "15_min"), ("60m", "30_min")],
)
def test_history_is_read_in_bars_that_begin_where_ours_do(text: str, source: str) -> None:
    assert source_of(parse_interval(text)).key == source


def test_reach_covers_nights_weekends_and_holidays() -> None:
    for text, count in (("5m", 300), ("60m", 300), ("1m", 390), ("1d", 300)):
        interval = parse_interval(text)
        sessions = count if text == "1d" else count * interval.seconds / (6.5 * 3600)
        assert reach_of(interval, count, regular_hours=True).days >= sessions * 7 / 5


def test_bar_ends_its_length_after_its_start_and_a_day_with_its_session() -> None:
    assert end_of(OPEN_NS - OPEN_NS % DAY_NS, parse_interval("1d"), table()) == CLOSE_NS
    assert end_of(OPEN_NS, parse_interval("5m"), table()) == OPEN_NS + 5 * MINUTE_NS


def test_hours_are_those_of_the_listing() -> None:
    assert group_of_contract(Stock("SPY", "SMART", "USD", primaryExchange="ARCA")) == US_EQUITY
    assert group_of_contract(Stock("SPY", "SMART", "USD")) == US_EQUITY
    assert group_of_contract(Stock("SIE", "SMART", "EUR", primaryExchange="IBIS")) == "XETR"
    with pytest.raises(ConfigError, match="its hours"):
        group_of_contract(Stock("SIE", "SMART", "EUR"))
    with pytest.raises(ConfigError):
        group_of_contract(Contract(symbol="X", exchange="NOWHERE", currency="USD"))
