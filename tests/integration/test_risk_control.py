"""Halting, releasing and limits from outside the engine: who may, what is on record, what works without a database."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.test import Client
from ib_async import Contract

from mats_site.services import create_api_key
from strategies.audit import verify_chain
from strategies.exceptions import ConfigError, NotFoundError
from strategies.models import AuditEntry, Strategy
from strategies.services import save_strategy
from tests.integration.api.conftest import Api, error_of
from trading import risk_control, risk_queries, risk_services
from trading.engine.halt_file import HaltFile
from trading.engine.rate_counter import RateCounter
from trading.engine.risk_desk import RiskDesk
from trading.engine.standing import read_decisions, read_revision
from trading.market.liquid_hours import calendar_hours, read_hours
from trading.orders.limits import Limit
from trading.orders.trading_state import TradingState
from trading.risk_models import RiskLimit, RiskLock, TradingControl
from trading.services import enqueue
from trading.session_models import Holiday

pytestmark = pytest.mark.django_db
WHO: dict[str, Any] = {"actor": "anna", "source": "cli"}


@pytest.fixture(autouse=True)
def home(settings: Any, tmp_path: Path) -> Path:
    """A home of its own: a halt file halts every engine of its home."""
    settings.MATS = dataclasses.replace(settings.MATS, mats_home=tmp_path)
    return tmp_path


@pytest.fixture
def strategy() -> Strategy:
    return Strategy.objects.create(symbol="AAA", filename="a.py")


def user(name: str, group: str) -> User:
    made = User.objects.create_user(name, password="correct horse 7")
    made.groups.add(Group.objects.get(name=group))
    return made


# command line


def test_halt_writes_the_file_before_it_asks_the_database(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def _locked(*_: Any, **__: Any) -> None:
        raise OperationalError("database is locked")

    monkeypatch.setattr(risk_control, "set_state", _locked)
    with pytest.raises(CommandError, match="the file alone halts"):
        call_command("halt", "--reason", "smoke")
    assert (home / "HALT").exists()
    note = risk_control.halt_file().note()
    assert note is not None
    assert note.reason == "smoke"


def test_only_an_administrator_resumes_and_the_reason_is_on_record(home: Path) -> None:
    user("otto", "operator")
    user("anna", "admin")
    call_command("halt")
    with pytest.raises(CommandError, match="no administrator"):
        call_command("resume", "--user", "otto", "--reason", "fine")
    assert (home / "HALT").exists()
    call_command("resume", "--user", "anna", "--reason", "looked at it")
    assert not (home / "HALT").exists()
    entry = AuditEntry.objects.get(action="risk.active")
    assert (entry.actor, entry.source, entry.reason) == ("anna", "cli", "looked at it")
    assert isinstance(entry.before, dict)
    assert entry.before["state"] == "halted"
    assert verify_chain() == []


def test_release_that_cannot_be_recorded_releases_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    risk_control.halt("", reason="stop", **WHO)
    monkeypatch.setattr(risk_control, "clear_alert", lambda _: (_ for _ in ()).throw(OperationalError("locked")))
    with pytest.raises(OperationalError):
        risk_control.release("", reason="go", **WHO)
    assert (home / "HALT").exists()
    assert TradingControl.objects.get(owner="").state == "halted"


def test_file_made_by_hand_counts_and_is_released_like_any_other(home: Path) -> None:
    (home / "HALT").write_text("fire in the server room")
    states = risk_queries.trading_states()
    assert states["account"]["state"] == "halted"
    assert "fire" in states["account"]["reason"]
    risk_control.release("", reason="out", **WHO)
    assert risk_queries.trading_states()["account"]["state"] == "active"


def test_kill_wants_yes_where_it_reaches_manual_orders() -> None:
    with pytest.raises(CommandError, match="--yes"):
        call_command("kill", "--level", "4")
    with pytest.raises(CommandError, match="--strategy"):
        call_command("kill", "--level", "1")


# services


def test_limit_replaces_the_one_of_its_scope_and_raises_the_revision(strategy: Strategy) -> None:
    before = read_revision()
    first = risk_services.set_limit("order_quantity", Decimal(5), strategy="aaa", reason="small", **WHO)
    second = risk_services.set_limit("order_quantity", Decimal(6), strategy="AAA", reason="less small", **WHO)
    assert first.pk == second.pk
    assert RiskLimit.objects.get().value == 6
    assert read_revision() == before + 2
    assert read_decisions().limits.find("order_quantity", "AAA", 7) == Limit("order_quantity", Decimal(6), "strategy")
    assert [entry.before is None for entry in AuditEntry.objects.order_by("id")] == [True, False]
    assert second.history.count() == 2


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"value": Decimal(-1)}, ConfigError),
        ({"name": "nonsense"}, ConfigError),
        ({"reason": "  "}, ConfigError),
        ({"strategy": "NOBODY"}, NotFoundError),
    ],
)
def test_limit_that_makes_no_sense_is_refused_and_leaves_nothing(change: dict[str, Any], error: Any) -> None:
    given = {"name": "order_quantity", "value": Decimal(1), "reason": "why", **change}
    with pytest.raises(error):
        risk_services.set_limit(given.pop("name"), given.pop("value"), **given, **WHO)
    assert not RiskLimit.objects.exists()
    assert not AuditEntry.objects.exists()


def test_weight_that_is_saved_is_read_anew(django_capture_on_commit_callbacks: Any) -> None:
    save_strategy({"symbol": "BBB", "filename": "ma_cross.py", "max_weight": Decimal("0.4")}, None)
    before = read_revision()
    with django_capture_on_commit_callbacks(execute=True):
        save_strategy({"symbol": "BBB", "max_weight": Decimal("0.2")}, None)
    assert read_revision() > before
    assert read_decisions().standing("BBB", 1, datetime.now(UTC)).max_weight == Decimal("0.2")


def test_a_lock_that_names_nobody_is_refused_rather_than_locking_everyone(strategy: Strategy) -> None:
    with pytest.raises(ConfigError, match="strategy, a contract or both"):
        risk_services.set_lock(reason="the form was left empty", **WHO)
    assert not RiskLock.objects.exists()


def test_lock_ends_by_itself_or_by_release(strategy: Strategy) -> None:
    now = datetime.now(UTC)
    risk_services.set_lock(strategy="AAA", until=now + timedelta(hours=1), reason="earnings", **WHO)
    standing = read_decisions().standing("AAA", 1, now)
    assert standing.lock == "earnings"
    assert read_decisions().standing("AAA", 1, now + timedelta(hours=2)).lock == ""
    assert read_decisions().standing("BBB", 1, now).lock == ""
    risk_services.release_lock(RiskLock.objects.get().pk, reason="over", **WHO)
    assert read_decisions().standing("AAA", 1, now).lock == ""


def test_stricter_of_account_and_strategy_holds(strategy: Strategy) -> None:
    risk_control.set_trading_state("AAA", TradingState.REDUCING, reason="a", **WHO)
    assert read_decisions().state_of("AAA") is TradingState.REDUCING
    risk_control.halt("", reason="b", **WHO)
    assert read_decisions().state_of("AAA") is TradingState.HALTED
    assert risk_control.is_looser("", TradingState.REDUCING)
    assert not risk_control.is_looser("AAA", TradingState.HALTED)


# who may


@pytest.mark.parametrize(("role", "status"), [("operator", 403), ("admin", 200)])
def test_only_administrators_make_it_looser_or_set_limits_by_api(role: str, status: int) -> None:
    api = Api(key=create_api_key(user("u", role), "k", can_write=True)[1])
    assert api.post("/risk/state", {"state": "halted", "reason": "stop"}).status_code == 200
    released = api.post("/risk/state", {"state": "active", "reason": "go"})
    assert released.status_code == status, released.content
    limit = api.post("/risk/limits", {"name": "order_quantity", "value": "3", "reason": "small"})
    assert limit.status_code == status
    if status == 403:
        assert error_of(limit, 403)["code"] == "forbidden"
    else:
        found = api.get("/risk/limits").json()[0]
        assert (found["name"], found["value"], found["scope"], found["set_by"]) == (
            "order_quantity",
            "3",
            "account",
            "u",
        )


def test_kill_by_api_wants_confirmation_for_what_reaches_positions() -> None:
    api = Api(key=create_api_key(user("u", "operator"), "k", can_write=True)[1])
    assert error_of(api.post("/risk/kill", {"level": 5, "reason": "out"}), 422)["code"] == "not_confirmed"
    assert (
        error_of(api.post("/risk/kill", {"level": 5, "reason": "out", "confirm": True}), 503)["code"] == "engine_down"
    )


@pytest.mark.parametrize(
    ("role", "action", "posted", "status"),
    [
        ("viewer", "state", {"state": "halted"}, 403),
        ("operator", "state", {"state": "halted"}, 302),
        ("operator", "set-limit", {"name": "order_quantity", "value": "3", "reason": "r"}, 403),
        ("operator", "set-override", {"action": "close", "reason": "r"}, 403),
        ("operator", "set-lock", {"reason": "r", "con_id": "265598"}, 302),
        ("operator", "release-lock", {"id": "1", "reason": "r"}, 403),
        ("admin", "set-limit", {"name": "order_quantity", "value": "x", "reason": "r"}, 422),
        ("admin", "set-limit", {"name": "order_quantity", "value": "3", "reason": ""}, 422),
        ("admin", "nonsense", {}, 404),
    ],
)
def test_page_asks_for_the_right_before_it_does_anything(
    client: Client, role: str, action: str, posted: dict[str, str], status: int
) -> None:
    client.force_login(user("u", role))
    assert client.post(f"/risk/do/{action}/", posted).status_code == status
    assert client.get(f"/risk/do/{action}/").status_code == 405
    if status in (403, 404, 422):
        assert not RiskLimit.objects.exists()
        assert not TradingControl.objects.exists()


def test_operator_cannot_release_what_is_halted(client: Client, home: Path) -> None:
    risk_control.halt("", reason="stop", **WHO)
    client.force_login(user("u", "operator"))
    for state in ("active", "reducing"):
        assert client.post("/risk/do/state/", {"state": state, "reason": "go"}).status_code == 403
    assert (home / "HALT").exists()


def test_admin_form_checks_audits_and_refuses_nonsense(client: Client, strategy: Strategy) -> None:
    boss = User.objects.create_superuser("boss", password="correct horse 7")
    client.force_login(boss)
    fields = {"name": "order_quantity", "value": "7", "strategy": "AAA", "con_id": "0", "reason": "small"}
    assert client.post("/admin/trading/risklimit/add/", fields).status_code == 302
    row = RiskLimit.objects.get()
    assert (row.value, row.set_by) == (Decimal(7), "boss")
    assert AuditEntry.objects.get(action="risk.limit_set").source == "admin"
    refused = client.post("/admin/trading/risklimit/add/", {**fields, "name": "allow_short", "value": "2"})
    assert refused.status_code == 200
    assert RiskLimit.objects.count() == 1
    assert client.post(f"/admin/trading/risklimit/{row.pk}/delete/", {"post": "yes"}).status_code == 302
    assert AuditEntry.objects.filter(action="risk.limit_removed").exists()


# kill levels


@pytest.mark.parametrize(("level", "owner", "halts"), [(3, "", True), (4, "", True), (5, "", True), (5, "AAA", False)])
def test_kill_level_of_the_account_halts_from_page_and_api_although_no_engine_runs(
    client: Client, home: Path, strategy: Strategy, level: int, owner: str, halts: bool
) -> None:
    made = user("otto", "operator")
    client.force_login(made)
    form = {"level": level, "owner": owner, "confirm": "yes", "reason": "looks wrong"}
    answer = client.post("/actions/kill/", form)
    assert answer.status_code == 503
    assert (home / "HALT").exists() is halts
    assert (b"halted all the same" in answer.content) is halts
    if halts:
        note = risk_control.halt_file().note()
        assert note is not None
        assert (note.reason, note.by) == ("looks wrong", "otto")
        risk_control.release("", reason="fine", **WHO)
    payload = {"level": level, "confirm": True, "reason": "again", **({"owner": owner} if owner else {})}
    assert client.post("/api/risk/kill", payload, content_type="application/json").status_code == 503
    assert (home / "HALT").exists() is halts


def test_kill_that_was_not_meant_or_not_allowed_halts_nothing(client: Client, home: Path) -> None:
    client.force_login(user("otto", "operator"))
    assert client.post("/actions/kill/", {"level": 4}).status_code == 422
    unconfirmed = {"level": 5, "reason": "x"}
    assert client.post("/api/risk/kill", unconfirmed, content_type="application/json").status_code == 422
    client.force_login(user("vera", "viewer"))
    assert client.post("/actions/kill/", {"level": 3}).status_code == 403
    payload = {"level": 3, "reason": "x"}
    assert client.post("/api/risk/kill", payload, content_type="application/json").status_code == 403
    assert not (home / "HALT").exists()


def test_kill_that_is_sent_again_after_a_release_does_not_halt_anew(home: Path) -> None:
    asked: dict[str, Any] = {"reason": "looks wrong", "actor": "otto"}
    assert risk_control.halt_at_once(3, "", key="7:form:0", **asked)
    enqueue("kill", {"level": 3, "reason": "looks wrong"}, source="page", idempotency_key="7:form:0")
    risk_control.release("", reason="was nothing", **WHO)
    assert not risk_control.halt_at_once(3, "", key="7:form:0", **asked)
    assert not (home / "HALT").exists()
    assert risk_control.halt_at_once(3, "", key="8:form:0", **asked)


# small parts


def test_rate_counts_by_owner_and_account_and_forgets() -> None:
    now = [0.0]
    rates = RateCounter(lambda: now[0])
    minute, second = Limit("m", Decimal(2), "default"), Limit("s", Decimal(3), "default")
    for owner in ("A", "A", "B"):
        rates.take_turn(owner, minute, second)
    with pytest.raises(Exception, match="A sent 2 orders"):
        rates.take_turn("A", minute, None)
    with pytest.raises(Exception, match="account sent 3"):
        rates.take_turn("C", minute, second)
    now[0] = 1.0
    rates.take_turn("C", minute, second)
    now[0] = 60.0
    rates.take_turn("A", minute, second)


def test_hours_text_is_read_in_its_zone_and_nonsense_is_unknown() -> None:
    found = read_hours("20261127:0930-20261127:1300;20261128:CLOSED", "America/New_York")
    assert found == ((datetime(2026, 11, 27, 14, 30, tzinfo=UTC), datetime(2026, 11, 27, 18, 0, tzinfo=UTC)),)
    assert read_hours("", "America/New_York") is None
    assert read_hours("nonsense", "America/New_York") is None
    assert read_hours("20261127:0930-20261127:1300", "Nowhere") is None
    early_close = calendar_hours(datetime(2026, 11, 27, tzinfo=UTC).date())
    assert (datetime(2026, 11, 27, 14, 30, tzinfo=UTC), datetime(2026, 11, 27, 18, 0, tzinfo=UTC)) in early_close


def test_risk_desk_heeds_a_holiday_that_an_operator_enters(
    home: Path, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    monkeypatch.setattr(RiskDesk, "_watch", lambda self: None)
    host: Any = SimpleNamespace(gate=SimpleNamespace(set_halted=lambda halted: None))
    desk, now = RiskDesk(host, HaltFile(home / "HALT")), datetime(2026, 11, 20, 15, tzinfo=UTC)
    desk.start()
    stock = Contract(conId=1, secType="STK", symbol="AAPL", exchange="SMART", primaryExchange="NASDAQ", currency="USD")
    desk.hours.put(1, calendar_hours(now.date()), now, stock)
    assert any(opens <= now < closes for opens, closes in desk.hours.get(1, now) or ())
    with django_capture_on_commit_callbacks(execute=True):
        Holiday.objects.create(group="US_EQUITY", day=now.date(), name="Mourning")
    assert not any(opens <= now < closes for opens, closes in desk.hours.get(1, now) or ())
    desk.stop(5.0)
