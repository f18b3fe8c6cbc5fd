"""Session data: symbols, bars in and out, derived pairs, late bars, locks, qualities, readers beside a writer."""

from __future__ import annotations

import threading
from datetime import date, time

import numpy as np
import pytest

from strategies.bar_series import Bar
from strategies.exceptions import ConfigError, ConflictError, NotFoundError
from tests.support.minutes import (
    BLACK_FRIDAY,
    MINUTE,
    MONDAY,
    TUESDAY,
    WEDNESDAY,
    at,
    bar,
    clock,
    columns_of,
    minutes,
    series_of,
)
from trading.market.calendars import HolidayOverride, Overrides
from trading.market.indicators.registry import make_request
from trading.market.session_data import EMPTY, NOTHING, SessionData


def session(now_ns: int | None = None, *derived: str, enable_quality: bool = True) -> SessionData:
    made = SessionData(clock(at(TUESDAY, 9, 30) if now_ns is None else now_ns), enable_quality=enable_quality)
    made.register_symbol("SPY", "1m", derived)
    return made


class TestReferences:
    def test_reference_grows_under_its_holder(self) -> None:
        data = session()
        held = data.get_bars_ref("SPY", "1m")
        for one in minutes(TUESDAY, 0, 700):
            data.add_bar("SPY", "1m", one)
        assert len(held) == 700
        assert held is data.get_bars_ref("SPY", "1m")

    def test_unknown_pair_is_the_shared_empty_series_of_quality_0_and_no_interval_is_an_error(self) -> None:
        data = session()
        assert data.get_bars_ref("SPY", "5m") is data.get_bars_ref("QQQ", "1m") is EMPTY
        assert len(EMPTY) == 0
        assert data.get_bar_quality("QQQ", "1m") == 0.0
        assert data.get_quality_metric("SPY", "5m") == 0.0
        assert data.get_indicator("QQQ", "1m", "sma", 5) is NOTHING
        assert (NOTHING.value, NOTHING.previous, len(NOTHING.values)) == (None, None, 0)
        with pytest.raises(ConfigError, match="«1h» is no bar interval"):
            data.get_bars_ref("SPY", "1h")
        with pytest.raises(ConfigError, match="no indicator 'nonsense'"):
            data.get_indicator("QQQ", "1m", "nonsense")

    def test_history_and_gap_fills_keep_references_good(self) -> None:
        data = session()
        held = data.get_bars_ref("SPY", "1m")
        view = data.get_indicator("SPY", "1m", "sma", 2)
        data.load_history("SPY", "1m", *columns_of(minutes(MONDAY, 0, 390)))
        assert len(held) == len(view.values) == 390
        data.add_bar("SPY", "1m", minutes(TUESDAY, 0, 1)[0])
        data.add_bar("SPY", "1m", minutes(TUESDAY, 3, 4)[0])
        assert data.merge_bars("SPY", "1m", minutes(TUESDAY, 1, 3)) == [("SPY", "1m")]
        assert held.starts[-4:].tolist() == [at(TUESDAY, 9, 30) + n * MINUTE for n in range(4)]
        assert view.value == pytest.approx((100.02 + 100.03) / 2)


class TestBarsIn:
    def test_bars_complete_derived_ones_and_the_answer_names_all_that_grew(self) -> None:
        data = session(None, "5m", "15m")
        told = [data.add_bar("SPY", "1m", one) for one in minutes(TUESDAY, 0, 15)]
        assert told[3] == [("SPY", "1m")]
        assert told[4] == [("SPY", "1m"), ("SPY", "5m")]
        assert told[14] == [("SPY", "1m"), ("SPY", "5m"), ("SPY", "15m")]
        five = data.get_bars_ref("SPY", "5m")[0]
        assert five == Bar(at(TUESDAY, 9, 30), 99.75, 100.54, 99.5, 100.04, 10 + 11 + 12 + 13 + 14)

    def test_day_comes_at_the_close_and_early_on_a_short_day(self) -> None:
        data = session(at(BLACK_FRIDAY, 9, 30), "1d")
        told = [data.add_bar("SPY", "1m", one) for one in minutes(BLACK_FRIDAY, 0, 210)]
        assert told[-1] == [("SPY", "1m"), ("SPY", "1d")]
        assert sum(len(one) for one in told) == 211
        assert data.get_bars_ref("SPY", "1d")[0].close == pytest.approx(102.09)

    @pytest.mark.parametrize(
        ("wrong", "reason"),
        [
            (bar(at(TUESDAY, 9, 31)), "2019-12-03 14:31:00Z is not after the last"),
            (bar(at(TUESDAY, 9, 33), float("nan")), "2019-12-03 14:33:00Z has an unset number"),
            (Bar(at(TUESDAY, 9, 33), 100, 99, 98, 100, 1), "has a high below"),
            (Bar(at(TUESDAY, 9, 33), 100, 101, 98, 100, -1), "has a negative volume"),
        ],
    )
    def test_bad_bar_is_refused_with_its_place_and_changes_nothing(self, wrong: Bar, reason: str) -> None:
        data = session(None, "5m")
        view = data.get_indicator("SPY", "1m", "ema", 2)
        for one in minutes(TUESDAY, 0, 3):
            data.add_bar("SPY", "1m", one)
        before = view.value
        with pytest.raises(ConfigError, match=reason):
            data.add_bar("SPY", "1m", wrong)
        assert (len(data.get_bars_ref("SPY", "1m")), view.value) == (3, before)
        for one in minutes(TUESDAY, 3, 5):
            data.add_bar("SPY", "1m", one)
        assert len(data.get_bars_ref("SPY", "5m")) == 1

    def test_bars_for_unknown_or_derived_pairs_are_refused(self) -> None:
        data = session(None, "5m")
        with pytest.raises(NotFoundError, match="QQQ is not registered"):
            data.add_bar("QQQ", "1m", bar(at(TUESDAY, 9, 30)))
        with pytest.raises(NotFoundError, match="SPY has no 15m bars"):
            data.add_bar("SPY", "15m", bar(at(TUESDAY, 9, 30)))
        with pytest.raises(ConfigError, match="5m is made of 1m bars"):
            data.add_bar("SPY", "5m", bar(at(TUESDAY, 9, 30)))

    def test_derived_interval_that_cannot_be_made_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="7m bars cannot be made of 5m bars"):
            SessionData(clock(at(TUESDAY, 10))).register_symbol("SPY", "5m", ["7m"])

    def test_bad_history_is_refused_with_its_row_and_keeps_the_old(self) -> None:
        data = session()
        data.load_history("SPY", "1m", *columns_of(minutes(MONDAY, 0, 10)))
        starts, columns = columns_of(minutes(MONDAY, 0, 20))
        columns[3][7] = np.nan
        with pytest.raises(ConfigError, match=r"row 7\) has an unset number"):
            data.load_history("SPY", "1m", starts, columns)
        assert len(data.get_bars_ref("SPY", "1m")) == 10


class TestLateBars:
    def test_filling_makes_the_derived_bars_and_indicators_that_were_missing(self) -> None:
        data = session(at(TUESDAY, 9, 45), "5m")
        views = [data.get_indicator("SPY", "1m", "vwap"), data.get_indicator("SPY", "5m", "sma", 2)]
        whole = session(at(TUESDAY, 9, 45), "5m")
        expected = [whole.get_indicator("SPY", "1m", "vwap"), whole.get_indicator("SPY", "5m", "sma", 2)]
        for one in minutes(TUESDAY, 0, 15, without=[6, 7]):
            data.add_bar("SPY", "1m", one)
        for one in minutes(TUESDAY, 0, 15):
            whole.add_bar("SPY", "1m", one)
        assert len(data.get_bars_ref("SPY", "5m")) == 2
        assert data.get_bar_quality("SPY", "5m") == pytest.approx(200 / 3)
        changed = data.merge_bars("SPY", "1m", [*minutes(TUESDAY, 6, 8), *minutes(TUESDAY, 0, 2, base=1.0)])
        assert changed == [("SPY", "1m"), ("SPY", "5m")]
        assert list(data.get_bars_ref("SPY", "1m")) == list(whole.get_bars_ref("SPY", "1m"))
        assert list(data.get_bars_ref("SPY", "5m")) == list(whole.get_bars_ref("SPY", "5m"))
        for view, wanted in zip(views, expected, strict=True):
            np.testing.assert_array_equal(view.values, wanted.values)
        assert data.get_bar_quality("SPY", "5m") == 100.0

    def test_everything_goes_on_after_a_fill_as_if_nothing_had_been_missing(self) -> None:
        data, whole = session(None, "5m", "1d"), session(None, "5m", "1d")
        for each in (data, whole):
            for name, period in (("ema", 9), ("rsi", 14), ("obv", 0), ("swing_high", 3), ("stochastic", 5)):
                each.get_indicator("SPY", "1m", name, period)
        for one in minutes(TUESDAY, 0, 200, without=range(50, 57)):
            data.add_bar("SPY", "1m", one)
        data.merge_bars("SPY", "1m", minutes(TUESDAY, 50, 57))
        for one in minutes(TUESDAY, 200, 390):
            data.add_bar("SPY", "1m", one)
        for one in minutes(TUESDAY, 0, 390):
            whole.add_bar("SPY", "1m", one)
        for interval in ("1m", "5m", "1d"):
            assert list(data.get_bars_ref("SPY", interval)) == list(whole.get_bars_ref("SPY", interval))
        assert data.get_indicators("SPY").keys() == whole.get_indicators("SPY").keys()
        for key, view in data.get_indicators("SPY").items():
            np.testing.assert_array_equal(view.values, whole.get_indicators("SPY")[key].values)

    def test_day_whose_hole_is_filled_after_the_close_is_mended(self) -> None:
        data = session(at(TUESDAY, 16), "1d")
        for one in minutes(TUESDAY, 0, 390, without=[5]):
            data.add_bar("SPY", "1m", one)
        held = data.get_bars_ref("SPY", "1d")
        before = held[0].volume
        data.merge_bars("SPY", "1m", minutes(TUESDAY, 5, 6))
        assert (len(held), held[0].volume - before) == (1, 15.0)

    def test_bars_that_are_all_there_change_nothing(self) -> None:
        data = session(at(TUESDAY, 10))
        for one in minutes(TUESDAY, 0, 5):
            data.add_bar("SPY", "1m", one)
        assert data.merge_bars("SPY", "1m", minutes(TUESDAY, 0, 5, base=7.0)) == []
        assert data.get_bars_ref("SPY", "1m")[0].close == 100.0
        assert data.merge_bars("SPY", "1m", []) == []


class TestHistory:
    def test_windows_are_trading_days_that_end_the_day_before(self) -> None:
        data = session(at(WEDNESDAY, 10), "1d")
        days = [*minutes(BLACK_FRIDAY, 0, 210), *minutes(MONDAY, 0, 390), *minutes(TUESDAY, 0, 390)]
        data.load_history("SPY", "1m", *columns_of([*days, *minutes(WEDNESDAY, 0, 30)]))
        starts, columns = data.get_historical_bars("SPY", "1m", 2)
        assert (starts[0], starts[-1], len(columns[3])) == (at(MONDAY, 9, 30), at(TUESDAY, 15, 59), 780)
        assert len(data.get_historical_bars("SPY", "1m", 3)[0]) == 990
        assert len(data.get_historical_bars("SPY", "1d", 2)[0]) == 2
        assert len(data.get_historical_bars("QQQ", "1m", 2)[0]) == 0
        assert not starts.flags.writeable
        with pytest.raises(ConfigError, match="at least 1 day"):
            data.get_historical_bars("SPY", "1m", 0)

    def test_quality_of_history_is_the_mean_of_its_days(self) -> None:
        data = session(at(WEDNESDAY, 10))
        days = [*minutes(MONDAY, 0, 390, without=range(39)), *minutes(TUESDAY, 0, 390)]
        data.load_history("SPY", "1m", *columns_of(days))
        assert data.get_historical_quality("SPY", "1m", 2) == pytest.approx(95.0)
        assert data.get_historical_quality("SPY", "1m", 3) == pytest.approx(190 / 3)
        assert data.get_historical_quality("QQQ", "1m", 3) == 0.0

    def test_stored_days_stay_and_the_days_made_of_minutes_follow_them(self) -> None:
        data = session(at(TUESDAY, 9, 30), "1d")
        stored = [
            bar(day * 86_400_000_000_000) for day in (18226, 18229, 18232)
        ]  # midnights: 26th, 29th Nov., 2nd Dec.
        data.load_history("SPY", "1d", *columns_of(stored))
        data.load_history("SPY", "1m", *columns_of(minutes(MONDAY, 0, 390)))
        held = data.get_bars_ref("SPY", "1d")
        assert [one.start_ns for one in held] == [one.start_ns for one in stored]
        for one in minutes(TUESDAY, 0, 390):
            data.add_bar("SPY", "1m", one)
        assert [one.start_ns for one in held][-2:] == [stored[-1].start_ns, at(TUESDAY, 9, 30)]
        data.calendar.set_time_ns(at(TUESDAY, 16))  # type: ignore[attr-defined]  # a TimeManager
        assert data.get_bar_quality("SPY", "1d") == pytest.approx(100.0 * 4 / 5)  # the 27th is missing

    def test_day_that_is_stored_is_not_made_again_by_its_minutes(self) -> None:
        data = session(at(TUESDAY, 9, 30), "1d")
        midnight = at(TUESDAY, 0) - 5 * 60 * MINUTE
        data.load_history("SPY", "1d", *columns_of([bar(midnight, 55.0)]))
        for one in minutes(TUESDAY, 0, 390):
            data.add_bar("SPY", "1m", one)
        assert [one.close for one in data.get_bars_ref("SPY", "1d")] == [55.0]

    def test_day_made_after_stored_ones_is_mended_by_late_minutes(self) -> None:
        data = session(at(TUESDAY, 16), "1d")
        stored = at(MONDAY, 0) - 5 * 60 * MINUTE
        data.load_history("SPY", "1d", *columns_of([bar(stored, 55.0)]))
        for one in minutes(TUESDAY, 0, 390, without=[5]):
            data.add_bar("SPY", "1m", one)
        held = data.get_bars_ref("SPY", "1d")
        before = held[-1].volume
        data.merge_bars("SPY", "1m", minutes(TUESDAY, 5, 6))
        assert [one.close for one in held] == [55.0, pytest.approx(103.89)]
        assert held[-1].volume == before + 15.0

    def test_symbol_that_comes_during_the_session_goes_on_with_what_was_loaded(self) -> None:
        data = session(at(TUESDAY, 9, 37), "5m")
        data.load_history("SPY", "1m", *columns_of([*minutes(MONDAY, 0, 390), *minutes(TUESDAY, 0, 7)]))
        assert len(data.get_bars_ref("SPY", "5m")) == 79
        told = [data.add_bar("SPY", "1m", one) for one in minutes(TUESDAY, 7, 10)]
        assert told[-1] == [("SPY", "1m"), ("SPY", "5m")]
        assert data.get_bars_ref("SPY", "5m")[-1].start_ns == at(TUESDAY, 9, 35)


class TestQuality:
    @pytest.mark.parametrize(
        ("now", "expected"),
        [
            ((9, 29), 100.0),
            ((9, 30), 100.0),
            ((9, 40), 90.0),
            ((9, 50), 45.0),
            ((16, 0), 100 * 9 / 390),
            ((20, 0), 100 * 9 / 390),
        ],
    )
    def test_quality_is_measured_up_to_now_and_no_further_than_the_close(
        self, now: tuple[int, int], expected: float
    ) -> None:
        data = session(at(TUESDAY, *now))
        if now > (9, 30):
            for one in minutes(TUESDAY, 0, 10, without=[4]):
                data.add_bar("SPY", "1m", one)
        assert data.get_bar_quality("SPY", "1m") == pytest.approx(expected)

    def test_next_morning_begins_at_100_and_yesterdays_bars_do_not_count(self) -> None:
        data = session(at(WEDNESDAY, 9, 29))
        data.load_history("SPY", "1m", *columns_of(minutes(TUESDAY, 0, 390, without=[7])))
        assert data.get_bar_quality("SPY", "1m") == 100.0
        data.calendar.set_time_ns(at(WEDNESDAY, 9, 31))  # type: ignore[attr-defined]  # a TimeManager
        assert data.get_bar_quality("SPY", "1m") == 0.0

    def test_bars_before_the_open_and_between_minutes_hide_no_missing_one(self) -> None:
        data = session(at(TUESDAY, 9, 40))
        stray = [bar(at(TUESDAY, 9, 29)), *minutes(TUESDAY, 0, 9), bar(at(TUESDAY, 9, 38, 30))]
        for one in stray:
            data.add_bar("SPY", "1m", one)
        assert data.get_bar_quality("SPY", "1m") == 90.0

    @pytest.mark.parametrize("at_once", [True, False])
    def test_bar_that_reaches_over_the_close_makes_up_for_no_other(self, at_once: bool) -> None:
        data = SessionData(clock(at(TUESDAY, 17)))
        data.register_symbol("SPY", "60m")
        hours = [bar(at(TUESDAY, 9, 30) + n * 60 * MINUTE) for n in range(7) if n != 2]
        if at_once:
            data.load_history("SPY", "60m", *columns_of(hours))
        for one in () if at_once else hours:
            data.add_bar("SPY", "60m", one)
        assert data.get_bar_quality("SPY", "60m") == pytest.approx(100 * 5 / 6)

    def test_derived_quality_is_the_lower_of_its_own_and_its_sources(self) -> None:
        data = session(at(TUESDAY, 10), "5m", "15m")
        for one in minutes(TUESDAY, 0, 30, without=[7]):
            data.add_bar("SPY", "1m", one)
        assert data.get_bar_quality("SPY", "1m") == pytest.approx(100 * 29 / 30)
        assert data.get_bar_quality("SPY", "5m") == pytest.approx(100 * 5 / 6)
        assert data.get_bar_quality("SPY", "15m") == 50.0

    def test_switched_off_every_known_pair_is_100(self) -> None:
        data = session(at(TUESDAY, 10), enable_quality=False)
        assert data.get_bar_quality("SPY", "1m") == 100.0
        assert data.get_bar_quality("QQQ", "1m") == 0.0

    def test_gaps_of_today_are_told_with_their_size(self) -> None:
        data = session(at(TUESDAY, 9, 45))
        for one in minutes(TUESDAY, 0, 12, without=[0, 3, 4, 5]):
            data.add_bar("SPY", "1m", one)
        assert [(one.start_ns, one.missing) for one in data.get_gaps("SPY", "1m")] == [
            (at(TUESDAY, 9, 30), 1),
            (at(TUESDAY, 9, 33), 3),
            (at(TUESDAY, 9, 42), 3),
        ]
        assert data.get_gaps("QQQ", "1m") == []

    def test_weeks_count_those_that_are_over(self) -> None:
        data = session(at(date(2019, 12, 11), 12), "1d", "1w")
        days = [date(2019, 12, n) for n in (2, 3, 4, 5, 6, 9, 10)]
        past = [one for day in days for one in minutes(day, 0, 390)]
        data.load_history("SPY", "1m", *columns_of([*past, *minutes(date(2019, 12, 11), 0, 150)]))
        assert len(data.get_bars_ref("SPY", "1w")) == 1
        assert data.get_bar_quality("SPY", "1d") == data.get_historical_quality("SPY", "1w", 5) == 100.0


class TestSymbols:
    def test_registering_again_adds_what_is_missing_and_promotes(self) -> None:
        data = SessionData(clock(at(TUESDAY, 10)))
        data.register_symbol("SPY", adhoc=True)
        assert (data.symbols, data.adhoc_symbols) == ([], ["SPY"])
        for one in minutes(TUESDAY, 0, 10):
            data.add_bar("SPY", "1m", one)
        data.register_symbol("SPY", "1m", ["5m"])
        assert (data.symbols, data.adhoc_symbols) == (["SPY"], [])
        assert len(data.get_bars_ref("SPY", "5m")) == 2
        data.register_symbol("SPY", "1m", ["5m"], adhoc=True)
        assert data.symbols == ["SPY"]
        assert data.streamed_pairs() == [("SPY", "1m")]
        assert data.pairs() == [("SPY", "1m"), ("SPY", "5m")]

    def test_held_symbol_is_not_removed_until_every_reason_is_gone(self) -> None:
        data = session()
        data.lock_symbol("SPY", "position of RSI")
        data.lock_symbol("SPY", "order 7")
        with pytest.raises(ConflictError, match="held by order 7, position of RSI"):
            data.remove_symbol("SPY")
        data.unlock_symbol("SPY", "order 7")
        assert data.is_locked("SPY")
        data.unlock_symbol("SPY", "position of RSI")
        held = data.get_bars_ref("SPY", "1m")
        assert data.remove_symbol("SPY")
        assert not data.remove_symbol("SPY")
        assert data.get_bars_ref("SPY", "1m") is EMPTY
        assert len(held) == 0
        with pytest.raises(NotFoundError):
            data.lock_symbol("SPY", "order 8")

    def test_symbol_has_one_exchange(self) -> None:
        data = session()
        with pytest.raises(ConflictError, match="registered on US_EQUITY, not XLON"):
            data.register_symbol("SPY", exchange="XLON")

    def test_metrics_say_what_there_is(self) -> None:
        data = session(at(TUESDAY, 9, 40), "5m")
        data.load_history("SPY", "1m", *columns_of(minutes(MONDAY, 0, 390)))
        for one in minutes(TUESDAY, 0, 10, without=[4]):
            data.add_bar("SPY", "1m", one)
        data.get_indicator("SPY", "1m", "sma", 5)
        found = data.get_symbol_metrics("SPY")
        assert found["today"] == {"bars": 9, "high": 100.59, "low": 99.5, "last": 100.09, "volume": 110.0}
        assert found["pairs"]["1m"]["quality"] == 90.0
        assert found["pairs"]["1m"]["gaps"] == 1
        assert found["pairs"]["5m"]["derived_from"] == "1m"
        assert found["pairs"]["1m"]["indicators"] == ["sma_5_1m"]
        totals = data.get_metrics()
        assert (totals["symbols"], totals["pairs"], totals["bars"], totals["indicators"]) == (1, 2, 399 + 79, 1)
        data.clear()
        assert data.get_metrics()["symbols"] == 0


class TestIndicators:
    def test_same_question_gives_the_same_view_and_other_parameters_another(self) -> None:
        data = session()
        one = data.get_indicator("SPY", "1m", "bbands", 20)
        assert data.get_indicator("SPY", "1m", "bbands", 20) is one
        assert data.get_indicator("SPY", "1m", "bbands", 20, num_std=2.0) is one
        assert data.get_indicator("SPY", "1m", "bbands", 20, num_std=3.0) is not one

    def test_declared_key_belongs_to_one_set_of_parameters(self) -> None:
        data = session()
        data.add_indicator("SPY", make_request("bbands", "1m", 20))
        data.add_indicator("SPY", make_request("bbands", "1m", 20))
        assert list(data.get_indicators("SPY")) == ["bbands_20_1m"]
        with pytest.raises(ConfigError, match="bbands_20_1m is there with other parameters"):
            data.add_indicator("SPY", make_request("bbands", "1m", 20, {"num_std": 3}))

    def test_each_symbol_steps_its_own(self) -> None:
        data = session()
        data.register_symbol("QQQ")
        views = {name: data.get_indicator(name, "1m", "vwap") for name in ("SPY", "QQQ")}
        for low, high in zip(minutes(TUESDAY, 0, 30), minutes(TUESDAY, 0, 30, base=500.0), strict=True):
            data.add_bar("SPY", "1m", low)
            data.add_bar("QQQ", "1m", high)
        assert views["SPY"].value == pytest.approx(100.1, abs=0.1)
        assert views["QQQ"].value == pytest.approx(500.1, abs=0.1)

    def test_edited_calendar_is_taken_over_with_the_next_bar(self) -> None:
        data = session(at(TUESDAY, 12), "1d")
        view = data.get_indicator("SPY", "1m", "vwap")
        for one in minutes(TUESDAY, 0, 150):
            data.add_bar("SPY", "1m", one)
        short = HolidayOverride("US_EQUITY", TUESDAY, "Storm", closes_at=time(12, 1))
        data.calendar.set_overrides(Overrides(holidays=(short,)))  # type: ignore[attr-defined]  # a TimeManager
        assert data.add_bar("SPY", "1m", minutes(TUESDAY, 150, 151)[0]) == [("SPY", "1m"), ("SPY", "1d")]
        assert view.value is not None


def test_readers_of_other_threads_see_whole_bars_with_their_values() -> None:
    data = session(at(TUESDAY, 15, 59))
    held, view = data.get_bars_ref("SPY", "1m"), data.get_indicator("SPY", "1m", "sma", 1)
    problems: list[str] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            count = len(held)
            if not count:
                continue
            one, value = held[count - 1], view.values[count - 1]
            if one != bar(one.start_ns, one.close, one.volume) or not np.isfinite(value):
                problems.append(f"{one} {value}")
            quality = data.get_bar_quality("SPY", "1m")
            if not 0 <= quality <= 100:
                problems.append(str(quality))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number, one in enumerate(minutes(TUESDAY, 0, 390, without=range(100, 110))):
        data.add_bar("SPY", "1m", one)
        if number == 200:
            data.merge_bars("SPY", "1m", minutes(TUESDAY, 100, 110))
        data.get_indicator("SPY", "1m", "ema", 2 + number % 20)
    done.set()
    for reader in readers:
        reader.join(10)
    assert not problems
    assert len(held) == 390


def test_series_that_is_laid_out_is_taken_as_it_is() -> None:
    data = session()
    laid = series_of("QQQ", "1m", minutes(MONDAY, 0, 390))
    data.add_series(laid)
    assert data.get_bars_ref("QQQ", "1m") is laid
    view = data.get_indicator("QQQ", "1m", "sma", 3)
    assert (view.value, len(view.values)) == (None, 0)
    laid.count = 5
    assert view.value == pytest.approx(100.03)
    with pytest.raises(ConflictError, match="QQQ 1m is there already"):
        data.add_series(series_of("QQQ", "1m", []))
    with pytest.raises(ConfigError, match="laid out already"):
        data.add_bar("QQQ", "1m", bar(at(TUESDAY, 9, 30)))
