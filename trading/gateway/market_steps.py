"""The stepped clock: a market that stands until somebody lets its next bar pass.

Owns: which bar comes next, where the clock stands, what kind of look at the market is taken.
Leaves: the looks (``venue_steps``, ``exchange_matching``), who asks for a step (``stepping``).
Rule: while it stands nothing trades, and prices are those that the last bar left. A bar passes in two looks: its
opening, where orders fill that its first price fills, and the rest of it as one stretch, as in a backtest. Pure.
"""

from __future__ import annotations

from enum import Enum

from trading.gateway.hours import Micros
from trading.gateway.market_time import MINUTE_US
from trading.gateway.model import RequestError

OVER = "The replayed bars are over: there is no bar left to pass."


class Look(Enum):
    """What a look at the market is of."""

    NONE = "none"  # it stands
    OPENING = "opening"  # the first price of a bar
    BAR = "bar"  # the rest of a bar, all at once
    SLICE = "slice"  # of a market that runs by itself


class StepClock:
    """Where a stepped market stands. Units: epoch microseconds; ``passed`` counts bars since the first start."""

    def __init__(self, stamps: Micros, passed: int) -> None:
        self._stamps = stamps
        # As on the running replay: a quarter of the bars is the past that clients may ask for.
        self._first = len(stamps) // 4
        self.passed = min(passed, len(stamps) - self._first)
        self.look = Look.NONE
        self.now_us = self.end_us if self.passed else self.begin_us

    @property
    def bar_us(self) -> int:
        """When the bar that passes, or passed last, began."""
        return self.end_us - MINUTE_US if self.passed else self.begin_us

    @property
    def begin_us(self) -> int:
        """When the next bar begins; of the last one where all have passed."""
        return int(self._stamps[min(self._first + self.passed, len(self._stamps) - 1)])

    @property
    def end_us(self) -> int:
        """When the last bar that passed was over."""
        return int(self._stamps[self._first + self.passed - 1]) + MINUTE_US

    def take(self) -> tuple[int, int]:
        """Take the next bar; return when it begins and ends.

        Raises: RequestError 321 when there is none.
        """
        if self._first + self.passed >= len(self._stamps):
            raise RequestError(321, OVER)
        begin = self.begin_us
        self.passed += 1
        return begin, begin + MINUTE_US

    def stands_at(self, micros: int) -> bool:
        """Tell whether the market stands, at this moment."""
        return self.look is Look.NONE and micros == self.now_us
