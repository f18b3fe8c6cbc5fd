"""The stores fail under a running engine: it says so, loses nothing, and goes on when they are mended."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections
from ib_async import Stock

from portfolio.models import Execution
from strategies.exceptions import OrderDeniedError
from tests.e2e.engine.harness import Rig, run_state, until
from tests.support.database import ledger_locked_by_another_program, wait_for_locks_only
from trading.models import Order
from trading.orders import db_threads

pytestmark = pytest.mark.e2e


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, transactional_db: None) -> None:
    """Let connections made from now on wait for a lock only a moment."""
    options = connections.databases["default"]["OPTIONS"]
    monkeypatch.setitem(connections.databases["default"], "OPTIONS", dict(options))
    wait_for_locks_only(0.2)
    db_threads.close_all()  # connections of earlier tests wait longer


def test_locked_ledger_denies_orders_keeps_fills_and_recovers(impatient: None, rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    before = Execution.objects.count()
    with ledger_locked_by_another_program():
        rig.inject("SPY", 20)
        until(lambda: "The ledger cannot be written" in engine.state_message)
        with pytest.raises(OrderDeniedError) as caught:
            rig.on_loop(alpha, alpha.place_order(Stock("SPY", "SMART", "USD"), 1, algo=False))
        assert caught.value.code == "ledger_trouble"
        assert Execution.objects.count() == before
    until(lambda: Execution.objects.count() == before + 20)
    rig.assert_books_equal_broker()
    until(lambda: "cannot be written" not in engine.state_message, what="the state says that it works again")
    until(lambda: engine.gate.is_open)
    assert rig.trade(alpha, "SPY", 1).is_done
    assert run_state("ALPHA") == "running"
    until(lambda: Order.objects.filter(owner="ALPHA", state="filled").count() == 1)


def test_stopped_engine_leaves_no_thread_inside_arctic(rig: Rig) -> None:
    """A thread that still appends bars while the process ends is killed inside native code, which is a crash."""
    rig.strategy("ALPHA")
    engine = rig.engine()
    rig.trade(rig.start(engine, "ALPHA"), "SPY", 1)
    until(lambda: engine.recorder is not None and engine.recorder.recorded, what="bars of SPY are recorded")
    engine.cleanup(1.0)
    assert not [thread.name for thread in threading.enumerate() if thread.name == "mats-bars"]


@pytest.fixture
def kept_signals() -> Iterator[None]:
    """Give the signals back that the command takes for itself."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_ledger_that_can_be_read_but_not_written_stops_the_start(
    transactional_db: None, mats_settings: object, kept_signals: None
) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TRIGGER full_disk BEFORE INSERT ON trading_enginelease "
            "BEGIN SELECT RAISE(FAIL, 'disk is full'); END"
        )
        try:
            with pytest.raises(CommandError, match="The database cannot be written: disk is full"):
                call_command("run_engine")
        finally:
            cursor.execute("DROP TRIGGER full_disk")
