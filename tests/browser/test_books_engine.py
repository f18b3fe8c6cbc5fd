"""Stories of the books from click to ledger: a real page, a real engine, a paper gateway over loopback."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest
from playwright.sync_api import Browser, Page, expect

from portfolio.models import Break, CashBalance, Execution
from strategies.models import AuditEntry
from tests.browser import seed
from tests.browser.conftest import keep, open_live, sign_in
from tests.browser.server import Site
from tests.e2e.engine.conftest import gateway, mats_settings, rig
from tests.e2e.engine.harness import Rig, position, until
from trading.gateway.testing import RunningGateway

__all__ = ["gateway", "mats_settings", "rig"]  # fixtures

pytestmark = [pytest.mark.browser, pytest.mark.e2e, pytest.mark.django_db(transaction=True)]

DONE_MS = 20_000


@pytest.fixture
def operator(browser: Browser, site: Site, rig: Rig) -> Iterator[Page]:
    """A signed-in operator's page beside the rig."""
    seed.user()
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    sign_in(context, site)
    page = context.new_page()
    page.set_default_timeout(DONE_MS)
    yield page
    context.close()


def trade_by_hand(gateway: RunningGateway, symbol: str, quantity: int) -> int:
    """Have somebody trade in TWS; return the contract's id."""

    def _trade() -> int:
        con_id = next(iter(gateway.venue.search(symbol))).contract.con_id
        gateway.server.publish(gateway.venue.trade_by_hand(con_id, Decimal(quantity)))
        return con_id

    return int(gateway.call(_trade))


def test_manual_trade_is_given_to_a_strategy_and_taken_back(operator: Page, site: Site, rig: Rig) -> None:
    rig.strategy("TREND")
    rig.engine()
    con_id = trade_by_hand(rig.gateway, "AAPL", 100)
    until(lambda: position("Discretionary", "AAPL") == 100, what="the manual fill is booked")
    execution = Execution.objects.get()

    open_live(operator, site, "/portfolio/")
    row = operator.locator(f'tr[data-contract="{con_id}"]')
    expect(row).to_contain_text("100")
    row.locator("[data-expand]").click()
    operator.locator(f'[data-toggle="assign-{execution.exec_id}"]').click()
    form = operator.locator(f'[id="assign-{execution.exec_id}"] form')
    form.locator('[name="owner"]').first.select_option("TREND")
    form.locator('[name="quantity"]').first.fill("60")
    form.locator('[name="reason"]').fill("meant for the trend")
    form.locator('button[type="submit"]').click()
    expect(operator.locator("#toasts")).to_contain_text("done", timeout=DONE_MS)
    assert position("TREND", "AAPL") == 60
    expect(row).to_contain_text("TREND 60")
    expect(row.locator("td").nth(3)).to_have_text("40")
    shares = operator.locator(f'tr[data-execution="{execution.exec_id}"] .owners')
    expect(shares).to_contain_text("Discretionary 40")
    keep(operator, "story-assigned")

    operator.locator('[data-toggle^="undo-"]').click()
    undo = operator.locator('tr[id^="undo-"] form')
    undo.locator('[name="reason"]').fill("a mistake")
    undo.locator("button").click()
    expect(row.locator("td").nth(3)).to_have_text("100", timeout=DONE_MS)
    expect(shares).not_to_contain_text("TREND")
    assert position("TREND", "AAPL") == 0
    assert {"meant for the trend", "a mistake"} <= set(AuditEntry.objects.values_list("reason", flat=True))


def test_deposit_clears_the_break_of_cash(operator: Page, site: Site, rig: Rig) -> None:
    rig.engine()
    cash = rig.gateway.venue
    rig.gateway.call(lambda: rig.gateway.server.publish(cash.book_cash("USD", Decimal("1250.5"))))
    open_live(operator, site, "/breaks/")
    operator.get_by_role("button", name="Compare with IB now").click()
    broken = operator.locator('.break[data-kind="cash"]')
    expect(broken).to_contain_text("+1,250.50", timeout=DONE_MS)
    keep(operator, "story-cash-break")
    before = sum(CashBalance.objects.filter(currency="USD").values_list("amount", flat=True), Decimal(0))
    broken.get_by_role("link", name="Book as deposit").click()
    expect(operator.locator("#preview-lines")).to_contain_text("+1,250.50 USD")
    operator.locator("#book-form").get_by_role("button", name="Book", exact=True).click()
    expect(operator.locator("#toasts")).to_contain_text("Deposit: done.", timeout=DONE_MS)
    after = sum(CashBalance.objects.filter(currency="USD").values_list("amount", flat=True), Decimal(0))
    assert after - before == Decimal("1250.5")
    open_live(operator, site, "/breaks/")
    if Break.objects.filter(state="open").exists():
        operator.get_by_role("button", name="Compare with IB now").click()
    expect(operator.locator("#breaks-region")).to_contain_text("No open break", timeout=DONE_MS)
