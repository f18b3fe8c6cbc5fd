"""Routes that place, change and settle orders: what is queued, and what is refused before it is."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.integration.api.conftest import Api
from tests.unit.orders.evidence import NOW
from trading.models import EngineCommand, Order

pytestmark = pytest.mark.django_db

FLAT = {"symbol": "AAPL", "side": "BUY", "quantity": "5", "order_type": "LMT", "limit": "10.5"}
NESTED = {
    "contract": {"symbol": "AAPL"},
    "order": {"side": "BUY", "quantity": "5", "order_type": "LMT", "limit": "10.5"},
}


def order(state: str) -> Order:
    return Order.objects.create(
        order_ref=f"T/{state}", owner="T", state=state, con_id=1, symbol="AAPL", sec_type="STK", side="BUY",
        quantity=Decimal(5), order_type="LMT", created_at=NOW, updated_at=NOW,
    )  # fmt: skip


def asked() -> list[tuple[str, Any]]:
    return list(EngineCommand.objects.order_by("created_at").values_list("kind", "args"))


@pytest.mark.parametrize("body", [FLAT, NESTED])
def test_order_is_queued_flat_or_nested_as_the_same_command(api: Api, engine: object, body: dict[str, Any]) -> None:
    answer = api.post("/trade", {**body, "strategy": "TREND"})
    assert answer.status_code == 202, answer.content
    assert asked() == [("place_order", {**NESTED, "strategy": "TREND"})]


def test_same_key_asks_once(api: Api, engine: object) -> None:
    first = api.post("/trade", FLAT, Idempotency_Key="one").json()
    assert api.post("/trade", FLAT, Idempotency_Key="one").json()["command_id"] == first["command_id"]
    assert api.post("/trade", {**FLAT, "quantity": "6"}, Idempotency_Key="one").status_code == 409
    assert len(asked()) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"limit": None},
        {"side": "HOLD"},
        {"quantity": 5},
        {"quantity": "-1"},
        {"tif": "GTD"},
        {"surprise": 1},
        {"contract": {"symbol": "SPY"}},
        {"strategy": "../x"},
        {"order_type": "MOC", "tif": "GTC"},
    ],
)
def test_order_that_cannot_be_used_is_refused_at_once(api: Api, engine: object, change: dict[str, Any]) -> None:
    answer = api.post("/trade", {**FLAT, **change})
    assert answer.status_code in (400, 422), answer.content
    assert asked() == []


def test_bracket_and_roll_are_queued_with_their_parts(api: Api, engine: object) -> None:
    bracket = {**FLAT, "take_profit": {"limit": "12"}, "stop_loss": {"order_type": "TRAIL", "trail_percent": "2"}}
    assert api.post("/trade/brackets", bracket).status_code == 202
    roll = {"strategy": "VIX", "contract": {"con_id": 11}, "new_contract": {"con_id": 12}, "limit": "0.5"}
    assert api.post("/trade/rolls", roll).status_code == 202
    assert api.post("/trade/brackets", FLAT).status_code == 422, "a bracket has exits"
    assert [kind for kind, _ in asked()] == ["place_bracket", "roll_future"]
    assert asked()[0][1]["stop_loss"] == {"order_type": "TRAIL", "trail_percent": "2"}


def test_preview_and_search_are_queued(api: Api, engine: object) -> None:
    assert api.post("/trade/preview", FLAT).status_code == 202
    assert api.post("/trade/contracts", {"pattern": "AAPL"}).status_code == 202
    assert api.post("/trade/contracts", {"pattern": "'; drop"}).status_code == 422
    assert [kind for kind, _ in asked()] == ["preview_order", "find_contracts"]


def test_change_is_queued_for_a_working_order_only(api: Api, engine: object) -> None:
    order("accepted"), order("filled")
    assert api.post("/trade/orders/T/accepted/modify", {"limit": "11"}).status_code == 202
    assert api.post("/trade/orders/T/filled/modify", {"limit": "11"}).status_code == 409
    assert api.post("/trade/orders/T/nothing/modify", {"limit": "11"}).status_code == 404
    assert asked() == [("modify_order", {"order_ref": "T/accepted", "limit": "11"})]


def test_only_an_unknown_order_is_settled_and_with_a_reason(api: Api, engine: object) -> None:
    order("accepted"), order("unknown")
    assert api.post("/trade/orders/T/accepted/settle", {"reason": "gone"}).status_code == 409
    assert api.post("/trade/orders/T/unknown/settle", {}).status_code == 422
    assert api.post("/trade/orders/T/unknown/settle", {"reason": "not in TWS"}).status_code == 202
    assert asked() == [("settle_order", {"order_ref": "T/unknown", "reason": "not in TWS"})]


@pytest.mark.parametrize(
    "path",
    ["/trade", "/trade/preview", "/trade/brackets", "/trade/orders/T/unknown/modify", "/trade/orders/T/x/settle"],
)
def test_viewer_may_order_nothing(reader: Api, engine: object, path: str) -> None:
    assert reader.post(path, FLAT).status_code == 403
    assert asked() == []


def test_order_row_tells_its_terms(reader: Api) -> None:
    row = order("accepted")
    row.trail_percent, row.oca_group = Decimal(2), "T/oca/1"
    row.save()
    [told] = reader.get("/trade/orders").json()["items"]
    assert (told["trail_percent"], told["oca_group"], told["parent_ref"], told["outside_rth"]) == (
        "2",
        "T/oca/1",
        "",
        False,
    )
