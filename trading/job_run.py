"""One job in its own process: progress into its row, a wish to stop out of it, its end.

Owns: the row while the job runs. Leaves: the process (``worker``), the work (``job_kinds``).
Rule: progress is written at most twice a second, and the wish to stop is read with it. SIGTERM is a wish to stop.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
import traceback
from datetime import UTC, datetime
from typing import Any

from django.db import DatabaseError, connection

from strategies.exceptions import MatsError
from trading.job_kinds import work_of
from trading.work_models import Job, JobState

logger = logging.getLogger(__name__)

EVERY_S = 0.5
_MESSAGE = 400


class _Teller:
    def __init__(self, job_id: int) -> None:
        self._job_id = job_id
        self._told_at = 0.0
        self._wanted = threading.Event()

    def progress(self, done: float, text: str) -> None:
        now = time.monotonic()
        if now - self._told_at >= EVERY_S:
            self._told_at = now
            self._write(min(max(done, 0.0), 1.0), text)

    def should_stop(self) -> bool:
        if not self._wanted.is_set() and time.monotonic() - self._told_at >= EVERY_S:
            self._told_at = time.monotonic()
            self._look()
        return self._wanted.is_set()

    def want(self, *_: object) -> None:
        self._wanted.set()

    @property
    def was_wanted(self) -> bool:
        return self._wanted.is_set()

    def _write(self, done: float, text: str) -> None:
        now = datetime.now(UTC)
        try:
            Job.objects.filter(pk=self._job_id).update(progress=done, message=text[:_MESSAGE], beat_at=now)
        except DatabaseError as error:  # a locked ledger must not end hours of work
            logger.warning("progress not written job=%s reason=%s", self._job_id, error)
            connection.close()
        self._look()

    def _look(self) -> None:
        try:
            if Job.objects.filter(pk=self._job_id, cancel_wanted=True).exists():
                self._wanted.set()
        except DatabaseError:
            connection.close()


def run_job(job_id: int) -> str:
    """Do a claimed job and write how it ended; return its state."""
    job = Job.objects.get(pk=job_id)
    teller = _Teller(job_id)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, teller.want)
    state, result, error = JobState.DONE, {}, ""
    try:
        result = work_of(job.kind)(job.args, teller.progress, teller.should_stop, job_id)
        if teller.was_wanted or result.get("cancelled"):
            state = JobState.CANCELLED
    except MatsError as problem:
        state, error = JobState.FAILED, problem.message
        logger.warning("job failed id=%s reason=%s", job_id, problem.message)
    except MemoryError:
        state, error = JobState.FAILED, "It needed more memory than MATS_JOB_MEMORY_MB allows."
    except Exception:  # the border of user code and libraries: the traceback goes to who asked
        state, error = JobState.FAILED, traceback.format_exc()
        logger.exception("job failed id=%s", job_id)
    _end(job_id, state, result, error)
    return str(state)


def _end(job_id: int, state: JobState, result: dict[str, Any], error: str) -> None:
    changes: dict[str, Any] = {"state": state, "result": result, "error": error, "ended_at": datetime.now(UTC)}
    if state == JobState.DONE:
        changes |= {"progress": 1.0, "message": ""}
    for pause_s in (0.5, 1.0, 2.0, 4.0, 0.0):
        try:
            Job.objects.filter(pk=job_id).update(**changes)
            return
        except DatabaseError:
            connection.close()
            if not pause_s:
                raise
            time.sleep(pause_s)
