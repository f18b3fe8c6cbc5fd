"""The Sessions and Scanners pages in a real Chromium: buttons with their ticks, live figures, both themes, a phone."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import transaction
from playwright.sync_api import Browser, Page, expect

from tests.browser import seed
from tests.browser.conftest import SHOTS, open_live, sign_in
from tests.browser.server import Site
from tests.integration.web.test_sessions_pages import LIVE, METRICS, run_of
from trading.engine import doorbell, events
from trading.engine.events import EventKind
from trading.models import EngineCommand
from trading.session_models import ScannerConfig, ScanRun, SessionConfig, SessionRun
from trading.session_runs import session_payload

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def busy(console: None) -> SessionRun:
    """A live session that runs, one that does not, a backtest, past runs, scanners and scans."""
    backtest = {**LIVE, "mode": "backtest", "backtest_config": {"start_date": "2024-01-02", "end_date": "2024-01-05"}}
    for name, config, active in (("open-drive", LIVE, True), ("quiet", LIVE, False), ("january", backtest, False)):
        SessionConfig.objects.create(name=name, config=config, active=active, updated_by="anna")
    run_of("january", "ended", mode="data-driven", ended_at=seed.now(), message="")
    run_of("january", "failed", mode="data-driven", ended_at=seed.now(), message="There are no stored bars of AAPL 1m.")
    ScannerConfig.objects.create(
        name="gaps", module="scanners.gap", config={"universe": ["SPY", "QQQ", "IWM"]}, schedule="35 9 * * 1-5"
    )
    ScannerConfig.objects.create(name="active", module="scanners.ib_scanner", config={})
    details = {"promoted": ["QQQ"], "figures": {"SPY": {"gap_percent": 2.51, "last": 301.2}}}
    run = run_of("open-drive")
    ScanRun.objects.create(
        scanner="gap", session=run, at=seed.now(), symbols=["QQQ"], details=details, universe=12, ms=3.25
    )
    ScanRun.objects.create(scanner="gaps", at=seed.now(), symbols=["SPY", "QQQ"], details=details, universe=3, ms=12.5)
    ScanRun.objects.create(scanner="gaps", at=seed.now(), universe=3, skipped=True)
    ScanRun.objects.create(scanner="active", at=seed.now(), error="TransientError: IB did not answer within 10 s.")
    return run


def tell(run: SessionRun) -> None:
    with transaction.atomic():
        run.save()
        events.emit(EventKind.SESSION, session_payload(run))
    doorbell.ring()


def test_starting_wants_a_tick_and_becomes_one_command(page: Page, site: Site, busy: SessionRun) -> None:
    open_live(page, site, "/sessions/")
    form = page.locator('form[data-action="Start session quiet"]')
    form.get_by_role("button").click()
    assert not EngineCommand.objects.filter(kind="start_session").exists()
    form.get_by_role("checkbox").check()
    with page.expect_response("**/actions/start-session/") as sent:
        form.get_by_role("button").click()
    assert sent.value.status == 202
    assert EngineCommand.objects.get(kind="start_session").args == {"session": "quiet"}


def test_the_page_follows_a_session_by_its_events(page: Page, site: Site, busy: SessionRun) -> None:
    open_live(page, site, "/sessions/")
    running = page.locator("#running-region")
    expect(running).to_contain_text("streaming")
    expect(page.get_by_role("button", name="Pause")).to_have_count(1)
    busy.phase = "paused"
    busy.metrics = {**METRICS, "totals": {**METRICS["totals"], "fills": 77}}
    tell(busy)
    expect(running).to_contain_text("paused")
    expect(running).to_contain_text("77")
    expect(page.get_by_role("button", name="Resume")).to_have_count(1)


def test_a_found_symbol_is_promoted_into_the_running_session(page: Page, site: Site, busy: SessionRun) -> None:
    open_live(page, site, "/scanners/")
    form = page.locator('form[data-action="Promote SPY"]').first
    with page.expect_response("**/actions/promote-symbol/") as sent:
        form.get_by_role("button").click()
    assert sent.value.status == 202
    assert EngineCommand.objects.get(kind="promote_symbol").args == {"session": "open-drive", "ticker": "SPY"}


def test_a_session_is_edited_in_the_admins_form_and_mistakes_are_told_at_their_place(
    page: Page, site: Site, busy: SessionRun
) -> None:
    row = SessionConfig.objects.get(name="quiet")
    page.goto(f"{site.origin}/admin/trading/sessionconfig/{row.pk}/change/")
    most, trade = (page.locator(f'input[name$="trading_config§max_{name}"]') for name in ("buying_power", "per_trade"))
    expect(page.locator('textarea[name$="strategies§0§config"]')).to_have_value(re.compile('"symbols"'))
    trade.fill("15000")
    most.fill("12000")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".errorlist")).to_contain_text("trading_config.max_per_trade: 15000 is more than")
    row.refresh_from_db()
    assert row.config == LIVE, "nothing is saved"
    most.fill("100000")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".messagelist")).to_contain_text("was changed successfully")
    row.refresh_from_db()
    assert int(row.config["trading_config"]["max_per_trade"]) == 15_000
    [strategy] = row.config["session_data_config"]["strategies"]
    assert strategy["config"] == {"symbols": ["SPY"], "interval": "5m"}
    assert row.updated_by == "operator"


@pytest.mark.parametrize(("role", "buttons"), [("viewer", 0), ("operator", 3)])
def test_roles_are_offered_what_they_may(
    browser: Browser, site: Site, busy: SessionRun, role: str, buttons: int
) -> None:
    user = seed.user(role[:3], is_superuser=False)
    user.groups.add(Group.objects.get(name=role))
    context = browser.new_context()
    sign_in(context, site, role[:3])
    page = context.new_page()
    page.goto(site.origin + "/sessions/")
    assert page.locator("#configs .session-actions button").count() == buttons
    context.close()


@pytest.mark.parametrize(("theme", "width"), [("dark", 1366), ("light", 1366), ("dark", 390)])
def test_pages_fit_in_both_themes_and_on_a_phone(
    browser: Browser, site: Site, busy: SessionRun, theme: Any, width: int
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    sign_in(context, site)
    page = context.new_page()
    failures: list[str] = []
    page.on("console", lambda message: failures.append(message.text) if message.type == "error" else None)
    SHOTS.mkdir(parents=True, exist_ok=True)
    for name, path in (("sessions", "/sessions/"), ("scanners", "/scanners/"), ("run", f"/sessions/{busy.pk}/")):
        page.goto(site.origin + path)
        page.wait_for_selector('#live-badge[data-tone="good"]')
        page.screenshot(path=str(SHOTS / f"sessions-{name}-{theme}-{width}.png"), full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert not failures, path
    context.close()
