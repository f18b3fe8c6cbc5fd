"""The engine itself: one at a time, waiting for its gateway, its commands, its storage in trouble."""

from __future__ import annotations

import dataclasses
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection

from portfolio.models import Break, EquitySnapshot
from strategies.events import ContractSnapshot, FillSnapshot
from strategies.exceptions import OrderDeniedError
from tests.e2e.engine.harness import Rig, ledger_executions, position, run_state, until
from tests.support.database import ledger_locked_by_another_program, ledger_url, wait_for_locks_only
from trading.engine.lease import EngineHeldError
from trading.engine.message_queue import Job
from trading.gateway.testing import running_gateway
from trading.market.recorder import LOOK_EVERY_S
from trading.models import Alert, EngineCommand, EngineEvent, EngineLease
from trading.services import enqueue

pytestmark = pytest.mark.e2e


def test_a_second_engine_is_refused_by_name_and_age(rig: Rig) -> None:
    rig.engine()
    with pytest.raises(EngineHeldError) as caught:
        rig.engine()
    assert f"process {os.getpid()}" in caught.value.message
    assert "heartbeat" in caught.value.message
    rig.engines.pop()


def test_an_engine_whose_lease_was_taken_writes_nothing_more_and_stops(rig: Rig) -> None:
    engine = rig.engine()
    EngineLease.objects.update(epoch=engine.lease.epoch + 1, holder="elsewhere:1:1:x")
    rig.inject("SPY", 3)
    assert engine.stop_event.wait(5.0)
    engine.cleanup(1.0)
    assert engine.stale
    assert ledger_executions() == set()
    assert EngineLease.objects.get().holder == "elsewhere:1:1:x"


def test_without_a_gateway_the_engine_waits_says_so_and_connects_when_it_comes(rig: Rig, free_port: int) -> None:
    django_settings.MATS = dataclasses.replace(django_settings.MATS, ib_port=free_port)
    rig.strategy("ALPHA", active=True)
    engine = rig.engine(wait=False)
    until(lambda: "Nothing listens" in EngineLease.objects.get().status.get("message", ""))
    assert EngineLease.objects.get().status["state"] == "waiting_for_gateway"
    refused = rig.do("start_strategy", symbol="ALPHA")
    assert (refused.state, refused.error_code) == ("failed", "no_connection")
    with running_gateway(port=free_port, market="synthetic"):
        assert engine.gate.wait_open(20.0)
        until(lambda: run_state("ALPHA") == "running")
        engine.cleanup(1.0)


def test_a_market_is_followed_once_however_often_the_gateway_refused_before(rig: Rig, free_port: int) -> None:
    django_settings.MATS = dataclasses.replace(django_settings.MATS, ib_port=free_port)
    rig.strategy("ALPHA", active=True)
    engine = rig.engine(wait=False)
    until(lambda: "Nothing listens" in EngineLease.objects.get().status.get("message", ""))
    with running_gateway(port=free_port, market="synthetic") as gateway:
        assert engine.gate.wait_open(20.0)
        until(lambda: run_state("ALPHA") == "running")
        rig.trade(engine.active_strategies["ALPHA"], "SPY", 1)

        def followed() -> list[int]:
            sessions = gateway.server.hub.context.sessions
            return gateway.call(lambda: [bars.con_id for bars in sessions[0].bars.values()])

        # Two looks of a recorder after the trade: by then a second one would have subscribed as well.
        since = time.monotonic()
        until(lambda: followed() and time.monotonic() - since > 2 * LOOK_EVERY_S)
        assert len(followed()) == 1
        engine.cleanup(1.0)


def test_a_gateway_of_another_account_is_refused_in_words(rig: Rig) -> None:
    django_settings.MATS = dataclasses.replace(django_settings.MATS, ib_account="DU9999999")
    engine = rig.engine(wait=False)
    until(lambda: "not to DU9999999" in engine.state_message)
    assert not engine.gate.is_open


@pytest.mark.parametrize(
    ("kind", "args", "code"),
    [
        ("start_strategy", {"symbol": "NOBODY"}, "unknown_strategy"),
        ("stop_strategy", {"symbol": "ALPHA"}, "not_running"),
        ("cancel_order", {"order_ref": "ALPHA/none"}, "unknown_order"),
        ("disconnect_client", {"client_id": 99}, "refused"),
        ("disconnect_client", {"client_id": 7}, "not_running"),
    ],
)
def test_conflicts_are_the_command_s_failure(rig: Rig, kind: str, args: dict[str, Any], code: str) -> None:
    rig.strategy("ALPHA")
    rig.engine()
    command = rig.do(kind, **args)
    assert (command.state, command.error_code) == ("failed", code)
    assert EngineEvent.objects.filter(kind="command", payload__id=str(command.id)).last().payload["state"] == "failed"  # type: ignore[union-attr]


def test_two_starts_at_once_start_one(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = rig.engine()
    commands = [enqueue("start_strategy", {"symbol": "ALPHA"}, source="test") for _ in range(4)]
    outcomes = sorted((done.state, done.error_code) for done in (rig.finished(one.id) for one in commands))
    assert outcomes == [("done", ""), *[("failed", "already_running")] * 3]
    assert engine.pool.in_use == {1}


def test_start_all_cancel_all_flatten_and_stop_all(rig: Rig) -> None:
    rig.strategy("ALPHA", active=True)
    rig.strategy("BETA", active=True)
    engine = rig.engine(autostart=False)
    started = rig.result(rig.do("start_all"))
    assert {symbol: row["started"] for symbol, row in started["strategies"].items()} == {
        "ALPHA": True,
        "BETA": True,
    }
    alpha = engine.active_strategies["ALPHA"]
    ticket = rig.place(alpha, "SPY", 1, limit=1.0)
    rig.trade(alpha, "SPY", 4)
    assert rig.result(rig.do("cancel_all", strategy="ALPHA"))["asked"] == [ticket.order_ref]
    until(lambda: ticket.is_done)
    assert rig.do("flatten_strategy", symbol="ALPHA").state == "done"
    until(lambda: position("ALPHA", "SPY") == 0)
    assert rig.result(rig.do("stop_all"))["strategies"] == {"ALPHA": True, "BETA": True}
    rig.assert_books_equal_broker()


def test_a_slow_stop_holds_no_other_command_up(rig: Rig) -> None:
    rig.strategy("SLOW")
    rig.strategy("QUICK")
    engine = rig.engine()
    rig.place(rig.start(engine, "SLOW"), "SPY", 1, limit=1.0)
    stop = enqueue("stop_strategy", {"symbol": "SLOW"}, source="test")
    assert rig.do("start_strategy", 2.5, symbol="QUICK").state == "done"
    assert EngineCommand.objects.get(pk=stop.pk).state == "accepted"
    rig.finished(stop.pk)


def test_commands_are_accepted_within_milliseconds(rig: Rig) -> None:
    rig.engine()
    times = []
    for _ in range(30):
        command = rig.do("update_params", symbol="NOBODY")
        assert command.accepted_at is not None
        times.append((command.accepted_at - command.created_at).total_seconds() * 1000)
    assert statistics.median(times) < 25.0, times


def test_what_a_dead_engine_had_accepted_is_failed_and_what_is_late_expires(rig: Rig) -> None:
    now = datetime.now(UTC)
    orphan = EngineCommand.objects.create(kind="start_all", state="accepted", epoch=0, created_at=now)
    late = enqueue("start_all", {}, source="test", expires_in_s=-1)
    rig.engine()
    until(lambda: EngineCommand.objects.get(pk=late.pk).state == "expired")
    orphan.refresh_from_db()
    assert (orphan.state, orphan.error_code) == ("failed", "engine_died")


def test_disconnect_and_connect_shut_and_open_the_gate(rig: Rig) -> None:
    engine = rig.engine()
    rig.do("disconnect_client", client_id=0)
    until(lambda: not engine.session.connected)
    assert not engine.gate.is_open
    assert rig.do("connect").state == "done"
    assert engine.gate.is_open


def test_a_position_that_the_books_lack_is_a_break_that_locks_its_instrument(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    rig.trade(alpha, "SPY", 2)
    rig.assert_books_equal_broker()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE portfolio_position SET quantity = '1' WHERE owner = 'ALPHA'")
    assert rig.result(rig.do("reconcile", 60.0))["breaks"] == 1
    row = Break.objects.get()
    assert [row.ib_quantity, row.ledger_quantity] == [Decimal(2), Decimal(1)]
    assert row.state == "open"
    with pytest.raises(OrderDeniedError) as caught:
        rig.place(alpha, "SPY", 1, limit=1.0)
    assert caught.value.code == "instrument_locked"


def test_a_locked_ledger_delays_fills_and_loses_none(rig: Rig) -> None:
    options = connection.settings_dict["OPTIONS"]
    before = dict(options)
    wait_for_locks_only(0.2, options)
    try:
        engine = rig.engine()
        with ledger_locked_by_another_program():
            rig.inject("SPY", 5)
            until(lambda: "cannot be written" in engine.writer.figures.trouble)
            assert not engine.gate.is_open
        until(lambda: position("Discretionary", "SPY") == 5)
        until(lambda: engine.gate.is_open)
        rig.assert_books_equal_broker()
    finally:
        options.update(before)


def test_a_message_that_cannot_be_booked_is_set_aside_and_its_neighbours_are_not(rig: Rig) -> None:
    engine = rig.engine()
    rig.inject("SPY", 1)
    until(lambda: position("Discretionary", "SPY") == 1)
    poison = FillSnapshot(
        exec_id="0000beef.0000beef.01.01",
        account="DU1000001",
        contract=ContractSnapshot(con_id=0, symbol="NONE", sec_type="STK", exchange="SMART", currency="USD"),
        side="BOT",
        quantity=Decimal(1),
        price=Decimal(1),
        executed_at=datetime.now(UTC),
        perm_id=1,
        client_id=0,
        order_id=1,
        order_ref="",
        cum_quantity=Decimal(1),
        average_price=Decimal(1),
        exchange="SMART",
    )
    engine.message_queue.put({"type": "fill", "strategy": "", "trade": None, "fill": poison})
    rig.inject("SPY", 20)
    until(lambda: position("Discretionary", "SPY") == 21)
    assert engine.writer.figures.parked == 1
    until(lambda: any("set aside" in row.payload["text"] for row in EngineEvent.objects.filter(kind="log")))
    rig.assert_books_equal_broker()


def test_an_arctic_that_cannot_be_written_does_not_stop_trading(rig: Rig, tmp_path: Path) -> None:
    blocker = tmp_path / "a_file"
    blocker.write_text("not a folder", encoding="utf-8")
    django_settings.MATS = dataclasses.replace(
        django_settings.MATS, arctic_uri=f"lmdb://{blocker / 'arctic'}?map_size=64MB"
    )
    rig.strategy("ALPHA")
    engine = rig.engine()
    rig.trade(rig.start(engine, "ALPHA"), "SPY", 2)
    until(lambda: engine.projection.status()["trouble"])
    rig.assert_books_equal_broker()


def test_a_nearly_full_disk_stops_the_research_store_before_it_ends_the_process(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.strategy("ALPHA")
    engine = rig.engine()
    until(lambda: not engine.projection.status()["trouble"] and engine.projection.status()["tables"])
    monkeypatch.setattr("portfolio.arctic.space.LEAST_FREE", 10**18)
    until(lambda: "make room" in engine.projection.status()["trouble"], what="the store says why it stands")
    rig.trade(rig.start(engine, "ALPHA"), "SPY", 2)
    rig.assert_books_equal_broker()
    monkeypatch.undo()
    until(lambda: not engine.projection.status()["trouble"], what="the store catches up")


def test_a_research_store_that_needs_room_alerts_until_it_has_room(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = rig.engine()
    told = {**engine.projection.status(), "alert": "ArcticDB's library general fills 91% of its map size."}
    monkeypatch.setattr(engine.projection, "status", lambda: told)
    alert = until(lambda: Alert.objects.filter(key="arctic:space").first(), what="the alert opens")
    assert (alert.severity, alert.text) == ("warning", told["alert"])
    told["alert"] = ""
    until(lambda: Alert.objects.get(pk=alert.pk).cleared_at, what="the alert goes")


# -- as a process


def run_process(rig: Rig, *args: str) -> subprocess.Popen[str]:
    """Start ``manage.py run_engine`` on the test's database and gateway."""
    mats = django_settings.MATS
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "mats_site.settings",
        "DATABASE_URL": ledger_url(),
        "MATS_IB_PORT": str(mats.ib_port),
        "MATS_ARCTIC_URI": mats.arctic_uri,
        "MATS_STRATEGY_PATH": str(rig.folder),
        "MATS_HOME": str(mats.mats_home),
    }
    return subprocess.Popen(
        [sys.executable, "manage.py", "run_engine", *args],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def gate_opened() -> bool:
    """Tell whether an engine process says that it runs."""
    lease = EngineLease.objects.filter(name="engine").first()
    return lease is not None and lease.status.get("state") == "running"


def test_the_process_stops_in_order_on_sigterm_and_a_second_one_is_refused_with_code_3(rig: Rig) -> None:
    rig.strategy("ALPHA", active=True)
    first = run_process(rig)
    until(gate_opened, 30.0)
    until(lambda: run_state("ALPHA") == "running")
    second = run_process(rig)
    _, complaint = second.communicate(timeout=30)
    assert second.returncode == 3
    assert f"process {first.pid}" in complaint
    assert "Traceback" not in complaint
    first.send_signal(signal.SIGTERM)
    output, complaint = first.communicate(timeout=30)
    assert first.returncode == 0, complaint
    assert "Engine stopped." in output
    assert EngineLease.objects.get().holder == ""


def test_snapshots_of_equity_do_not_pile_up_behind_a_message_thread_that_is_behind(rig: Rig) -> None:
    """Each asks for every owner's figures: a hundred that wait would keep fills and comparisons for minutes."""
    engine = rig.engine()
    go_on = threading.Event()
    engine.message_queue.submit(lambda: go_on.wait(20.0), "busy")
    try:
        for _ in range(10):
            engine._snapshot()
        waiting = [slot.item.name for slot in list(engine.message_queue._slots) if isinstance(slot.item, Job)]
        assert waiting.count("equity") <= 1
    finally:
        go_on.set()
    before = EquitySnapshot.objects.count()
    until(lambda: EquitySnapshot.objects.count() > before, what="it goes on")
