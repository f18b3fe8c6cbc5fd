"""One engine per database, and no write by one that lost it."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from django.db import transaction

from strategies.exceptions import StaleEpochError
from trading.engine.lease import EngineHeldError, Lease, holder_is_dead, holder_name
from trading.models import EngineLease

pytestmark = pytest.mark.django_db


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 5, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def foreign(lease: Lease) -> Lease:
    """Make the lease look held by another host, whose processes cannot be looked at."""
    lease.holder = "elsewhere:1:1.0:abc"
    return lease


def test_the_epoch_grows_with_every_acquisition() -> None:
    first = Lease(10.0)
    assert first.acquire() == 1
    first.release()
    assert Lease(10.0).acquire() == 2


def test_a_living_engine_is_not_displaced_and_named() -> None:
    clock = Clock()
    foreign(Lease(10.0, clock)).acquire()
    clock.now += timedelta(seconds=4)
    with pytest.raises(EngineHeldError) as caught:
        Lease(10.0, clock).acquire()
    assert "process 1 on elsewhere" in caught.value.message
    assert caught.value.fields["age_s"] == 4.0


def test_a_lease_out_of_time_is_taken_and_its_old_holder_fenced() -> None:
    clock = Clock()
    old, new = foreign(Lease(10.0, clock)), Lease(10.0, clock)
    old.acquire()
    clock.now += timedelta(seconds=10)
    new.acquire()
    with pytest.raises(StaleEpochError), transaction.atomic():
        old.assert_epoch()
    with pytest.raises(StaleEpochError):
        old.renew({})
    old.release()
    new.assert_epoch()
    assert EngineLease.objects.get().holder == new.holder


def test_renewing_keeps_the_lease_and_shows_the_figures() -> None:
    clock = Clock()
    lease = foreign(Lease(10.0, clock))
    lease.acquire()
    for _ in range(5):
        clock.now += timedelta(seconds=8)
        lease.renew({"state": "running"})
    with pytest.raises(EngineHeldError):
        Lease(10.0, clock).acquire()
    assert EngineLease.objects.get().status == {"state": "running"}


def test_the_lease_of_a_killed_process_of_this_host_is_taken_at_once() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = psutil.Process(child.pid).create_time()
    lease = Lease(3600.0)
    host = lease.holder.split(":")[0]
    lease.holder = f"{host}:{child.pid}:{started:.2f}:abc"
    lease.acquire()
    with pytest.raises(EngineHeldError):
        Lease(3600.0).acquire()
    child.kill()
    child.wait()
    assert Lease(3600.0).acquire() == 2


def test_a_reused_pid_is_not_taken_for_the_old_process() -> None:
    host, pid, started, token = holder_name().split(":")
    assert not holder_is_dead(f"{host}:{pid}:{started}:{token}")
    assert holder_is_dead(f"{host}:{pid}:{float(started) - 60:.2f}:{token}")
    assert not holder_is_dead(f"elsewhere:{pid}:{started}:{token}")
    assert not holder_is_dead("nonsense")


def test_a_lease_that_was_never_acquired_may_not_write() -> None:
    EngineLease.objects.create(name="engine", epoch=0)
    with pytest.raises(StaleEpochError):
        Lease(10.0).assert_epoch()
