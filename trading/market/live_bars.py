"""Bars of live instruments for everybody who follows them: warmed up from history, then built from 5-second bars.

Owns: one series for each instrument and interval, its warm-up, filling what a lost line or a late start left out, who
is told. Leaves: lines and their limit (``shared_lines``), windows (``live_windows``), history (``live_history``), what
strategies do with it (``trading.engine.reactive``).
Rule: everything happens on the loop of the data connection, so a series has one writer. Followers are told when a bar
is in its series, never before; a bar that could not be built whole is fetched from history, and what closed after it
waits for that, so that series only grow at their end. What stays missing is told; nothing is made up.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from ib_async import Contract, RealTimeBar

from strategies.bar_series import Bar, BarSeries, moment_of, nanos_of, problem_with_bar
from strategies.exceptions import MatsError, NotFoundError
from strategies.intervals import Interval
from strategies.sizing import to_decimal
from trading.market.indicators.indicator import View
from trading.market.indicators.registry import make_request
from trading.market.live_history import PastBars, end_of, group_of_contract, live_interval, reach_of
from trading.market.live_windows import FIVE_SECONDS_NS, WindowBuilder, completeness, window_at
from trading.market.session_pair import Pair
from trading.market.session_table import SECOND_NS, SessionTable
from trading.market.shared_lines import Listening, SharedLines
from trading.market.time_manager import TimeManager

logger = logging.getLogger(__name__)

FILL_TRIES = 3
FILL_AGAIN_S = 5.0
LISTEN_AGAIN_S = 20.0
DAY_NS = 86_400 * SECOND_NS

Turn = Callable[[int, int, Sequence[str]], None]  # contract id, end of the instant in nanoseconds, intervals that grew
Trouble = Callable[[str], None]


@dataclass(slots=True, eq=False)
class Following:
    """One follower of one instrument; ``feeds`` by interval."""

    con_id: int
    on_turn: Turn
    on_trouble: Trouble
    feeds: dict[str, Feed] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Feed:
    """One series with its indicators, and who is told of it."""

    interval: Interval
    pair: Pair
    depth: int
    regular_hours: bool
    lock: threading.Lock = field(default_factory=threading.Lock)  # between the writer and whoever asks for an indicator
    builder: WindowBuilder = field(default_factory=WindowBuilder)
    followers: list[Following] = field(default_factory=list)
    waiting: list[Bar] = field(default_factory=list)  # closed, behind a fill that is under way
    filling: asyncio.Task[None] | None = None
    given_up_ns: int = 0  # windows up to here that are missing will not come any more
    shuts_at: int | None = None  # of days: when the session ends whose bar is fetched then

    @property
    def series(self) -> BarSeries:
        """Return the closed bars, a reference that grows."""
        return self.pair.series

    def indicator(self, name: str, period: int, params: Mapping[str, float | str]) -> View:
        """Return an indicator, computed over what is there when it is new. Thread-safe.

        Raises: ConfigError (unknown_indicator, bad_indicator).
        """
        request = make_request(name, self.interval.text, period, params)
        with self.lock:
            return self.pair.indicator(request)


@dataclass(slots=True, eq=False)
class _Instrument:
    contract: Contract
    group: str
    feeds: list[Feed] = field(default_factory=list)
    listening: Listening | None = None
    last: Bar | None = None
    retry: asyncio.TimerHandle | None = None


class LiveBars:
    """All live instruments of one data connection. Same loop only, where nothing else is said."""

    def __init__(self, lines: SharedLines, times: TimeManager, past: PastBars) -> None:
        self._lines, self._times, self._past = lines, times, past
        self._instruments: dict[int, _Instrument] = {}

    # -- followers

    async def follow(
        self,
        contract: Contract,
        intervals: Iterable[str],
        *,
        warm_up: int,
        regular_hours: bool,
        on_turn: Turn,
        on_trouble: Trouble,
    ) -> Following:
        """Follow an instrument's intervals, warmed up by so many bars as far as history has them.

        ``on_turn`` is called once for an instant, when all bars of the instrument that it closed are there.
        Raises: TransientError (line_limit); ConfigError for intervals that 5-second bars do not make up, or an exchange
        whose hours are not known.
        """
        wanted = [live_interval(text) for text in intervals]
        group, day = group_of_contract(contract), moment_of(await self._past.present()).date()
        await asyncio.to_thread(self._times.session_table, group, day, day)  # reading a calendar takes a second
        made = Following(contract.conId, on_turn, on_trouble)
        instrument = self._instruments.setdefault(contract.conId, _Instrument(contract, group))
        try:
            if instrument.listening is None:
                instrument.listening = self._listen(instrument)
            for interval in wanted:
                feed = self._feed(instrument, interval, warm_up, regular_hours=regular_hours)
                feed.followers.append(made)
                made.feeds[interval.text] = feed
                await self._warm_up(instrument, feed, made)
        except BaseException:
            self.unfollow(made)
            raise
        return made

    def unfollow(self, following: Following) -> None:
        """Follow no more; a second time changes nothing."""
        instrument = self._instruments.get(following.con_id)
        if instrument is None:
            return
        for feed in list(instrument.feeds):
            if following in feed.followers:
                feed.followers.remove(following)
            if not feed.followers:
                instrument.feeds.remove(feed)
                if feed.filling is not None:
                    feed.filling.cancel()
        if not instrument.feeds:
            del self._instruments[following.con_id]
            if instrument.retry is not None:
                instrument.retry.cancel()
            if instrument.listening is not None:
                self._lines.drop(instrument.listening)

    def last_price(self, con_id: int) -> Decimal | None:
        """Return the last close that was heard; None before one. Thread-safe."""
        instrument = self._instruments.get(con_id)
        last = None if instrument is None else instrument.last
        return None if last is None else to_decimal(last.close)

    def quality(self, following: Following, interval: str) -> float:
        """Return how complete today's bars are, 0–100; 0 for what is not followed. Thread-safe."""
        feed, instrument = following.feeds.get(interval), self._instruments.get(following.con_id)
        if feed is None or instrument is None:
            return 0.0
        last = instrument.last
        now_ns = self._times.now_ns() if last is None else last.start_ns + FIVE_SECONDS_NS
        return completeness(feed.series.starts, feed.interval, self._table(instrument, now_ns), now_ns)

    def _table(self, instrument: _Instrument, nanos: int) -> SessionTable:
        day = moment_of(nanos).date()
        return self._times.session_table(instrument.group, day, day)

    # -- lines

    def _listen(self, instrument: _Instrument) -> Listening:
        return self._lines.listen(
            instrument.contract,
            lambda bar: self._on_bar(instrument, bar),
            lambda text: self._on_refused(instrument, text),
        )

    def _on_refused(self, instrument: _Instrument, text: str) -> None:
        instrument.listening = None
        self._tell(instrument, f"{text} It is asked for again in {LISTEN_AGAIN_S:g} s.")
        instrument.retry = asyncio.get_running_loop().call_later(LISTEN_AGAIN_S, self._listen_again, instrument)

    def _listen_again(self, instrument: _Instrument) -> None:
        if instrument.listening is not None:
            return
        try:
            instrument.listening = self._listen(instrument)
        except MatsError as error:
            self._on_refused(instrument, error.message)

    @staticmethod
    def _tell(instrument: _Instrument, text: str) -> None:
        followers = {id(one): one for feed in instrument.feeds for one in feed.followers}
        for one in followers.values():
            one.on_trouble(text)

    def _on_bar(self, instrument: _Instrument, given: RealTimeBar) -> None:
        volume = max(float(given.volume), 0.0)  # −1 where there are no trades
        bar = Bar(nanos_of(given.time), given.open_, given.high, given.low, given.close, volume)
        last, problem = instrument.last, problem_with_bar(bar)
        if problem or (last is not None and bar.start_ns <= last.start_ns):
            logger.warning("bar left out symbol=%s start=%s %s", instrument.contract.symbol, bar.timestamp, problem)
            return
        instrument.last = bar
        table = self._table(instrument, bar.start_ns)
        grown = [feed for feed in instrument.feeds if self._take(instrument, feed, bar, table)]
        self._deliver(instrument, grown, bar.start_ns + FIVE_SECONDS_NS)

    # -- one feed

    def _feed(self, instrument: _Instrument, interval: Interval, depth: int, *, regular_hours: bool) -> Feed:
        for feed in instrument.feeds:
            if feed.interval == interval and feed.regular_hours == regular_hours and feed.depth >= depth:
                return feed
        series = BarSeries(instrument.contract.symbol, interval.text)

        def table() -> SessionTable:
            now_ns = self._times.now_ns()
            first, last = (int(series.starts[0]), int(series.starts[-1])) if len(series) else (now_ns, now_ns)
            days = moment_of(first).date(), moment_of(last).date()
            return self._times.session_table(instrument.group, *days)

        made = Feed(interval, Pair(series, table), depth, regular_hours)
        instrument.feeds.append(made)
        return made

    def _take(self, instrument: _Instrument, feed: Feed, part: Bar, table: SessionTable) -> bool:
        """Take a 5-second bar; tell whether the series grew."""
        if not feed.interval.is_intraday:
            self._take_day(instrument, feed, part, table)
            return False
        window = window_at(part.start_ns, feed.interval, table, regular_hours=feed.regular_hours)
        if window is None:
            return False
        bar, missed = feed.builder.add(part, window)
        if missed or (bar is not None and not _joins(feed, bar, table)):
            self._fill_soon(instrument, feed)
        if bar is None:
            return False
        if feed.filling is not None:
            feed.waiting.append(bar)
            return False
        self._append(feed, [bar])
        return True

    def _take_day(self, instrument: _Instrument, feed: Feed, part: Bar, table: SessionTable) -> None:
        """Fetch a day's bar once its session is over: IB's own has the auctions, which 5-second bars may lack."""
        end = part.start_ns + FIVE_SECONDS_NS
        if feed.shuts_at is not None and end >= feed.shuts_at:
            self._fill_soon(instrument, feed)
            feed.shuts_at = None
        if feed.shuts_at is None:
            coming = table.closes[table.closes > end]
            feed.shuts_at = int(coming[0]) if len(coming) else None

    def _deliver(self, instrument: _Instrument, feeds: Sequence[Feed], end_ns: int) -> None:
        told: dict[int, tuple[Following, list[str]]] = {}
        for feed in sorted(feeds, key=lambda one: one.interval.seconds):
            for one in feed.followers:
                told.setdefault(id(one), (one, []))[1].append(feed.interval.text)
        for one, intervals in told.values():
            one.on_turn(instrument.contract.conId, end_ns, intervals)

    # -- history

    async def _warm_up(self, instrument: _Instrument, feed: Feed, following: Following) -> None:
        if not len(feed.series):
            self._fill_soon(instrument, feed, tells=False)
        if feed.filling is not None:
            await asyncio.wait({feed.filling})
        if not len(feed.series):
            name = f"{instrument.contract.symbol} {feed.interval.text}"
            following.on_trouble(f"No history of {name} could be read; it begins with live bars.")

    def _fill_soon(self, instrument: _Instrument, feed: Feed, *, tells: bool = True) -> None:
        if feed.filling is None:
            feed.filling = asyncio.get_running_loop().create_task(self._fill(instrument, feed, tells=tells))

    async def _fill(self, instrument: _Instrument, feed: Feed, *, tells: bool) -> None:
        """Append from history what the series lacks, then what closed meanwhile, and tell of it."""
        before = len(feed.series)
        try:
            await self._fetch(instrument, feed, is_first=not before)
        except Exception:  # task border: the series must go on growing
            logger.exception("not filled symbol=%s interval=%s", instrument.contract.symbol, feed.interval.text)
        finally:
            feed.filling = None
            waiting, feed.waiting = feed.waiting, []
            self._append(feed, waiting)
        if len(feed.series) > before and tells:
            self._deliver(instrument, [feed], self._end_of_series(instrument, feed))

    async def _fetch(self, instrument: _Instrument, feed: Feed, *, is_first: bool) -> None:
        wanted = self._last_window_end(instrument, feed)
        for attempt in range(1, FILL_TRIES + 1):
            bars = await self._read(instrument, feed, is_first=is_first)
            self._append(feed, self._kept(instrument, feed, bars) if is_first else bars)
            if is_first or self._end_of_series(instrument, feed) >= wanted:
                return
            if attempt < FILL_TRIES:
                await asyncio.sleep(FILL_AGAIN_S)  # IB lists a bar some seconds after its end
        feed.given_up_ns = wanted
        name = f"{instrument.contract.symbol} {feed.interval.text}"
        self._tell(instrument, f"Bars of {name} are missing: neither the line nor IB's history brought them.")

    async def _read(self, instrument: _Instrument, feed: Feed, *, is_first: bool) -> list[Bar]:
        now_ns = await self._past.present()
        if is_first:
            reach = reach_of(feed.interval, feed.depth, regular_hours=feed.regular_hours)
            since_ns = min(nanos_of(moment_of(now_ns) - reach), self._today(instrument, feed, now_ns))
        else:
            since_ns = int(feed.series.starts[-1])
        day = moment_of(since_ns).date()
        table = await asyncio.to_thread(self._times.session_table, instrument.group, day, moment_of(now_ns).date())
        try:
            return await self._past.read(
                instrument.contract,
                feed.interval,
                since_ns,
                table,
                regular_hours=feed.regular_hours,
                fresh=not is_first,
            )
        except NotFoundError:
            return []
        except MatsError as error:
            name = f"{instrument.contract.symbol} {feed.interval.text}"
            logger.warning("history not read of=%s reason=%s", name, error.message)
            return []

    def _today(self, instrument: _Instrument, feed: Feed, now_ns: int) -> int:
        """Return when the session that runs began: what is added up over a day needs it whole; else the present."""
        table = self._table(instrument, now_ns)
        session = table.session_at(now_ns)
        if session < 0 or not feed.interval.is_intraday or now_ns >= table.post[session]:
            return now_ns
        return int(table.opens[session] if feed.regular_hours else table.pre[session])

    def _kept(self, instrument: _Instrument, feed: Feed, bars: list[Bar]) -> list[Bar]:
        """Return the last bars of a warm-up: as many as were asked for, and all of today's."""
        if not bars:
            return []
        today = self._today(instrument, feed, bars[-1].start_ns)
        return [bar for place, bar in enumerate(bars) if place >= len(bars) - feed.depth or bar.start_ns >= today]

    @staticmethod
    def _append(feed: Feed, bars: Iterable[Bar]) -> None:
        with feed.lock:
            for bar in bars:
                if not len(feed.series) or bar.start_ns > int(feed.series.starts[-1]):
                    feed.pair.append(bar)

    def _end_of_series(self, instrument: _Instrument, feed: Feed) -> int:
        if not len(feed.series):
            return -1
        start = int(feed.series.starts[-1])
        return end_of(start, feed.interval, self._table(instrument, start))

    def _last_window_end(self, instrument: _Instrument, feed: Feed) -> int:
        """Return the end of the last window that the line has gone past; 0 where none is known."""
        if not feed.interval.is_intraday or instrument.last is None:
            return 0
        now = instrument.last.start_ns + FIVE_SECONDS_NS
        table = self._table(instrument, now)
        window = window_at(now - 1, feed.interval, table, regular_hours=feed.regular_hours)
        if window is None:
            return 0
        return window[1] if window[1] <= now else window[0]


def _joins(feed: Feed, bar: Bar, table: SessionTable) -> bool:
    """Tell whether a closed bar follows the last of its series, or begins a session."""
    if not len(feed.series):
        return False
    before = window_at(bar.start_ns - 1, feed.interval, table, regular_hours=feed.regular_hours)
    return before is None or before[1] <= feed.given_up_ns or int(feed.series.starts[-1]) >= before[0]
