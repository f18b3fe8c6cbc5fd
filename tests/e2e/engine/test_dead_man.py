"""The dead-man switch against the gateway: an engine that is killed leaves no order behind, a drill ends flat."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.utils import timezone

from tests.e2e.engine.harness import Rig, position, run_state, until
from tests.e2e.engine.test_halt import mats_settings
from tests.support.database import ledger_url
from trading import risk_control
from trading.engine import dead_man
from trading.engine.pulse import Pulse
from trading.ib.connection import IBConnection
from trading.models import Alert, EngineLease
from trading.risk_models import DeadManRun

__all__ = ["mats_settings"]

pytestmark = pytest.mark.e2e

WORKING = """
from ib_async import Stock
from strategies.base import BaseStrategy

class WorkingStrategy(BaseStrategy):
    async def initialize_strategy(self):
        pass
    async def run_strategy(self):
        await self.place_order(Stock("SPY", "SMART", "USD"), 5, "LMT", algo=False, limit=1.0)
        await self.until_stopped()
"""


@contextmanager
def engine_process(rig: Rig) -> Iterator[subprocess.Popen[bytes]]:
    """Run an engine in a process of its own."""
    mats = settings.MATS
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "mats_site.settings",
        "DATABASE_URL": ledger_url(),
        "MATS_IB_PORT": str(mats.ib_port),
        "MATS_ARCTIC_URI": mats.arctic_uri,
        "MATS_STRATEGY_PATH": str(rig.folder),
        "MATS_HOME": str(mats.mats_home),
    }
    command = [sys.executable, "manage.py", "run_engine"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def working_at_gateway(rig: Rig) -> list[Any]:
    return rig.gateway.call(lambda: list(rig.gateway.venue.open_orders()))


@pytest.mark.timeout(180)
def test_orders_of_a_killed_engine_are_cancelled_at_the_gateway(rig: Rig) -> None:
    rig.strategy("W", WORKING, active=True)
    with engine_process(rig) as process:
        until(lambda: run_state("W") == "running", 90, "the strategy runs")
        until(lambda: working_at_gateway(rig), 30, "its order works")
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    assert Pulse(settings.MATS.mats_home).age_s() is not None
    call_command("watch_engine", "--after", "2", "--action", "cancel", "--once")
    assert working_at_gateway(rig) == []
    assert risk_control.halt_file().exists()
    run = DeadManRun.objects.get()
    assert (run.action, run.left_orders, run.drill) == ("cancel", 0, False)
    assert run.done_s is not None
    assert Alert.objects.filter(key="dead-man", cleared_at=None).exists()


def test_drill_makes_the_account_flat_names_the_owners_and_records_the_time(rig: Rig) -> None:
    engine = rig.engine()
    rig.strategy("A")
    rig.strategy("B")
    first, second = rig.start(engine, "A"), rig.start(engine, "B")
    rig.trade(first, "SPY", 4)
    rig.trade(second, "SPY", 3)
    rig.trade(second, "TLT", -2)
    rig.place(first, "SPY", 1, 1.0)
    call_command("watch_engine", "--drill")
    run = DeadManRun.objects.get()
    assert run.drill
    assert run.done_s is not None
    assert (run.left_orders, run.left_positions) == (0, 0)
    for owner, symbol in (("A", "SPY"), ("B", "SPY"), ("B", "TLT")):
        until(lambda who=(owner, symbol): position(*who) == Decimal(0), 20, f"{owner} is flat in {symbol}")  # type: ignore[misc]  # bound by the default
    until(lambda: engine.gate.halted, 5, "the engine halted")


def test_engine_that_stopped_in_order_is_not_missed(rig: Rig) -> None:
    engine = rig.engine()
    pulse = Pulse(settings.MATS.mats_home)
    until(lambda: pulse.age_s() is not None, 5, "its pulse")
    assert dead_man.silence(pulse).expected
    engine.cleanup(1.0)
    assert not dead_man.silence(pulse).expected
    assert pulse.age_s() is None


@pytest.mark.django_db
def test_the_younger_of_lease_and_pulse_counts(tmp_path: Path) -> None:
    pulse = Pulse(tmp_path)
    long_ago = timezone.now() - timedelta(seconds=60)
    EngineLease.objects.create(name="engine", epoch=1, holder="host:1:t", heartbeat_at=long_ago, expires_at=long_ago)
    assert dead_man.silence(pulse).seconds >= 59
    pulse.beat()
    assert dead_man.silence(pulse).seconds < 5


def test_another_account_is_left_alone(rig: Rig) -> None:
    line = IBConnection(
        901,
        host=rig.gateway.host,
        port=rig.gateway.port,
        role="watch",
        name="W",
        connect_timeout_s=5.0,
        expected_account="DU9999999",
    )
    with pytest.raises(Exception, match="not to DU9999999"):
        asyncio.run(dead_man.act(line, "flatten"))
