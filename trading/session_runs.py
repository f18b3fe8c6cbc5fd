"""Keeps what sessions and scans say of themselves: SessionRun and ScanRun rows, and events for the pages.

Owns: those rows while a session runs, in whatever process. Leaves: configurations (``session_services``), reading
(``session_queries``).
Rule: a session must not wait for its own record: progress is written at most once a second, on the calling thread, and
a database that cannot be written is told in the log once and tried again with the next.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import DatabaseError, connection, transaction

from trading.engine import doorbell, events
from trading.engine.events import EventKind
from trading.market.scanners.manager import ScanRecord
from trading.market.session_status import OVER, Phase, SessionStatus
from trading.session_models import ScanRun, SessionRun

logger = logging.getLogger(__name__)

EVERY_S = 1.0
SILENT_AFTER = timedelta(seconds=30)
_FIELDS = ["phase", "day", "clock_at", "metrics", "message", "error", "beat_at", "ended_at"]


def this_process() -> str:
    """Name the process as ``host:pid``."""
    return f"{socket.gethostname()}:{os.getpid()}"[:80]


class RunRecorder:
    """The observer that writes one session's row."""

    def __init__(self, name: str, mode: str, *, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic):
        now = datetime.now(UTC)
        self.run = SessionRun.objects.create(
            name=name, mode=mode, phase=Phase.VALIDATING, process=this_process(), started_at=now, beat_at=now
        )
        self._every_s, self._clock = every_s, clock
        self._written_at = float("-inf")
        self._scans: list[ScanRecord] = []
        self._in_trouble = False

    def phase(self, status: SessionStatus) -> None:
        """Store another phase at once."""
        self._take(status)
        if status.phase in OVER:
            self.run.ended_at = datetime.now(UTC)
        self._write()
        if status.phase in OVER:
            connection.close()  # of the session's own thread, which ends now

    def progress(self, make: Callable[[], SessionStatus]) -> None:
        """Store how far it is, once a second."""
        if self._clock() - self._written_at >= self._every_s:
            self._take(make())
            self._write()

    def scanned(self, record: ScanRecord) -> None:
        """Store a scan together with the next progress; a backtest may have thousands of them in a second."""
        self._scans.append(record)

    def fail(self, error: str, message: str) -> None:
        """Store why it ended."""
        self.run.error = error
        self.phase(SessionStatus(Phase.FAILED, self.run.day, self.run.clock_at, message, self.run.metrics))

    def _take(self, status: SessionStatus) -> None:
        run = self.run
        run.phase, run.day, run.clock_at = status.phase, status.day, status.clock
        run.message, run.metrics = status.message[:400], status.metrics

    def _write(self) -> None:
        self._written_at = self._clock()
        self.run.beat_at = datetime.now(UTC)
        scans, self._scans = self._scans, []
        try:
            with transaction.atomic():
                self.run.save(update_fields=_FIELDS)
                ScanRun.objects.bulk_create([scan_row(record, self.run) for record in scans], batch_size=200)
                events.emit(EventKind.SESSION, session_payload(self.run))
            doorbell.ring()
        except DatabaseError as error:
            self._scans = [*scans, *self._scans]
            if not self._in_trouble:
                logger.warning("session row not written session=%s reason=%s", self.run.name, error)
            self._in_trouble = True
            connection.close()
        else:
            self._in_trouble = False


def session_payload(run: SessionRun) -> dict[str, Any]:
    """Describe a run for the pages, which read the rest anew."""
    return {"id": run.pk, "name": run.name, "phase": str(run.phase), "message": run.message}


def scan_row(record: ScanRecord, run: SessionRun | None = None) -> ScanRun:
    """Return a scan as its row."""
    result = record.result
    return ScanRun(
        scanner=record.scanner[:120],
        session=run,
        at=record.at,
        symbols=list(result.symbols),
        details={"promoted": list(result.promoted), "figures": result.metadata},
        universe=record.universe,
        ms=result.execution_time_ms,
        skipped=result.skipped,
        error=result.error or "",
    )


def store_scan(record: ScanRecord) -> ScanRun:
    """Store a scan outside of a session, and tell the pages."""
    with transaction.atomic():
        row = scan_row(record)
        row.save(force_insert=True)
        events.emit(EventKind.SESSION, {"scan": row.pk, "name": record.scanner, "phase": "", "message": ""})
    doorbell.ring()
    return row


def close_lost_runs(process: str = "") -> int:
    """Mark runs whose process is gone as failed: those of ``process``, else those silent for half a minute."""
    lost = SessionRun.objects.exclude(phase__in=[str(phase) for phase in OVER])
    lost = lost.filter(process=process) if process else lost.filter(beat_at__lt=datetime.now(UTC) - SILENT_AFTER)
    ids = [pk for pk, name in lost.values_list("pk", "process") if process or not _lives(name)]
    lost = SessionRun.objects.filter(pk__in=ids)
    return lost.update(phase=Phase.FAILED, message="Its process ended without a word.", ended_at=datetime.now(UTC))


def _lives(process: str) -> bool:
    """Tell whether a process of this machine is there: a strategy that thinks for long keeps its session silent."""
    host, _, number = process.rpartition(":")
    if host != socket.gethostname() or not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True
