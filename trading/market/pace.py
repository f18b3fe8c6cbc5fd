"""The pace of a clock-driven session: minutes of the session against seconds of the wall.

Rule: a step is due every 60/speed seconds, at most 60, counted from the first, so that work done in a step does not
slow the session down; a step that is late is done at once and the steps after it are counted from it, never in a burst.
"""

from __future__ import annotations

import time
from collections.abc import Callable

MINUTE_NS = 60_000_000_000
LONGEST_S = 60.0


class Pace:
    """When the next minute is due."""

    def __init__(self, speed: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.step_s = min(60.0 / speed, LONGEST_S)
        self.late = 0
        self._clock = clock
        self._due = clock()

    def next_minute(self, now_ns: int) -> int:
        """Return the next whole minute of the session's clock."""
        return (now_ns // MINUTE_NS + 1) * MINUTE_NS

    def wait_s(self) -> float:
        """Return how long to wait for the step that is due next; 0 when it is late."""
        self._due += self.step_s
        left = self._due - self._clock()
        if left >= 0:
            return left
        self.late += 1
        self._due = self._clock()
        return 0.0

    def shift(self, seconds: float) -> None:
        """Leave a pause out of the count."""
        self._due += seconds
