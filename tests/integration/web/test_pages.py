"""Pages as the server renders them: who sees what, in which state, and what is refused."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.cache import cache
from django.test import Client

from mats_site.middleware import POLICY
from portfolio.models import Account, EquitySnapshot
from strategies.models import Strategy
from tests.browser import seed
from trading import console, queries
from trading.login import MAX_FAILURES
from trading.models import EngineLease, StrategyRun

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def forget_failures() -> None:
    cache.clear()


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(seed.user())
    return client


@pytest.fixture
def viewer(client: Client) -> Client:
    user = seed.user("viewer", is_superuser=False)
    user.groups.add(Group.objects.get(name="viewer"))
    client.force_login(user)
    return client


@pytest.mark.parametrize("path", ["/", "/strategies/TREND/"])
def test_pages_send_strangers_to_the_login(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 302
    assert answer["Location"] == f"/login/?next={path}"


def test_dashboard_renders_everything_before_any_script(operator: Client) -> None:
    seed.everything()
    page = operator.get("/").content.decode()
    for text in ("1,004,812.37", "Trend following", "ZeroDivisionError", "Message queue", "227.96", "Reconciled"):
        assert text in page


def test_dashboard_of_an_empty_database_says_what_is_awaited(operator: Client) -> None:
    page = operator.get("/").content.decode()
    for text in ("No engine is running", "run_engine", "No strategies yet", "No fills yet", "waiting for the account"):
        assert text in page


def test_waiting_engine_says_for_what(operator: Client) -> None:
    seed.engine(state="waiting_for_gateway", message="No gateway at 127.0.0.1:7497 yet, next try in 4 s.")
    page = operator.get("/").content.decode()
    assert "waiting for gateway – No gateway at 127.0.0.1:7497 yet" in page


def test_strategy_page_shows_parameters_with_their_types(operator: Client) -> None:
    seed.everything()
    page = operator.get("/strategies/TREND/").content.decode()
    assert "revision 3" in page
    row = re.search(r"<tr><td>fast</td>.*?</tr>", page)
    assert row is not None
    assert "10" in row[0]
    assert "integer" in row[0]


def test_strategy_page_shows_only_its_own_books(operator: Client) -> None:
    seed.everything()
    strategy = Strategy.objects.get(symbol="TREND")
    state = console.strategy_state(strategy)
    assert {row["strategy"] for row in [*state["fills"], *state["positions"], *state["orders"]]} == {"TREND"}
    assert {row["strategy"] for row in state["logs"]} == {"TREND"}


@pytest.mark.parametrize("symbol", ["NOPE", "..", "%3Cscript%3E", "x" * 300])
def test_unknown_strategy_is_404_in_the_shell(operator: Client, symbol: str) -> None:
    answer = operator.get(f"/strategies/{symbol}/")
    assert answer.status_code == 404
    assert "<script>" not in answer.content.decode().replace("</head>", "")
    assert 'class="brand"' in answer.content.decode()


def test_viewer_gets_no_buttons_and_operator_does(viewer: Client) -> None:
    seed.everything()
    assert 'data-command="start"' not in viewer.get("/").content.decode()
    assert "data-cancel=" not in viewer.get("/strategies/TREND/").content.decode()
    user = seed.user("worker", is_superuser=False)
    user.user_permissions.add(Permission.objects.get(codename="operate"))
    viewer.force_login(user)
    assert 'data-command="start"' in viewer.get("/").content.decode()


def test_every_page_sends_the_content_security_policy(operator: Client) -> None:
    for path in ("/", "/login/", "/nowhere/", "/healthz"):
        assert operator.get(path)["Content-Security-Policy"] == POLICY


def test_logout_needs_post(operator: Client) -> None:
    assert operator.get("/logout/").status_code == 405
    assert operator.get("/").status_code == 200
    operator.post("/logout/")
    assert operator.get("/").status_code == 302


def test_login_form_without_csrf_token_is_refused_in_the_shell() -> None:
    answer = Client(enforce_csrf_checks=True).post("/login/", {"username": "x", "password": "y"})
    assert answer.status_code == 403
    assert "This form has expired" in answer.content.decode()


def test_twenty_wrong_passwords_close_the_door_even_for_the_right_one(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    seed.user()
    with caplog.at_level(logging.INFO, logger="trading.login"):
        for _ in range(MAX_FAILURES):
            answer = client.post("/login/", {"username": "operator", "password": "wrong"})
            assert answer.status_code == 200
        refused = client.post("/login/", {"username": "operator", "password": seed.PASSWORD})
    assert refused.status_code == 429
    assert "Too many wrong passwords" in refused.content.decode()
    assert client.get("/").status_code == 302
    assert caplog.text.count("event=login_failed") == MAX_FAILURES
    assert "event=login_throttled user='operator' address=127.0.0.1" in caplog.text
    assert seed.PASSWORD not in caplog.text


def test_name_is_limited_across_addresses(client: Client) -> None:
    seed.user()
    for number in range(MAX_FAILURES):
        client.post("/login/", {"username": "Operator", "password": "wrong"}, REMOTE_ADDR=f"10.0.0.{number}")
    answer = client.post("/login/", {"username": "operator", "password": "wrong"}, REMOTE_ADDR="10.1.1.1")
    assert answer.status_code == 429


def test_right_password_forgets_the_names_failures(client: Client) -> None:
    seed.user()
    for _ in range(MAX_FAILURES - 1):
        client.post("/login/", {"username": "operator", "password": "wrong"}, REMOTE_ADDR="10.0.0.1")
    assert client.post("/login/", {"username": "operator", "password": seed.PASSWORD}).status_code == 302
    answer = client.post("/login/", {"username": "operator", "password": "wrong"}, REMOTE_ADDR="10.0.0.2")
    assert answer.status_code == 200


def test_admin_has_no_login_of_its_own(client: Client) -> None:
    answer = client.get("/admin/login/?next=/admin/")
    assert answer["Location"] == "/login/?next=/admin/"


def test_login_does_not_redirect_elsewhere(client: Client) -> None:
    seed.user()
    form = {"username": "operator", "password": seed.PASSWORD, "next": "https://evil.example/"}
    assert client.post("/login/", form)["Location"] == "/"


def test_health_tells_strangers_one_word(client: Client) -> None:
    answer = client.get("/healthz")
    assert answer.status_code == 503
    assert answer.json() == {"status": "degraded"}
    seed.engine()
    answer = client.get("/healthz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok"}


def test_expired_lease_stops_everything_on_the_pages() -> None:
    seed.strategies()
    seed.engine()
    EngineLease.objects.update(expires_at=seed.now())
    rows = {row["symbol"]: row for row in queries.strategy_rows()}
    assert queries.engine_state()["running"] is False
    assert rows["TREND"]["state"] == "stopped"
    assert rows["PAIRS"]["state"] == "failed"
    assert queries.connection_status()["master_connection"]["connected"] is False
    assert StrategyRun.objects.get(symbol="TREND").state == "running"


def test_gross_exposure_nets_owners_and_names_what_it_leaves_out() -> None:
    row = {"strategy": "A", "con_id": 1, "symbol": "X", "currency": "USD", "market_value": "100"}
    other = {**row, "strategy": "B", "market_value": "-40"}
    euro = {**row, "con_id": 2, "symbol": "Y", "currency": "EUR"}
    unmarked = {**row, "con_id": 3, "symbol": "Z", "market_value": None}
    assert console.exposure([row, other, euro, unmarked], "USD") == {"gross": "60", "uncounted": ["Y", "Z"]}
    assert console.exposure([unmarked], "USD")["gross"] is None
    assert console.exposure([], "")["gross"] is None


def test_figures_are_unknown_until_there_is_a_snapshot() -> None:
    seed.strategies()
    row = queries.strategy_rows(["TREND"])[0]
    assert row["equity"] is None
    assert row["day_pnl"] is None


def test_bars_are_given_once_per_start_and_oldest_first() -> None:
    seed.stream()
    bar = queries.recent_bars(265598, 1)[0]
    seed.tell("bar", {**bar, "close": "1"})
    bars = queries.recent_bars(265598)
    starts = [bar["start"] for bar in bars]
    assert starts == sorted(set(starts))
    assert bars[-1]["close"] == "1"


def snapshot(owner: str, taken_at: datetime, equity: str, realized: str = "0", unrealized: str = "0") -> None:
    account, _ = Account.objects.get_or_create(account_id=seed.ACCOUNT)
    EquitySnapshot.objects.create(
        account=account,
        owner=owner,
        taken_at=taken_at,
        currency="USD",
        equity=Decimal(equity),
        cash=Decimal(0),
        realized_pnl=Decimal(realized),
        unrealized_pnl=Decimal(unrealized),
    )


def test_day_is_measured_from_the_last_snapshot_before_midnight() -> None:
    now = datetime(2026, 3, 5, 15, 0, tzinfo=UTC)
    snapshot("A", now - timedelta(days=1), "90")
    snapshot("A", now - timedelta(hours=15, seconds=1), "100", realized="7")
    snapshot("A", now - timedelta(hours=1), "110")
    assert queries.day_start_equity(["A", "B"], now) == {"A": Decimal(100)}


def test_strategy_that_began_today_is_measured_against_what_it_was_given() -> None:
    now = datetime(2026, 3, 5, 15, 0, tzinfo=UTC)
    snapshot("A", now - timedelta(hours=1), "299990", realized="-2", unrealized="-8")
    snapshot("", now - timedelta(hours=1), "1000100", unrealized="100")
    assert queries.day_start_equity(["A", ""], now) == {"A": Decimal(300000), "": Decimal(1000100)}
