"""The pages about the books as the server renders and answers them."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from mats_site.middleware import POLICY
from portfolio.models import Account, AccountValue, Break, BrokerHolding
from strategies.exceptions import ConfigError
from tests.browser import seed, seed_books
from trading.models import EngineCommand, EngineLease
from trading.pages import breaks
from trading.pages.actions import ACTIONS
from trading.pages.forms import KINDS, number, read_details

pytestmark = pytest.mark.django_db

PATHS = [
    "/execution/",
    "/portfolio/",
    "/breaks/",
    "/adjustments/",
    "/flex/",
    "/connections/",
    "/analytics/",
    "/alerts/",
    "/alerts/strip/",
    "/audit/",
]


@pytest.fixture
def operator(client: Client) -> Client:
    seed.everything()
    seed_books.everything()
    client.force_login(seed.user())
    return client


@pytest.fixture
def viewer(client: Client) -> Client:
    seed.everything()
    seed_books.everything()
    user = seed.user("viewer", is_superuser=False)
    user.groups.add(Group.objects.get(name="viewer"))
    client.force_login(user)
    return client


def test_strangers_are_sent_to_the_login(client: Client) -> None:
    assert {path: client.get(path).status_code for path in PATHS} == dict.fromkeys(PATHS, 302)


def test_pages_hold_the_policy_and_have_no_inline_script(operator: Client) -> None:
    for path in PATHS:
        answer = operator.get(path)
        assert answer.status_code == 200, path
        assert answer["Content-Security-Policy"] == POLICY, path
        scripts = re.findall(r"<script(?![^>]*\bsrc=)([^>]*)>", answer.content.decode())
        assert all("application/json" in script for script in scripts), path


def test_viewer_may_post_nothing(viewer: Client) -> None:
    answers = {action: viewer.post(f"/actions/{action}/").status_code for action in ACTIONS}
    assert answers == dict.fromkeys(ACTIONS, 403)
    assert not EngineCommand.objects.exists()


def test_viewer_gets_neither_preview_nor_audit(viewer: Client) -> None:
    assert viewer.post("/adjustments/preview/", {"kind": "deposit"}).status_code == 403
    assert viewer.get("/audit/").status_code == 403
    assert "data-action" not in viewer.get("/breaks/").content.decode()


def test_actions_need_post_and_a_token(operator: Client) -> None:
    assert operator.get("/actions/reconcile/").status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(seed.user("other"))
    assert strict.post("/actions/reconcile/").status_code == 403
    assert not EngineCommand.objects.exists()


def test_unknown_action_is_404(operator: Client) -> None:
    assert operator.post("/actions/explode/").status_code == 404


def test_same_form_sent_twice_is_one_command(operator: Client) -> None:
    form = {"break_id": str(Break.objects.earliest("id").pk), "reason": "seen", "request_key": "k" * 20}
    for _ in range(2):
        answer = operator.post("/actions/acknowledge-break/", form, headers={"accept": "application/json"})
        assert answer.status_code == 202
    assert EngineCommand.objects.count() == 1


def test_without_engine_nothing_is_queued_and_the_page_says_so(operator: Client) -> None:
    EngineLease.objects.all().delete()
    answer = operator.post("/actions/reconcile/", headers={"accept": "application/json"})
    assert answer.status_code == 503
    assert "engine is not running" in answer.json()["error"]["message"]
    plain = operator.post("/actions/reconcile/", {"back": "//evil.example/"})
    assert plain.status_code == 503
    assert "refused" in plain.content.decode()
    assert "evil.example" not in plain.content.decode()
    assert not EngineCommand.objects.exists()


def test_every_action_on_money_wants_a_reason(operator: Client) -> None:
    form = {"kind": "deposit", "owner": "TREND", "currency": "USD", "amount": "5", "reason": " "}
    answer = operator.post("/actions/book/", form, headers={"accept": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["error"]["errors"] == {"reason": "Say why; the audit trail keeps it."}


def test_unknown_ib_quantity_is_a_dash_and_the_difference_unknown(operator: Client) -> None:
    Account.objects.update(positions_at=None)
    BrokerHolding.objects.all().delete()
    page = operator.get("/portfolio/").content.decode()
    row = re.search(r'<tr data-contract="272093".*?</tr>', page, re.DOTALL)
    assert row is not None
    assert "IB has not given a complete answer yet" in row[0]
    assert "unknown" in row[0]


def test_cash_that_ib_did_not_tell_of_is_unknown_not_zero(operator: Client) -> None:
    AccountValue.objects.filter(tag="TotalCashBalance").delete()
    page = operator.get("/portfolio/").content.decode()
    table = re.search(r'<table class="sheet" id="cash">.*?</table>', page, re.DOTALL)
    assert table is not None
    assert "unknown" in table[0]


def test_preview_names_the_lines_and_writes_nothing(operator: Client) -> None:
    form = {"kind": "transfer_cash", "from": "TREND", "to": "PAIRS", "currency": "usd", "amount": "10,5"}
    page = operator.post("/adjustments/preview/?part=1", form).content.decode()
    assert "−10.50 USD" in page
    assert "+10.50 USD" in page
    assert not EngineCommand.objects.exists()


def test_form_of_each_kind_is_drawn_and_refuses_emptiness(operator: Client) -> None:
    for kind in KINDS:
        page = operator.get(f"/adjustments/?kind={kind}").content.decode()
        for field in KINDS[kind].fields:
            assert f'name="{field.name}"' in page, kind
        with pytest.raises(ConfigError) as refusal:
            read_details(kind, {})
        needed = {field.name for field in KINDS[kind].fields if field.required}
        assert set(refusal.value.fields["errors"]) == needed, kind


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5", "5"), (" 1250,5 ", "1250.5"), ("−3.25", "-3.25"), ("1 000", "1000"), ("0.00000001", "0.00000001")],
)
def test_numbers_are_read_as_people_write_them(text: str, expected: str) -> None:
    assert number("Amount", text) == expected


@pytest.mark.parametrize("text", ["1,250", "1,250.50", "1.2.3", "NaN", "Infinity", "five", "1e30", ""])
def test_numbers_that_could_mean_two_things_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Amount"):
        number("Amount", text)


def test_shares_are_read_by_line_and_an_owner_twice_is_refused() -> None:
    form = {"con_id": "1", "currency": "usd", "amount": "3", "owners": "A=1\nB = 2\n"}
    assert read_details("dividend", form)["owners"] == {"A": "1", "B": "2"}
    with pytest.raises(ConfigError):
        read_details("dividend", {**form, "owners": "A=1\nA=2"})


def test_cash_in_lieu_is_one_object() -> None:
    form = {"con_id": "1", "numerator": "3", "denominator": "2", "lieu_currency": "usd", "lieu_amount": "8.5"}
    assert read_details("split", form)["cash_in_lieu"] == {"currency": "USD", "amount": "8.5"}


def upload(client: Client, content: bytes) -> Any:
    file = SimpleUploadedFile("statement.xml", content)
    return client.post("/actions/flex-upload/", {"statement": file}, headers={"accept": "application/json"})


def test_upload_is_kept_by_its_digest_and_handed_to_the_engine(operator: Client) -> None:
    assert upload(operator, b"<FlexQueryResponse/>").status_code == 202
    command = EngineCommand.objects.get(kind="import_flex")
    assert re.fullmatch(r"[0-9a-f]{64}", command.args["sha256"])


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no xml"])
def test_upload_that_is_no_xml_is_refused(operator: Client, content: bytes) -> None:
    answer = upload(operator, content)
    assert answer.status_code == 422
    assert "statement" in answer.json()["error"]["errors"]


def test_token_is_never_in_the_page(operator: Client, settings: Any) -> None:
    settings.MATS = dataclasses.replace(settings.MATS, flex_token="t0psecret123", flex_query="42")
    page = operator.get("/flex/").content.decode()
    assert "t0psecret123" not in page
    assert "Token and query are configured" in page


def test_break_of_cash_offers_what_would_clear_it() -> None:
    row = Break(kind="cash", currency="EUR", ib_quantity=Decimal(90), ledger_quantity=Decimal(100))
    forms = dict(breaks.bookings(row, Decimal(-10)))
    assert "amount=10&" in forms["withdrawal"]
    assert "amount=-10" in forms["interest"]
    assert "amount=10&" in forms["fee"]
    assert breaks.bookings(Break(kind="position"), Decimal(5)) == []


@pytest.mark.parametrize("cause", [{}, [], {"items": [3, {"kind": "x", "ids": ["nope"]}]}, {"items": [{}]}])
def test_break_with_an_odd_cause_is_still_shown(operator: Client, cause: Any) -> None:
    Break.objects.update(cause=cause)
    assert operator.get("/breaks/").status_code == 200


def test_dashboard_tells_of_cash_that_differs(operator: Client) -> None:
    Break.objects.create(
        account=Account.objects.get(),
        kind="cash",
        currency="CHF",
        ib_quantity=Decimal(120),
        ledger_quantity=Decimal(100),
        opened_at=datetime(2026, 3, 2, 15, 0, tzinfo=UTC),
    )
    page = operator.get("/").content.decode()
    assert "cash in CHF (IB 120, books 100)" in page
