"""The Execution page as the server renders and answers it, without scripts and without an engine."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.utils import timezone

from strategies.exceptions import ConfigError
from tests.browser import seed
from trading.models import EngineCommand, Order
from trading.pages import execution, tickets

pytestmark = pytest.mark.django_db

TICKET = {"symbol": "spy", "sec_type": "STK", "side": "BUY", "quantity": "3", "order_type": "LMT", "limit": "1,5"}


@pytest.fixture
def operator(client: Client) -> Client:
    seed.everything()
    client.force_login(seed.user())
    return client


def order(state: str, **changes: Any) -> Order:
    now = timezone.now()
    values: dict[str, Any] = {
        "order_ref": f"TREND/{state}", "owner": "TREND", "state": state, "con_id": 756733, "symbol": "SPY",
        "sec_type": "STK", "side": "BUY", "quantity": Decimal(3), "order_type": "LMT", "limit_price": Decimal("1.5"),
        "created_at": now, "updated_at": now,
    }  # fmt: skip
    return Order.objects.create(**(values | changes))


def test_ticket_becomes_a_command_and_its_exits_a_bracket() -> None:
    kind, args = tickets.read_ticket({**TICKET, "strategy": "TREND", "tif": "GTD", "good_till": "2026-12-01T15:00"})
    assert kind == "place_order"
    assert args["contract"] == {"symbol": "SPY", "sec_type": "STK"}
    assert args["order"] == {
        "order_type": "LMT", "side": "BUY", "quantity": "3", "limit": "1.5", "tif": "GTD",
        "good_till": "2026-12-01T15:00:00Z",
    }  # fmt: skip
    assert args["strategy"] == "TREND"
    kind, args = tickets.read_ticket({**TICKET, "con_id": "756733", "stop_loss": "1", "strategy": "Discretionary"})
    assert (kind, args["contract"], args["stop_loss"]) == (
        "place_bracket",
        {"con_id": 756733},
        {"stop": "1", "tif": "GTC"},
    )
    assert "strategy" not in args


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"quantity": "many"}, "quantity"),
        ({"symbol": " "}, "symbol"),
        ({"order_type": "GUESS"}, "order_type"),
        ({"stop": "9"}, "stop"),
        ({"order_type": "MKT"}, "limit"),
        ({"stop_loss": "x"}, "stop_loss"),
    ],
)
def test_what_a_type_does_not_take_is_refused_not_dropped(change: dict[str, str], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        tickets.read_ticket({**TICKET, **change})
    assert list(caught.value.fields["errors"]) == [field]


def test_only_what_was_changed_is_asked_for() -> None:
    row = order("accepted")
    assert tickets.read_change({"quantity": "3", "limit": "1.60"}, row) == {"limit": "1.60"}
    with pytest.raises(ConfigError):
        tickets.read_change({"quantity": "3", "limit": "1.50"}, row)


def test_terms_are_written_out() -> None:
    row = order("accepted", order_type="TRAIL", limit_price=None, trail_percent=Decimal("1.5"), outside_rth=True)
    assert execution.terms_in_words(row) == "TRAIL · trails by 1.5 % · DAY · outside hours"


def test_page_offers_settling_for_unknown_orders_only(operator: Client) -> None:
    unknown, accepted = order("unknown"), order("accepted")
    page = operator.get("/execution/").content.decode()
    assert f'id="settle-{unknown.pk}"' in page
    assert f'id="change-{unknown.pk}"' not in page
    assert f'id="settle-{accepted.pk}"' not in page
    assert f'id="change-{accepted.pk}"' in page


def test_settling_wants_a_reason_and_is_queued(operator: Client) -> None:
    row = order("unknown")
    form = {"order_ref": row.order_ref}
    accept = {"accept": "application/json"}
    assert operator.post("/actions/settle-order/", form, headers=accept).status_code == 422
    assert operator.post("/actions/settle-order/", {**form, "reason": "gone"}, headers=accept).status_code == 202
    command = EngineCommand.objects.get()
    assert (command.kind, command.args) == ("settle_order", {"order_ref": row.order_ref, "reason": "gone"})


def test_without_an_engine_the_ticket_says_so_and_queues_nothing(client: Client) -> None:
    client.force_login(seed.user())
    assert client.post("/actions/place-order/", TICKET, headers={"accept": "application/json"}).status_code == 503
    assert "not running" in client.post("/execution/preview/?part=1", TICKET).content.decode()
    assert "not running" in client.post("/execution/instruments/", TICKET).content.decode()
    assert not EngineCommand.objects.exists()


def test_viewer_sees_orders_and_may_ask_nothing(client: Client) -> None:
    order("accepted")
    user = seed.user("viewer", is_superuser=False)
    user.groups.add(Group.objects.get(name="viewer"))
    client.force_login(user)
    page = client.get("/execution/").content.decode()
    assert "TREND" in page
    assert "<form" not in page.split('id="main"')[1]
    for path in ("/execution/preview/", "/execution/instruments/"):
        assert client.post(path, TICKET).status_code == 403
        assert client.get(path).status_code == 405
    assert not EngineCommand.objects.exists()
