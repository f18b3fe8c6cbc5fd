"""Laws of market data: both ways of computing agree to the bit, nothing sees the future, late bars leave no trace."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.bar_series import Bar, BarSeries, Floats, Nanos
from strategies.intervals import Interval, parse_interval
from tests.support.laws import examples
from tests.support.minutes import (
    BLACK_FRIDAY,
    MINUTE,
    MONDAY,
    TUESDAY,
    WEDNESDAY,
    at,
    clock,
    columns_of,
    real_minutes,
    table,
)
from trading.market.backtest_data import prepare
from trading.market.calendars import build_table
from trading.market.derived import derive, make_deriver
from trading.market.gaps import find_gaps
from trading.market.indicators.indicator import Run
from trading.market.indicators.registry import REGISTRY, Request, make_request
from trading.market.quality import day_qualities, running_counts
from trading.market.session_data import SessionData
from trading.market.session_table import SECOND_NS, SessionTable

DAYS = (BLACK_FRIDAY, MONDAY, TUESDAY, WEDNESDAY)
TOKYO = build_table("XTKS", date(2019, 11, 1), date(2020, 1, 31))
SOME = settings(max_examples=examples(25, 200), deadline=None)


@st.composite
def markets(draw: st.DrawFn, *, days: tuple[date, ...] = DAYS, step_s: int = 60, stray: bool = True) -> list[Bar]:
    """Bars of some days: holes, flat stretches, no volume, hours before and after, stamps between minutes."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = draw(st.sampled_from([0.2, 0.9, 1.0]))
    still = draw(st.sampled_from([0.0, 0.5, 0.95]))
    extended = draw(st.booleans()) and stray
    starts: list[int] = []
    for day in draw(st.lists(st.sampled_from(days), min_size=1, max_size=len(days), unique=True).map(sorted)):
        first, last = (at(day, 9), at(day, 16, 30)) if extended else (at(day, 9, 30), at(day, 16))
        stamps = np.arange(first, last, step_s * SECOND_NS, dtype=np.int64)
        starts += stamps[random.random(len(stamps)) < density].tolist()
        if stray and density < 1:
            starts += (stamps[::50] + 7 * SECOND_NS).tolist()
    starts = sorted(starts)
    moves = np.where(random.random(len(starts)) < still, 0, random.integers(-30, 31, len(starts)))
    closes = (1000 + np.abs(np.cumsum(moves))) / 100
    opens = np.concatenate(([10.0], closes[:-1])) if len(closes) else closes
    wicks = np.where(random.random((2, len(starts))) < still, 0, random.random((2, len(starts))))
    volumes = np.where(random.random(len(starts)) < 0.1, 0.0, random.random(len(starts)) * 1e6)
    rows = (
        starts,
        opens.tolist(),
        (np.maximum(opens, closes) + wicks[0]).tolist(),
        (np.minimum(opens, closes) - wicks[1]).tolist(),
        closes.tolist(),
        volumes.tolist(),
    )
    return [Bar(*row) for row in zip(*rows, strict=True)]


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Any indicator of minutes, with short periods so that much of it is warm."""
    spec = REGISTRY[draw(st.sampled_from(sorted(REGISTRY)))]
    params: dict[str, Any] = {}
    if draw(st.booleans()):
        params = {name: draw(st.integers(2, 9)) for name, usual in spec.params.items() if isinstance(usual, int)}
    period = draw(st.integers(spec.period.least, 12)) if spec.period else 0
    if spec.name.startswith("trailing"):
        period = draw(st.integers(1, 3))
    return make_request(spec.name, "1m", period, params)


def whole(request: Request, bars: list[Bar], calendar: SessionTable | None = None) -> tuple[Floats, ...]:
    return Run(request).whole(*columns_of(bars), calendar or table())


def in_steps(request: Request, bars: list[Bar], split: int) -> list[list[float]]:
    """The first bars at once, the rest one by one."""
    run = Run(request)
    first = [column.tolist() for column in run.whole(*columns_of(bars[:split]), table())]
    rest = [run.step(one, table()) for one in bars[split:]]
    return [column + [row[place] for row in rest] for place, column in enumerate(first)]


@SOME
@given(markets(), requests(), st.data())
def test_indicator_in_steps_is_the_indicator_at_once_bit_by_bit(bars: list[Bar], request: Request, data: Any) -> None:
    split = data.draw(st.sampled_from([0, 1, len(bars) // 2, len(bars)]) | st.integers(0, len(bars)))
    for one, other in zip(whole(request, bars), in_steps(request, bars, split), strict=True):
        np.testing.assert_array_equal(one, np.array(other))


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_indicator_in_steps_is_the_indicator_at_once_on_real_minutes(name: str) -> None:
    spec = REGISTRY[name]
    period = 3 if name.startswith("trailing") else spec.period.usual if spec.period else 0
    bars = real_minutes("SPXL")[:2500]
    request = make_request(name, "1m", period)
    for one, other in zip(whole(request, bars), in_steps(request, bars, 700), strict=True):
        np.testing.assert_array_equal(one, np.array(other))
        assert np.isfinite(one).sum() > 500


@SOME
@given(markets(), requests(), st.data())
def test_no_indicator_knows_what_comes(bars: list[Bar], request: Request, data: Any) -> None:
    cut = data.draw(st.integers(0, len(bars)))
    for one, other in zip(whole(request, bars[:cut]), whole(request, bars), strict=True):
        np.testing.assert_array_equal(one, other[:cut])


@SOME
@given(markets(), requests())
def test_oscillators_stay_within_their_bounds(bars: list[Bar], request: Request) -> None:
    bounds = {"rsi": (0, 100), "stochastic": (0, 100), "williams_r": (-100, 0), "ultimate_osc": (0, 100)}
    low, high = bounds.get(request.spec.name, (-np.inf, np.inf))
    dust = 1e-9 * 100
    for column in whole(request, bars):
        known = column[~np.isnan(column)]
        assert np.isfinite(known).all()
        assert ((known >= low - dust) & (known <= high + dust)).all()


# -- derived bars


def plain_windows(bars: list[Bar], source: Interval, target: Interval, calendar: SessionTable) -> list[Bar]:
    """What the rule says, window by window."""
    by_start = {one.start_ns: one for one in bars}
    step, length = source.seconds * SECOND_NS, target.seconds * SECOND_NS
    found = []
    for opens, closes in zip(calendar.segment_opens.tolist(), calendar.segment_closes.tolist(), strict=True):
        if not bars or closes <= bars[0].start_ns or opens > bars[-1].start_ns:
            continue
        for window in range(opens, closes - length + 1, length):
            parts = [by_start.get(start) for start in range(window, window + length, step)]
            full = [one for one in parts if one is not None]
            if len(full) == len(parts):
                total = 0.0
                for one in full:
                    total += one.volume
                high, low = max(one.high for one in full), min(one.low for one in full)
                found.append(Bar(window, full[0].open, high, low, full[-1].close, total))
    return found


def rows(made: tuple[Nanos, tuple[Floats, ...]]) -> list[Bar]:
    return [Bar(*row) for row in zip(made[0].tolist(), *(one.tolist() for one in made[1]), strict=True)]


@SOME
@given(markets(), st.sampled_from(["2m", "5m", "15m", "60m", "390m", "1d", "1w"]), st.data())
def test_derived_bars_in_steps_are_those_at_once_and_those_of_the_rule(bars: list[Bar], target: str, data: Any) -> None:
    source, length = parse_interval("1m"), parse_interval(target)
    calendar = data.draw(st.sampled_from([table(), TOKYO]))
    if calendar is TOKYO:
        bars = [one._replace(start_ns=one.start_ns - 14 * 3600 * SECOND_NS) for one in bars]
    made = rows(derive(*columns_of(bars), source, length, calendar))
    maker = make_deriver(source, length, lambda: calendar)
    assert made == [found for one in bars if (found := maker.step(one)) is not None]
    if length.is_intraday:
        assert made == plain_windows(bars, source, length, calendar)


@SOME
@given(markets(step_s=5, days=(TUESDAY,)), st.sampled_from(["15s", "1m", "5m", "1d"]))
def test_bars_of_five_seconds_make_longer_ones(bars: list[Bar], target: str) -> None:
    source, length = parse_interval("5s"), parse_interval(target)
    made = rows(derive(*columns_of(bars), source, length, table()))
    maker = make_deriver(source, length, table)
    assert made == [found for one in bars if (found := maker.step(one)) is not None]


@SOME
@given(markets(stray=False), st.sampled_from([("5m", "15m"), ("15m", "60m"), ("5m", "1d")]))
def test_bars_made_in_two_strides_are_those_made_in_one(bars: list[Bar], strides: tuple[str, str]) -> None:
    minute, middle, far = parse_interval("1m"), parse_interval(strides[0]), parse_interval(strides[1])
    one = derive(*columns_of(bars), minute, far, table())
    between = derive(*columns_of(bars), minute, middle, table())
    two = derive(*between, middle, far, table())
    if far.is_intraday:  # a day may lack minutes that make a longer bar
        assert one[0].tolist() == two[0].tolist()
    shared = np.isin(one[0], two[0])
    np.testing.assert_array_equal(one[1][0][shared], two[1][0])
    np.testing.assert_array_equal(one[1][3][shared], two[1][3])


# -- qualities and gaps


@SOME
@given(markets(), st.sampled_from(["1m", "5m"]), st.integers(0, 450))
def test_gaps_and_bars_together_are_what_is_expected(bars: list[Bar], text: str, after: int) -> None:
    interval, now = parse_interval(text), at(TUESDAY, 9, 30) + after * MINUTE
    data = SessionData(clock(now))
    data.register_symbol("SPY", "1m", ["5m"])
    data.load_history("SPY", "1m", *columns_of([one for one in bars if one.start_ns + MINUTE <= now]))
    series = data.get_bars_ref("SPY", text)
    gaps = data.get_gaps("SPY", text)
    session = table().index_of(TUESDAY)
    whole_day = table().opens[session] + np.arange(390 // (interval.seconds // 60)) * interval.seconds * SECOND_NS
    expected = whole_day[whole_day + interval.seconds * SECOND_NS <= now]
    there = np.isin(expected, series.starts).sum()
    assert sum(gap.missing for gap in gaps) == len(expected) - there
    own = 100.0 * there / len(expected) if len(expected) else 100.0
    base = data.get_bar_quality("SPY", "1m")
    assert data.get_bar_quality("SPY", text) == pytest.approx(min(own, base))
    stamps = {start for gap in gaps for start in range(gap.start_ns, gap.end_ns, interval.seconds * SECOND_NS)}
    assert stamps == set(expected.tolist()) - set(series.starts.tolist())


@SOME
@given(markets())
def test_counts_grow_one_by_one_as_at_once(bars: list[Bar]) -> None:
    data = SessionData(clock(at(TUESDAY, 12)))
    data.register_symbol("SPY")
    starts, _ = columns_of(bars)
    counts = running_counts(starts, parse_interval("1m"), table())
    calendar = data.calendar
    for place, one in enumerate(bars):
        data.add_bar("SPY", "1m", one)
        if place % 97 == 0:
            calendar.set_time_ns(one.start_ns + MINUTE)  # type: ignore[attr-defined]  # a TimeManager
            session = table().session_at(one.start_ns + MINUTE)
            opens, closes = int(table().opens[session]), int(table().closes[session])
            expected = max(0, min(one.start_ns + MINUTE, closes) - opens) // MINUTE
            wanted = min(100.0, 100.0 * counts[place] / expected) if expected else 100.0
            assert data.get_bar_quality("SPY", "1m") == pytest.approx(wanted)


@SOME
@given(markets())
def test_quality_of_a_day_is_what_its_gaps_leave(bars: list[Bar]) -> None:
    starts, _ = columns_of(bars)
    minute = parse_interval("1m")
    found = day_qualities(starts, minute, table(), BLACK_FRIDAY, WEDNESDAY)
    for day, quality in zip(DAYS, found.tolist(), strict=True):
        session = table().index_of(day)
        missing = sum(gap.missing for gap in find_gaps(starts, minute, table(), session, int(table().post[session])))
        expected = 210 if day == BLACK_FRIDAY else 390
        assert quality == pytest.approx(100.0 * (expected - missing) / expected)


# -- session data


@SOME
@given(markets(), st.lists(requests(), min_size=1, max_size=4), st.data())
def test_late_bars_leave_no_trace(bars: list[Bar], wanted: list[Request], data: Any) -> None:
    """Whatever comes late, once it is there everything is as if it had come in time, and goes on like that."""
    late = set(data.draw(st.lists(st.sampled_from(bars), max_size=30))) if bars else set()
    until = data.draw(st.integers(0, len(bars)))
    late = {one for one in late if one in bars[:until]} - set(bars[until - 1 : until])
    punctual, patchy = (SessionData(clock(at(WEDNESDAY, 17))) for _ in range(2))
    for one in (punctual, patchy):
        one.register_symbol("SPY", "1m", ["5m", "60m", "1d", "1w"])
    for request in wanted:
        for one in (punctual, patchy):
            one.get_indicator("SPY", "1m", request.spec.name, request.period, **dict(request.params))
            one.get_indicator("SPY", "5m", "ema", 3)
    for bar in bars:
        punctual.add_bar("SPY", "1m", bar)
    for bar in bars[:until]:
        if bar not in late:
            patchy.add_bar("SPY", "1m", bar)
    patchy.merge_bars("SPY", "1m", sorted(late, reverse=True))
    for bar in bars[until:]:
        patchy.add_bar("SPY", "1m", bar)
    for pair in punctual.pairs():
        assert list(patchy.get_bars_ref(*pair)) == list(punctual.get_bars_ref(*pair))
        assert patchy.get_bar_quality(*pair) == punctual.get_bar_quality(*pair)
    for key, view in punctual.get_indicators("SPY").items():
        np.testing.assert_array_equal(patchy.get_indicators("SPY")[key].values, view.values)


@settings(max_examples=examples(10, 100), deadline=None)
@given(markets(), st.lists(requests(), min_size=1, max_size=3))
def test_backtest_shows_at_every_moment_what_a_session_would(bars: list[Bar], wanted: list[Request]) -> None:
    live, past = SessionData(clock(at(BLACK_FRIDAY, 9))), SessionData(clock(at(BLACK_FRIDAY, 9)))
    live.register_symbol("SPY", "1m", ["5m", "60m", "1d"])
    bars = [one for one in bars if one.start_ns % MINUTE == 0]
    laid = BarSeries.from_columns("SPY", "1m", *columns_of(bars))
    ready = prepare(past, {("SPY", "1m"): laid}, [("SPY", "5m"), ("SPY", "60m"), ("SPY", "1d")])
    views = [
        (
            live.get_indicator("SPY", request.interval.text, request.spec.name, request.period, **dict(request.params)),
            past.get_indicator("SPY", request.interval.text, request.spec.name, request.period, **dict(request.params)),
        )
        for request in [*wanted, make_request("sma", "5m", 2), make_request("obv", "1d")]
    ]
    ends = ready.ends["SPY", "1m"]
    counts = {pair: ready.counts_at(pair, ends) for pair in ready.series}
    for place, bar in enumerate(bars):
        for one in (live, past):
            one.calendar.set_time_ns(int(ends[place]))  # type: ignore[attr-defined]  # a TimeManager
        live.add_bar("SPY", "1m", bar)
        for pair, series in ready.series.items():
            series.count = int(counts[pair][place])
            assert series.count == live.get_bars_ref(*pair).count
            if place % 41 == 0:
                assert past.get_bar_quality(*pair) == live.get_bar_quality(*pair)
        for mine, theirs in views:
            assert (mine.value, mine.previous) == (theirs.value, theirs.previous)
    for pair, series in ready.series.items():
        assert list(series) == list(live.get_bars_ref(*pair))


# -- calendars


@SOME
@given(
    st.lists(st.integers(0, 640 * 86_400), min_size=3, max_size=3).map(sorted),
    st.sampled_from(["US_EQUITY", "XTKS", "XLON"]),
)
def test_trading_time_adds_up(seconds: list[int], group: str) -> None:
    times = clock(at(TUESDAY, 12))
    low, middle, high = (datetime(2019, 2, 1, tzinfo=UTC) + timedelta(seconds=one) for one in seconds)
    first, second, both = (
        times.count_trading_time(*span, "seconds", group) for span in ((low, middle), (middle, high), (low, high))
    )
    assert first + second == both
    for unit in ("days", "weeks"):
        parts = [times.count_trading_time(*span, unit, group) for span in ((low, middle), (middle, high), (low, high))]
        assert max(parts[:2]) <= parts[2] <= parts[0] + parts[1]


@SOME
@given(st.dates(date(2019, 2, 1), date(2020, 10, 1)), st.integers(1, 30), st.sampled_from(["US_EQUITY", "XTKS"]))
def test_days_after_and_before_are_each_others_way_back(day: date, n: int, group: str) -> None:
    times = clock(at(TUESDAY, 12))
    first = times.get_first_trading_date(day, group)
    later = times.get_next_trading_date(first, group, n)
    assert times.get_previous_trading_date(later, group, n) == first
    assert times.count_trading_days(first, later, group) == n + 1
    assert times.get_next_trading_date(first - timedelta(days=1), group) == first
