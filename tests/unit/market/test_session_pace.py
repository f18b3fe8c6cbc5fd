"""How late bars are, how fast a clock-driven session goes, when scanners scan."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.market.lag import SECOND_NS, LagControl
from trading.market.pace import MINUTE_NS, Pace
from trading.market.scanners.schedule import Grid, scan_times
from trading.market.session_parts import ScanWindow

NEW_YORK = ZoneInfo("America/New_York")


# -- lag


def test_a_symbol_beyond_the_threshold_is_late_until_it_caught_up() -> None:
    lag = LagControl(60, every=1)
    assert lag.note("SPY", 0, 61 * SECOND_NS) is True
    assert lag.is_late("SPY")
    assert lag.lag_s("SPY") == 61
    assert lag.note("SPY", 0, 90 * SECOND_NS) is None
    assert lag.note("SPY", 100 * SECOND_NS, 101 * SECOND_NS) is False
    assert not lag.is_late("SPY")


def test_exactly_the_threshold_is_not_late() -> None:
    lag = LagControl(60, every=1)
    assert lag.note("SPY", 0, 60 * SECOND_NS) is None
    assert not lag.is_late("SPY")


def test_lag_is_measured_symbol_by_symbol() -> None:
    lag = LagControl(60, every=1)
    lag.note("SPY", 0, 61 * SECOND_NS)
    lag.note("QQQ", 0, SECOND_NS)
    assert (lag.is_late("SPY"), lag.is_late("QQQ")) == (True, False)
    assert lag.lag_s("IWM") is None


def test_it_is_looked_at_every_so_many_bars_of_a_symbol() -> None:
    lag = LagControl(60, every=3)
    late = 61 * SECOND_NS
    assert lag.note("SPY", 0, 0) is None  # looked at
    assert [lag.note("SPY", 0, late) for _ in range(3)] == [None, None, True]


# -- pace


class Wall:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("speed", "step"), [(1, 60.0), (60, 1.0), (0.5, 60.0), (6000, 0.01)])
def test_a_minute_takes_sixty_seconds_over_the_speed_and_no_more_than_sixty(speed: float, step: float) -> None:
    assert Pace(speed).step_s == pytest.approx(step)


def test_work_within_a_step_does_not_slow_the_session() -> None:
    wall = Wall()
    pace = Pace(60, wall)
    assert pace.wait_s() == pytest.approx(1.0)
    wall.now += 1.0 + 0.4  # waited, then worked
    assert pace.wait_s() == pytest.approx(0.6)


def test_a_late_step_is_done_at_once_and_not_followed_by_a_burst() -> None:
    wall = Wall()
    pace = Pace(60, wall)
    wall.now += 5.0
    assert pace.wait_s() == 0.0
    assert pace.late == 1
    assert pace.wait_s() == pytest.approx(1.0)


def test_a_pause_is_left_out_of_the_count() -> None:
    wall = Wall()
    pace = Pace(60, wall)
    wall.now += 30.0
    pace.shift(30.0)
    assert pace.wait_s() == pytest.approx(1.0)


def test_steps_lie_on_whole_minutes() -> None:
    pace = Pace(60)
    assert pace.next_minute(0) == MINUTE_NS
    assert pace.next_minute(MINUTE_NS + 5) == 2 * MINUTE_NS


# -- the grid of scans


def window(start: str, end: str, interval: str) -> ScanWindow:
    return ScanWindow(start=time.fromisoformat(start), end=time.fromisoformat(end), interval=interval)


def test_scans_lie_on_a_grid_from_the_start_in_exchange_time() -> None:
    day = date(2024, 1, 2)
    close = datetime(2024, 1, 2, 21, tzinfo=UTC)
    found = scan_times([window("09:35", "09:50", "5m"), window("15:00", "15:00", "1m")], day, NEW_YORK, close)
    assert [moment.astimezone(NEW_YORK).strftime("%H:%M") for moment in found] == [
        "09:35",
        "09:40",
        "09:45",
        "09:50",
        "15:00",
    ]
    assert all(moment.tzinfo is UTC for moment in found)


def test_nothing_is_scanned_at_or_after_an_early_close() -> None:
    day = date(2024, 11, 29)
    close = datetime(2024, 11, 29, 18, tzinfo=UTC)  # 13:00 in New York
    found = scan_times([window("12:50", "15:00", "5m")], day, NEW_YORK, close)
    assert [moment.astimezone(NEW_YORK).strftime("%H:%M") for moment in found] == ["12:50", "12:55"]


@pytest.mark.parametrize("day", [date(2024, 3, 11), date(2024, 11, 4)])
def test_the_grid_follows_the_exchanges_summer_time(day: date) -> None:
    close = datetime.combine(day, time(16), NEW_YORK).astimezone(UTC)
    [first, *_] = scan_times([window("09:35", "10:00", "5m")], day, NEW_YORK, close)
    assert first.astimezone(NEW_YORK).time() == time(9, 35)


def test_what_passed_together_is_one_scan_and_the_rest_is_told_as_missed() -> None:
    begin = datetime(2024, 1, 2, 14, 35, tzinfo=UTC)
    grid = Grid([begin + timedelta(minutes=5 * n) for n in range(4)])
    assert not grid.take(begin - timedelta(seconds=1))
    assert grid.take(begin + timedelta(minutes=11))
    assert grid.missed == 2
    assert not grid.take(begin + timedelta(minutes=12))
    assert grid.next_at == begin + timedelta(minutes=15)
    assert grid.take(begin + timedelta(minutes=15))
    assert grid.is_over


@given(st.lists(st.integers(0, 600), max_size=40), st.lists(st.integers(0, 700), max_size=40))
def test_every_moment_is_taken_or_missed_once(moments: list[int], looks: list[int]) -> None:
    begin = datetime(2024, 1, 2, 14, tzinfo=UTC)
    grid = Grid([begin + timedelta(minutes=n) for n in moments])
    looks = sorted(looks)
    taken = sum(grid.take(begin + timedelta(minutes=n)) for n in looks)
    last = looks[-1] if looks else -1
    assert taken + grid.missed == sum(n <= last for n in moments)
