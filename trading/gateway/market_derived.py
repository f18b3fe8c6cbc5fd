"""Prices of futures and options: functions of their underlying's path.

Owns: the function of each (carry, Black and Scholes) and cutting ranges and bars through it.
Leaves: the path of the underlying (``market_path``), the formulas (``option_model``).
Rule: a function of one contract rises or falls with its underlying and changes with the local day only, so the high of
any interval is the function of the underlying's high (a put's: of its low), and every bar, tick and mark of a
derivative agrees with those of its underlying. On its last day a quarter of a day is left; from then on nothing.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Protocol
from zoneinfo import ZoneInfo

import numpy as np

from trading.gateway import option_model
from trading.gateway.hours import Micros, from_micros
from trading.gateway.instrument import Instrument
from trading.gateway.market_history import Prices
from trading.gateway.market_path import Floats, Spans
from trading.gateway.market_time import MarketTime
from trading.gateway.option_model import Right

LAST_DAY = 0.25  # of a day: what is left on the last one
DAYS_A_YEAR = 365.0
_BUCKET_US = 900_000_000  # zones change their offset at whole quarters of an hour
_EPOCH = date(1970, 1, 1)


class Function(Protocol):
    """A derivative's price by its underlying's. Units: ``years`` to expiry."""

    rising: bool

    def one(self, underlying: float, years: float) -> float:
        """At one price."""

    def many(self, underlying: Floats, years: Floats) -> Floats:
        """At many prices."""


class Carry:
    """A future: the underlying with its yearly premium for the time left."""

    rising = True

    def __init__(self, rate: float) -> None:
        self._rate = rate

    def one(self, underlying: float, years: float) -> float:
        """At one price."""
        return underlying * math.exp(self._rate * years)

    def many(self, underlying: Floats, years: Floats) -> Floats:
        """At many prices."""
        result: Floats = underlying * np.exp(self._rate * years)
        return result


class Option:
    """A call or put with a volatility that never changes."""

    def __init__(self, right: Right, strike: float, volatility: float) -> None:
        self.rising = right == "C"
        self.right: Right = right
        self.strike, self.volatility = strike, volatility

    def one(self, underlying: float, years: float) -> float:
        """At one price."""
        return option_model.value(self.right, underlying, self.strike, years, self.volatility)

    def many(self, underlying: Floats, years: Floats) -> Floats:
        """At many prices."""
        return option_model.values(self.right, underlying, self.strike, years, self.volatility)


class DerivedPrices(Prices):
    """The prices of a future or option: moved by its underlying, traded in its own hours."""

    def __init__(
        self, base: Prices, time: MarketTime, instrument: Instrument, function: Function, *, half_spread: float
    ) -> None:
        super().__init__(
            base.path,
            time,
            offset=base.offset,
            rule=instrument.rule,
            tick=instrument.finest_tick,
            half_spread=half_spread,
            has_volume=True,
            has_quotes=True,
        )
        self.base, self.function = base, function
        self._zone = ZoneInfo(instrument.time_zone)
        self._last_day = _ordinal(instrument.contract.last_trade_date)
        self._a_minute = instrument.daily_volume / 390
        self._years_of: tuple[int, int, float] = (0, 0, 0.0)  # from, until, years: good for one local day

    def years(self, micros: int) -> float:
        """Years to expiry at a moment."""
        begins, ends, years = self._years_of
        if not begins <= micros < ends:
            day = from_micros(micros).astimezone(self._zone).date()
            years = _years(self._last_day - (day - _EPOCH).days)
            begins, ends = (_midnight(day + timedelta(days=n), self._zone) for n in (0, 1))
            self._years_of = (begins, ends, years)
        return years

    def price(self, micros: int) -> float:
        """The price at a moment."""
        return self._at(self.base.price(micros), micros)

    def opening(self, micros: int) -> float:
        """The price of the first trade at or after a moment."""
        return self._at(self.base.opening(micros), micros)

    def price_before(self, micros: int) -> float:
        """The price just before a moment, of the day that ended when it is midnight."""
        return self._at(self.base.price_before(micros), micros - 1)

    def extremes(self, start_us: int, end_us: int) -> tuple[float, float, float]:
        """Highest, lowest price and volume of a stretch."""
        high, low, _ = self.base.extremes(start_us, end_us)
        ends = [self._at(price, max(start_us, end_us - 1)) for price in (high, low)]
        a, b = self.minutes(start_us), self.minutes(end_us)
        volume = math.floor(b * self._a_minute) - math.floor(a * self._a_minute) if b > a else 0
        return max(ends), min(ends), float(volume)

    def spans(self, starts: Micros, ends: Micros) -> Spans:
        """Open, high, low, close and volume of intervals that lie within a local day each."""
        base, years = self.base.spans(starts, ends), self._years_all(starts)
        high, low = (base.high, base.low) if self.function.rising else (base.low, base.high)
        opens, tops, bottoms, closes = (self._many(each, years) for each in (base.open, high, low, base.close))
        return Spans(opens, tops, bottoms, closes, self.volumes(starts, ends))

    def volumes(self, starts: Micros, ends: Micros) -> Floats:
        """Contracts traded in each interval."""
        result: Floats = np.floor(self.minutes_all(ends) * self._a_minute) - np.floor(
            self.minutes_all(starts) * self._a_minute
        )
        return result

    def _at(self, underlying: float, micros: int) -> float:
        return max(self.function.one(underlying, self.years(micros)), float(self.tick))

    def _many(self, underlying: Floats, years: Floats) -> Floats:
        result: Floats = np.maximum(self.function.many(underlying, years), float(self.tick))
        return result

    def _years_all(self, micros: Micros) -> Floats:
        buckets, place = np.unique(micros // _BUCKET_US, return_inverse=True)
        moments = (datetime.fromtimestamp(b * 900, UTC).astimezone(self._zone) for b in buckets.tolist())
        days = np.array([_years(self._last_day - (m.date() - _EPOCH).days) for m in moments], dtype=np.float64)
        result: Floats = days[place]
        return result


def intrinsic(right: str, underlying: Decimal, strike: Decimal) -> Decimal:
    """What an option is worth when nothing is left of its time."""
    return max(underlying - strike if right == "C" else strike - underlying, Decimal(0))


def _years(days: int) -> float:
    return (days + LAST_DAY) / DAYS_A_YEAR if days >= 0 else 0.0


def _ordinal(last_trade_date: str) -> int:
    day = date(int(last_trade_date[:4]), int(last_trade_date[4:6]), int(last_trade_date[6:8]))
    return (day - _EPOCH).days


def _midnight(day: date, zone: ZoneInfo) -> int:
    moment = datetime(day.year, day.month, day.day, tzinfo=zone)
    return int(moment.timestamp()) * 1_000_000
