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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from ib_async import Contract, RealTimeBar

from strategies.bar_series import Bar, BarSeries, moment_of, nanos_of, problem_with_bar
from strategies.exceptions import MatsError, NotFoundError
from strategies.intervals import Interval
from strategies.sizing import to_decimal
from trading.market.live_feed import Feed, Following, Trouble, Turn
from trading.market.live_history import PastBars, end_of, group_of_contract, live_interval, reach_of
from trading.market.live_windows import FIVE_SECONDS_NS, completeness, window_at
from trading.market.session_pair import Pair
from trading.market.session_table import SessionTable
from trading.market.shared_lines import Listening, SharedLines
from trading.market.time_manager import TimeManager

logger = logging.getLogger(__name__)

FILL_TRIES = 3
FILL_AGAIN_S = 5.0
LISTEN_AGAIN_S = 20.0
HISTORY_TRIES = 6
HISTORY_AGAIN_S = 10.0
DAYS_FROM_S = 30


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
        if missed or (bar is not None and not feed.joins(bar, table)):
            self._fill_soon(instrument, feed)
        if bar is None:
            return False
        if feed.filling is not None:
            feed.waiting.append(bar)
            return False
        feed.append([bar])
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
        if not feed.was_tried.is_set():
            self._fill_soon(instrument, feed, tells=False)
            await feed.was_tried.wait()
        if not feed.has_history:
            again = "; it is asked for again." if feed.filling is not None else "; it begins with live bars."
            following.on_trouble(f"No history of {feed.name} could be read{again}")

    def _fill_soon(self, instrument: _Instrument, feed: Feed, *, tells: bool = True) -> None:
        if feed.filling is None:
            feed.filling = asyncio.get_running_loop().create_task(self._fill(instrument, feed, tells=tells))

    async def _fill(self, instrument: _Instrument, feed: Feed, *, tells: bool) -> None:
        """Put in from history what the series lacks, then what closed meanwhile, and tell of it."""
        before = self._end_of_series(instrument, feed)
        try:
            await self._fetch(instrument, feed)
        except Exception:  # task border: the series must go on growing
            logger.exception("not filled series=%s", feed.name)
        finally:
            feed.filling = None
            waiting, feed.waiting = feed.waiting, []
            feed.append(waiting)
        end = self._end_of_series(instrument, feed)
        if end > before and tells:
            self._deliver(instrument, [feed], end)

    async def _fetch(self, instrument: _Instrument, feed: Feed) -> None:
        if not feed.has_history:
            await self._fetch_first(instrument, feed)
            return
        wanted = self._last_window_end(instrument, feed)
        for attempt in range(1, FILL_TRIES + 1):
            feed.append(await self._read(instrument, feed, int(feed.series.starts[-1]), fresh=True) or [])
            if self._end_of_series(instrument, feed) >= wanted:
                return
            if attempt < FILL_TRIES:
                await asyncio.sleep(FILL_AGAIN_S)  # IB lists a bar some seconds after its end
        feed.given_up_ns = wanted
        self._tell(instrument, f"Bars of {feed.name} are missing: neither the line nor IB's history brought them.")

    async def _fetch_first(self, instrument: _Instrument, feed: Feed) -> None:
        """Read the history; what closes meanwhile waits, so that it stands behind it."""
        try:
            for attempt in range(1, HISTORY_TRIES + 1):
                now_ns = await self._past.present()
                reach = reach_of(feed.interval, feed.depth, regular_hours=feed.regular_hours)
                since_ns = min(nanos_of(moment_of(now_ns) - reach), self._today(instrument, feed, now_ns))
                bars = await self._read(instrument, feed, since_ns, fresh=False)
                feed.append(self._kept(instrument, feed, bars or []))
                feed.has_history = bool(bars)
                feed.was_tried.set()
                if bars is not None or attempt == HISTORY_TRIES:
                    return
                await asyncio.sleep(HISTORY_AGAIN_S)
        finally:
            feed.was_tried.set()

    async def _read(self, instrument: _Instrument, feed: Feed, since_ns: int, *, fresh: bool) -> list[Bar] | None:
        """Return closed bars from a moment on; none where there are none, None when they could not be read."""
        first, last = moment_of(since_ns).date(), moment_of(await self._past.present()).date()
        try:
            table = await asyncio.to_thread(self._times.session_table, instrument.group, first, last)
            return await self._past.read(
                instrument.contract, feed.interval, since_ns, table, regular_hours=feed.regular_hours, fresh=fresh
            )
        except NotFoundError:
            return []
        except MatsError as error:
            logger.warning("history not read series=%s reason=%s", feed.name, error.message)
            return None

    def _today(self, instrument: _Instrument, feed: Feed, now_ns: int) -> int:
        """Return when the session that runs began: what is added up over a day needs it whole; else the present."""
        table = self._table(instrument, now_ns)
        session = table.session_at(now_ns)
        is_short = feed.interval.seconds < DAYS_FROM_S  # a day of them would be some ten thousand, an hour a request
        if session < 0 or is_short or not feed.interval.is_intraday or now_ns >= table.post[session]:
            return now_ns
        return int(table.opens[session] if feed.regular_hours else table.pre[session])

    def _kept(self, instrument: _Instrument, feed: Feed, bars: list[Bar]) -> list[Bar]:
        """Return the last bars of a warm-up: as many as were asked for, and all of today's."""
        if not bars:
            return []
        today = self._today(instrument, feed, bars[-1].start_ns)
        return [bar for place, bar in enumerate(bars) if place >= len(bars) - feed.depth or bar.start_ns >= today]

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
