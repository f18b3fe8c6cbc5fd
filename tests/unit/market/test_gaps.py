"""Missing bars: grouping, tries of the live filler, what a backtest never does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from strategies.bar_series import Bar
from strategies.exceptions import ConfigError, ConflictError, TransientError
from strategies.intervals import parse_interval
from tests.support.minutes import MINUTE, TUESDAY, at, clock, minutes, table
from trading.market.gaps import Gap, GapFiller, find_gaps, group_gaps
from trading.market.quality import expected_bars, expected_starts
from trading.market.session_data import SessionData
from trading.market.session_table import SECOND_NS


class Requests:
    """A broker that has some bars, or fails."""

    def __init__(self, bars: Sequence[Bar] = (), *, failing: bool = False) -> None:
        self.bars, self.failing = list(bars), failing
        self.asked: list[tuple[str, str, int, int]] = []

    def request_bars(self, symbol: str, interval: str, start_ns: int, end_ns: int) -> Sequence[Bar]:
        self.asked.append((symbol, interval, start_ns, end_ns))
        if self.failing:
            raise TransientError("IB does not answer.")
        return self.bars


def live(now_ns: int, *, without: Sequence[int], until: int = 20) -> SessionData:
    data = SessionData(clock(now_ns))
    data.register_symbol("SPY", "1m", ["5m"])
    for one in minutes(TUESDAY, 0, until, without=without):
        data.add_bar("SPY", "1m", one)
    return data


class TestGrouping:
    def test_stamps_are_one_gap_while_each_follows_by_the_interval(self) -> None:
        stamps = np.array([0, 5, 10, 20, 35, 40], dtype=np.int64) * MINUTE
        assert group_gaps(stamps, parse_interval("5m")) == [
            Gap(0, 15 * MINUTE, 3),
            Gap(20 * MINUTE, 25 * MINUTE, 1),
            Gap(35 * MINUTE, 45 * MINUTE, 2),
        ]
        assert len(group_gaps(stamps, parse_interval("1m"))) == 6
        assert group_gaps(stamps[:0], parse_interval("1m")) == []

    def test_nothing_is_missing_before_the_open_and_all_of_the_day_after_it(self) -> None:
        none = np.empty(0, dtype=np.int64)
        session = table().index_of(TUESDAY)
        assert find_gaps(none, parse_interval("1m"), table(), session, at(TUESDAY, 9)) == []
        [gap] = find_gaps(none, parse_interval("1m"), table(), session, at(TUESDAY, 18))
        assert (gap.start_ns, gap.end_ns, gap.missing) == (at(TUESDAY, 9, 30), at(TUESDAY, 16), 390)
        assert find_gaps(none, parse_interval("1m"), table(), -1, at(TUESDAY, 18)) == []

    def test_whole_intervals_alone_are_expected(self) -> None:
        session = table().index_of(TUESDAY)
        assert expected_bars(table(), parse_interval("5m"), session, at(TUESDAY, 9, 34, 59)) == 0
        assert expected_bars(table(), parse_interval("60m"), session, at(TUESDAY, 23)) == 6
        assert len(expected_starts(table(), parse_interval("60m"), session, at(TUESDAY, 23))) == 6


class TestFiller:
    def test_gap_is_asked_for_once_filled_and_never_again(self) -> None:
        data = live(at(TUESDAY, 9, 50), without=[3, 4, 9])
        requests = Requests(minutes(TUESDAY, 0, 390))
        filler = GapFiller(data, requests, mode="live")
        assert filler.run(at(TUESDAY, 9, 51)) == [("SPY", "1m"), ("SPY", "5m")]
        assert [one[2:] for one in requests.asked] == [
            (at(TUESDAY, 9, 33), at(TUESDAY, 9, 35)),
            (at(TUESDAY, 9, 39), at(TUESDAY, 9, 40)),
        ]
        assert data.get_bar_quality("SPY", "5m") == 100.0
        assert (len(data.get_bars_ref("SPY", "1m")), filler.filled) == (20, 3)
        assert filler.run(at(TUESDAY, 9, 59)) == []
        assert len(requests.asked) == 2

    @pytest.mark.parametrize("failing", [False, True])
    def test_five_tries_a_minute_apart_then_no_more(self, failing: bool) -> None:
        data = live(at(TUESDAY, 9, 50), without=[7])
        requests = Requests(failing=failing)
        filler = GapFiller(data, requests, mode="live")
        begin = at(TUESDAY, 9, 51)
        tried = []
        for second in range(600):
            before = len(requests.asked)
            assert filler.run(begin + second * SECOND_NS) == []
            tried += [second] * (len(requests.asked) - before)
        assert tried == [0, 60, 120, 180, 240]
        assert filler.given_up() == 1
        filler.reset()
        assert filler.given_up() == 0

    def test_growing_gap_is_asked_for_whole_and_no_faster(self) -> None:
        requests = Requests()
        data = SessionData(clock(at(TUESDAY, 9, 31)))
        data.register_symbol("SPY")
        filler = GapFiller(data, requests, mode="live")
        for minute in range(31, 45):
            data.calendar.set_time_ns(at(TUESDAY, 9, minute))  # type: ignore[attr-defined]  # a TimeManager
            for second in range(5, 60, 18):
                filler.run(at(TUESDAY, 9, minute) + second * SECOND_NS)
        assert [one[2] for one in requests.asked][:5] == [at(TUESDAY, 9, 30)] * 5
        assert requests.asked[5][2] == at(TUESDAY, 9, 31)  # the first minute was tried five times
        assert len(requests.asked) <= 14

    def test_bar_that_has_just_ended_gets_time_to_arrive(self) -> None:
        data = live(at(TUESDAY, 9, 50), without=[19])
        requests = Requests()
        filler = GapFiller(data, requests, mode="live")
        filler.run(at(TUESDAY, 9, 50) + SECOND_NS)
        assert requests.asked == []
        filler.run(at(TUESDAY, 9, 50) + 6 * SECOND_NS)
        assert len(requests.asked) == 1

    def test_bars_that_nobody_asked_for_and_bad_ones_are_left_out(self) -> None:
        data = live(at(TUESDAY, 9, 50), without=[3])
        wrong = Bar(at(TUESDAY, 9, 33), 100, 90, 95, 100, 1)
        filler = GapFiller(data, Requests([*minutes(TUESDAY, 30, 40), wrong]), mode="live")
        assert filler.run(at(TUESDAY, 9, 51)) == []
        assert len(data.get_bars_ref("SPY", "1m")) == 19

    def test_backtest_is_never_mended(self) -> None:
        with pytest.raises(ConflictError, match="not mended"):
            GapFiller(live(at(TUESDAY, 10), without=[]), Requests(), mode="backtest")

    @pytest.mark.parametrize(("tries", "apart"), [(0, 60), (21, 60), (5, 0)])
    def test_counts_out_of_bounds_are_refused(self, tries: int, apart: int) -> None:
        with pytest.raises(ConfigError, match="1 to 20 times"):
            GapFiller(
                live(at(TUESDAY, 10), without=[]), Requests(), mode="live", max_retries=tries, retry_interval_s=apart
            )
