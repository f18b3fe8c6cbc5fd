"""One engine per database: a lease row with an epoch that only grows and fences stale writers.

Rule: ``assert_epoch`` runs inside every write transaction, so a writer that was frozen past its time and thawed again
cannot commit anything: its epoch is no longer the row's.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psutil
from django.db import connection, transaction

from strategies.exceptions import ConflictError, StaleEpochError
from strategies.ordering import take_turn
from trading.models import EngineLease

LEASE_NAME = "engine"
_READ = "SELECT epoch FROM trading_enginelease WHERE name = %s"
# Holds the row against a takeover (which locks it FOR UPDATE) and not against the heartbeat (a plain UPDATE). A writer
# that freezes between two statements is cut off by the server: else the row would stay locked for as long as it sleeps.
_READ_AND_HOLD = (
    "SELECT epoch, set_config('idle_in_transaction_session_timeout', '30s', true) "
    "FROM trading_enginelease WHERE name = %s FOR KEY SHARE"
)


def _utc_now() -> datetime:
    return datetime.now(UTC)


def holder_name() -> str:
    """Return ``host:pid:start:token`` of this process; the start time tells a reused pid from the old process."""
    process = psutil.Process()
    return f"{socket.gethostname()}:{process.pid}:{process.create_time():.2f}:{uuid4().hex[:8]}"


def holder_is_dead(holder: str) -> bool:
    """Tell whether the holder was a process of this host that no longer lives; False when that cannot be known."""
    host, _, rest = holder.rpartition(":")[0].partition(":")
    pid, _, started = rest.partition(":")
    if host != socket.gethostname():
        return False
    try:
        process = psutil.Process(int(pid))
        return process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - float(started)) > 1.0
    except psutil.NoSuchProcess:
        return True
    except (ValueError, psutil.Error):
        return False


def lease_holder() -> str:
    """Return the process whose lease is in force, ``pid on host``, empty when none is."""
    row = EngineLease.objects.filter(name=LEASE_NAME).first()
    if row is None or not Lease.is_held(row, _utc_now()):
        return ""
    host, pid = row.holder.split(":")[:2]
    return f"{pid} on {host}"


class EngineHeldError(ConflictError):
    """Another engine holds the lease."""

    code = "engine_running"


class Lease:
    """This process's claim to be the engine. Units: ``ttl_s`` seconds. Thread-safe: the row decides."""

    def __init__(self, ttl_s: float, now: Callable[[], datetime] = _utc_now) -> None:
        self.ttl_s = ttl_s
        self.holder = holder_name()
        self.epoch = 0
        self._now = now

    def acquire(self) -> int:
        """Take the lease when it is free, out of time, or its holder is a dead process of this host.

        Raises: EngineHeldError naming holder and age when another engine lives.
        """
        with transaction.atomic():
            EngineLease.objects.get_or_create(name=LEASE_NAME)
            row = EngineLease.objects.select_for_update().get(name=LEASE_NAME)
            now = self._now()
            if self.is_held(row, now):
                raise self._held_error(row, now)
            row.epoch += 1
            row.holder = self.holder
            row.heartbeat_at = now
            row.expires_at = now + timedelta(seconds=self.ttl_s)
            row.status = {}
            row.save()
        self.epoch = row.epoch
        return self.epoch

    @staticmethod
    def is_held(row: EngineLease, now: datetime) -> bool:
        """Tell whether a lease is in force."""
        if not row.holder or row.expires_at is None or row.expires_at <= now:
            return False
        return not holder_is_dead(row.holder)

    @staticmethod
    def _held_error(row: EngineLease, now: datetime) -> EngineHeldError:
        age = (now - row.heartbeat_at).total_seconds() if row.heartbeat_at else 0.0
        host, pid = row.holder.split(":")[:2]
        return EngineHeldError(
            f"Another engine runs already: process {pid} on {host}, last heartbeat {age:.1f} s ago. "
            "Stop it first, or wait until its lease ends.",
            holder=row.holder,
            age_s=round(age, 1),
        )

    def renew(self, status: Mapping[str, Any]) -> None:
        """Extend the lease and publish the heartbeat figures.

        Raises: StaleEpochError when another engine took over.
        """
        now = self._now()
        updated = EngineLease.objects.filter(name=LEASE_NAME, epoch=self.epoch, holder=self.holder).update(
            heartbeat_at=now, expires_at=now + timedelta(seconds=self.ttl_s), status=dict(status)
        )
        if not updated:
            raise self._stale()

    def release(self, status: Mapping[str, Any] | None = None) -> None:
        """Free the lease for the next engine; a lease that is ours no longer is left alone."""
        EngineLease.objects.filter(name=LEASE_NAME, epoch=self.epoch, holder=self.holder).update(
            holder="", expires_at=None, heartbeat_at=self._now(), status=dict(status or {})
        )

    def assert_epoch(self) -> None:
        """Check inside a write transaction that this engine may still write; wait for those before it to commit.

        Raises: StaleEpochError otherwise; the transaction must then roll back.
        """
        take_turn()  # whoever reads on behind an id (order events, movements, rates) must never be overtaken by it
        # SQLite's IMMEDIATE transaction already keeps other writers out; PostgreSQL needs the row held until commit.
        query = _READ_AND_HOLD if connection.vendor == "postgresql" else _READ
        with connection.cursor() as cursor:
            cursor.execute(query, [LEASE_NAME])
            row = cursor.fetchone()
        if self.epoch == 0 or row is None or row[0] != self.epoch:
            raise self._stale()

    def _stale(self) -> StaleEpochError:
        return StaleEpochError(
            f"This engine (epoch {self.epoch}) no longer holds the lease; another engine took over.", epoch=self.epoch
        )
