"""The Risk page in a real Chromium: halting by a click, releasing with a reason, and what each role is offered."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Group
from playwright.sync_api import Browser, Page, expect

from portfolio.models import AccountValue
from tests.browser import seed
from tests.browser.conftest import SHOTS, open_live, sign_in
from tests.browser.server import Site
from trading import risk_control, risk_services
from trading.models import EngineCommand, Order
from trading.orders.trading_state import TradingState
from trading.risk_models import RiskLimit, TradingControl

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

WHO: dict[str, Any] = {"actor": "anna", "source": "page"}


@pytest.fixture
def risky(console: None) -> None:
    """A console with limits, an override, a lock, a strategy that only reduces, and two denials."""
    risk_services.set_limit("order_quantity", Decimal(300), strategy="TREND", reason="new code", **WHO)
    risk_services.set_limit("liquid_hours_only", Decimal(0), reason="paper gateway", **WHO)
    risk_services.set_override("multiplier", multiplier=Decimal("0.5"), strategy="PAIRS", reason="half size", **WHO)
    risk_services.set_lock(con_id=265598, reason="earnings tonight", **WHO)
    risk_control.set_trading_state("REVERT", TradingState.REDUCING, reason="too many orders", **WHO)
    AccountValue.objects.create(
        account_id=seed.ACCOUNT, tag="ExcessLiquidity", currency="USD", value="812000.5", updated_at=seed.now()
    )
    for number, reason in enumerate(
        (
            "order_quantity: 400 AAPL; 300 are allowed. [order_quantity limit=300 value=400 source=strategy]",
            "trading_window: SPY is outside its liquid hours.",
        )
    ):
        Order.objects.create(
            order_ref=f"TREND/0{number}",
            owner="TREND",
            state="denied",
            con_id=265598,
            symbol="AAPL",
            sec_type="STK",
            side="BUY",
            quantity=400,
            order_type="MKT",
            reason=reason,
            created_at=seed.now(),
            updated_at=seed.now(),
        )


def test_one_click_halts_every_page_says_so_and_a_reason_releases(page: Page, site: Site, risky: None) -> None:
    open_live(page, site, "/risk/")
    account = page.locator("#states-region tbody tr").first
    account.get_by_role("button", name="Halt", exact=True).click()
    expect(page.locator("#risk-banner")).to_contain_text("Trading is halted")
    assert risk_control.halt_file().exists()
    open_live(page, site, "/")
    expect(page.locator("#risk-banner")).to_contain_text("Trading is halted")
    open_live(page, site, "/risk/")
    account.get_by_placeholder("why, to release").fill("looked at it")
    account.get_by_role("button", name="Release").click()
    expect(account.locator(".state")).to_have_text("active")
    assert not risk_control.halt_file().exists()
    assert TradingControl.objects.get(owner="").reason == "looked at it"


def test_halt_made_elsewhere_reaches_an_open_page(page: Page, site: Site, risky: None) -> None:
    open_live(page, site, "/")
    risk_control.halt("", reason="from the command line", actor="cli", source="cli")
    try:
        expect(page.locator("#risk-banner")).to_contain_text("from the command line")
    finally:
        risk_control.release("", reason="over", actor="anna", source="cli")


def test_flatten_wants_a_tick_and_becomes_one_command(page: Page, site: Site, risky: None) -> None:
    open_live(page, site, "/risk/")
    form = page.locator('form[data-action="Flatten"]')
    form.get_by_role("button").click()
    assert not EngineCommand.objects.filter(kind="kill").exists()
    form.get_by_role("checkbox").check()
    form.locator("select").select_option("TREND")
    with page.expect_response("**/actions/kill/") as sent:
        form.get_by_role("button").click()
    assert sent.value.status == 202
    command = EngineCommand.objects.get(kind="kill")
    assert (command.args["level"], command.args["owner"]) == (5, "TREND")


def test_limit_is_set_with_scope_and_reason_and_removed_again(page: Page, site: Site, risky: None) -> None:
    open_live(page, site, "/risk/")
    form = page.locator('form[action$="/set-limit/"]')
    form.locator('[name="name"]').select_option("order_notional")
    form.locator('[name="value"]').fill("25000")
    form.locator('[name="strategy"]').select_option("PAIRS")
    form.locator('[name="reason"]').fill("smaller for now")
    form.get_by_role("button").click()
    row = page.locator("tr", has=page.locator("code", has_text="order_notional")).filter(has_text="smaller for now")
    expect(row).to_contain_text("25,000")
    row.get_by_placeholder("why").fill("done")
    row.get_by_role("button", name="Remove").click()
    expect(row).to_have_count(0)
    assert not RiskLimit.objects.filter(name="order_notional").exists()


@pytest.mark.parametrize(("role", "buttons", "forms"), [("viewer", 0, 0), ("operator", 6, 1)])
def test_roles_are_offered_what_they_may(
    browser: Browser, site: Site, risky: None, role: str, buttons: int, forms: int
) -> None:
    user = seed.user(role[:3], is_superuser=False)
    user.groups.add(Group.objects.get(name=role))
    context = browser.new_context()
    sign_in(context, site, role[:3])
    page = context.new_page()
    page.goto(site.origin + "/risk/")
    halting = page.locator("#states-region").get_by_role("button", name="Halt", exact=True)
    assert halting.count() == buttons - (1 if buttons else 0)  # TREND, REVERT, PAIRS, Discretionary and the account
    assert page.get_by_role("button", name="Release").count() == 0
    assert page.locator(".book-form").count() == forms
    context.close()


@pytest.mark.parametrize(("theme", "width"), [("dark", 1366), ("light", 1366), ("dark", 390)])
def test_page_fits_in_both_themes(browser: Browser, site: Site, risky: None, theme: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)  # type: ignore[arg-type]  # one of two words
    sign_in(context, site)
    page = context.new_page()
    page.goto(site.origin + "/risk/")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(SHOTS / f"risk-{theme}-{width}.png"), full_page=True)
    context.close()
