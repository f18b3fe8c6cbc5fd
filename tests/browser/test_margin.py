"""The margin of strategies in a real Chromium: shares, IB's answer to a weight, a refusal, and both themes."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.contrib.auth.models import Group
from playwright.sync_api import Browser, Page, expect

from strategies.models import Strategy
from tests.browser import seed
from tests.browser.conftest import SHOTS, open_live, sign_in
from tests.browser.server import Site
from tests.integration.web.test_margin_page import REFUSED, SILENT, plan
from tests.support.answers import answering
from trading.models import EngineCommand
from trading.risk_models import MarginReading

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PAGE = "/strategies/ALPHA/margin/"


@pytest.fixture
def read(console: None) -> None:
    """A reading of the margin, and a strategy whose file loads."""
    Strategy.objects.create(symbol="ALPHA", filename="ma_cross.py", target_weight=Decimal("0.4"))
    MarginReading.objects.create(
        account_id=seed.ACCOUNT,
        currency="USD",
        at=seed.now(),
        initial=Decimal("101250.75"),
        maintenance=Decimal("50625.38"),
        owners=[
            {"owner": "ALPHA", "initial": "71250.5", "maintenance": "35625.25"},
            {"owner": "TREND", "initial": "30000.25", "maintenance": "15000.13"},
            {"owner": "REVERT", "initial": None, "maintenance": None},
            {"owner": "Discretionary", "initial": "0", "maintenance": "0"},
        ],
        contracts=[
            {"con_id": 756733, "symbol": "SPY", "quantity": "300", "initial": "71250.5", "maintenance": "35625.25"},
            {"con_id": 265598, "symbol": "AAPL", "quantity": "-120", "initial": None, "maintenance": None},
        ],
        problem="AAPL: IB did not answer within 10 s: margin of an order.",
    )


def test_a_weight_is_asked_about_refused_and_set(page: Page, site: Site, read: None) -> None:
    open_live(page, site, PAGE)
    form = page.locator("#weight-form")
    form.locator('[name="weight"]').fill("0.5")
    with answering("margin_plan", REFUSED):
        form.get_by_role("button", name="Ask IB").click()
        expect(form.locator('[data-verdict="refused"]')).to_contain_text("Too thin.")
        expect(form.locator(".plan-lines")).to_contain_text("SPY")
        form.get_by_role("button", name="Set the weight").click()
        expect(form.locator(".form-error")).to_have_text("Too thin.")
        assert Strategy.objects.get(symbol="ALPHA").target_weight == Decimal("0.4")
    with answering("margin_plan", plan()):
        form.get_by_role("button", name="Set the weight").click()
        expect(page.locator(".toast-line").last).to_contain_text("could bind 2000.00 USD more initial margin")
    assert Strategy.objects.get(symbol="ALPHA").target_weight == Decimal("0.5")


def test_a_start_says_what_ib_answered(page: Page, site: Site, read: None) -> None:
    open_live(page, site, PAGE)
    with answering("start_strategy", {"note": "What ALPHA at 40.0% would bind was not found out."}):
        page.get_by_role("button", name="Start ALPHA").click()
        expect(page.locator(".toast-line").last).to_contain_text("Start ALPHA: done. What ALPHA at 40.0% would bind")
    form = page.locator('form[action$="/start-over-limit/"]')
    form.locator('[name="reason"]').fill("I watch it")
    with answering("start_strategy", {"note": "It is over the limit."}) as asked:
        form.get_by_role("button").click()
        expect(page.locator(".toast-line").last).to_contain_text("It is over the limit.")
    assert asked == [{"symbol": "ALPHA", "accept_margin": True, "reason": "I watch it"}]


def test_ask_ib_now_reads_the_margin(page: Page, site: Site, read: None) -> None:
    open_live(page, site, "/risk/")
    with page.expect_response("**/actions/read-margin/") as sent:
        page.get_by_role("button", name="Ask IB now").click()
    assert sent.value.status == 202
    assert EngineCommand.objects.get().kind == "read_margin"


@pytest.mark.parametrize(("theme", "width"), [("dark", 1366), ("light", 1366), ("light", 390)])
def test_pages_fit_in_both_themes(browser: Browser, site: Site, read: None, theme: str, width: int) -> None:
    user = seed.user("adm", is_superuser=False)
    user.groups.add(Group.objects.get(name="admin"))
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)  # type: ignore[arg-type]  # one of two words
    sign_in(context, site, "adm")
    page = context.new_page()
    SHOTS.mkdir(parents=True, exist_ok=True)
    for name, path in (("margin", PAGE), ("risk-margin", "/risk/")):
        page.goto(site.origin + path)
        if name == "margin":
            with answering("margin_plan", plan(SILENT)):
                page.get_by_role("button", name="Ask IB").click()
                expect(page.locator('[data-verdict="unknown"]')).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        page.screenshot(path=str(SHOTS / f"{name}-{theme}-{width}.png"), full_page=True)
    context.close()
