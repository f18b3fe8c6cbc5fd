"""Log lines of engine and strategies as events on the pages, at a bounded rate for each source.

Owns: the logging handler, its rate limit, and which records are for the pages: our own, and in a strategy's code those
of any logger. Leaves: the log file, which has every line.
Rule: a record names its strategy (``extra={"strategy": symbol}``), else it belongs to the one whose code emits it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from strategies.attribution import current_strategy

Line = Callable[[str, str, str, str], None]  # level, strategy, text, logger name

LINES_PER_S = 10.0
BURST = 50.0
_OURS = frozenset({"trading", "portfolio", "strategies", "mats_site"})
_CHATTY = frozenset({"ib_async", "asyncio", "django", "eventkit"})  # in a strategy's code: warnings only


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
    """Passes INFO and above of our own loggers and of strategies' code on to ``line``."""

    def __init__(self, line: Line, limit: RateLimit | None = None) -> None:
        super().__init__(logging.INFO)
        self._line = line
        self._limit = limit or RateLimit()

    def emit(self, record: logging.LogRecord) -> None:
        """Hand one record over, or count it as dropped."""
        told: str | None = getattr(record, "strategy", None)
        strategy = current_strategy() if told is None else told
        if not _is_for_pages(record, strategy):
            return
        dropped = self._limit.admit(f"{strategy}:{record.name}")
        if dropped is None:
            return
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            text = str(record.msg)
        if dropped:
            text = f"{text} ({dropped} lines of this source left out)"
        self._line(record.levelname.lower(), strategy, text, record.name)


def _is_for_pages(record: logging.LogRecord, strategy: str) -> bool:
    top = record.name.split(".", 1)[0]
    if not getattr(record, "page", True):
        return False
    if top in _OURS:
        return True
    return bool(strategy) and (top not in _CHATTY or record.levelno >= logging.WARNING)
