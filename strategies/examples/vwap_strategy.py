"""Back to the average price of the day: buy well below the session's VWAP, close when the price is back at it.

BUY at or below VWAP × (1 − deviation) once enough was traded today; with shorts allowed SELL mirrors it above. CLOSE at
the VWAP, and before the session ends: nothing is held overnight.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
from pydantic import Field

from strategies.bar_series import Bar, BarSeries, nanos_of
from strategies.intervals import parse_interval
from strategies.params import ReactiveParams
from strategies.reactive import ReactiveStrategy, Signal, SignalAction, StrategyContext

Session = tuple[int, int]  # open and close, epoch nanoseconds UTC


class Params(ReactiveParams):
    """What an operator can change, with bounds."""

    interval: str = Field(default="15m", pattern=r"^[1-9]\d{0,4}[sm]$", description="Bar interval within a day.")
    vwap_deviation: float = Field(
        default=0.01, gt=0, lt=0.5, description="Distance from the VWAP that is traded, fraction of it."
    )
    volume_threshold: float = Field(
        default=1_000_000, ge=0, description="Units traded in the session before the first entry."
    )
    quantity: int | None = Field(default=None, ge=1, description="Units of an order; empty: sized by equity.")
    calendar: str = Field(default="XNYS", pattern=r"^[A-Za-z0-9_]{1,16}$", description="Exchange whose hours count.")


class VwapStrategy(ReactiveStrategy):
    """Trades the distance from the session's volume-weighted average price, each symbol by itself."""

    params_model = Params

    def setup(self, context: StrategyContext) -> bool:
        """Read the parameters and the exchange's calendar; refuse to run without symbols."""
        if not super().setup(context):
            return False
        import exchange_calendars  # takes a second: only who runs this strategy pays for it

        config = self.config
        self.symbols: list[str] = list(config.get("symbols", []))
        self.deviation: float = config.get("vwap_deviation", 0.01)
        self.volume_threshold: float = config.get("volume_threshold", 1_000_000)
        self.allow_short: bool = config.get("allow_short", False)
        self._calendar: Any = exchange_calendars.get_calendar(config.get("calendar", "XNYS"))
        self._sessions: dict[date, Session | None] = {}
        self._side: dict[str, SignalAction] = {}
        self._closed_on: dict[str, date] = {}
        if not self.symbols:
            self._logger.error("No symbols are configured.")
        return bool(self.symbols)

    def get_subscriptions(self) -> Sequence[tuple[str, str]]:
        """Follow every symbol at one interval."""
        interval = self.config.get("interval", "15m")
        return [(symbol, interval) for symbol in self.config.get("symbols", [])]

    def on_bars(self, symbol: str, interval: str) -> Sequence[Signal]:
        """Compare the last close with the VWAP of the session so far."""
        assert self.context is not None  # noqa: S101 - setup came first
        bars = self.context.get_bars(symbol, interval)
        session = self._session_of(bars[-1]) if len(bars) else None
        if session is None:
            return []
        length_ns = parse_interval(interval).seconds * 1_000_000_000
        last = bars[-1]
        if last.start_ns + 2 * length_ns >= session[1]:  # what is decided one bar later trades after the close
            return self._close_for_the_day(symbol, last)
        found = session_vwap(bars, session[0])
        return [] if found is None else self._decide(symbol, last.close, *found)

    def _decide(self, symbol: str, price: float, vwap: float, volume: float) -> list[Signal]:
        side = self._side.get(symbol)
        if (side is SignalAction.BUY and price >= vwap) or (side is SignalAction.SELL and price <= vwap):
            del self._side[symbol]
            return [self._signal(symbol, SignalAction.CLOSE, f"Back at the VWAP ({vwap:.2f}).", vwap)]
        if side is not None or volume < self.volume_threshold:
            return []
        if price <= vwap * (1 - self.deviation):
            action, where = SignalAction.BUY, "below"
        elif self.allow_short and price >= vwap * (1 + self.deviation):
            action, where = SignalAction.SELL, "above"
        else:
            return []
        self._side[symbol] = action
        return [self._signal(symbol, action, f"{abs(price / vwap - 1):.2%} {where} the VWAP ({vwap:.2f}).", vwap)]

    def _close_for_the_day(self, symbol: str, last: Bar) -> list[Signal]:
        """Close once a day, whatever is thought to be held: after a restart that is not known."""
        self._side.pop(symbol, None)
        day = last.timestamp.date()
        if self._closed_on.get(symbol) == day:
            return []
        self._closed_on[symbol] = day
        return [self._signal(symbol, SignalAction.CLOSE, "The session ends.", None)]

    def _signal(self, symbol: str, action: SignalAction, reason: str, vwap: float | None) -> Signal:
        quantity = None if action is SignalAction.CLOSE else self.config.get("quantity")
        signal = Signal(symbol, action, quantity=quantity, reason=reason, metadata={"vwap": vwap})
        self.log_signal(signal)
        return signal

    def _session_of(self, bar: Bar) -> Session | None:
        """Return the session that a bar lies in; None outside of regular hours."""
        day = bar.timestamp.date()
        if day not in self._sessions:
            self._sessions[day] = self._look_up(day)
        session = self._sessions[day]
        return session if session is not None and session[0] <= bar.start_ns < session[1] else None

    def _look_up(self, day: date) -> Session | None:
        """Return the session whose open falls on a day in UTC."""
        text = day.isoformat()
        if not self._calendar.is_session(text):
            return None
        opens, closes = self._calendar.session_open(text), self._calendar.session_close(text)
        return nanos_of(_aware(opens)), nanos_of(_aware(closes))


def _aware(stamp: Any) -> datetime:
    moment: datetime = stamp.to_pydatetime()
    return moment.astimezone(UTC)


def session_vwap(bars: BarSeries, open_ns: int) -> tuple[float, float] | None:
    """Return VWAP and volume of the visible bars from a moment on; None while nothing was traded.

    A bar counts with its typical price, the mean of high, low and close.
    """
    first = int(np.searchsorted(bars.starts, open_ns))
    volumes = bars.volume[first:]
    volume = float(volumes.sum())
    if volume <= 0:
        return None
    typical = (bars.high[first:] + bars.low[first:] + bars.close[first:]) / 3
    return float((typical * volumes).sum()) / volume, volume


__all__ = ["VwapStrategy"]
