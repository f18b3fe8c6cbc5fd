"""The Execution page from ticket to fill: a real page, a real engine, a paper gateway over loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import Group
from playwright.sync_api import Browser, Page, expect

from strategies.models import AuditEntry
from tests.browser import seed
from tests.browser.conftest import keep, open_live, sign_in
from tests.browser.server import Site
from tests.e2e.engine.conftest import gateway, mats_settings, rig
from tests.e2e.engine.harness import Rig, position, until
from trading.models import EngineCommand, Order

__all__ = ["gateway", "mats_settings", "rig"]  # fixtures

pytestmark = [pytest.mark.browser, pytest.mark.e2e, pytest.mark.django_db(transaction=True)]

DONE_MS = 20_000


@pytest.fixture
def operator(browser: Browser, site: Site, rig: Rig) -> Iterator[Page]:
    """A signed-in operator's page beside the rig; script errors fail the test."""
    seed.user()
    context = browser.new_context(viewport={"width": 1366, "height": 900}, color_scheme="dark")
    sign_in(context, site)
    page = context.new_page()
    page.set_default_timeout(DONE_MS)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []


def choose_instrument(page: Page, symbol: str) -> None:
    page.locator("#t-symbol").press_sequentially(symbol)
    page.locator(f'[data-pick][data-symbol-of="{symbol}"]').first.click()


def test_order_is_found_previewed_placed_changed_and_cancelled(operator: Page, site: Site, rig: Rig) -> None:
    rig.strategy("TREND")
    rig.engine()
    open_live(operator, site, "/execution/")
    expect(operator.locator("#working-region")).to_contain_text("No order works")
    expect(operator.locator("#t-limit")).to_be_hidden()
    choose_instrument(operator, "SPY")
    operator.locator("#t-type").select_option("LMT")
    expect(operator.locator("#t-stop")).to_be_hidden()
    operator.locator("#t-quantity").fill("3")
    operator.locator("#t-limit").fill("1.50")
    operator.locator("#t-owner").select_option("TREND")
    operator.locator("[data-preview-button]").click()
    expect(operator.locator('[data-verdict="passes"]')).to_be_visible()
    expect(operator.locator("#preview")).to_contain_text("initial margin")
    assert not Order.objects.exists(), "a preview places nothing"
    keep(operator, "execution-ticket-dark")
    operator.locator("#ticket .btn-main").click()
    expect(operator.locator("#toasts")).to_contain_text("done")
    row = operator.locator("#working tr[data-order]")
    expect(row).to_contain_text("accepted")
    expect(row).to_contain_text("limit 1.50")
    order = Order.objects.get()
    assert (order.owner, order.order_type, order.tif) == ("TREND", "LMT", "DAY")

    operator.locator('[data-toggle^="change-"]').click()
    form = operator.locator('[id^="change-"] form')
    form.locator('[name="quantity"]').fill("2")
    form.locator("button").click()
    until(lambda: Order.objects.filter(quantity=2).exists(), what="IB took the change")
    expect(row).to_contain_text("0/2")
    operator.locator("#working").get_by_role("button", name="Cancel").click()
    expect(operator.locator("#ended")).to_contain_text("cancelled")
    expect(operator.locator("#working-region")).to_contain_text("No order works")
    assert {entry.actor for entry in AuditEntry.objects.filter(action__startswith="command.place")} == {"operator"}
    operator.locator("#theme-toggle").click()
    keep(operator, "execution-ended-light")


def test_market_order_with_exits_is_a_family_and_its_fill_is_shown(operator: Page, site: Site, rig: Rig) -> None:
    rig.strategy("TREND")
    rig.engine()
    open_live(operator, site, "/execution/")
    choose_instrument(operator, "SPY")
    operator.locator("#t-quantity").fill("4")
    operator.locator("#t-owner").select_option("TREND")
    operator.locator(".more summary").click()
    operator.locator("#t-take-profit").fill("9000")
    operator.locator("#t-stop-loss").fill("1")
    operator.locator("#ticket .btn-main").click()
    expect(operator.locator("#working tr[data-order]")).to_have_count(2)
    expect(operator.locator("#ended")).to_contain_text("filled")
    expect(operator.locator("#ended")).to_contain_text("1 fill")
    until(lambda: position("TREND", "SPY") == 4)
    keep(operator, "execution-family-dark")
    operator.locator("#theme-toggle").click()
    keep(operator, "execution-family-light")
    operator.get_by_role("button", name="Cancel all").click()
    expect(operator.locator("#working-region")).to_contain_text("No order works")


def test_ticket_that_cannot_be_used_is_refused_in_its_field(operator: Page, site: Site, rig: Rig) -> None:
    rig.engine()
    open_live(operator, site, "/execution/")
    operator.locator("#t-symbol").fill("SPY")
    operator.locator("#t-quantity").fill("many")
    operator.locator("#ticket .btn-main").click()
    expect(operator.locator('[data-error="quantity"]').first).to_contain_text("not a number")
    operator.locator("#t-quantity").fill("1")
    operator.locator("#t-type").select_option("STP")
    operator.locator("#ticket .btn-main").click()
    expect(operator.locator("#ticket .form-error")).to_contain_text("stop price")
    assert not EngineCommand.objects.filter(kind="place_order").exists()


def test_viewer_sees_the_orders_and_no_ticket(browser: Browser, site: Site, console: None) -> None:
    viewer = seed.user("viewer", is_superuser=False)
    viewer.groups.add(Group.objects.get(name="viewer"))
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    sign_in(context, site, "viewer")
    page = context.new_page()
    open_live(page, site, "/execution/")
    expect(page.locator("#working-title")).to_be_visible()
    expect(page.locator("#ticket, #working button")).to_have_count(0)
    context.close()
