"""The session's clock and calendars: what is open when, holidays, early closes, breaks, clock changes, overrides."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import exchange_calendars
import numpy as np
import pytest

from strategies.bar_series import nanos_of
from strategies.exceptions import ConfigError, ConflictError
from strategies.intervals import parse_interval
from trading.market.calendars import HolidayOverride, HoursOverride, Overrides, build_table, group_of
from trading.market.session_table import SessionTable
from trading.market.time_manager import MarketPhase, TimeManager

NEW_YORK = ZoneInfo("America/New_York")
BLACK_FRIDAY = date(2019, 11, 29)
THANKSGIVING = date(2019, 11, 28)


def at(day: date, hour: int, minute: int = 0, second: int = 0) -> datetime:
    """A moment of New York."""
    return datetime(day.year, day.month, day.day, hour, minute, second, tzinfo=NEW_YORK)


def backtest(overrides: Overrides | None = None, group: str = "US_EQUITY") -> TimeManager:
    return TimeManager("backtest", group=group, overrides=overrides or Overrides())


class TestClock:
    def test_live_clock_is_the_real_one_in_utc_and_cannot_be_set(self) -> None:
        now = datetime(2026, 3, 2, 15, tzinfo=UTC)
        clock = TimeManager(clock=lambda: now)
        assert clock.get_current_time() == now
        assert clock.get_current_time("Asia/Tokyo").hour == 0
        with pytest.raises(ConflictError, match="cannot be set"):
            clock.set_time(now)

    def test_backtest_clock_is_set_and_a_naive_time_is_the_exchanges(self) -> None:
        clock = backtest()
        clock.set_time(datetime(2020, 7, 1, 9, 30))  # noqa: DTZ001 - what is tested
        assert clock.get_current_time() == datetime(2020, 7, 1, 13, 30, tzinfo=UTC)
        clock.set_time(datetime(2020, 1, 2, 9, 30))  # noqa: DTZ001
        assert clock.get_current_time() == datetime(2020, 1, 2, 14, 30, tzinfo=UTC)
        assert clock.get_current_time().tzinfo is UTC

    def test_backtest_clock_that_nobody_set_is_refused(self) -> None:
        with pytest.raises(ConfigError) as refused:
            backtest().get_current_time()
        assert refused.value.code == "clock_unset"

    def test_naive_moments_are_refused_everywhere_else(self) -> None:
        clock = backtest()
        naive = datetime(2020, 1, 2, 10)  # noqa: DTZ001
        for call in (
            lambda: clock.is_open(naive),
            lambda: clock.get_market_session(naive),
            lambda: clock.next_open(naive),
            lambda: clock.next_close(naive),
            lambda: clock.trading_day_of(naive),
            lambda: clock.count_trading_time(naive, at(BLACK_FRIDAY, 10), "minutes"),
        ):
            with pytest.raises(ConfigError) as refused:
                call()
            assert refused.value.code == "naive_time"

    def test_unknown_zone_mode_and_exchange_are_refused_by_name(self) -> None:
        clock = TimeManager()
        with pytest.raises(ConfigError, match="Mars/Olympus"):
            clock.get_current_time("Mars/Olympus")
        with pytest.raises(ConfigError, match="'paper'"):
            TimeManager("paper")
        with pytest.raises(ConfigError, match="«NOWHERE»"):
            clock.is_trading_day(BLACK_FRIDAY, "NOWHERE")

    def test_backtest_advances_to_the_next_open_over_a_holiday(self) -> None:
        clock = backtest()
        clock.set_time(at(date(2019, 11, 27), 9, 30))
        assert clock.advance_to_market_open() == at(BLACK_FRIDAY, 9, 30)
        assert clock.get_current_time() == at(BLACK_FRIDAY, 9, 30)
        assert clock.advance_to_market_open(extended=True) == at(date(2019, 12, 2), 4)


class TestSessions:
    def test_regular_day_has_pre_and_post_market_around_its_session(self) -> None:
        found = backtest().get_trading_session(date(2019, 12, 2))
        assert found.is_trading_day
        assert not found.is_early_close
        assert (found.pre_open, found.regular_open) == (at(found.day, 4), at(found.day, 9, 30))
        assert (found.regular_close, found.post_close) == (at(found.day, 16), at(found.day, 20))

    def test_early_close_moves_the_start_of_post_market(self) -> None:
        clock = backtest()
        found = clock.get_trading_session(BLACK_FRIDAY)
        assert found.is_early_close
        assert (found.regular_close, found.post_close) == (at(BLACK_FRIDAY, 13), at(BLACK_FRIDAY, 20))
        assert clock.get_market_session(at(BLACK_FRIDAY, 13)) is MarketPhase.POST_MARKET
        assert clock.is_early_close(BLACK_FRIDAY) == (True, at(BLACK_FRIDAY, 13))

    def test_holiday_and_weekend_have_no_hours_and_only_one_is_a_holiday(self) -> None:
        clock = backtest()
        holiday = clock.get_trading_session(THANKSGIVING)
        assert (holiday.is_trading_day, holiday.regular_open, holiday.post_close) == (False, None, None)
        assert clock.is_holiday(THANKSGIVING)[0]
        assert not clock.is_holiday(date(2019, 11, 30))[0]

    @pytest.mark.parametrize(
        "day", [date(2001, 9, 11), date(2012, 10, 29), date(2018, 12, 5), date(2021, 12, 24), date(2025, 1, 9)]
    )
    def test_days_on_which_new_york_stayed_shut(self, day: date) -> None:
        assert not backtest().is_trading_day(day)

    @pytest.mark.parametrize(
        ("moment", "phase"),
        [
            ((3, 59, 59), MarketPhase.CLOSED),
            ((4, 0, 0), MarketPhase.PRE_MARKET),
            ((9, 29, 59), MarketPhase.PRE_MARKET),
            ((9, 30, 0), MarketPhase.REGULAR),
            ((15, 59, 59), MarketPhase.REGULAR),
            ((16, 0, 0), MarketPhase.POST_MARKET),
            ((19, 59, 59), MarketPhase.POST_MARKET),
            ((20, 0, 0), MarketPhase.CLOSED),
        ],
    )
    def test_edges_of_a_day_belong_to_what_begins(self, moment: tuple[int, int, int], phase: MarketPhase) -> None:
        clock = backtest()
        assert clock.get_market_session(at(date(2019, 12, 2), *moment)) is phase
        assert clock.is_open(at(date(2019, 12, 2), *moment)) is (phase is MarketPhase.REGULAR)

    def test_options_know_no_pre_market(self) -> None:
        clock = backtest()
        assert clock.get_market_session(at(date(2019, 12, 2), 5), asset_class="OPTION") is MarketPhase.CLOSED
        session = clock.get_trading_session(date(2019, 12, 2), asset_class="OPTION")
        assert session.pre_open == session.regular_open

    @pytest.mark.parametrize(
        ("day", "utc_hour"), [(date(2020, 3, 6), 14), (date(2020, 3, 9), 13), (date(2020, 11, 2), 14)]
    )
    def test_open_follows_the_change_of_clocks(self, day: date, utc_hour: int) -> None:
        assert backtest().get_trading_session(day).regular_open == datetime(
            day.year, day.month, day.day, utc_hour, 30, tzinfo=UTC
        )

    def test_tokyo_rests_at_noon(self) -> None:
        clock = backtest(group="XTKS")
        tokyo = ZoneInfo("Asia/Tokyo")
        day = date(2020, 1, 6)
        found = clock.get_trading_session(day)
        assert found.break_start == datetime(2020, 1, 6, 11, 30, tzinfo=tokyo)
        assert found.break_end == datetime(2020, 1, 6, 12, 30, tzinfo=tokyo)
        assert not clock.is_open(datetime(2020, 1, 6, 12, tzinfo=tokyo))
        assert clock.is_open(datetime(2020, 1, 6, 12, 30, tzinfo=tokyo))
        whole = clock.count_trading_time(
            datetime(2020, 1, 6, tzinfo=tokyo), datetime(2020, 1, 7, tzinfo=tokyo), "minutes"
        )
        assert whole == 300

    @pytest.mark.parametrize("name", ["NYSE", "nasdaq", "AMEX", "ARCA", "XNYS", "SMART"])
    def test_group_of_us_stocks_has_many_names(self, name: str) -> None:
        assert group_of(name) == "US_EQUITY"

    def test_other_exchanges_go_by_the_librarys_names(self) -> None:
        assert (group_of("LSE"), group_of("XLON"), group_of("24/7")) == ("XLON", "XLON", "24/7")

    def test_minutes_agree_with_the_library_over_a_year(self) -> None:
        calendar = exchange_calendars.get_calendar("XNYS", start="2019-01-02", end="2019-12-31", side="left")
        table = build_table("US_EQUITY", date(2019, 1, 1), date(2019, 12, 31))
        first = nanos_of(datetime(2019, 1, 2, tzinfo=UTC))
        minutes = first + np.arange(364 * 1440, dtype=np.int64) * 60_000_000_000
        ours = set(minutes[table.segments_at(minutes) >= 0].tolist())
        assert ours == set(calendar.minutes_nanos.tolist())


class TestDays:
    def test_first_includes_the_day_and_next_and_previous_do_not(self) -> None:
        clock = backtest()
        assert clock.get_first_trading_date(THANKSGIVING) == BLACK_FRIDAY
        assert clock.get_first_trading_date(BLACK_FRIDAY) == BLACK_FRIDAY
        assert clock.get_next_trading_date(BLACK_FRIDAY) == date(2019, 12, 2)
        assert clock.get_previous_trading_date(BLACK_FRIDAY) == date(2019, 11, 27)
        assert clock.get_previous_trading_date(THANKSGIVING) == date(2019, 11, 27)
        assert clock.get_next_trading_date(BLACK_FRIDAY, n=3) == date(2019, 12, 4)
        assert clock.get_previous_trading_date(BLACK_FRIDAY, n=400) == date(2018, 4, 30)

    def test_trailing_days_end_the_day_before(self) -> None:
        assert backtest().get_trailing_days(date(2019, 12, 2), 3) == [
            date(2019, 11, 26),
            date(2019, 11, 27),
            BLACK_FRIDAY,
        ]

    def test_count_of_no_days_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="at least 1"):
            backtest().get_next_trading_date(BLACK_FRIDAY, n=0)

    def test_days_between_count_both_ends(self) -> None:
        clock = backtest()
        assert clock.count_trading_days(date(2019, 11, 25), date(2019, 11, 29)) == 4
        assert clock.count_trading_days(BLACK_FRIDAY, BLACK_FRIDAY) == 1
        assert clock.count_trading_days(BLACK_FRIDAY, THANKSGIVING) == 0
        assert clock.count_trading_days(date(1993, 1, 1), date(1993, 12, 31)) == 253


class TestTradingTime:
    def test_real_hours_are_counted(self) -> None:
        clock = backtest()
        monday, friday = at(date(2019, 11, 25), 0), at(date(2019, 11, 30), 0)
        assert clock.count_trading_time(monday, friday, "minutes") == 3 * 390 + 210
        assert clock.count_trading_time(monday, friday, "seconds") == (3 * 390 + 210) * 60
        assert clock.count_trading_time(monday, friday, "days") == 4
        assert clock.count_trading_time(monday, friday, "weeks") == 1
        assert clock.count_trading_time(at(BLACK_FRIDAY, 12, 30), at(date(2019, 12, 2), 9, 45), "minutes") == 45
        assert clock.count_trading_time(at(BLACK_FRIDAY, 12, 59, 30), at(BLACK_FRIDAY, 18), "seconds") == 30

    def test_nothing_lies_between_a_close_and_the_next_open_or_backwards(self) -> None:
        clock = backtest()
        assert clock.count_trading_time(at(BLACK_FRIDAY, 13), at(date(2019, 12, 2), 9, 30), "days") == 0
        assert clock.count_trading_time(at(BLACK_FRIDAY, 13), at(BLACK_FRIDAY, 10), "seconds") == 0

    def test_unknown_unit_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="seconds, minutes, days, weeks"):
            backtest().count_trading_time(at(BLACK_FRIDAY, 10), at(BLACK_FRIDAY, 11), "fortnights")


class TestOverrides:
    def test_operators_close_a_day_and_shorten_another(self) -> None:
        clock = backtest(
            Overrides(
                holidays=(
                    HolidayOverride("US_EQUITY", date(2019, 12, 2), "Storm"),
                    HolidayOverride("US_EQUITY", date(2019, 12, 3), "Fire", closes_at=time(14, 0)),
                )
            )
        )
        assert clock.is_holiday(date(2019, 12, 2)) == (True, "Storm")
        short = clock.get_trading_session(date(2019, 12, 3))
        assert (short.regular_close, short.post_close) == (at(short.day, 14), at(short.day, 20))
        assert short.is_early_close
        assert clock.get_next_trading_date(BLACK_FRIDAY) == date(2019, 12, 3)

    def test_operators_open_a_day_that_the_calendar_has_closed(self) -> None:
        clock = backtest(Overrides(holidays=(HolidayOverride("US_EQUITY", THANKSGIVING, "Turkey", is_open=True),)))
        found = clock.get_trading_session(THANKSGIVING)
        assert (found.pre_open, found.regular_open) == (at(THANKSGIVING, 4), at(THANKSGIVING, 9, 30))
        assert (found.regular_close, found.post_close) == (at(THANKSGIVING, 16), at(THANKSGIVING, 20))

    def test_hours_hold_from_their_day_on_and_the_later_row_wins(self) -> None:
        clock = backtest(
            Overrides(
                hours=(
                    HoursOverride("US_EQUITY", date(2020, 1, 6), None, time(9), time(17), time(7), time(18)),
                    HoursOverride("US_EQUITY", date(2020, 1, 8), date(2020, 1, 8), time(10), time(15)),
                )
            )
        )
        before, changed, once = (clock.get_trading_session(date(2020, 1, day)) for day in (3, 7, 8))
        assert before.regular_open == at(before.day, 9, 30)
        assert (changed.pre_open, changed.regular_open) == (at(changed.day, 7), at(changed.day, 9))
        assert (changed.regular_close, changed.post_close) == (at(changed.day, 17), at(changed.day, 18))
        assert (once.pre_open, once.regular_open) == (at(once.day, 10), at(once.day, 10))
        assert (once.regular_close, once.post_close) == (at(once.day, 15), at(once.day, 15))
        assert clock.get_trading_session(date(2020, 1, 9)).regular_open == at(date(2020, 1, 9), 9)

    def test_day_that_the_calendar_closes_early_stays_short_under_other_hours(self) -> None:
        hours = HoursOverride("US_EQUITY", date(2019, 1, 1), None, time(9), time(17))
        found = backtest(Overrides(hours=(hours,))).get_trading_session(BLACK_FRIDAY)
        assert (found.regular_open, found.regular_close) == (at(BLACK_FRIDAY, 9), at(BLACK_FRIDAY, 13))

    def test_other_hours_keep_the_lunch_break(self) -> None:
        tokyo = ZoneInfo("Asia/Tokyo")
        hours = HoursOverride("XTKS", date(2020, 1, 1), None, time(9), time(15, 30))
        found = backtest(Overrides(hours=(hours,)), "XTKS").get_trading_session(date(2020, 1, 6))
        assert found.break_end == datetime(2020, 1, 6, 12, 30, tzinfo=tokyo)
        assert found.regular_close == datetime(2020, 1, 6, 15, 30, tzinfo=tokyo)

    def test_overrides_of_one_group_leave_another_alone(self) -> None:
        clock = backtest(Overrides(holidays=(HolidayOverride("XLON", date(2019, 12, 2), "Fog"),)))
        assert clock.is_trading_day(date(2019, 12, 2))
        assert not clock.is_trading_day(date(2019, 12, 2), "LSE")

    def test_new_overrides_replace_what_was_cached(self) -> None:
        clock = backtest()
        assert clock.get_trading_session(date(2019, 12, 2)).is_trading_day
        clock.set_overrides(Overrides(holidays=(HolidayOverride("US_EQUITY", date(2019, 12, 2), "Storm"),)))
        assert not clock.get_trading_session(date(2019, 12, 2)).is_trading_day
        assert clock.revision == 1
        clock.set_overrides(Overrides(holidays=(HolidayOverride("US_EQUITY", date(2019, 12, 2), "Storm"),)))
        assert clock.revision == 1

    def test_same_day_is_looked_up_once(self) -> None:
        clock = backtest()
        assert clock.get_trading_session(BLACK_FRIDAY) is clock.get_trading_session(BLACK_FRIDAY, "NYSE")
        assert clock.get_trading_session(BLACK_FRIDAY) is not clock.get_trading_session(BLACK_FRIDAY, None, "OPTION")

    def test_close_before_the_open_is_refused_with_the_day(self) -> None:
        clock = backtest(Overrides(holidays=(HolidayOverride("US_EQUITY", BLACK_FRIDAY, "Odd", closes_at=time(8)),)))
        with pytest.raises(ConfigError, match="2019-11-29 has hours that run backwards"):
            clock.is_trading_day(BLACK_FRIDAY)


class TestTable:
    def test_sessions_that_overlap_are_refused_with_the_day(self) -> None:
        days = np.array(["2020-01-02", "2020-01-03"], dtype="datetime64[D]")
        opens = np.array([0, 50], dtype=np.int64)
        with pytest.raises(ConfigError, match="2020-01-03 begins before the session before it ends"):
            SessionTable("X", "UTC", days, opens=opens, closes=opens + 60)

    def test_one_moment_and_many_agree(self) -> None:
        table = build_table("XTKS", date(2020, 1, 1), date(2020, 2, 1))
        moments = np.arange(int(table.opens[0]) - 10**13, int(table.closes[-1]) + 10**13, 7 * 10**11, dtype=np.int64)
        assert table.sessions_at(moments).tolist() == [table.session_at(one) for one in moments.tolist()]
        assert table.segments_at(moments).tolist() == [table.segment_at(one) for one in moments.tolist()]

    def test_bars_end_after_their_length_but_not_after_the_close(self) -> None:
        table = build_table("US_EQUITY", date(2019, 11, 1), date(2019, 12, 31))
        starts = np.array([nanos_of(at(BLACK_FRIDAY, 9, 30)), nanos_of(at(BLACK_FRIDAY, 12, 30))], dtype=np.int64)
        ends = table.bar_ends(parse_interval("60m"), starts)
        assert ends.tolist() == [nanos_of(at(BLACK_FRIDAY, 10, 30)), nanos_of(at(BLACK_FRIDAY, 13))]

    @pytest.mark.parametrize(
        "stamp",
        [
            datetime(2019, 11, 29, tzinfo=UTC),
            at(BLACK_FRIDAY, 0),
            at(BLACK_FRIDAY, 9, 30),
            datetime(2019, 11, 29, 0, tzinfo=ZoneInfo("Europe/London")),
        ],
    )
    def test_daily_bar_is_over_at_the_close_of_its_day_however_it_is_stamped(self, stamp: datetime) -> None:
        table = build_table("US_EQUITY", date(2019, 11, 1), date(2019, 12, 31))
        starts = np.array([nanos_of(stamp)], dtype=np.int64)
        assert table.bar_ends(parse_interval("1d"), starts).tolist() == [nanos_of(at(BLACK_FRIDAY, 13))]

    def test_weekly_bar_is_over_at_the_last_close_of_its_week(self) -> None:
        table = build_table("US_EQUITY", date(2019, 11, 1), date(2019, 12, 31))
        starts = np.array([nanos_of(datetime(2019, 11, 25, tzinfo=UTC))], dtype=np.int64)
        assert table.bar_ends(parse_interval("1w"), starts).tolist() == [nanos_of(at(BLACK_FRIDAY, 13))]

    def test_bars_beyond_the_calendar_are_refused(self) -> None:
        table = build_table("US_EQUITY", date(2019, 11, 1), date(2019, 12, 31))
        starts = np.array([nanos_of(at(BLACK_FRIDAY, 9) + timedelta(days=90))], dtype=np.int64)
        with pytest.raises(ConfigError, match="reach beyond the calendar"):
            table.bar_ends(parse_interval("1m"), starts)
