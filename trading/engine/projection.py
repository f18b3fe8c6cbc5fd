"""Keeps ArcticDB up to the ledger and to the strategy table while the engine runs.

Owns: when to flush and to mirror, writing what other processes handed over, saying what is wrong and how full the store
is. Leaves: the writing (``portfolio.arctic``).
Rule: trading never waits for ArcticDB; what it lacks is appended when it is back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from django.db.models import F

from portfolio.arctic.parcels import drain
from portfolio.arctic.projections import Projector
from portfolio.arctic.space import StoreSpace, check_room
from portfolio.models import ArcticParcel
from strategies.exceptions import MatsError
from strategies.models import Strategy
from trading.engine.order_rows import order_rows_after

logger = logging.getLogger(__name__)

TABLES_REST = 10.0  # times as long as writing the tables took, at least the second between two flushes


class Projection:
    """One projector behind one lock. Thread-safe."""

    def __init__(self, assert_epoch: Callable[[], None]) -> None:
        self._projector = Projector(assert_epoch, order_rows_after=order_rows_after)
        self._lock = threading.Lock()
        self._trouble = ""
        self._rows = 0
        self._tables = 0
        self._tables_due = 0.0
        self._space = StoreSpace()

    def flush(self) -> None:
        """Append what is missing; mirror the strategy table when a row is ahead of it.

        Raises: TransientError when ArcticDB cannot be written; the next call goes on.
        """
        with self._lock:
            try:
                self._projector.writer.client.check()
                check_room(self._projector.writer.client.uri)
                if Strategy.objects.exclude(synced_revision=F("revision")).exists():
                    self._projector.sync_strategies()
                while True:
                    done = self._projector.flush()
                    self._rows += done.total
                    if not done.more:
                        break
                self._write_tables()
                self._space.measure(self._projector.writer.client.uri)
            except MatsError as error:
                self._trouble = error.message
                raise
            self._trouble = ""

    def _write_tables(self) -> None:
        """Write what stands now; a portfolio so large that it takes long is written the more seldom."""
        begun = time.monotonic()
        if begun < self._tables_due:
            return
        self._tables += self._projector.write_current()
        self._tables_due = begun + (time.monotonic() - begun) * TABLES_REST

    def sync_strategies(self) -> int:
        """Mirror the strategy table now; return how many rows it holds.

        Raises: TransientError when ArcticDB cannot be written.
        """
        with self._lock:
            check_room(self._projector.writer.client.uri)
            return self._projector.sync_strategies()

    def finish(self) -> None:
        """Flush for the last time and give the writer lock back; trouble is logged, the next start catches up."""
        try:
            self.flush()
        except MatsError as error:
            logger.warning("arctic not flushed at the end reason=%s", error.message)
        with self._lock:
            self._projector.close()

    def take_parcels(self, on_failed: Callable[[ArcticParcel], None]) -> int:
        """Write what other processes handed over, one at a time so that the ledger's rows never wait long; return how
        many were taken.

        Raises: TransientError when ArcticDB cannot be written; what waits, waits on.
        """
        taken = 0
        while True:
            with self._lock:
                done = drain(self._projector.writer, on_failed, most=1)
            if not done.written and not done.failed:
                return taken
            taken += 1

    def status(self) -> dict[str, Any]:
        """Return what the heartbeat shows: rows and tables written since the start, what is wrong, the store's size.

        ``alert`` is a sentence while the store is nearly full or grows beyond reason, else empty.
        """
        return {"rows": self._rows, "tables": self._tables, "trouble": self._trouble, **self._space.figures()}
