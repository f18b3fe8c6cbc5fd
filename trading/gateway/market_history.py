"""Prices of one instrument on the clock, and its history in IB's bars.

Owns: ticks, spreads and volume on top of a path; cutting bars of any size, side and session out of it.
Leaves: the words of requests (``market_bars``), the path's arithmetic (``market_path``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np

from trading.gateway import hours, market_bars
from trading.gateway.hours import Micros, from_micros, to_micros
from trading.gateway.instrument import Instrument
from trading.gateway.market_path import Floats, PricePath, Spans
from trading.gateway.market_steps import StepClock
from trading.gateway.market_time import BarTime, MarketTime
from trading.gateway.model import Bar, PriceIncrement, RequestError

# Steps of a price grid are exact in decimals and not in binary: a price that is 3 ticks may read 2.9999999999.
_FUZZ = 1e-7
_INSTANT = 1e-6  # minutes: the shortest interval that keeps its two ends apart in any year
NO_DATA = "Historical Market Data Service error message:HMDS query returned no data: "
TOO_LONG = "Historical Market Data Service error message:Time length exceed max."
_SHARES_A_TRADE = 100


class Prices:
    """One path on the clock, rounded to ticks, with a spread around it."""

    def __init__(
        self,
        path: PricePath,
        time: MarketTime,
        *,
        offset: float,
        rule: Sequence[PriceIncrement],
        tick: Decimal,
        half_spread: float,
        has_volume: bool,
        has_quotes: bool,
        steps: StepClock | None = None,
    ) -> None:
        self.path, self.time, self.offset = path, time, offset
        self._standing = steps
        self.tick, self._tick = tick, float(tick)
        # Above each edge a price is a whole number of so many ticks.
        self._steps = [(float(step.low_edge), int(step.increment / tick)) for step in rule if step.increment > tick]
        self._relative = half_spread
        self.has_volume, self.has_quotes = has_volume, has_quotes

    def minutes(self, micros: int) -> float:
        """Minutes of the path at a moment."""
        return self.time.at(micros) + self.offset

    def minutes_all(self, micros: Micros) -> Floats:
        """Minutes of the path at many moments."""
        return self.time.at_all(micros) + self.offset

    def price(self, micros: int) -> float:
        """The path's price; where the clock stands still, the last one before."""
        u = self.minutes(micros)
        stands = self._standing is not None and self._standing.stands_at(micros)
        return self.path.price(u, left=stands or self.minutes(micros + 1) == u)

    def opening(self, micros: int) -> float:
        """The price of the first trade at or after a moment."""
        return self.path.price(self.minutes(micros))

    def price_before(self, micros: int) -> float:
        """The price just before a moment."""
        return self.path.price(self.minutes(micros), left=True)

    def extremes(self, start_us: int, end_us: int) -> tuple[float, float, float]:
        """Highest, lowest price and volume of a stretch, which may be empty."""
        a, b = self.minutes(start_us), self.minutes(end_us)
        if a >= b:
            price = self.price(end_us)
            return price, price, 0.0
        high, low = self.path.extremes(a, b)
        volume = math.floor(self.path.volume(0.0, b)) - math.floor(self.path.volume(0.0, a))
        return high, low, float(volume) if self.has_volume else 0.0

    def spans(self, starts: Micros, ends: Micros) -> Spans:
        """Open, high, low, close and volume of intervals; one in which the clock stands still is a point in time."""
        begins, stops = self.minutes_all(starts), self.minutes_all(ends)
        return self.path.spans(begins, np.maximum(stops, begins + _INSTANT))

    def volumes(self, starts: Micros, ends: Micros) -> Floats:
        """Whole units traded in each interval."""
        volumes_to = self.path.volumes_to
        result: Floats = np.floor(volumes_to(self.minutes_all(ends))) - np.floor(volumes_to(self.minutes_all(starts)))
        return result

    def last(self, price: float) -> Decimal:
        """A traded price on the tick."""
        step = self._step(price)
        return self.tick * (round(price / self._tick / step) * step)

    def bid(self, price: float) -> Decimal:
        """The bid around a price."""
        step = self._step(price)
        below = (price - self._half(price)) / self._tick / step
        return self.tick * max(math.floor(below + _FUZZ) * step, 1)

    def ask(self, price: float) -> Decimal:
        """The ask around a price."""
        step = self._step(price)
        above = (price + self._half(price)) / self._tick / step
        return self.tick * (math.ceil(above - _FUZZ) * step)

    def _step(self, price: float) -> int:
        """How many ticks the increment is at a price."""
        step = 1
        for edge, ticks in self._steps:
            if price >= edge:
                step = ticks
        return step

    def _half(self, price: float) -> float:
        return max(self._tick * self._step(price) / 2, price * self._relative)

    # the same for arrays, in whole ticks

    def last_ticks(self, prices: Floats) -> Floats:
        """Traded prices in whole ticks."""
        steps = self._steps_all(prices)
        result: Floats = np.rint(prices / self._tick / steps) * steps
        return result

    def bid_ticks(self, prices: Floats) -> Floats:
        """Bids in whole ticks."""
        steps = self._steps_all(prices)
        below = (prices - self._half_all(prices, steps)) / self._tick / steps
        result: Floats = np.maximum(np.floor(below + _FUZZ) * steps, 1)
        return result

    def ask_ticks(self, prices: Floats) -> Floats:
        """Asks in whole ticks."""
        steps = self._steps_all(prices)
        above = (prices + self._half_all(prices, steps)) / self._tick / steps
        result: Floats = np.ceil(above - _FUZZ) * steps
        return result

    def _steps_all(self, prices: Floats) -> Floats:
        steps = np.ones_like(prices)
        for edge, ticks in self._steps:
            steps = np.where(prices >= edge, float(ticks), steps)
        return steps

    def _half_all(self, prices: Floats, steps: Floats) -> Floats:
        result: Floats = np.maximum(self._tick * steps / 2, prices * self._relative)
        return result


@dataclass(frozen=True, slots=True)
class _Cut:
    """Intervals of bars. Shape: equal arrays; ``stamps`` are what clients see, the rest what was traded."""

    stamps: Micros
    starts: Micros
    ends: Micros


class History:
    """Bars of one instrument."""

    def __init__(self, instrument: Instrument, prices: Prices, head: datetime, *, exchange_hours: bool) -> None:
        self._instrument, self._prices, self._head_us = instrument, prices, to_micros(head)
        self._exchange_hours = exchange_hours
        self._zone = ZoneInfo(instrument.time_zone)

    def bars(
        self, *, end: datetime, duration: str, bar_size: str, what: str, use_rth: bool, now: datetime
    ) -> list[Bar]:
        """See ``model.Venue.bars``; the last bar may still be open."""
        sec_type = self._instrument.contract.sec_type
        size = market_bars.parse_bar_size(bar_size)
        length = market_bars.parse_duration(duration, size)
        market_bars.check_what(what, sec_type)
        end_us = self._last_traded(min(to_micros(end), to_micros(now)), length, use_rth=use_rth)
        begin_us = max(self._begin(end_us, length, use_rth=use_rth), self._head_us)
        if begin_us >= end_us:
            raise self._no_data(what)
        if (end_us - begin_us) / market_bars.SECOND_US / market_bars.BAR_SIZES[size] > market_bars.MAX_BARS:
            raise RequestError(162, TOO_LONG)
        daily = size in market_bars.CALENDAR_SIZES
        cut = self._days(begin_us, end_us) if daily else self._intraday(begin_us, end_us, market_bars.BAR_SIZES[size])
        cut = self._clip(cut, use_rth=use_rth, daily=daily)
        bars = self._fill(cut, what)
        if not bars:
            raise self._no_data(what)
        return self._group(bars, size) if size in ("1 week", "1 month") else bars

    def latest(self, *, seconds: int, what: str, now: datetime) -> Bar | None:
        """The newest closed bar, None while the market sleeps."""
        step = seconds * market_bars.SECOND_US
        end = to_micros(now) // step * step
        one = np.array([end - step], dtype=np.int64)
        cut = self._clip(_Cut(one, one, one + step), use_rth=False, daily=False)
        bars = self._fill(cut, what)
        return bars[-1] if bars else None

    def _no_data(self, what: str) -> RequestError:
        contract = self._instrument.contract
        return RequestError(162, f"{NO_DATA}{contract.symbol}@{contract.exchange} {what.title()}")

    def _begin(self, end_us: int, length: market_bars.Duration, *, use_rth: bool) -> int:
        """Durations in days mean trading days where sessions or the bars' own days count."""
        if length.unit == "D" and isinstance(self._prices.time, BarTime):
            return self._prices.time.days_before(end_us, length.count)
        if not self._exchange_hours or length.unit != "D":
            return market_bars.begin_of(end_us, length, self._zone)
        found = 0
        for back in range(length.count * 3 + 15):
            day = from_micros(end_us).astimezone(self._zone).date() - timedelta(days=back)
            for opens, _ in self._sessions(day, use_rth=use_rth):
                found += to_micros(opens) < end_us
                if found == length.count:
                    return to_micros(opens)
        return market_bars.begin_of(end_us, length, self._zone)

    def _last_traded(self, end_us: int, length: market_bars.Duration, *, use_rth: bool) -> int:
        """Durations in seconds count back from the last trade, also when the market has closed since."""
        if length.unit != "S" or not self._exchange_hours:
            return end_us
        today = from_micros(end_us).astimezone(self._zone).date() + timedelta(days=1)
        for back in range(15):
            for opens, closes in reversed(self._sessions(today - timedelta(days=back), use_rth=use_rth)):
                if to_micros(opens) < end_us:
                    return min(end_us, to_micros(closes))
        return end_us

    def _sessions(self, day: date, *, use_rth: bool) -> tuple[hours.Session, ...]:
        calendar, extended = self._calendar(use_rth=use_rth)
        return hours.sessions_of(calendar, day, extended=extended)

    def _calendar(self, *, use_rth: bool) -> tuple[str, bool]:
        """Whose sessions count, and whether they are the extended ones."""
        instrument = self._instrument
        if use_rth:
            return instrument.regular_calendar, False
        return instrument.calendar, instrument.contract.sec_type == "STK"

    def _intraday(self, begin_us: int, end_us: int, seconds: int) -> _Cut:
        starts = market_bars.intraday_edges(begin_us, end_us, seconds, self._zone)
        if len(starts) == 0:
            return _Cut(starts, starts, starts)
        following = market_bars.intraday_edges(
            int(starts[-1]) + 1, int(starts[-1]) + market_bars.DAY_US, seconds, self._zone
        )
        ends = np.append(
            starts[1:], following[1] if len(following) > 1 else starts[-1] + seconds * market_bars.SECOND_US
        )
        return _Cut(starts, starts, np.minimum(ends, end_us))

    def _days(self, begin_us: int, end_us: int) -> _Cut:
        days = market_bars.days_between(begin_us, end_us, self._zone)
        if len(days) > 1 and not self._exchange_hours and not isinstance(self._prices.time, BarTime):
            # A duration that ends within a day reaches into one day more than it has: IB counts the open day as one.
            days = days[1:]
        starts = market_bars.midnights([*days, days[-1] + timedelta(days=1)], self._zone)
        return _Cut(starts[:-1], starts[:-1], np.minimum(starts[1:], end_us))

    def _clip(self, cut: _Cut, *, use_rth: bool, daily: bool) -> _Cut:
        """Keep what lies in sessions, when sessions count."""
        if not self._exchange_hours or len(cut.starts) == 0:
            return cut
        calendar, extended = self._calendar(use_rth=use_rth)
        first = from_micros(int(cut.starts[0])).date() - timedelta(days=1)
        last = from_micros(int(cut.ends[-1])).date() + timedelta(days=1)
        sessions = hours.session_array(calendar, first, last, extended=extended)
        if len(sessions) == 0:
            return _Cut(cut.stamps[:0], cut.starts[:0], cut.ends[:0])
        index = np.searchsorted(sessions[:, 1], cut.starts, side="right")
        near = sessions[np.minimum(index, len(sessions) - 1)]
        starts, ends = np.maximum(cut.starts, near[:, 0]), np.minimum(cut.ends, near[:, 1])
        keep = (starts < ends) & (index < len(sessions))
        # Bars within a day begin with the session; days keep their date.
        stamps = cut.stamps if daily else starts
        return _Cut(stamps[keep], starts[keep], ends[keep])

    def _fill(self, cut: _Cut, what: str) -> list[Bar]:
        traded = self._prices.minutes_all(cut.ends) > self._prices.minutes_all(cut.starts)
        if not traded.any():
            return []
        starts, ends = cut.starts[traded], cut.ends[traded]
        spans, volumes = self._prices.spans(starts, ends), self._prices.volumes(starts, ends)
        return _to_bars(cut.stamps[traded], spans, volumes, self._prices, what)

    def _group(self, days: list[Bar], size: str) -> list[Bar]:
        grouped: dict[date, list[Bar]] = {}
        for bar in days:
            first = market_bars.group_of(bar.start.astimezone(self._zone).date(), size)
            grouped.setdefault(first, []).append(bar)
        return [_merge(bars) for bars in grouped.values()]


def _merge(bars: list[Bar]) -> Bar:
    volume = sum((b.volume for b in bars), Decimal(0)) if bars[0].volume >= 0 else Decimal(-1)
    traded = sum((b.volume * b.wap for b in bars), Decimal(0))
    wap = round(traded / volume, 6) if volume > 0 else bars[0].wap
    return Bar(
        start=bars[0].start,
        open=bars[0].open,
        high=max(b.high for b in bars),
        low=min(b.low for b in bars),
        close=bars[-1].close,
        volume=volume,
        wap=wap,
        count=sum(b.count for b in bars) if bars[0].count >= 0 else -1,
    )


def _to_bars(stamps: Micros, spans: Spans, volumes: Floats, prices: Prices, what: str) -> list[Bar]:
    """Round to ticks on the side asked for. BID_ASK: open and close are mean bid and ask, low the lowest bid, high the
    highest ask."""
    side = _sides(prices)[what]
    tick = prices.tick / 2 if what == "MIDPOINT" else prices.tick
    columns = [
        pick(values).astype(np.int64).tolist()
        for pick, values in zip(side, (spans.open, spans.high, spans.low, spans.close), strict=True)
    ]
    has_volume = what in ("TRADES", "ADJUSTED_LAST") and prices.has_volume
    counted = volumes.astype(np.int64).tolist()
    result: list[Bar] = []
    for stamp, o, h, low, c, v in zip(stamps.tolist(), *columns, counted, strict=True):
        wap = tick * (o + h + low + c) / 4
        result.append(
            Bar(
                start=from_micros(stamp),
                open=tick * o,
                high=tick * h,
                low=tick * low,
                close=tick * c,
                volume=Decimal(v) if has_volume else Decimal(0 if what == "TRADES" else -1),
                wap=wap if has_volume else Decimal(0 if what == "TRADES" else -1),
                count=(-(-v // _SHARES_A_TRADE)) if has_volume else (0 if what == "TRADES" else -1),
            )
        )
    return result


Rounding = Callable[[Floats], Floats]


def _sides(prices: Prices) -> dict[str, tuple[Rounding, Rounding, Rounding, Rounding]]:
    last, bid, ask = prices.last_ticks, prices.bid_ticks, prices.ask_ticks

    def middle(values: Floats) -> Floats:
        return bid(values) + ask(values)

    return {
        "TRADES": (last, last, last, last),
        "ADJUSTED_LAST": (last, last, last, last),
        "BID": (bid, bid, bid, bid),
        "ASK": (ask, ask, ask, ask),
        "MIDPOINT": (middle, middle, middle, middle),
        "BID_ASK": (bid, ask, bid, ask),
    }
