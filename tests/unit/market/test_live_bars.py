"""Live bars: warmed up, built from five-second bars, filled from history, told in whole instants."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest
from ib_async import Contract, RealTimeBar

from strategies.bar_series import Bar, moment_of
from strategies.exceptions import ConfigError, NotFoundError, TransientError
from tests.support.reactive import MINUTE_NS, OPEN_NS
from tests.unit.market.test_shared_lines import Rig as LinesRig
from tests.unit.market.test_shared_lines import stock
from trading.market import live_bars as module
from trading.market.live_bars import LiveBars
from trading.market.live_feed import Following
from trading.market.live_history import PastBars, bars_of_frame
from trading.market.live_windows import FIVE_SECONDS_NS
from trading.market.time_manager import TimeManager

LENGTHS_NS = {
    "5_secs": FIVE_SECONDS_NS,
    "30_secs": MINUTE_NS // 2,
    "1_min": MINUTE_NS,
    "5_min": 5 * MINUTE_NS,
    "30_min": 30 * MINUTE_NS,
}
DAY_NS = 24 * 60 * MINUTE_NS


class Market:
    """One made-up market: its time, its line and its history agree with each other."""

    def __init__(self, *, begins_ns: int = OPEN_NS - 6 * DAY_NS) -> None:
        self.rig = LinesRig()
        self.rig.attach()
        self.now_ns = OPEN_NS
        self.begins_ns = begins_ns
        self.lag_ns = 0  # how late history lists a bar
        self.asked: list[tuple[str, datetime, bool, bool]] = []
        self.fails: list[Exception] = []
        self.empty = False
        self.times = TimeManager("live", clock=lambda: moment_of(self.now_ns))
        self.bars = LiveBars(self.rig.lines, self.times, PastBars(lambda: self, self._present))
        self.turns: list[tuple[str, int, list[str]]] = []
        self.told: list[str] = []

    async def _present(self) -> int:
        return self.now_ns

    # -- history, as strategies.data.BarReader gives it

    async def read(
        self, contract: Contract, timeframe: str, start: Any, end: Any, *, use_rth: bool, force_download: bool
    ) -> pd.DataFrame:
        self.asked.append((timeframe, start, use_rth, force_download))
        if self.fails:
            raise self.fails.pop(0)
        if timeframe == "1_day":
            starts = [OPEN_NS - OPEN_NS % DAY_NS + n * DAY_NS for n in (-5, -4, 0)]  # the sessions around New Year
            length = 0
        else:
            length = LENGTHS_NS[timeframe]
            first = max(self.begins_ns, int(start.timestamp()) * 10**9)
            first -= first % length
            starts = list(range(first, self.now_ns - self.lag_ns, length))
        starts = [] if self.empty else [stamp for stamp in starts if stamp + length <= self.now_ns - self.lag_ns]
        if not starts:
            raise NotFoundError("no bars", code="no_bars")
        rows = [bar_at(stamp, max(length, FIVE_SECONDS_NS))[1:] for stamp in starts]
        index = pd.DatetimeIndex(pd.to_datetime(starts, utc=True))
        return pd.DataFrame(rows, index=index, columns=["open", "high", "low", "close", "volume"], dtype="float64")

    # -- the line

    async def run(self, seconds: int, *, skip: Sequence[int] = ()) -> None:
        """Let time pass: a bar each five seconds, those left out whose number is skipped."""
        for number in range(seconds // 5):
            part = bar_at(self.now_ns, FIVE_SECONDS_NS)
            self.now_ns += FIVE_SECONDS_NS
            if number not in skip:
                self.send(part)
            await settle()

    def send(self, bar: Bar) -> None:
        for line in list(self.rig.wire.open.values()):
            stamp = datetime.fromtimestamp(bar.start_ns / 1e9, UTC)
            line.append(RealTimeBar(stamp, -1, bar.open, bar.high, bar.low, bar.close, bar.volume, 0.0, 1))
            line.updateEvent.emit(line, True)

    # -- followers

    async def follow(self, *intervals: str, symbol: str = "SPY", depth: int = 20, regular: bool = True) -> Following:
        def on_turn(con_id: int, end_ns: int, grown: Sequence[str]) -> None:
            self.turns.append((symbol, end_ns, list(grown)))

        return await self.bars.follow(
            stock(symbol), intervals, warm_up=depth, regular_hours=regular, on_turn=on_turn, on_trouble=self.told.append
        )


def bar_at(start_ns: int, length_ns: int) -> Bar:
    """The market's bar of a stretch: its price is the minute's number, so that every source agrees."""
    first, last = (start_ns - OPEN_NS) / MINUTE_NS, (start_ns + length_ns - OPEN_NS) / MINUTE_NS
    low, high = 10_000 + first, 10_000 + last
    return Bar(start_ns, round(low, 6), round(high, 6), round(low, 6), round(high, 6), length_ns / FIVE_SECONDS_NS)


async def settle() -> None:
    """Let tasks run until nothing moves: fills take some turns of the loop and no time."""
    for _ in range(12):
        await asyncio.sleep(0)


async def filled(condition: Callable[[], object]) -> None:
    """Wait for what a thread of the loop's pool takes part in."""
    async with asyncio.timeout(10.0):
        while not condition():
            await asyncio.sleep(0.002)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILL_AGAIN_S", 0.0)
    monkeypatch.setattr(module, "HISTORY_AGAIN_S", 0.0)

    async def at_once(work: Callable[..., Any], *args: Any) -> Any:
        return work(*args)

    monkeypatch.setattr(asyncio, "to_thread", at_once)


def starts(following: Following, interval: str) -> list[int]:
    return [int(stamp - OPEN_NS) // MINUTE_NS for stamp in following.feeds[interval].series.starts]


Wait = Callable[[], Awaitable[None]]


async def test_series_are_warm_before_anybody_is_told() -> None:
    market = Market()
    market.now_ns = OPEN_NS + 60 * MINUTE_NS
    following = await market.follow("1m", "5m", depth=100)
    assert len(following.feeds["1m"].series) == 100
    assert starts(following, "1m")[-60:] == list(range(60))
    assert starts(following, "5m")[-12:] == list(range(0, 60, 5))
    assert market.turns == []


async def test_warm_up_reads_the_store_first_and_only_regular_hours() -> None:
    market = Market()
    market.now_ns = OPEN_NS + 60 * MINUTE_NS
    await market.follow("1m")
    [(timeframe, _, use_rth, fresh)] = market.asked
    assert (timeframe, use_rth, fresh) == ("1_min", True, False)


async def test_warm_up_has_all_of_today_however_little_was_asked_for() -> None:
    market = Market()
    market.now_ns = OPEN_NS + 60 * MINUTE_NS
    following = await market.follow("1m", depth=5)
    assert starts(following, "1m") == list(range(60)), "what is added up over a day needs it whole"


async def test_indicators_are_computed_over_the_warm_up_and_stepped_with_each_bar() -> None:
    market = Market()
    market.now_ns = OPEN_NS + 60 * MINUTE_NS
    feed = (await market.follow("1m")).feeds["1m"]
    view = feed.indicator("sma", 5, {})
    assert view.value == pytest.approx(float(feed.series.close[-5:].mean()))
    before = view.value
    await market.run(60)
    assert view.previous == before
    assert view.value == pytest.approx(float(feed.series.close[-5:].mean()))
    assert feed.indicator("sma", 5, {}) is view
    with pytest.raises(ConfigError):
        feed.indicator("nonsense", 5, {})


async def test_open_bar_of_history_is_left_out() -> None:
    market = Market()
    market.now_ns = OPEN_NS + 60 * MINUTE_NS + 30 * 10**9
    following = await market.follow("1m")
    assert starts(following, "1m")[-1] == 59


async def test_bars_are_told_in_instants_shortest_first() -> None:
    market = Market()
    following = await market.follow("5m", "1m", "5s")
    await market.run(300)
    ends = [(end - OPEN_NS) // 10**9 for _, end, _ in market.turns]
    assert ends == list(range(5, 301, 5))
    assert market.turns[11][2] == ["5s", "1m"]
    assert market.turns[-1][2] == ["5s", "1m", "5m"]
    last = following.feeds["5m"].series[-1]
    assert (last.start_ns, last.open, last.close, last.volume) == (OPEN_NS, 10_000.0, 10_005.0, 60.0)


async def test_bar_is_in_its_series_when_it_is_told() -> None:
    market = Market()
    lengths: list[int] = []
    following = await market.follow("1m")
    before = len(following.feeds["1m"].series)
    for feed in market.bars._instruments[stock("SPY").conId].feeds:
        feed.followers[0].on_turn = lambda con_id, end, grown: lengths.append(len(following.feeds["1m"].series))
    await market.run(180)
    assert lengths == [before + 1, before + 2, before + 3]


async def test_followers_of_one_pair_share_line_and_series() -> None:
    market = Market()
    first, second = await market.follow("1m"), await market.follow("1m")
    assert first.feeds["1m"].series is second.feeds["1m"].series
    await market.run(60)
    assert market.rig.wire.asked == [("SPY", "TRADES")]
    assert [grown for _, _, grown in market.turns] == [["1m"], ["1m"]]


async def test_who_wants_a_longer_past_gets_a_series_of_its_own() -> None:
    market = Market()
    market.now_ns = OPEN_NS + 300 * MINUTE_NS
    short, long = await market.follow("1m", depth=10), await market.follow("1m", depth=400)
    assert (len(short.feeds["1m"].series), len(long.feeds["1m"].series)) == (300, 400)
    await market.run(60)
    assert short.feeds["1m"].series[-1] == long.feeds["1m"].series[-1]


async def test_start_within_a_minute_gets_that_minute_from_history() -> None:
    market = Market()
    market.now_ns = OPEN_NS + 10 * MINUTE_NS + 25 * 10**9
    following = await market.follow("1m")
    await market.run(35 + 60)
    assert starts(following, "1m")[-2:] == [10, 11]
    assert following.feeds["1m"].series[-2] == bar_at(OPEN_NS + 10 * MINUTE_NS, MINUTE_NS)


async def test_gap_in_the_line_is_filled_and_what_came_after_it_waits() -> None:
    market = Market()
    following = await market.follow("1m")
    await market.run(60)
    await market.run(240, skip=range(6, 40))
    await settle()
    assert starts(following, "1m")[-5:] == [0, 1, 2, 3, 4]
    assert [
        int(step) for step in (following.feeds["1m"].series.starts[-4:] - following.feeds["1m"].series.starts[-5:-1])
    ] == [MINUTE_NS] * 4
    assert market.told == []


async def test_fill_tells_of_the_bars_it_brought() -> None:
    market = Market()
    await market.follow("1m")
    await market.run(60)
    market.turns.clear()
    await market.run(60, skip=[3])
    await settle()
    assert [(end - OPEN_NS) // MINUTE_NS for _, end, _ in market.turns] == [2]


async def test_history_that_lags_is_asked_again() -> None:
    market = Market()
    following = await market.follow("1m")
    await market.run(60)
    asked = len(market.asked)
    market.lag_ns = 30 * 10**9
    original = market.read

    async def catches_up(*args: Any, **kwargs: Any) -> pd.DataFrame:
        try:
            return await original(*args, **kwargs)
        finally:
            market.lag_ns = 0

    market.read = catches_up  # type: ignore[method-assign]
    await market.run(60, skip=[3])
    await settle()
    assert len(market.asked) == asked + 2
    assert starts(following, "1m")[-2:] == [0, 1]


async def test_what_neither_line_nor_history_brings_is_told_and_left_out() -> None:
    market = Market()
    following = await market.follow("1m")
    await market.run(60)
    market.empty = True
    await market.run(180, skip=[3])
    await settle()
    assert starts(following, "1m")[-3:] == [0, 2, 3]
    assert market.told == ["Bars of SPY 1m are missing: neither the line nor IB's history brought them."]
    assert market.bars.quality(following, "1m") == 75.0


async def test_no_history_at_all_is_told_and_it_begins_with_live_bars() -> None:
    market = Market()
    market.empty = True
    following = await market.follow("1m")
    assert market.told == ["No history of SPY 1m could be read; it begins with live bars."]
    await market.run(60)
    assert starts(following, "1m") == [0]


async def test_history_that_cannot_be_asked_for_at_once_is_asked_for_again() -> None:
    market = Market()
    market.now_ns = OPEN_NS + 60 * MINUTE_NS
    market.fails = [TransientError("no answer", code="no_answer")]
    following = await market.follow("1m", depth=20)
    assert market.told == ["No history of SPY 1m could be read; it is asked for again."]
    assert len(following.feeds["1m"].series) == 0
    await market.run(60)
    await settle()
    assert starts(following, "1m") == list(range(61))


async def test_history_that_comes_late_stands_before_what_the_line_brought(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HISTORY_AGAIN_S", 0.2)
    market = Market()
    market.now_ns = OPEN_NS + 60 * MINUTE_NS
    market.fails = [TransientError("no answer", code="no_answer")]
    following = await market.follow("1m", depth=20)
    view = following.feeds["1m"].indicator("sma", 3, {})
    await market.run(120)
    assert starts(following, "1m") == [], "what closed waits for what came before it"
    await filled(lambda: len(following.feeds["1m"].series))
    assert starts(following, "1m") == list(range(62))
    assert view.value == pytest.approx(float(following.feeds["1m"].series.close[-3:].mean()))
    await market.run(60)
    assert [(end - OPEN_NS) // MINUTE_NS for _, end, _ in market.turns] == [63]


async def test_history_that_never_comes_is_not_asked_for_without_end() -> None:
    market = Market()
    market.fails = [TransientError("no answer", code="no_answer")] * 50
    following = await market.follow("1m")
    await market.run(300)
    assert len(market.asked) == 6
    assert starts(following, "1m") == list(range(5))


async def test_seconds_begin_with_what_was_asked_for_not_with_all_of_today() -> None:
    market = Market()
    market.now_ns = OPEN_NS + 60 * MINUTE_NS
    following = await market.follow("5s", "30s", depth=20)
    assert len(following.feeds["5s"].series) == 20
    assert len(following.feeds["30s"].series) == 120


async def test_regular_hours_leave_out_what_comes_before_the_open() -> None:
    market = Market()
    market.now_ns = OPEN_NS - 2 * MINUTE_NS
    regular, all_hours = await market.follow("1m"), await market.follow("1m", regular=False)
    await market.run(180)
    assert starts(regular, "1m")[-1:] == [0]
    assert starts(all_hours, "1m")[-3:] == [-2, -1, 0]
    assert sum(1 for *_, grown in market.turns if grown == ["1m"]) == 4


async def test_long_intervals_are_aligned_to_the_open_also_those_of_history() -> None:
    market = Market()
    market.now_ns = OPEN_NS + 120 * MINUTE_NS
    following = await market.follow("60m", depth=5)
    assert starts(following, "60m")[-2:] == [0, 60]
    assert market.asked[0][0] == "30_min"


async def test_day_is_fetched_once_its_session_is_over() -> None:
    market = Market()
    market.now_ns = OPEN_NS + 389 * MINUTE_NS
    following = await market.follow("1d", regular=False)
    before = len(following.feeds["1d"].series)
    await market.run(55)
    assert market.turns == []
    await market.run(10)
    await settle()
    assert len(following.feeds["1d"].series) == before + 1
    assert [grown for *_, grown in market.turns] == [["1d"]]


async def test_unfollowed_instrument_leaves_its_line_to_others() -> None:
    market = Market()
    first, second = await market.follow("1m"), await market.follow("5m")
    market.bars.unfollow(first)
    market.bars.unfollow(first)
    con_id = stock("SPY").conId
    assert market.rig.lines.users(con_id) == 1
    market.bars.unfollow(second)
    assert market.rig.lines.users(con_id) == 0
    await market.run(60)
    assert market.turns == []
    assert market.bars.last_price(con_id) is None


async def test_bad_and_old_bars_are_left_out() -> None:
    market = Market()
    following = await market.follow("5s")
    await market.run(10)
    count = len(following.feeds["5s"].series)
    market.send(bar_at(OPEN_NS, FIVE_SECONDS_NS))
    market.send(Bar(OPEN_NS + 10 * 10**9, 10.0, 9.0, 11.0, 10.0, 1.0))
    assert len(following.feeds["5s"].series) == count
    assert market.bars.last_price(stock("SPY").conId) is not None


async def test_last_price_is_the_last_close_that_was_heard() -> None:
    market = Market()
    await market.follow("1m")
    await market.run(60)
    assert market.bars.last_price(stock("SPY").conId) == 10_001


async def test_refused_line_is_told_and_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LISTEN_AGAIN_S", 0.0)
    market = Market()
    await market.follow("1m")
    market.rig.wire.errorEvent.emit(1, 354, "Not subscribed", None)
    assert "IB sends no bars of SPY: 354 Not subscribed" in market.told[0]
    await filled(lambda: len(market.rig.wire.asked) == 2)
    await market.run(120)
    assert market.turns


async def test_interval_or_listing_that_cannot_be_had_is_refused_and_leaves_nothing() -> None:
    market = Market()
    with pytest.raises(ConfigError):
        await market.follow("1m", "7s")
    assert market.bars._instruments == {}
    market.rig.budget.max_lines = 0
    with pytest.raises(TransientError):
        await market.follow("1m")
    assert market.rig.lines.open_lines == 0


async def test_quality_of_what_is_not_followed_is_nothing() -> None:
    market = Market()
    following = await market.follow("1m")
    assert market.bars.quality(following, "5m") == 0.0


def test_bars_of_a_frame_leave_out_what_no_market_prints() -> None:
    index = pd.DatetimeIndex(pd.to_datetime([OPEN_NS, OPEN_NS + MINUTE_NS], utc=True))
    frame = pd.DataFrame(
        [[1.0, 2.0, 0.5, 1.5, 10.0], [1.0, float("nan"), 0.5, 1.5, 10.0]],
        index=index,
        columns=["open", "high", "low", "close", "volume"],
    )
    assert bars_of_frame(frame) == [Bar(OPEN_NS, 1.0, 2.0, 0.5, 1.5, 10.0)]
