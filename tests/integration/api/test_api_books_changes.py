"""Changes of the books through the API: queued with the arguments that were sent, nonsense refused, lists read back."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from portfolio.models import Adjustment
from portfolio.services import ensure_account, fold_batch
from strategies import audit
from strategies.models import Strategy
from tests.integration.api.conftest import Api, error_of
from tests.unit.portfolio.builders import fill, owner_of
from trading.alerts import clear_alert, raise_alert
from trading.models import EngineCommand, EngineLease
from trading.uploads import MAX_STATEMENT_BYTES

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
DEPOSIT = {
    "kind": "deposit",
    "details": {"owner": "AAA", "currency": "USD", "amount": "10.50"},
    "reason": "from savings",
}
WHY = {"reason": "as agreed"}


@pytest.fixture
def books(db: None) -> Adjustment:
    """An account, a strategy and a proposed adjustment with id 7."""
    ensure_account("DU1000001", "USD")
    Strategy.objects.create(symbol="AAA", filename="aaa.py")
    return Adjustment.objects.create(
        id=7,
        account_id="DU1000001",
        kind="deposit",
        state="proposed",
        key="k",
        details=DEPOSIT["details"],
        effective_at=NOON,
        actor="otto",
        source="api",
        created_at=NOON,
    )


CHANGES: list[tuple[str, Any, str, dict[str, Any]]] = [
    ("/portfolio/refresh-positions", None, "reconcile", {}),
    ("/portfolio/adjustments", DEPOSIT, "book_adjustment", DEPOSIT),
    ("/portfolio/adjustments/7/approve", None, "approve_adjustment", {"adjustment": 7}),
    ("/portfolio/adjustments/7/reject", WHY, "reject_adjustment", {"adjustment": 7, **WHY}),
    ("/portfolio/adjustments/7/undo", WHY, "undo_adjustment", {"adjustment": 7, **WHY}),
    (
        "/portfolio/assign",
        {"exec_id": "e.01", "owner": "AAA", "quantity": "5", **WHY},
        "assign_execution",
        {"exec_id": "e.01", "owner": "AAA", "quantity": "5", **WHY},
    ),
    (
        "/portfolio/divide",
        {"exec_id": "e.01", "owners": {"AAA": "5", "BBB": "3.5"}, **WHY},
        "divide_execution",
        {"exec_id": "e.01", "owners": {"AAA": "5", "BBB": "3.5"}, **WHY},
    ),
    ("/portfolio/rebalance", None, "rebalance", {}),
    ("/strategies/AAA/rebalance", {"force": True}, "rebalance", {"symbol": "AAA", "force": True}),
    ("/portfolio/snapshot", None, "take_snapshot", {}),
    ("/portfolio/flex/fetch", None, "fetch_flex", {}),
    (
        "/portfolio/parked/3/settle",
        {"action": "discard", **WHY},
        "settle_parked",
        {"parked": 3, "action": "discard", **WHY},
    ),
    ("/portfolio/findings/6/resolve", WHY, "resolve_finding", {"finding": 6, **WHY}),
    ("/portfolio/breaks/4/acknowledge", WHY, "acknowledge_break", {"break_id": 4, **WHY}),
    ("/alerts/5/acknowledge", None, "acknowledge_alert", {"alert": 5}),
]


@pytest.mark.parametrize(("path", "body", "kind", "args"), CHANGES, ids=[change[0] for change in CHANGES])
def test_a_change_is_queued_as_it_was_sent(
    api: Api, engine: EngineLease, books: Adjustment, path: str, body: Any, kind: str, args: dict[str, Any]
) -> None:
    response = api.post(path, body)
    assert response.status_code == 202, response.content
    command = EngineCommand.objects.get()
    assert (command.kind, command.args, command.source) == (kind, args, "api")
    assert response["Location"] == f"/api/commands/{command.pk}"


def test_nothing_is_queued_while_no_engine_runs(api: Api, books: Adjustment) -> None:
    assert error_of(api.post("/portfolio/adjustments", DEPOSIT), 503)["code"] == "engine_down"
    assert not EngineCommand.objects.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"details": {**DEPOSIT["details"], "amount": 10.5}},  # type: ignore[dict-item]
        {"details": {**DEPOSIT["details"], "amount": "1e400"}},  # type: ignore[dict-item]
        {"details": {**DEPOSIT["details"], "amount": "NaN"}},  # type: ignore[dict-item]
        {"details": {**DEPOSIT["details"], "note": "x"}},  # type: ignore[dict-item]
        {"details": "text"},
        {"kind": "rebalance"},
        {"reason": ""},
        {"reason": "   "},
        {"reason": "x" * 401},
        {"effective_at": "9999-12-31T23:59:59-14:00"},
        {"key": "ü"},
        {"extra": 1},
    ],
    ids=str,
)
def test_nonsense_is_a_422_that_queues_nothing(
    api: Api, engine: EngineLease, books: Adjustment, change: dict[str, Any]
) -> None:
    error_of(api.post("/portfolio/adjustments", {**DEPOSIT, **change}), 422)
    assert not EngineCommand.objects.exists()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["owner", "currency", "amount", "con_id", "from", "to", "owners", "numerator", "cash_in_lieu"])


@hypothesis_settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(["deposit", "split", "dividend", "exercise", "fee"]), details=st.dictionaries(NAMES, JSON))
def test_no_details_at_all_break_booking_or_preview(
    api: Api, engine: EngineLease, books: Adjustment, kind: str, details: dict[str, Any]
) -> None:
    body = {"kind": kind, "details": details}
    assert api.post("/portfolio/adjustments", {**body, "reason": "x"}).status_code in {202, 400, 422}
    assert api.post("/portfolio/adjustments/preview", body).status_code in {200, 400, 404, 409, 422}


def test_a_preview_shows_the_lines_and_writes_nothing(api: Api, books: Adjustment) -> None:
    body = {"kind": DEPOSIT["kind"], "details": DEPOSIT["details"]}
    response = api.post("/portfolio/adjustments/preview", body)
    assert response.status_code == 200, response.content
    (line,) = response.json()["lines"]
    assert (line["owner"], Decimal(line["cash"])) == ("AAA", Decimal("10.5"))
    assert Adjustment.objects.count() == 1


def upload(api: Api, content: bytes) -> Any:
    """Hand in a file as a form does."""
    file = SimpleUploadedFile("statement.xml", content, content_type="text/xml")
    return api.client.post("/api/portfolio/flex", {"file": file}, headers=api.headers)


def test_an_uploaded_statement_is_kept_under_its_hash_and_queued(
    api: Api, engine: EngineLease, books: Adjustment
) -> None:
    content = b"<?xml version='1.0'?><FlexQueryResponse>" + b" " * 2_000_000 + b"</FlexQueryResponse>"
    response = upload(api, content)
    assert response.status_code == 202, response.content
    sha256 = EngineCommand.objects.get().args["sha256"]
    assert (Path(settings.MATS.mats_home) / "flex" / f"{sha256}.xml").read_bytes() == content


@pytest.mark.parametrize(
    ("content", "status"), [(b"", 422), (b"PK\x03\x04", 422), (b"<" + b"x" * MAX_STATEMENT_BYTES, 413)]
)
def test_what_is_no_statement_is_refused(
    api: Api, engine: EngineLease, books: Adjustment, content: bytes, status: int
) -> None:
    error_of(upload(api, content), status)
    assert not EngineCommand.objects.exists()


def test_a_large_body_elsewhere_is_still_refused(api: Api, engine: EngineLease) -> None:
    file = SimpleUploadedFile("statement.xml", b"<" + b"x" * 2_000_000)
    response = api.client.post("/api/portfolio/assign", {"file": file}, headers=api.headers)
    error_of(response, 413)


def test_alerts_are_listed_while_open_and_all_on_request(reader: Api) -> None:
    raise_alert("a", "info", "one", now=NOON)
    raise_alert("b", "critical", "two", now=NOON)
    clear_alert("a", NOON)
    assert [row["key"] for row in reader.get("/alerts").json()["items"]] == ["b"]
    assert [row["key"] for row in reader.get("/alerts", open_only="false").json()["items"]] == ["b", "a"]


def test_the_trail_is_paged_and_filtered(reader: Api, viewer: User) -> None:
    for number in range(3):
        audit.record("test.done", f"thing {number}", actor="ann", source="cli")
    first = reader.get("/audit", actor="ann", limit=2).json()
    assert [row["subject"] for row in first["items"]] == ["thing 2", "thing 1"]
    rest = reader.get("/audit", actor="ann", cursor=first["next"]).json()
    assert ([row["subject"] for row in rest["items"]], rest["next"]) == (["thing 0"], None)


def test_every_list_behind_the_books_answers_with_an_account(reader: Api, books: Adjustment) -> None:
    for path in (
        "consolidated",
        "pnl",
        "explain",
        "breaks",
        "parked",
        "flex",
        "fx-rates",
        "fx-rates/history",
        "hourly",
    ):
        response = reader.get(f"/portfolio/{path}")
        assert response.status_code == 200, (path, response.content)
    (row,) = reader.get("/portfolio/adjustments", state="proposed").json()["items"]
    assert (row["id"], row["details"], row["undone_by"]) == (7, DEPOSIT["details"], None)
    assert reader.get("/portfolio/performance").status_code == 200


def test_lots_of_a_position_are_first_in_first_out(reader: Api, books: Adjustment) -> None:
    fold_batch("DU1000001", [fill(1, 100, 50, owner="AAA"), fill(2, 50, 60, owner="AAA")], owner_of, NOON)
    fold_batch("DU1000001", [fill(3, -120, 70, owner="AAA")], owner_of, NOON)
    lots = reader.get("/portfolio/lots", owner="AAA", con_id=265598).json()
    assert [(row["quantity"], row["cost"]) for row in lots["open"]] == [("30", "1800")]
    error_of(reader.get("/portfolio/lots", owner="AAA", con_id=1), 404)
