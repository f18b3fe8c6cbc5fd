"""What the engine adds to the strategies' admin: states, commands with their outcome, read-only views."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client

from strategies.models import Strategy
from trading import admin as engine_admin
from trading.engine.lifecycle import StrategyState
from trading.models import CommandState, EngineCommand, EngineLease, Order, OrderEvent, StrategyRun
from trading.orders.state import OrderState

LIST = "/admin/strategies/strategy/"


@pytest.fixture
def boss(client: Client, db: None) -> Client:
    client.force_login(User.objects.create_superuser("boss", password="x" * 12))
    return client


@pytest.fixture
def row(db: None) -> Strategy:
    return Strategy.objects.create(symbol="ONE", filename="ma_cross.py")


@pytest.fixture
def engine_runs(db: None) -> None:
    now = datetime.now(UTC)
    EngineLease.objects.create(
        name="engine", epoch=1, holder="h", heartbeat_at=now, expires_at=now + timedelta(minutes=1)
    )


def act(client: Client, action: str, *rows: Strategy) -> str:
    data: dict[str, Any] = {"action": action, "_selected_action": [row.pk for row in rows]}
    return client.post(LIST, data, follow=True).content.decode()


@pytest.mark.parametrize("action", ["start", "stop"])
def test_without_an_engine_nothing_is_queued_and_it_says_so(boss: Client, row: Strategy, action: str) -> None:
    assert "No engine runs, so nothing was queued" in act(boss, action, row)
    assert not EngineCommand.objects.exists()


@pytest.mark.usefixtures("engine_runs")
def test_start_queues_a_command_in_the_users_name(boss: Client, row: Strategy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_admin, "OUTCOME_WAIT_S", 0.0)
    page = act(boss, "start", row)
    command = EngineCommand.objects.get()
    assert (command.kind, command.args, command.source) == ("start_strategy", {"symbol": "ONE"}, "admin")
    assert command.user is not None
    assert command.user.username == "boss"
    assert "ONE: start queued" in page


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("engine_runs")
def test_failure_of_a_command_is_told(boss: Client, row: Strategy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_admin, "OUTCOME_WAIT_S", 8.0)
    stop = threading.Event()

    def engine() -> None:
        while not stop.is_set():
            EngineCommand.objects.filter(state=CommandState.QUEUED, kind="start_strategy").update(
                state=CommandState.FAILED, error="ONE is running already.", error_code="already_running"
            )
            stop.wait(0.02)
        connection.close()

    thread = threading.Thread(target=engine)
    thread.start()
    try:
        page = act(boss, "start", row)
    finally:
        stop.set()
        thread.join()
    assert "ONE: start failed: ONE is running already." in page


@pytest.mark.usefixtures("engine_runs")
def test_viewer_is_not_offered_and_cannot_use_start(client: Client, row: Strategy) -> None:
    viewer = User.objects.create_user("eye", password="x" * 12, is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_strategy"))
    client.force_login(viewer)
    assert 'value="start"' not in client.get(LIST).content.decode()
    act(client, "start", row)
    assert not EngineCommand.objects.exists()


def test_list_shows_state_and_the_engines_last_word(boss: Client, row: Strategy) -> None:
    StrategyRun.objects.create(symbol="ONE", state=StrategyState.FAILED, message="ValueError: no such luck")
    page = boss.get(LIST).content.decode()
    assert "✘ failed" in page
    assert "ValueError: no such luck" in page
    assert "the states are the last known" in page


def test_form_still_opens_with_the_engines_columns(boss: Client, row: Strategy) -> None:
    assert boss.get(f"{LIST}{row.pk}/change/").status_code == 200


def test_orders_are_shown_with_events_and_cannot_be_touched(boss: Client) -> None:
    now = datetime.now(UTC)
    order = Order.objects.create(
        order_ref="ONE/1",
        owner="ONE",
        state=OrderState.FILLED,
        con_id=1,
        symbol="SPY",
        sec_type="STK",
        side="BUY",
        quantity=Decimal(100),
        order_type="LMT",
        limit_price=Decimal("99.50"),
        filled=Decimal(100),
        average_price=Decimal("99.25"),
        created_at=now,
        updated_at=now,
    )
    OrderEvent.objects.create(order=order, at=now, state="filled", filled=Decimal(100), remaining=Decimal(0))
    assert "BUY 100 SPY LMT at 99.5" in boss.get("/admin/trading/order/").content.decode()
    url = f"/admin/trading/order/{order.pk}/"
    assert "ONE/1" in boss.get(url + "change/").content.decode()
    assert boss.post(url + "change/", {"state": "cancelled"}).status_code == 403
    assert boss.post(url + "delete/", {"post": "yes"}).status_code == 403
    assert boss.get("/admin/trading/order/add/").status_code == 403


@pytest.mark.parametrize("name", ["order", "enginecommand", "engineevent", "strategyrun", "enginelease"])
def test_read_only_lists_open(boss: Client, name: str) -> None:
    assert boss.get(f"/admin/trading/{name}/").status_code == 200
