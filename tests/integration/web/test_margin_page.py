"""A strategy's margin page and the Risk page's shares: what each role sees, asks and sets; and the admin's form."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone

from strategies.models import AuditEntry, Strategy
from tests.browser import seed
from tests.support.answers import answering
from trading.models import EngineCommand
from trading.orders.planning import UNIVERSE, AccountMargin, Line, Plan
from trading.risk_models import MarginReading

pytestmark = pytest.mark.django_db(transaction=True)

PAGE, PREVIEW, WEIGHT = (f"/strategies/ALPHA/{part}" for part in ("margin/", "margin/preview/", "weight/"))
JSON = {"accept": "application/json"}
NOW = AccountMargin(*map(Decimal, (100_000, 100_000, 80_000, 30_000, 20_000, 60_000)))
SILENT = Line(2, "TLT", Decimal(5), Decimal(500), problem="IB did not answer within 10 s.")


def plan(*lines: Line) -> dict[str, Any]:
    """What the engine answers."""
    answered = Line(1, "SPY", Decimal(10), Decimal(4_000), Decimal(2_000), Decimal(1_000))
    return Plan("ALPHA", Decimal("0.5"), UNIVERSE, "USD", (answered, *lines), NOW).told(None)


REFUSED = {**plan(), "refused": {"name": "margin_cushion", "message": "Too thin.", "limit": "0.05", "value": "0.03"}}


def client_of(group: str) -> Client:
    user = User.objects.create_user(group)
    user.groups.add(Group.objects.get(name=group))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture(autouse=True)
def _seeded() -> None:
    seed.everything()
    Strategy.objects.create(symbol="ALPHA", filename="ma_cross.py", target_weight=Decimal("0.4"))
    MarginReading.objects.create(
        account_id=seed.ACCOUNT,
        currency="USD",
        at=timezone.now(),
        initial=Decimal("12345.67"),
        maintenance=Decimal("6000"),
        owners=[
            {"owner": "ALPHA", "initial": "12000.17", "maintenance": "5900"},
            {"owner": "REVERT", "initial": "345.5", "maintenance": None},
        ],
        contracts=[{"con_id": 1, "symbol": "AAPL", "quantity": "10", "initial": "12345.67", "maintenance": "6000"}],
    )


def test_risk_page_shows_the_parts_beside_ibs_figure_and_unknown_as_a_dash() -> None:
    page = client_of("viewer").get("/risk/").content.decode()
    part = page.split('id="margin-region"')[1].split("</section>")[0]
    for text in ("12,345.67", "12,000.17", "345.50", "6,000.00", "–"):
        assert text in part
    assert "Ask IB now" not in page
    assert "Ask IB now" in client_of("operator").get("/risk/").content.decode()


@pytest.mark.parametrize(
    ("group", "asks", "overrides"), [("viewer", False, False), ("operator", True, False), ("admin", True, True)]
)
def test_each_role_is_offered_what_it_may(group: str, asks: bool, overrides: bool) -> None:
    client = client_of(group)
    page = client.get(PAGE).content.decode()
    assert "12,000.17" in page
    assert ("weight-form" in page) is asks
    assert ('name="override"' in page, "start-over-limit" in page) == (overrides, overrides)
    assert client.post(WEIGHT, {"weight": "0.1"}).status_code == (302 if asks else 403)
    assert client.post(PREVIEW, {"weight": "2"}).status_code == (200 if asks else 403)
    over = client.post("/actions/start-over-limit/", {"symbol": "ALPHA", "reason": "why"}, headers=JSON)
    assert over.status_code == (202 if overrides else 403)


def test_pages_that_change_or_ask_take_no_get_and_need_a_token() -> None:
    client = client_of("operator")
    for path in (PREVIEW, WEIGHT):
        assert client.get(path).status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get(username="operator"))
    assert [strict.post(path, {"weight": "0.5"}).status_code for path in (PREVIEW, WEIGHT)] == [403, 403]
    assert Client().post(WEIGHT, {"weight": "0.5"}).status_code == 302
    assert Strategy.objects.get(symbol="ALPHA").target_weight == Decimal("0.4")
    assert client.get("/strategies/NOPE/margin/").status_code == 404


def test_preview_says_what_ib_answered_and_what_it_did_not() -> None:
    client = client_of("operator")
    with answering("margin_plan", plan()) as asked:
        page = client.post(f"{PREVIEW}?part=1", {"weight": "0.5"}).content.decode()
    assert asked == [{"symbol": "ALPHA", "weight": "0.5"}]
    assert 'data-verdict="passes"' in page
    for text in ("80.00 %", "79.00 %", "32,000.00", "SPY", "+10"):
        assert text in page
    with answering("margin_plan", plan(SILENT)):
        page = client.post(f"{PREVIEW}?part=1", {"weight": "0.5"}).content.decode()
    assert 'data-verdict="unknown"' in page
    assert "IB did not answer within 10 s." in page
    with answering("margin_plan", REFUSED):
        page = client.post(PREVIEW, {"weight": "0.5"}).content.decode()
    assert 'data-verdict="refused"' in page
    assert "Too thin." in page


def test_a_weight_that_breaks_a_limit_is_refused_and_set_on_an_administrators_word() -> None:
    with answering("margin_plan", REFUSED):
        answer = client_of("operator").post(WEIGHT, {"weight": "0.5"}, headers=JSON)
        assert answer.status_code == 409
        assert answer.json()["error"]["message"] == "Too thin."
        answer = client_of("admin").post(WEIGHT, {"weight": "0.5", "override": "agreed"}, headers=JSON)
    assert answer.status_code == 202
    assert Strategy.objects.get(symbol="ALPHA").target_weight == Decimal("0.5")
    assert AuditEntry.objects.get(action="risk.margin_overridden").reason == "agreed"


def test_a_weight_that_is_none_stands_beside_its_field() -> None:
    answer = client_of("operator").post(WEIGHT, {"weight": "1.5"}, headers=JSON)
    assert answer.status_code == 422
    assert "fraction" in answer.json()["error"]["errors"]["target_weight"]
    assert not EngineCommand.objects.filter(kind="margin_plan").exists()


def form_of(client: Client, strategy: Strategy, **changes: str) -> tuple[str, dict[str, str]]:
    address = f"/admin/strategies/strategy/{strategy.pk}/change/"
    form = client.get(address).context["adminform"].form
    shown = {name: form[name].value() for name in form.fields}
    values = {name: str(value) for name, value in shown.items() if value is not None and value is not False}
    return address, {**values, "params": "{}", **changes}


def test_the_admin_asks_before_it_saves_a_higher_weight() -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("boss", password="x" * 12))
    strategy = Strategy.objects.get(symbol="ALPHA")
    address, values = form_of(client, strategy, target_weight="0.5")
    with answering("margin_plan", REFUSED) as asked:
        answer = client.post(address, values)
        assert answer.context["adminform"].form.errors["target_weight"] == ["Too thin."]
        assert asked == [{"symbol": "ALPHA", "weight": "0.5"}]
        assert Strategy.objects.get(symbol="ALPHA").target_weight == Decimal("0.4")
        saved = client.post(address, {**values, "override": "agreed"})
        assert saved.status_code == 302, saved.context["adminform"].form.errors
    assert Strategy.objects.get(symbol="ALPHA").target_weight == Decimal("0.5")
    address, values = form_of(client, strategy, target_weight="0.1")
    with answering("margin_plan", REFUSED) as asked:
        assert client.post(address, values).status_code == 302
    assert asked == []
