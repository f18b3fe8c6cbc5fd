"""The worker: takes queued jobs in order, each in a process of its own, and tells how far they are.

Owns: claiming, the job's process, its limits, what becomes of a job whose process or worker dies.
Leaves: what a job does (``job_kinds``), asking for one (``work_services``).
Rule: a job is claimed by one conditional update, so that two workers never do one job. User code runs in the child
alone: it may crash, leak or never end, and takes only its own job with it. A job whose worker died is failed, not
repeated: what it did may be half done, and a person decides.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.models import Q

from trading.work_models import Job, JobState

logger = logging.getLogger(__name__)

LOOK_S = 0.5
BEAT_S = 2.0
DEAD_AFTER = timedelta(seconds=30)
GRACE_S = 15.0  # that a job has to stop by itself once it was asked to
KEPT_FOR = timedelta(days=30)
_STDERR_KEPT = 4_000


def worker_name() -> str:
    """Return host and process, as a job's row shows them."""
    return f"{socket.gethostname()}:{os.getpid()}"


def claim(name: str, now: datetime) -> Job | None:
    """Take the oldest queued job; None when there is none, or another worker was faster."""
    queued = Job.objects.filter(state=JobState.QUEUED).order_by("id").values_list("pk", flat=True).first()
    if queued is None:
        return None
    taken = Job.objects.filter(pk=queued, state=JobState.QUEUED).update(
        state=JobState.RUNNING, worker=name, started_at=now, beat_at=now, progress=0.0, message="Starting."
    )
    return Job.objects.get(pk=queued) if taken else None


def fail_abandoned(now: datetime) -> int:
    """Fail running jobs that no worker has spoken for; return how many."""
    silent = Q(beat_at__isnull=True) | Q(beat_at__lt=now - DEAD_AFTER)
    return Job.objects.filter(silent, state=JobState.RUNNING).update(
        state=JobState.FAILED,
        ended_at=now,
        message="",
        error="The worker that did it ended in the middle. Look at what it left, then ask for it again.",
    )


def prune(now: datetime) -> int:
    """Delete jobs that ended long ago; runs and data that came of them stay."""
    old = Job.objects.filter(ended_at__lt=now - KEPT_FOR)
    return old.delete()[0]


class Worker:
    """One worker process; ``stop`` may be called from a signal handler."""

    def __init__(self, report: Callable[[str], None] = lambda _: None) -> None:
        self.name = worker_name()
        self._report = report
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End after the job under way was asked to stop."""
        self._stopped.set()

    def run(self, *, once: bool = False) -> int:
        """Do jobs until stopped, or until none is queued; return how many were done."""
        done, pruned_at = 0, 0.0
        while not self._stopped.is_set():
            try:
                now = datetime.now(UTC)
                fail_abandoned(now)
                if time.monotonic() - pruned_at > 3600 or not pruned_at:
                    prune(now)
                    pruned_at = time.monotonic()
                job = claim(self.name, now)
            except DatabaseError as error:
                logger.warning("jobs not looked at reason=%s", error)
                connection.close()
                job = None
            if job is not None:
                self._do(job)
                done += 1
            elif once:
                return done
            else:
                self._stopped.wait(LOOK_S)
        return done

    # -- one job

    def _do(self, job: Job) -> None:
        logger.info("job started id=%s kind=%s", job.pk, job.kind)
        self._report(f"{job} …")
        child = self._start(job)
        asked_at: float | None = None
        drained: list[bytes] = []
        reader = threading.Thread(target=lambda: drained.append(child.stderr.read() if child.stderr else b""))
        reader.start()
        deadline = time.monotonic() + settings.MATS.job_time_limit_s
        beat_at = 0.0
        reason = ""
        while child.poll() is None:
            now = time.monotonic()
            if now - beat_at >= BEAT_S:
                beat_at = now
                self._beat(job)
            if now > deadline and not reason:
                reason = f"It took longer than MATS_JOB_TIME_LIMIT_S ({settings.MATS.job_time_limit_s:g} s)."
            if asked_at is None and (reason or self._stopped.is_set()):
                asked_at = now
                child.send_signal(signal.SIGTERM)
            if asked_at is not None and now - asked_at > GRACE_S:
                child.kill()
            time.sleep(0.05)
        reader.join(5.0)
        self._ended(job, child.returncode, reason, b"".join(drained))

    def _start(self, job: Job) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "run_jobs", "--job", str(job.pk)]
        limit = int(settings.MATS.job_memory_mb) * 1024 * 1024

        def _limited() -> None:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

        return subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=_limited,
        )

    @staticmethod
    def _beat(job: Job) -> None:
        try:
            Job.objects.filter(pk=job.pk, state=JobState.RUNNING).update(beat_at=datetime.now(UTC))
        except DatabaseError as error:
            logger.warning("no sign of life written job=%s reason=%s", job.pk, error)
            connection.close()

    def _ended(self, job: Job, code: int, reason: str, stderr: bytes) -> None:
        """Fail a job whose process ended without saying how."""
        row = Job.objects.filter(pk=job.pk).first()
        if row is None or row.state != JobState.RUNNING:
            self._report(f"{job} {row.state if row else 'deleted'}")
            return
        now = datetime.now(UTC)
        if reason or code != -signal.SIGTERM:
            text = reason or _ending(code)
            tail = stderr[-_STDERR_KEPT:].decode(errors="replace").strip()
            state, error = JobState.FAILED, f"{text}\n{tail}".strip()
        else:
            state, error = JobState.CANCELLED, ""
        Job.objects.filter(pk=job.pk, state=JobState.RUNNING).update(state=state, error=error, ended_at=now, message="")
        logger.warning("job ended by itself id=%s code=%s", job.pk, code)
        self._report(f"{job} {state}")


def _ending(code: int) -> str:
    if code == -signal.SIGKILL:
        return "Its process was killed; it may have needed more memory than there was."
    if code < 0:
        return f"Its process died of signal {-code}."
    return f"Its process ended with code {code} before it had told a result."
