"""Margin through the API: whose it is, what a strategy could bind, and who may let it pass a limit."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from mats_site.services import create_api_key
from portfolio.models import Account
from strategies.models import AuditEntry, Strategy
from tests.integration.api.conftest import Api, error_of
from tests.support.answers import answering
from trading.models import EngineCommand, EngineLease
from trading.risk_models import MarginReading

REFUSED = {
    "name": "margin_cushion",
    "message": "AAA at 50.0% would leave a margin cushion of 3.0%; 5.0% is required.",
    "limit": "0.05",
    "value": "0.03",
    "source": "default",
}


@pytest.fixture
def strategy(db: None) -> Strategy:
    """A strategy with a file that loads."""
    return Strategy.objects.create(symbol="AAA", filename="ma_cross.py", target_weight=Decimal("0.2"))


@pytest.fixture
def admin(make_user: Callable[[str, str], User]) -> Api:
    """An administrator's key that writes."""
    return Api(key=create_api_key(make_user("anna", "admin"), "tests", can_write=True)[1])


@pytest.fixture
def reading(db: None) -> MarginReading:
    """A reading of a moment ago."""
    Account.objects.create(account_id="DU1", base_currency="USD", opened_at=timezone.now())
    return MarginReading.objects.create(
        account_id="DU1",
        currency="USD",
        at=timezone.now(),
        initial=Decimal("900.50"),
        maintenance=None,
        owners=[
            {"owner": "AAA", "initial": "300.25", "maintenance": None},
            {"owner": "Discretionary", "initial": "600.25", "maintenance": None},
        ],
        contracts=[{"con_id": 1, "symbol": "SPY", "quantity": "10", "initial": "900", "maintenance": None}],
        problem="SPY: IB did not answer.",
    )


def test_margin_is_told_by_owner_with_what_is_not_known(reader: Api, reading: MarginReading) -> None:
    body = reader.get("/risk/margin").json()
    assert (body["initial"], body["maintenance"], body["problem"]) == ("900.5", None, "SPY: IB did not answer.")
    assert [(row["owner"], row["initial"]) for row in body["owners"]] == [
        ("Discretionary", "600.25"),
        ("AAA", "300.25"),
    ]
    assert body["contracts"][0]["maintenance"] is None


def test_margin_before_the_first_reading_and_long_after_the_last_is_not_known(
    reader: Api, reading: MarginReading
) -> None:
    MarginReading.objects.update(at=timezone.now() - timedelta(hours=2))
    old = reader.get("/risk/margin").json()
    assert (old["initial"], [row["initial"] for row in old["owners"]], old["contracts"]) == (None, [None, None], [])
    assert "too long ago" in old["problem"]
    MarginReading.objects.all().delete()
    none = reader.get("/risk/margin").json()
    assert (none["at"], none["owners"]) == (None, [])
    assert none["problem"]


@pytest.mark.parametrize(
    ("path", "body", "kind", "args"),
    [
        ("/risk/margin/read", None, "read_margin", {}),
        ("/strategies/AAA/margin", None, "margin_plan", {"symbol": "AAA"}),
        ("/strategies/AAA/margin", {"weight": "0.350"}, "margin_plan", {"symbol": "AAA", "weight": "0.35"}),
        ("/strategies/AAA/start", {"reason": "not meant"}, "start_strategy", {"symbol": "AAA"}),
    ],
)
def test_questions_are_queued(
    api: Api, engine: EngineLease, strategy: Strategy, path: str, body: Any, kind: str, args: dict[str, Any]
) -> None:
    assert api.post(path, body).status_code == 202
    command = EngineCommand.objects.get()
    assert (command.kind, command.args) == (kind, args)


@pytest.mark.parametrize("weight", ["1.2", "-0.1", "much"])
def test_a_weight_that_is_none_is_refused(api: Api, engine: EngineLease, strategy: Strategy, weight: str) -> None:
    error_of(api.post("/strategies/AAA/margin", {"weight": weight}), 422)
    assert not EngineCommand.objects.exists()


def test_passing_a_limit_is_an_administrators_with_a_reason(
    api: Api, admin: Api, engine: EngineLease, strategy: Strategy
) -> None:
    body = {"accept_margin": True, "reason": "I watch it"}
    error_of(api.post("/strategies/AAA/start", body), 403)
    error_of(admin.post("/strategies/AAA/start", {"accept_margin": True}), 422)
    assert not EngineCommand.objects.exists()
    assert admin.post("/strategies/AAA/start", body).status_code == 202
    assert EngineCommand.objects.get().args == {"symbol": "AAA", **body}
    error_of(api.post("/strategies/save", {"symbol": "AAA", "target_weight": "0.5", "override": "I say so"}), 403)
    error_of(api.post("/strategies/AAA/activate", {"override": "I say so"}), 403)


@pytest.mark.django_db(transaction=True)
def test_a_higher_weight_that_would_break_a_limit_is_refused_with_all_its_figures(
    api: Api, admin: Api, engine: EngineLease, strategy: Strategy
) -> None:
    wish = {"symbol": "AAA", "target_weight": "0.5"}
    with answering("margin_plan", {"text": REFUSED["message"], "refused": REFUSED}) as asked:
        error = error_of(api.post("/strategies/save", wish), 409)
        assert asked == [{"symbol": "AAA", "weight": "0.5"}]
        assert (error["code"], error["message"]) == ("margin_cushion", REFUSED["message"])
        assert {name: error["fields"][name] for name in ("limit", "value", "source")} == {
            name: REFUSED[name] for name in ("limit", "value", "source")
        }
        assert Strategy.objects.get().target_weight == Decimal("0.2")
        error_of(api.post("/strategies/AAA/activate"), 409)
        assert not Strategy.objects.get().active
        saved = admin.post("/strategies/save", {**wish, "override": "agreed with the desk"})
        assert saved.status_code == 200
        assert REFUSED["message"] in saved.json()["warnings"]
    assert Strategy.objects.get().target_weight == Decimal("0.5")
    entry = AuditEntry.objects.get(action="risk.margin_overridden")
    assert (entry.actor, entry.subject, entry.reason, entry.source) == ("anna", "AAA", "agreed with the desk", "api")


@pytest.mark.django_db(transaction=True)
def test_an_answer_without_a_broken_limit_is_told_with_the_change(
    api: Api, engine: EngineLease, strategy: Strategy
) -> None:
    with answering("margin_plan", {"text": "It could bind 10.00 USD more.", "refused": None}):
        body = api.post("/strategies/AAA/activate").json()
    assert (body["active"], body["notices"]) == (True, ["It could bind 10.00 USD more."])
    EngineLease.objects.update(expires_at=timezone.now() - timedelta(minutes=1))
    warnings = api.post("/strategies/save", {"symbol": "AAA", "target_weight": "0.6"}).json()["warnings"]
    assert "IB was not asked" in warnings[0]
    lower = api.post("/strategies/save", {"symbol": "AAA", "target_weight": "0.1"}).json()
    assert lower["warnings"] == []
