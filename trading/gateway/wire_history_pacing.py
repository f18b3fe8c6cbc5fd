"""Count requests for small bars against IB's limits, for the whole gateway.

Owns: when a request for bars of 30 seconds or less, or for real-time bars, comes too soon.
Leaves: what is answered (``wire_history``, ``wire_market``). Time is given, in seconds of a monotonic clock. Pure.
Rule: not the same request within 15 s; fewer than 6 for one contract, exchange and kind within 2 s; 60 within 10
minutes, where BID_ASK counts twice. Real-time bars: 60 within 10 minutes. A refused request does not count.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

SMALL_BAR_S = 30
SAME_S, BURST_S, LONG_S = 15.0, 2.0, 600.0
BURST, LONG = 6, 60


@dataclass(frozen=True, slots=True)
class BarRequest:
    """What makes two requests the same."""

    con_id: int
    exchange: str
    what: str
    end: str
    bar_size: str
    duration: str
    use_rth: bool


@dataclass(slots=True)
class HistoryPacer:
    """The windows of one gateway."""

    _asked: deque[tuple[float, BarRequest]] = field(default_factory=deque)
    _streams: deque[float] = field(default_factory=deque)

    def may_ask(self, request: BarRequest, now: float) -> bool:
        """Count a request for small bars, or tell that it comes too soon."""
        while self._asked and now - self._asked[0][0] >= LONG_S:
            self._asked.popleft()
        recent = [(now - at, other) for at, other in self._asked]
        kind = (request.con_id, request.exchange, request.what)
        burst = sum(age < BURST_S and (other.con_id, other.exchange, other.what) == kind for age, other in recent)
        weight = sum(_weight(other) for _, other in recent)
        same = any(age < SAME_S and other == request for age, other in recent)
        if same or burst + 1 >= BURST or weight + _weight(request) > LONG:
            return False
        self._asked.append((now, request))
        return True

    def may_stream(self, now: float) -> bool:
        """Count a request for real-time bars, or tell that it comes too soon."""
        while self._streams and now - self._streams[0] >= LONG_S:
            self._streams.popleft()
        if len(self._streams) >= LONG:
            return False
        self._streams.append(now)
        return True


def _weight(request: BarRequest) -> int:
    return 2 if request.what == "BID_ASK" else 1
