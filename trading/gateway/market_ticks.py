"""Single ticks: trades, quote changes and midpoints, cut from the same path as the bars.

Owns: what happened in each half second of the clock, as ticks.
Leaves: prices and volumes (``market_history``), who asks (``wire_ticks``).
Rule: a half second with volume is one trade of all of it at its last price, stamped with its start, so the trades of a
bar add up to its volume and lie within it; a quote counts when it differs from that of the half second before.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from trading.gateway import hours
from trading.gateway.hours import Micros, from_micros, to_micros
from trading.gateway.instrument import Instrument
from trading.gateway.market_history import Prices
from trading.gateway.market_path import Floats
from trading.gateway.model import Tick, TickKind

STEP_US = 500_000
MOST_TICKS = 1000
_CHUNK = 20_000
_REACH = 40  # chunks of nearly three hours: four and a half days are searched at most
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class TickSource:
    """One instrument's ticks. ``lot`` is the multiple in which sizes are shown."""

    instrument: Instrument
    prices: Prices
    lot: int

    def between(self, kind: TickKind, since: datetime, until: datetime) -> list[Tick]:
        """Ticks of the half seconds that begin in [since, until) and are over at ``until``."""
        first, last = -(-to_micros(since) // STEP_US), to_micros(until) // STEP_US
        return self._cut(kind, first, last, use_rth=False) if last > first else []

    def forward(self, kind: TickKind, start: datetime, count: int, *, use_rth: bool, now: datetime) -> list[Tick]:
        """The first ``count`` ticks from ``start`` on."""
        found: list[Tick] = []
        first, end = -(-to_micros(start) // STEP_US), to_micros(now) // STEP_US
        for _ in range(_REACH):
            if first >= end or len(found) >= count:
                break
            found += self._cut(kind, first, min(first + _CHUNK, end), use_rth=use_rth)
            first += _CHUNK
        return found[:count]

    def backward(self, kind: TickKind, end: datetime, count: int, *, use_rth: bool) -> list[Tick]:
        """The last ``count`` ticks before ``end``."""
        found: list[Tick] = []
        last = to_micros(end) // STEP_US
        for _ in range(_REACH):
            if len(found) >= count:
                break
            found = self._cut(kind, last - _CHUNK, last, use_rth=use_rth) + found
            last -= _CHUNK
        return found[-count:]

    def _cut(self, kind: TickKind, first: int, last: int, *, use_rth: bool) -> list[Tick]:
        starts = np.arange(first - 1, last, dtype=np.int64) * STEP_US  # with the one before, to see what changed
        ends = starts + STEP_US
        prices = self.prices
        moved = prices.minutes_all(ends) > prices.minutes_all(starts)
        if not moved.any():
            return []
        # A closed market keeps its last price; where nothing moved the interval is a point in time.
        closes = prices.spans(starts, ends).close
        bids, asks = prices.bid_ticks(closes), prices.ask_ticks(closes)
        volumes = prices.volumes(starts, ends) if prices.has_volume else np.zeros(len(starts))
        if kind is TickKind.TRADES:
            chosen = moved & (volumes > 0)
        else:
            changed = (np.diff(bids, prepend=bids[0]) != 0) | (np.diff(asks, prepend=asks[0]) != 0)
            chosen = moved & changed
        chosen[0] = False
        if use_rth:
            chosen &= self._regular(starts)
        return self._ticks(starts[chosen], closes[chosen], bids[chosen], asks[chosen], volumes[chosen])

    def _regular(self, starts: Micros) -> npt.NDArray[np.bool_]:
        days = [from_micros(int(edge)).date() for edge in (starts[0], starts[-1])]
        sessions = hours.session_array(self.instrument.regular_calendar, *days, extended=False)
        if len(sessions) == 0:
            return np.zeros(len(starts), dtype=np.bool_)
        place = np.minimum(np.searchsorted(sessions[:, 1], starts, side="right"), len(sessions) - 1)
        inside: npt.NDArray[np.bool_] = (starts >= sessions[place, 0]) & (starts < sessions[place, 1])
        return inside

    def _ticks(self, starts: Micros, closes: Floats, bids: Floats, asks: Floats, volumes: Floats) -> list[Tick]:
        tick, lasts = self.prices.tick, self.prices.last_ticks(closes)
        rows = zip(starts.tolist(), lasts.tolist(), bids.tolist(), asks.tolist(), volumes.tolist(), strict=True)
        return [self._tick(tick, *row) for row in rows]

    def _tick(self, tick: Decimal, start: int, last: float, bid: float, ask: float, volume: float) -> Tick:
        bid_size, ask_size = displayed(self.instrument.con_id, start, self.lot)
        return Tick(
            time=from_micros(start),
            price=tick * int(last),
            size=Decimal(int(volume)),
            bid=tick * int(bid),
            ask=tick * int(ask),
            bid_size=bid_size,
            ask_size=ask_size,
        )


def displayed(con_id: int, micros: int, lot: int) -> tuple[Decimal, Decimal]:
    """Displayed bid and ask size: whole lots that change every second, the same for everyone who asks."""
    mixed = (con_id * 2_654_435_761 + micros // 1_000_000 * 40_503) & 0xFFFFFFFF
    return Decimal(lot * (1 + (mixed >> 8) % 12)), Decimal(lot * (1 + (mixed >> 20) % 12))
