"""What the engine does by the clock: heartbeat, equity, projections, pruning, checkpoints, memory.

Owns: the periodic threads and their work. Leaves: what is written (``portfolio``, ``lease``, ``events``).
Rule: the heartbeat waits for nothing slow; ArcticDB has a thread of its own, because it may hang, and trading goes on.
"""

from __future__ import annotations

import ctypes
import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from django.db import DatabaseError, connection, transaction

from portfolio import services as books
from portfolio.fx_rates import record_rates
from portfolio.ledger.fx import Quote
from strategies.exceptions import MatsError, StaleEpochError
from trading.engine import events
from trading.engine.events import EventKind
from trading.models import CommandState, EngineCommand, EngineEvent

logger = logging.getLogger(__name__)

KEEP_EVENTS = timedelta(days=7)
KEEP_COMMANDS = timedelta(days=30)
PRUNE_EVERY_S = 600.0
CHECKPOINT_EVERY_S = 1.0
MEMORY_EVERY_S = 60.0
_PRUNE_BLOCK = 5_000
_STALL_NOTE_S = 60.0


class Periodic:
    """A thread that calls ``work`` every ``interval_s`` seconds, or sooner when woken; trouble is logged, not fatal."""

    def __init__(
        self, name: str, interval_s: float, work: Callable[[], None], on_stale: Callable[[], None] = lambda: None
    ) -> None:
        self.name = name
        self.trouble = ""
        self._interval_s = interval_s
        self._work = work
        self._on_stale = on_stale
        self._wake = threading.Event()
        self._stopping = False
        self._noted_at = float("-inf")
        self._thread = threading.Thread(target=self._run, name=f"mats-{name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Have the work done now."""
        self._wake.set()

    def stop(self, timeout_s: float) -> bool:
        """End the thread after the call that may be under way; tell whether it ended."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            due = time.monotonic()
            while not self._stopping:
                self._once()
                due = max(due + self._interval_s, time.monotonic())
                self._wake.wait(due - time.monotonic())
                self._wake.clear()
        finally:
            connection.close()

    def _once(self) -> None:
        try:
            self._work()
        except StaleEpochError:
            self._stopping = True
            self._on_stale()
        except (MatsError, DatabaseError, OSError) as error:
            connection.close()
            self._note(str(error))
        except Exception as error:  # noqa: BLE001 - thread border: one bad turn must not end the job
            connection.close()
            self._note(f"{type(error).__name__}: {error}", trace=True)
        else:
            if self.trouble:
                logger.info("job=%s works again", self.name)
            self.trouble = ""

    def _note(self, trouble: str, *, trace: bool = False) -> None:
        now = time.monotonic()
        if trouble != self.trouble or now - self._noted_at > _STALL_NOTE_S:
            self._noted_at = now
            logger.error("job=%s trouble=%s", self.name, trouble, exc_info=trace)
        self.trouble = trouble


def checkpoint() -> None:
    """Copy what SQLite's log holds into the database file, so that seldom a commit of the message thread has to.

    PASSIVE: nobody waits for it. A commit copies for itself once the log is long (``wal_autocheckpoint``).
    """
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")


def give_memory_back() -> None:
    """Have the C library return the pages between its blocks; with threads that come and go it keeps tens of MB."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; others return pages by themselves
    if trim is not None:
        trim(0)


def snapshot_equity(account: str) -> None:
    """Write the equity of all owners at this moment and report it; inside a job of the message thread."""
    now = datetime.now(UTC)
    facts = books.take_equity_snapshot(account, now)
    if facts:
        events.emit(EventKind.EQUITY, events.equity_payload(now, facts))


def keep_rates(account: str, quotes: Mapping[str, Quote]) -> None:
    """Keep exchange rates that were asked for; inside a job of the message thread."""
    now = datetime.now(UTC)
    for currency, quote in quotes.items():
        record_rates(account, {currency: quote.worth}, quote.as_of or now, quote.source)


def prune(assert_epoch: Callable[[], None], now: datetime | None = None) -> int:
    """Delete old events and finished commands in small blocks; return how many events went."""
    moment = now or datetime.now(UTC)
    deleted = 0
    while True:
        with transaction.atomic():
            assert_epoch()
            ids = list(
                EngineEvent.objects.filter(at__lt=moment - KEEP_EVENTS)
                .order_by("id")
                .values_list("id", flat=True)[:_PRUNE_BLOCK]
            )
            if not ids:
                EngineCommand.objects.filter(created_at__lt=moment - KEEP_COMMANDS).exclude(
                    state__in=[CommandState.QUEUED, CommandState.ACCEPTED]
                ).delete()
                return deleted
            EngineEvent.objects.filter(id__gte=ids[0], id__lte=ids[-1], at__lt=moment - KEEP_EVENTS).delete()
        deleted += len(ids)
