"""Closed bars on their way to ArcticDB: collected, then appended in batches by one thread.

Owns: the waiting bars and their thread. Leaves: names and format (``portfolio.arctic.market_data``). Bars wait under
their contract, and go where a series of it is or may begin.
Rule: an append costs the same for one bar as for a thousand, so bars wait some seconds; a failed append keeps them, up
to a bound, because bars can be asked for again and must not eat the engine's memory.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict

from portfolio.arctic.market_data import Bar, append_bars, series_of
from portfolio.arctic.writer import ArcticWriter
from strategies.exceptions import ConflictError, MatsError
from strategies.series_names import Listing

logger = logging.getLogger(__name__)

FLUSH_EVERY_S = 20.0
KEPT_PER_SYMBOL = 5_000
TIMEFRAME = "5_secs"


class BarStore:
    """Takes closed bars from any thread and appends them to the series of their contracts."""

    def __init__(
        self, writer: ArcticWriter | None = None, *, timeframe: str = TIMEFRAME, flush_every_s: float = FLUSH_EVERY_S
    ) -> None:
        self._writer = writer if writer is not None else ArcticWriter()
        self._timeframe = timeframe
        self._flush_every_s = flush_every_s
        self._waiting: dict[Listing, list[Bar]] = defaultdict(list)
        self._names: dict[Listing, str] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._in_trouble = False

    def start(self) -> None:
        """Start the thread; a second call does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="mats-bars", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Have the thread append what waits and end; returns at once, so that a loop may call it."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread's end; tell whether it came."""
        if self._thread is not None:
            self._thread.join(timeout_s)
            return not self._thread.is_alive()
        return True

    def add(self, listing: Listing, bar: Bar) -> None:
        """Take a closed bar of a contract; the oldest waiting one is dropped when too many wait."""
        with self._lock:
            waiting = self._waiting[listing]
            waiting.append(bar)
            if len(waiting) > KEPT_PER_SYMBOL:
                del waiting[0]

    def flush(self) -> int:
        """Append what waits; return how many bars were new. Bars that could not be appended wait on."""
        with self._lock:
            taken, self._waiting = self._waiting, defaultdict(list)
        written = 0
        for listing, bars in taken.items():
            try:
                written += self._append(listing, bars)
                self._in_trouble = False
            except MatsError as error:
                self._keep(listing, bars)
                if not self._in_trouble:
                    logger.warning("bars wait symbol=%s reason=%s", listing.symbol, error.message)
                self._in_trouble = True
        return written

    def _append(self, listing: Listing, bars: list[Bar]) -> int:
        name = self._names.get(listing) or series_of(self._writer.client, listing)
        try:
            written = append_bars(self._writer, name, self._timeframe, bars, listing, use_rth=False)
        except ConflictError:
            self._names.pop(listing, None)  # the series was replaced meanwhile: another name is found the next time
            raise
        if listing not in self._names:
            logger.info("bars recorded con_id=%s symbol=%s series=%s", listing.con_id, listing.symbol, name)
        self._names[listing] = name
        return written

    def _keep(self, listing: Listing, bars: list[Bar]) -> None:
        with self._lock:
            self._waiting[listing] = [*bars, *self._waiting[listing]][-KEPT_PER_SYMBOL:]

    def _run(self) -> None:
        while not self._stop.wait(self._flush_every_s):
            self._try_flush()
        self._try_flush()
        self._writer.close()

    def _try_flush(self) -> None:
        try:
            self.flush()
        except Exception:
            logger.exception("bars could not be stored")
