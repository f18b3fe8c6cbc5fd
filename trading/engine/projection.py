"""Keeps ArcticDB up to the ledger and to the strategy table while the engine runs.

Owns: when to flush and to mirror, and saying what is wrong. Leaves: the writing (``portfolio.arctic``).
Rule: trading never waits for ArcticDB; what it lacks is appended when it is back.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from django.db.models import F

from portfolio.arctic.projections import Projector
from strategies.exceptions import MatsError
from strategies.models import Strategy
from trading.engine.order_rows import order_rows_after

logger = logging.getLogger(__name__)


class Projection:
    """One projector behind one lock. Thread-safe."""

    def __init__(self, assert_epoch: Callable[[], None]) -> None:
        self._projector = Projector(assert_epoch, order_rows_after=order_rows_after)
        self._lock = threading.Lock()
        self._trouble = ""
        self._rows = 0

    def flush(self) -> None:
        """Append what is missing; mirror the strategy table when a row is ahead of it.

        Raises: TransientError when ArcticDB cannot be written; the next call goes on.
        """
        with self._lock:
            try:
                if Strategy.objects.exclude(synced_revision=F("revision")).exists():
                    self._projector.sync_strategies()
                while True:
                    done = self._projector.flush()
                    self._rows += done.total
                    if not done.more:
                        break
            except MatsError as error:
                self._trouble = error.message
                raise
            self._trouble = ""

    def sync_strategies(self) -> int:
        """Mirror the strategy table now; return how many rows it holds.

        Raises: TransientError when ArcticDB cannot be written.
        """
        with self._lock:
            return self._projector.sync_strategies()

    def finish(self) -> None:
        """Flush for the last time and give the writer lock back; trouble is logged, the next start catches up."""
        try:
            self.flush()
        except MatsError as error:
            logger.warning("arctic not flushed at the end reason=%s", error.message)
        with self._lock:
            self._projector.close()

    def status(self) -> dict[str, Any]:
        """Return what the heartbeat shows: rows written since the start, and what is wrong."""
        return {"rows": self._rows, "trouble": self._trouble}
