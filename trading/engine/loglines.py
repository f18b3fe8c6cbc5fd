"""Log lines of the engine as events on the pages, at a bounded rate for each source.

Owns: the logging handler and its rate limit. Leaves: the log file, which has every line.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

Line = Callable[[str, str, str, str], None]  # level, strategy, text, logger name

LINES_PER_S = 10.0
BURST = 50.0
_OURS = ("trading", "portfolio", "strategies", "mats_site")


class RateLimit:
    """Token bucket for each source. Thread-safe. Units: lines per second."""

    def __init__(
        self, per_s: float = LINES_PER_S, burst: float = BURST, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_s, self._burst, self._clock = per_s, burst, clock
        self._buckets: dict[str, tuple[float, float, int]] = {}
        self._lock = threading.Lock()

    def admit(self, source: str) -> int | None:
        """Return None when the line must be dropped, else how many lines of the source were dropped before it."""
        now = self._clock()
        with self._lock:
            tokens, since, dropped = self._buckets.get(source, (self._burst, now, 0))
            tokens = min(self._burst, tokens + (now - since) * self._per_s)
            if tokens < 1.0:
                self._buckets[source] = (tokens, now, dropped + 1)
                return None
            self._buckets[source] = (tokens - 1.0, now, 0)
            return dropped


class EventLogHandler(logging.Handler):
    """Passes INFO and above of our own loggers on to ``line``."""

    def __init__(self, line: Line, limit: RateLimit | None = None) -> None:
        super().__init__(logging.INFO)
        self._line = line
        self._limit = limit or RateLimit()

    def emit(self, record: logging.LogRecord) -> None:
        """Hand one record over, or count it as dropped."""
        if record.name.split(".", 1)[0] not in _OURS:
            return
        dropped = self._limit.admit(record.name)
        if dropped is None:
            return
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            text = str(record.msg)
        if dropped:
            text = f"{text} ({dropped} lines of this source left out)"
        self._line(record.levelname.lower(), str(getattr(record, "strategy", "")), text, record.name)
