"""How far a long ingest is: fraction, bars a second, time that is left. Pure but for the clock that it is given.

Owns: the arithmetic and the words. Leaves: who is told (``ingest``). Units: seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Progress = Callable[[float, str], None]
TELL_EVERY_S = 0.25


class Meter:
    """Counts the market time that was asked for, over all series of one ingest."""

    def __init__(self, series: int, progress: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self._series, self._progress, self._clock = max(1, series), progress, clock
        self._began = clock()
        self._told = float("-inf")
        self._done = 0
        self._name, self._span, self._asked = "", 0.0, 0.0
        self.bars = 0
        self.requests = 0

    def begin(self, name: str, span_s: float) -> None:
        """Begin a series that has ``span_s`` of market time to ask for."""
        self._name, self._span, self._asked = name, span_s, 0.0
        self._tell(always=True)

    def add(self, asked_s: float, bars: int) -> None:
        """Count one answer."""
        self._asked += asked_s
        self.bars += bars
        self.requests += 1
        self._tell()

    def wait(self, seconds: float, why: str) -> None:
        """Say that the next request waits."""
        self._progress(self.fraction, f"{self._name}: waiting {seconds:.0f} s, {why}.")

    def end_series(self) -> None:
        """End a series, whole or not."""
        self._done += 1
        self._span = self._asked = 0.0
        self._tell(always=True)

    @property
    def fraction(self) -> float:
        """Return how much is done, 0–1."""
        part = min(1.0, self._asked / self._span) if self._span > 0 else 0.0
        return min(1.0, (self._done + part) / self._series)

    def _tell(self, *, always: bool = False) -> None:
        now = self._clock()
        if always or now - self._told >= TELL_EVERY_S:
            self._told = now
            self._progress(self.fraction, self.words())

    def words(self) -> str:
        """Return where the ingest is, for a person."""
        spent, done = max(1e-3, self._clock() - self._began), self.fraction
        left = f", {duration(spent / done * (1 - done))} left" if 0.01 < done < 1 else ""
        return (
            f"{self._name}: series {min(self._done + 1, self._series)} of {self._series}, {done:.0%}, {self.bars:,} "
            f"bars in {self.requests:,} requests, {self.bars / spent:,.0f} bars/s{left}."
        )


def duration(seconds: float) -> str:
    """Return a time in words.

    >>> duration(42), duration(150), duration(9000)
    ('42 s', '2 min 30 s', '2 h 30 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
