"""From the clock to the path: which minute of market time a moment is.

Owns: the three clocks of a paper market (steady, exchange hours, the bars' own time).
Leaves: prices (``market_path``).
Rule: every clock is a non-decreasing function of time; where it stands still nothing trades.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from trading.gateway.hours import Micros
from trading.gateway.market_path import Floats

MINUTE_US = 60_000_000
_DAY_US = 86_400_000_000


class MarketTime(Protocol):
    """Minutes of market time at a moment given in epoch microseconds."""

    def at(self, micros: int) -> float:
        """Minutes at one moment."""

    def at_all(self, micros: Micros) -> Floats:
        """Minutes at many moments."""


class SteadyTime:
    """Market minutes pass at ``speed`` times the clock, day and night."""

    def __init__(self, origin_us: int, origin_u: float, speed: float) -> None:
        self._origin_us, self._origin_u, self._rate = origin_us, origin_u, speed / MINUTE_US

    def at(self, micros: int) -> float:
        """Minutes at one moment."""
        return self._origin_u + (micros - self._origin_us) * self._rate

    def at_all(self, micros: Micros) -> Floats:
        """Minutes at many moments."""
        result: Floats = np.asarray(self._origin_u + (micros - self._origin_us) * self._rate, dtype=np.float64)
        return result


class SessionTime:
    """As steady time, but it stands still while the exchange is closed."""

    def __init__(self, origin_us: int, origin_u: float, speed: float, sessions: Micros) -> None:
        lengths = sessions[:, 1] - sessions[:, 0]
        # As floats, exact up to 2^53: np.interp would convert them at every call.
        self._edges: Floats = sessions.reshape(-1).astype(np.float64)
        # Traded microseconds up to each edge: openings repeat the total of the closing before.
        totals = np.repeat(np.concatenate(([0], np.cumsum(lengths))), 2)[1:-1]
        self._traded: Floats = np.array(totals, dtype=np.float64)
        self._origin_u, self._rate = origin_u, speed / MINUTE_US
        self._origin_traded = float(np.interp(origin_us, self._edges, self._traded))

    def at(self, micros: int) -> float:
        """Minutes at one moment."""
        traded = float(np.interp(micros, self._edges, self._traded))
        return self._origin_u + (traded - self._origin_traded) * self._rate

    def at_all(self, micros: Micros) -> Floats:
        """Minutes at many moments."""
        traded = np.interp(micros, self._edges, self._traded)
        result: Floats = self._origin_u + (traded - self._origin_traded) * self._rate
        return result


class BarTime:
    """The bars' own time: each stamp starts a minute, gaps between stamps do not pass."""

    def __init__(self, stamps_us: Micros) -> None:
        self._stamps = stamps_us

    def days_before(self, end_us: int, count: int) -> int:
        """The first stamp of the last ``count`` UTC days with bars that start before ``end_us``."""
        known = self._stamps[: np.searchsorted(self._stamps, end_us)]
        if len(known) == 0:
            return end_us
        days = known // _DAY_US
        first = np.unique(days)[-count:][0]
        return int(known[np.searchsorted(days, first)])

    def at(self, micros: int) -> float:
        """Minutes at one moment."""
        return float(self.at_all(np.array([micros], dtype=np.int64))[0])

    def at_all(self, micros: Micros) -> Floats:
        """Minutes at many moments."""
        index = np.searchsorted(self._stamps, micros, side="right") - 1
        known = np.clip(index, 0, len(self._stamps) - 1)
        fraction = np.clip((micros - self._stamps[known]) / MINUTE_US, 0.0, 1.0)
        result: Floats = np.where(index < 0, 0.0, known + fraction)
        return result
