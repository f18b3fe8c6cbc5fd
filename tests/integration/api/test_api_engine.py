"""What is asked of the engine through the API: queued once, read back, refused while no engine runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from mats_site.services import create_api_key
from strategies.models import Strategy
from tests.integration.api.conftest import Api, error_of
from trading.models import CommandState, EngineCommand, EngineEvent, EngineLease, Order
from trading.orders.state import OrderState

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


@pytest.fixture
def strategy(db: None) -> Strategy:
    """A strategy row; its file does not matter here."""
    return Strategy.objects.create(symbol="AAA", filename="aaa.py")


def make_order(ref: str, *, owner: str = "AAA", state: OrderState = OrderState.ACCEPTED, minutes: int = 0) -> Order:
    """Store an order as the engine would."""
    at = NOON + timedelta(minutes=minutes)
    return Order.objects.create(
        order_ref=ref,
        owner=owner,
        state=state,
        con_id=265598,
        symbol="AAPL",
        sec_type="STK",
        side="BUY",
        quantity=Decimal(100),
        order_type="LMT",
        limit_price=Decimal("187.50"),
        created_at=at,
        updated_at=at,
    )


@pytest.mark.parametrize(
    ("path", "kind", "args"),
    [
        ("/strategies/AAA/start", "start_strategy", {"symbol": "AAA"}),
        ("/strategies/AAA/stop", "stop_strategy", {"symbol": "AAA"}),
        ("/strategies/start-all", "start_all", {}),
        ("/strategies/stop-all", "stop_all", {}),
        ("/connection/ib-connect", "connect", {}),
        ("/connection/ib-disconnect-client/3", "disconnect_client", {"client_id": 3}),
        ("/trade/orders/AAA/01J/cancel", "cancel_order", {"order_ref": "AAA/01J"}),
    ],
)
def test_request_is_queued_and_its_status_is_readable(
    api: Api, engine: EngineLease, strategy: Strategy, operator: User, path: str, kind: str, args: dict[str, Any]
) -> None:
    make_order("AAA/01J")
    response = api.post(path)
    assert response.status_code == 202, response.content
    body = response.json()
    assert response["Location"] == body["status_url"] == f"/api/commands/{body['command_id']}"
    command = EngineCommand.objects.get()
    assert (str(command.pk), command.kind, command.args, command.user, command.source) == (
        body["command_id"],
        kind,
        args,
        operator,
        "api",
    )
    status = api.get(f"/commands/{body['command_id']}").json()
    assert (status["state"], status["kind"], status["args"], status["user"]) == ("queued", kind, args, "otto")


def test_outcome_of_a_command_is_read_where_the_answer_pointed(api: Api, engine: EngineLease) -> None:
    where = api.post("/strategies/stop-all").json()["status_url"].removeprefix("/api")
    EngineCommand.objects.update(
        state=CommandState.FAILED, error="Nothing runs.", error_code="not_running", finished_at=NOON, epoch=3
    )
    outcome = api.get(where).json()
    assert (outcome["state"], outcome["error"], outcome["error_code"]) == ("failed", "Nothing runs.", "not_running")
    assert outcome["finished_at"] == "2026-03-02T12:00:00Z"


def test_command_from_a_page_says_so(operator: User, engine: EngineLease) -> None:
    assert Api(user=operator).post("/strategies/stop-all").status_code == 202
    assert EngineCommand.objects.get().source == "page"


@pytest.mark.parametrize("expired", [True, False])
def test_nothing_is_queued_while_no_engine_runs(api: Api, strategy: Strategy, expired: bool) -> None:
    if expired:
        EngineLease.objects.create(
            name="engine", epoch=3, holder="host:1:token", expires_at=timezone.now() - timedelta(seconds=1)
        )
    response = api.post("/strategies/AAA/start")
    error = error_of(response, 503)
    assert error["code"] == "engine_down"
    assert "run_engine" in error["message"]
    assert int(response["Retry-After"]) > 0
    assert not EngineCommand.objects.exists()


@pytest.mark.parametrize("verb", ["start", "stop", "delete", "activate", "deactivate"])
def test_unknown_strategy_is_404_and_queues_nothing(api: Api, engine: EngineLease, verb: str) -> None:
    error = error_of(api.post(f"/strategies/NOPE/{verb}"), 404)
    assert "NOPE" in error["message"]
    assert not EngineCommand.objects.exists()


def test_same_idempotency_key_queues_once_even_after_the_engine_left(api: Api, engine: EngineLease) -> None:
    first = api.post("/strategies/stop-all", Idempotency_Key="k-1")
    again = api.post("/strategies/stop-all", Idempotency_Key="k-1")
    EngineLease.objects.update(holder="")
    late = api.post("/strategies/stop-all", Idempotency_Key="k-1")
    assert first.status_code == again.status_code == late.status_code == 202
    assert first.json() == again.json() == late.json()
    assert EngineCommand.objects.count() == 1


def test_idempotency_key_of_another_request_is_a_conflict(api: Api, engine: EngineLease) -> None:
    api.post("/strategies/stop-all", Idempotency_Key="k-1")
    error_of(api.post("/strategies/start-all", Idempotency_Key="k-1"), 409)
    assert EngineCommand.objects.count() == 1


def test_idempotency_keys_of_two_users_do_not_meet(api: Api, engine: EngineLease, make_user: Any) -> None:
    other = Api(key=create_api_key(make_user("olga", "operator"), "bot", can_write=True)[1])
    ids = {caller.post("/strategies/stop-all", Idempotency_Key="k").json()["command_id"] for caller in (api, other)}
    assert len(ids) == 2


@pytest.mark.parametrize("key", ["", "x" * 65, "two words", "ümlaut"])
def test_bad_idempotency_key_is_refused(api: Api, engine: EngineLease, key: str) -> None:
    assert error_of(api.post("/strategies/stop-all", Idempotency_Key=key), 422)["code"] == "bad_idempotency_key"
    assert not EngineCommand.objects.exists()


def test_finished_order_cannot_be_cancelled(api: Api, engine: EngineLease) -> None:
    make_order("AAA/1", state=OrderState.FILLED)
    error = error_of(api.post("/trade/orders/AAA/1/cancel"), 409)
    assert (error["code"], error["fields"]) == ("order_done", {"state": "filled"})


def test_unknown_order_is_404(api: Api, engine: EngineLease) -> None:
    assert error_of(api.post("/trade/orders/AAA/1/cancel"), 404)["code"] == "unknown_order"


def test_orders_are_paged_newest_first_without_gap_or_repeat(reader: Api) -> None:
    for number in range(7):
        make_order(f"AAA/{number}", minutes=number, state=OrderState.FILLED if number % 2 else OrderState.ACCEPTED)
    make_order("BBB/1", owner="BBB")
    seen: list[str] = []
    query: dict[str, Any] = {"strategy": "AAA", "limit": 3}
    while True:
        page = reader.get("/trade/orders", **query).json()
        seen += [order["order_ref"] for order in page["items"]]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert seen == [f"AAA/{number}" for number in reversed(range(7))]
    working = reader.get("/trade/orders", strategy="AAA", open_only=True).json()["items"]
    assert [order["order_ref"] for order in working] == ["AAA/6", "AAA/4", "AAA/2", "AAA/0"]
    assert (working[0]["quantity"], working[0]["limit_price"], working[0]["stop_price"]) == ("100", "187.5", None)
    assert working[0]["created_at"] == "2026-03-02T12:06:00Z"


def test_commands_are_paged_newest_first_without_gap_or_repeat(reader: Api) -> None:
    for number in range(7):
        EngineCommand.objects.create(
            id=UUID(int=number + 1), kind="stop_all", created_at=NOON + timedelta(seconds=number // 2)
        )
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = reader.get("/commands", **query).json()
        seen += [command["id"] for command in page["items"]]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert len(seen) == len(set(seen)) == 7
    assert reader.get("/commands", state="done").json() == {"items": [], "next": None}
    error_of(reader.get("/commands", cursor=str(UUID(int=99))), 404)


def test_events_are_read_from_where_the_last_page_ended(reader: Api) -> None:
    for number in range(5):
        EngineEvent.objects.create(at=NOON, kind="log" if number % 2 else "fill", payload={"n": number})
    first = reader.get("/engine/events", limit=3).json()
    second = reader.get("/engine/events", limit=3, after=first["next"]).json()
    assert [event["payload"]["n"] for event in first["items"] + second["items"]] == [0, 1, 2, 3, 4]
    assert second["next"] is None
    logs = reader.get("/engine/events", kind="log").json()["items"]
    assert [event["payload"]["n"] for event in logs] == [1, 3]
    error_of(reader.get("/engine/events", kind="nonsense"), 422)


def test_engine_state_tells_a_running_engine_from_none(reader: Api) -> None:
    assert reader.get("/engine/state").json()["running"] is False
    EngineLease.objects.create(
        name="engine", epoch=3, holder="host:1:token", expires_at=timezone.now() + timedelta(minutes=1)
    )
    state = reader.get("/engine/state").json()
    assert (state["running"], state["epoch"]) == (True, 3)


def test_connections_are_those_the_engine_told(reader: Api, engine: EngineLease) -> None:
    told = {"client_id": 0, "role": "master", "name": "Master", "connected": True, "host": "127.0.0.1", "port": 7497}
    one = {"client_id": 1, "role": "strategy", "name": "AAA", "connected": False, "message": "refused"}
    EngineLease.objects.update(status={"connections": [told, one]})
    status = reader.get("/connection/ib-status").json()
    assert status["master_connection"]["connected"] is True
    assert status["message_queue_connection"]["connected"] is False
    assert [(row["client_id"], row["message"]) for row in status["strategy_connections"]] == [(1, "refused")]


def test_bars_of_an_instrument_come_oldest_first(reader: Api) -> None:
    now = timezone.now()
    for second in (0, 5, 10):
        EngineEvent.objects.create(
            at=now,
            kind="bar",
            payload={
                "con_id": 265598,
                "symbol": "AAPL",
                "start": (now + timedelta(seconds=second)).isoformat(),
                **dict.fromkeys(("open", "high", "low", "close"), "187.5"),
                "volume": "100",
                "seconds": 5,
            },
        )
    bars = reader.get("/market/bars", con_id=265598).json()["items"]
    assert len(bars) == 3
    assert [bar["start"] for bar in bars] == sorted(bar["start"] for bar in bars)
    assert reader.get("/market/bars", con_id=1).json()["items"] == []
    error_of(reader.get("/market/bars"), 422)
