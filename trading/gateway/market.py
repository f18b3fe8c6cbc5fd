"""The paper market: quotes, ranges and bars of every instrument, all cut from one path each.

Owns: paths, ticks and spreads, quotes, history.
Leaves: orders (``exchange``), where bars come from (``market_source``).
Rule: whatever the resolution, open, high, low, close and volume agree: a quote lies within the bar of its moment, and
bars of one size add up to those of the next. Spread and rounding never fall as the price rises, so this survives them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np

from trading.brokers.fills import Stretch
from trading.gateway import hours
from trading.gateway.derivative_dates import expiry_moment
from trading.gateway.hours import Micros, from_micros, to_micros
from trading.gateway.instrument import Instrument
from trading.gateway.instruments import InstrumentTable
from trading.gateway.market_derived import Carry, DerivedPrices, Option
from trading.gateway.market_history import History, Prices
from trading.gateway.market_path import PricePath
from trading.gateway.market_source import BarFile, MinuteBars, synthetic_bars
from trading.gateway.market_steps import Look, StepClock
from trading.gateway.market_ticks import TickSource, displayed
from trading.gateway.market_time import BarTime, MarketTime, SessionTime, SteadyTime
from trading.gateway.model import Bar, Quote

HISTORY_BEGINS = datetime(2007, 1, 3, 14, 30, tzinfo=UTC)
DELAY = timedelta(minutes=15)  # of delayed data
OPTION_HALF_SPREAD = 0.01
LISTED_FOR = timedelta(days=1000)
_LOTS = {"CASH": 250_000, "FUT": 5, "OPT": 10}  # sizes are shown in multiples of these
_TRADE_SIZES = {"FUT": Decimal(1), "OPT": Decimal(1)}
_SPREAD = {"STK": 0.00002, "CASH": 0.00001}


@dataclass(frozen=True, slots=True)
class Anchor:
    """Ties the clock to the path: at ``origin_us`` (epoch microseconds) ``minutes`` of market had passed."""

    origin_us: int
    minutes: float
    speed: float


@dataclass(slots=True)
class _DayFigures:
    """Day range of one instrument as far as it was asked for."""

    begin_us: int
    until_us: int
    open: float
    high: float
    low: float
    close_before: float
    volume: float = 0.0
    traded: bool = False


class Market:
    """Prices of all instruments at any moment. Not thread-safe."""

    def __init__(
        self,
        table: InstrumentTable,
        source: BarFile | None,
        *,
        seed: int,
        speed: float,
        replay_clock: bool,
        exchange_hours: bool,
        stepped: bool = False,
    ) -> None:
        self._table, self._source, self._seed = table, source, seed
        self.speed = speed
        self.replay_clock = replay_clock
        self._is_stepped = stepped  # a replay that stands until it is told to go on
        self.steps: StepClock | None = None
        self.exchange_hours = exchange_hours
        self.anchor: Anchor | None = None
        self._present = HISTORY_BEGINS  # the moment of the start: sessions are laid out around it
        self._prices: dict[int, Prices] = {}
        self._times: dict[object, MarketTime] = {}
        self._days: dict[tuple[int, bool], _DayFigures] = {}
        self._centres: dict[int, Decimal] = {}
        self._windows: dict[tuple[str, bool], tuple[datetime, datetime, hours.Session | None]] = {}

    # clock

    def start(self, anchor: Anchor | None, now: datetime) -> Anchor:
        """Tie the market to the clock: anew, or where an earlier run left it, also at another speed."""
        if anchor is None:
            whole = now.replace(second=0, microsecond=0)
            anchor = Anchor(to_micros(whole), 0.0, self.speed)
        elif anchor.speed != self.speed and not self._is_stepped:
            elapsed = (to_micros(now) - anchor.origin_us) / 60e6 * anchor.speed
            anchor = Anchor(to_micros(now), anchor.minutes + elapsed, self.speed)
        self.anchor, self._present = anchor, now
        self.steps = StepClock(self._stamps(), int(anchor.minutes)) if self._is_stepped else None
        self._prices.clear()
        self._times.clear()
        self._days.clear()
        return anchor

    def market_now(self, wall: datetime) -> datetime:
        """The market's present at a wall time: the same, but on the replay clock, where it is the bars' own time.

        Nights and other gaps of the bars take no time. Starts a market that has not started.
        """
        if not self.replay_clock:
            return wall
        anchor = self.anchor or self.start(None, wall)
        if self.steps is not None:
            return from_micros(self.steps.now_us)
        stamps = self._stamps()
        position = len(stamps) / 4 + anchor.minutes + (to_micros(wall) - anchor.origin_us) / 60e6 * anchor.speed
        index = min(max(int(position), 0), len(stamps) - 1)
        return from_micros(int(stamps[index] + (position - index) * 60e6))

    def note_steps(self) -> Anchor:
        """Return where a stepped market stands, to be kept across restarts.

        Raises: RuntimeError for a market that runs by itself.
        """
        if self.steps is None or self.anchor is None:
            raise RuntimeError("the market does not go by steps")
        self.anchor = replace(self.anchor, minutes=float(self.steps.passed))
        return self.anchor

    def has_bar(self, con_id: int) -> bool:
        """Tell whether the bar that passes is one of this instrument; always on a clock that runs by itself."""
        if self.steps is None:
            return True
        prices, begin = self._of(con_id), self.steps.bar_us
        return prices.minutes(begin + 1) > prices.minutes(begin)

    @property
    def look(self) -> Look:
        """What the look at the market that is being taken is of."""
        return Look.SLICE if self.steps is None else self.steps.look

    def is_open(self, con_id: int, now: datetime, *, outside_rth: bool = True) -> bool:
        """Tell whether the instrument trades; always on the steady clock."""
        return not self.exchange_hours or self._session(con_id, now, outside_rth=outside_rth) is not None

    def session_start(self, con_id: int, now: datetime, *, outside_rth: bool) -> datetime | None:
        """When the session that runs began; None on the steady clock and while the exchange is closed."""
        session = self._session(con_id, now, outside_rth=outside_rth) if self.exchange_hours else None
        return None if session is None else session[0]

    def _session(self, con_id: int, now: datetime, *, outside_rth: bool) -> hours.Session | None:
        instrument = self._table.get(con_id)
        key = (instrument.calendar, outside_rth and instrument.contract.sec_type == "STK")
        begins, ends, session = self._windows.get(key, (now, now, None))
        if not begins <= now < ends:
            # Asked for every order many times a second: good until the next opening or closing.
            session = hours.session_at(key[0], now, extended=key[1])
            ends = session[1] if session else hours.next_open(key[0], now, extended=key[1]) or now
            self._windows[key] = (now, ends, session)
        return session

    # prices

    def quote(self, con_id: int, now: datetime, *, frozen: bool = False, delayed: bool = False) -> Quote:
        """Top of book and day figures; ``frozen`` keeps a closed market's quotes, ``delayed`` is of 15 minutes ago."""
        prices = self._of(con_id)
        if delayed:
            now -= DELAY
        now_us = to_micros(now)
        price = prices.price(now_us)
        day = self._day(con_id, prices, now_us, delayed=delayed)
        live = self.is_open(con_id, now) or frozen
        quoted = live and prices.has_quotes
        bid_size, ask_size = self._sizes(con_id, now_us)
        return Quote(
            time=now,
            bid=prices.bid(price) if quoted else None,
            ask=prices.ask(price) if quoted else None,
            bid_size=bid_size if quoted else Decimal(0),
            ask_size=ask_size if quoted else Decimal(0),
            last=prices.last(price),
            last_size=self.trade_size(con_id) if prices.has_volume else Decimal(0),
            volume=Decimal(math.floor(day.volume)),
            high=prices.last(day.high) if day.traded else None,
            low=prices.last(day.low) if day.traded else None,
            open=prices.last(day.open) if day.traded else None,
            close=prices.last(day.close_before),
        )

    def trade_size(self, con_id: int) -> Decimal:
        """How much one trade of the market is, as far as anybody is shown."""
        return _TRADE_SIZES.get(self._table.get(con_id).contract.sec_type, Decimal(100))

    def mark(self, con_id: int, now: datetime) -> Decimal:
        """The price that positions are valued at: the last one, on the tick."""
        prices = self._of(con_id)
        return prices.last(prices.price(to_micros(now)))

    def tick(self, con_id: int, price: Decimal) -> Decimal:
        """The price step of an instrument at a price."""
        return self._table.get(con_id).tick(price)

    def stretch(self, con_id: int, since: datetime, now: datetime) -> Stretch:
        """The market between two moments, as the fill model wants it."""
        prices = self._of(con_id)
        start_us, end_us = to_micros(since), to_micros(now)
        start = prices.price(start_us)
        high, low, volume = prices.extremes(start_us, end_us)
        return Stretch(
            bid=prices.bid(start),
            ask=prices.ask(start),
            last=prices.last(start),
            high=prices.last(high),
            low=prices.last(low),
            highest_bid=prices.bid(high),
            lowest_ask=prices.ask(low),
            volume=Decimal(math.floor(volume)),
        )

    def displayed(self, con_id: int, now: datetime, *, buying: bool) -> Decimal:
        """The size shown on the side that an order would take from."""
        bid_size, ask_size = self._sizes(con_id, to_micros(now))
        return ask_size if buying else bid_size

    # history

    def bars(
        self, con_id: int, *, end: datetime, duration: str, bar_size: str, what: str, use_rth: bool, now: datetime
    ) -> list[Bar]:
        """Bars for IB's own texts.

        Raises: RequestError 162, 321, 200.
        """
        history, now = self._history(con_id), self._while_listed(con_id, now)
        return history.bars(end=end, duration=duration, bar_size=bar_size, what=what, use_rth=use_rth, now=now)

    def _while_listed(self, con_id: int, now: datetime) -> datetime:
        """Nothing trades after expiry."""
        instrument = self._table.get(con_id)
        return min(now, expiry_moment(instrument.contract.last_trade_date)) if instrument.underlying else now

    def latest_bar(self, con_id: int, *, seconds: int, what: str, now: datetime) -> Bar | None:
        """The newest bar of that many seconds that has closed."""
        return self._history(con_id).latest(seconds=seconds, what=what, now=now)

    def head(self, con_id: int) -> datetime:
        """Where an instrument's history begins: a future's and an option's with its listing."""
        instrument = self._table.get(con_id)
        if not instrument.underlying:
            return self.begins
        return max(self.begins, expiry_moment(instrument.contract.last_trade_date) - LISTED_FOR)

    @property
    def begins(self) -> datetime:
        """Where all history begins."""
        return from_micros(int(self._stamps()[0])) if self.replay_clock else HISTORY_BEGINS

    def _history(self, con_id: int) -> History:
        return History(self._table.get(con_id), self._of(con_id), self.head(con_id), exchange_hours=self.exchange_hours)

    # paths

    def _of(self, con_id: int) -> Prices:
        found = self._prices.get(con_id)
        if found is None:
            found = self._prices[con_id] = self._build(self._table.get(con_id))
        return found

    def _build(self, instrument: Instrument) -> Prices:
        if instrument.underlying:
            return self._derive(instrument)
        bars = self._bars_of(instrument)
        path = PricePath(bars.open, bars.high, bars.low, bars.close, bars.volume)
        return Prices(
            path,
            self._time_of(instrument, bars.stamps),
            # The steady clock starts a third into the bars: some of the past is real, none of the present repeats it.
            offset=0.0 if self.replay_clock else float(path.length // 3),
            rule=instrument.rule,
            tick=instrument.finest_tick,
            half_spread=_SPREAD.get(instrument.contract.sec_type, 0.0),
            has_volume=instrument.daily_volume > 0 and instrument.contract.sec_type != "IND",
            has_quotes=instrument.contract.sec_type != "IND",
            steps=self.steps,
        )

    def _derive(self, instrument: Instrument) -> Prices:
        base, contract = self._of(instrument.underlying), instrument.contract
        time = base.time if self.replay_clock else self._time_of(instrument, self._stamps())
        if contract.sec_type != "OPT":
            return DerivedPrices(base, time, instrument, Carry(instrument.carry), half_spread=0.0)
        option = Option("C" if contract.right == "C" else "P", contract.strike, instrument.volatility)
        return DerivedPrices(base, time, instrument, option, half_spread=OPTION_HALF_SPREAD)

    def centre(self, con_id: int) -> Decimal:
        """The mean price of an instrument's bars: strikes are listed around it."""
        found = self._centres.get(con_id)
        if found is None:
            mean = float(self._bars_of(self._table.get(con_id)).close.mean())
            found = self._centres[con_id] = Decimal(str(round(mean, 4)))
        return found

    def option(self, con_id: int, now: datetime) -> tuple[Option, float, float] | None:
        """An option's function, its underlying's price and the years left; None for anything else."""
        prices = self._of(con_id)
        if not isinstance(prices, DerivedPrices) or not isinstance(prices.function, Option):
            return None
        moment = to_micros(now)
        return prices.function, prices.base.price(moment), prices.years(moment)

    def _bars_of(self, instrument: Instrument) -> MinuteBars:
        contract = instrument.contract
        if self._source is not None and contract.sec_type == "STK" and contract.currency == "USD":
            read = self._source.bars if self.replay_clock else self._source.dense_bars
            found = read(contract.symbol)
            if found is not None:
                return found
        return synthetic_bars(instrument, self._seed, self._stamps() if self.replay_clock else None)

    def _time_of(self, instrument: Instrument, stamps: Micros) -> MarketTime:
        if self.replay_clock:
            return BarTime(stamps)
        anchor = self.anchor
        if anchor is None:
            raise RuntimeError("the market has not started: call start first")
        extended = instrument.contract.sec_type in ("STK", "IND")
        key = (instrument.calendar, extended) if self.exchange_hours else ("steady", False)
        if key not in self._times:
            self._times[key] = self._make_time(instrument, anchor, extended=extended)
        return self._times[key]

    def _make_time(self, instrument: Instrument, anchor: Anchor, *, extended: bool) -> MarketTime:
        if not self.exchange_hours:
            return SteadyTime(anchor.origin_us, anchor.minutes, anchor.speed)
        last = self._present.date() + timedelta(days=360)
        sessions = hours.session_array(instrument.calendar, HISTORY_BEGINS.date(), last, extended=extended)
        return SessionTime(anchor.origin_us, anchor.minutes, anchor.speed, sessions)

    def _stamps(self) -> Micros:
        if self._source is not None:
            return self._source.stamps
        return _generated_stamps()

    def _sizes(self, con_id: int, now_us: int) -> tuple[Decimal, Decimal]:
        return displayed(con_id, now_us, _LOTS.get(self._table.get(con_id).contract.sec_type, 100))

    def tick_source(self, con_id: int) -> TickSource:
        """Single ticks of an instrument."""
        instrument = self._table.get(con_id)
        return TickSource(instrument, self._of(con_id), _LOTS.get(instrument.contract.sec_type, 100))

    def _day(self, con_id: int, prices: Prices, now_us: int, *, delayed: bool) -> _DayFigures:
        """Figures of the local day so far, extended from the last time they were asked for."""
        day = self._days.get((con_id, delayed))
        if day is None or now_us < day.until_us or now_us >= day.begin_us + 86_400_000_000:
            zone = ZoneInfo(self._table.get(con_id).time_zone)
            begin = to_micros(from_micros(now_us).astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0))
            first = prices.opening(begin)
            day = _DayFigures(begin, begin, first, first, first, prices.price_before(begin))
            self._days[con_id, delayed] = day
        if prices.minutes(now_us) > prices.minutes(day.until_us):
            high, low, volume = prices.extremes(day.until_us, now_us)
            day.high, day.low = max(day.high, high), min(day.low, low)
            day.volume += volume
            day.traded = True
            day.until_us = now_us
        return day


@lru_cache(maxsize=1)
def _generated_stamps() -> Micros:
    """Two months of regular minutes, the bars' own time of a market that has none."""
    sessions = hours.session_array("XNYS", date(2020, 1, 2), date(2020, 3, 31), extended=False)
    return np.concatenate([np.arange(a, b, 60_000_000, dtype=np.int64) for a, b in sessions.tolist()])
