"""Count messages against TWS' limit, 50 in any second; of each client, or of all that are connected.

Owns: the sliding window and both of TWS' ways to deal with an excess: hold the message back (``queue``, TWS' default)
or refuse it with error 100 and end the session at the third break (``reject``).
Leaves: holding and refusing to ``server``. Time is given by the caller, in seconds of a monotonic clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

WINDOW_S = 1.0
MAX_BREAKS = 3


class Pacing(StrEnum):
    """What happens to messages above the limit."""

    QUEUE = "queue"
    REJECT = "reject"


@dataclass(slots=True)
class Pacer:
    """The window of one client, or of all together; ``max_per_s`` 0 means no limit.

    ``peak`` is the most that came within one window, what was refused included.
    """

    max_per_s: int
    breaks: int = 0
    peak: int = 0
    _times: deque[float] = field(default_factory=deque)
    _over: int = 0

    def wait_s(self, now: float) -> float:
        """Return how long the next message must be held back; 0 when it may pass."""
        self._forget(now)
        if not self.max_per_s or len(self._times) < self.max_per_s:
            return 0.0
        return max(self._times[0] + WINDOW_S - now, 0.001)

    def passed(self, now: float) -> None:
        """Count a message that was let through."""
        if self.max_per_s:
            self._times.append(now)
            self.peak = max(self.peak, len(self._times))

    def exceeded(self, now: float) -> int:
        """Count a message against the limit; return the number received in this window if it is above, else 0.

        One window above the limit is one break, however many messages it holds.
        """
        if self.wait_s(now) == 0:
            self._over = 0
            self.passed(now)
            return 0
        if self._over == 0:
            self.breaks += 1
        self._over += 1
        self.peak = max(self.peak, self.max_per_s + self._over)
        return self.max_per_s + self._over

    @property
    def broken(self) -> bool:
        """Whether the session has to end."""
        return self.breaks >= MAX_BREAKS

    def _forget(self, now: float) -> None:
        times = self._times
        while times and now - times[0] >= WINDOW_S:
            times.popleft()
