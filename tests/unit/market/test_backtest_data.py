"""Laying out a backtest's data: cursors, what is made of what, indicators computed once, errors by name."""

from __future__ import annotations

import numpy as np
import pytest

from strategies.bar_series import BarSeries
from strategies.exceptions import ConfigError, NotFoundError
from strategies.reactive import SessionDataPort
from tests.support.minutes import BLACK_FRIDAY, MINUTE, MONDAY, TUESDAY, at, bar, clock, minutes, series_of
from trading.market.backtest_data import Prepared, prepare
from trading.market.indicators.registry import make_request
from trading.market.session_data import SessionData


def laid_out() -> BarSeries:
    return series_of("SPY", "1m", [*minutes(BLACK_FRIDAY, 0, 210), *minutes(MONDAY, 0, 390)])


def ready(*wanted: str, **more: BarSeries) -> Prepared:
    bars = {("SPY", "1m"): laid_out(), **{(one.symbol, one.interval): one for one in more.values()}}
    return prepare(SessionData(clock(at(MONDAY, 9))), bars, [("SPY", one) for one in wanted])


def test_bars_are_visible_at_their_end_and_not_before() -> None:
    made = ready("60m", "1d")
    hour, day = made.series["SPY", "60m"], made.series["SPY", "1d"]
    assert (hour.count, day.count) == (0, 0)
    made.show(at(MONDAY, 10, 29))
    assert (made.series["SPY", "1m"].count, hour.count, day.count) == (210 + 59, 3, 1)
    made.show(at(MONDAY, 10, 30))
    assert (made.series["SPY", "1m"].count, hour.count) == (210 + 60, 4)
    made.show(at(MONDAY, 16) - 1)
    assert day.count == 1
    made.show(at(MONDAY, 16))
    assert day.count == 2


def test_counts_along_the_base_bars_say_where_there_is_a_new_bar() -> None:
    made = ready("5m")
    base = made.ends["SPY", "1m"]
    counts = made.counts_at(("SPY", "5m"), base)
    new = np.flatnonzero(np.diff(counts, prepend=0))
    assert new.tolist() == list(range(4, 600, 5))
    assert counts[-1] == len(made.series["SPY", "5m"].whole()[0]) == 120


def test_stored_days_under_midnight_are_over_at_the_close() -> None:
    days = series_of("SPY", "1d", [bar(18_229 * 86_400_000_000_000), bar(18_232 * 86_400_000_000_000)])
    made = ready("1w", days=days)
    assert made.derived_from == {("SPY", "1w"): "1d"}
    assert made.ends["SPY", "1d"].tolist() == [at(BLACK_FRIDAY, 13), at(MONDAY, 16)]


def test_longest_stored_interval_that_fits_is_taken() -> None:
    fives = series_of("SPY", "5m", minutes(MONDAY, 0, 390)[::5])
    assert ready("15m", "1d", fives=fives).derived_from == {("SPY", "15m"): "5m", ("SPY", "1d"): "5m"}


def test_declared_indicators_are_computed_over_the_whole_run_and_read_through_the_cursor() -> None:
    data = SessionData(clock(at(MONDAY, 9)))
    made = prepare(data, {("SPY", "1m"): laid_out()}, [("SPY", "5m")], [("SPY", make_request("sma", "5m", 3))])
    port: SessionDataPort = data
    view = port.get_indicator("SPY", "5m", "sma", 3)
    assert view.value is None
    made.show(at(BLACK_FRIDAY, 9, 45))
    closes = [100.04, 100.09, 100.14]
    assert view.value == pytest.approx(sum(closes) / 3)
    assert (view.previous, len(view.values)) == (None, 3)
    made.show(at(MONDAY, 16))
    assert len(view.values) == 120
    late = port.get_indicator("SPY", "1m", "vwap")
    assert len(late.values) == 600


def test_quality_goes_by_the_clock() -> None:
    holes = series_of("SPY", "1m", minutes(TUESDAY, 0, 390, without=[0, 1]))
    times = clock(at(TUESDAY, 9, 40))
    made = prepare(SessionData(times), {("SPY", "1m"): holes}, [("SPY", "5m")])
    made.show(at(TUESDAY, 9, 40))
    assert made.data.get_bar_quality("SPY", "1m") == 80.0
    assert made.data.get_bar_quality("SPY", "5m") == 50.0
    times.set_time_ns(at(TUESDAY, 9, 50))  # bars stood still, the clock did not
    assert made.data.get_bar_quality("SPY", "1m") == 40.0


def test_symbols_keep_their_own_hours() -> None:
    london = series_of("VOD", "1m", [bar(at(MONDAY, 3) + n * MINUTE) for n in range(300)])
    data = SessionData(clock(at(MONDAY, 9)))
    made = prepare(data, {("VOD", "1m"): london}, [("VOD", "60m")], exchanges={"VOD": "XLON"})
    assert made.series["VOD", "60m"].whole()[0].tolist() == [at(MONDAY, 3 + n) for n in range(5)]


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (("SPY", "30s"), "no 30s bars of SPY, and none that make them up: it has 1m"),
        (("QQQ", "5m"), "no 5m bars of QQQ, and none that make them up: it has none at all"),
        (("SPY", "1h"), "«1h» is no bar interval"),
    ],
)
def test_what_nothing_makes_up_is_refused_by_name(wanted: tuple[str, str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        prepare(SessionData(clock(at(MONDAY, 9))), {("SPY", "1m"): laid_out()}, [wanted])


def test_bars_under_a_wrong_name_and_indicators_of_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="are those of SPY 1m"):
        prepare(SessionData(clock(at(MONDAY, 9))), {("QQQ", "1m"): laid_out()})
    with pytest.raises(NotFoundError, match="SPY has no 5m bars"):
        prepare(
            SessionData(clock(at(MONDAY, 9))),
            {("SPY", "1m"): laid_out()},
            indicators=[("SPY", make_request("sma", "5m", 3))],
        )


def test_bars_beyond_every_calendar_are_refused() -> None:
    old = series_of("SPY", "1m", [bar(-(10**18) * 3)])
    with pytest.raises(ConfigError):
        prepare(SessionData(clock(at(MONDAY, 9)), exchange="XKRX"), {("SPY", "1m"): old})
