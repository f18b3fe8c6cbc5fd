"""Holidays and hours in the admin, in a real Chromium: entered, refused with the reason, listed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import seed
from tests.browser.conftest import keep, sign_in
from tests.browser.server import Site
from trading.session_models import Holiday

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def page(browser: Browser, site: Site, transactional_db: None) -> Iterator[Page]:
    """A page of a signed-in administrator."""
    seed.user()
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    sign_in(context, site)
    page = context.new_page()
    page.set_default_timeout(10_000)
    yield page
    context.close()


def test_holiday_is_entered_under_its_group_and_an_impossible_one_refused(page: Page, site: Site) -> None:
    page.goto(f"{site.origin}/admin/trading/holiday/add/")
    page.get_by_label("Group", exact=False).fill("NYSE")
    page.get_by_label("Day", exact=False).fill("2027-07-02")
    page.get_by_label("Name", exact=False).fill("Independence Day (observed)")
    page.get_by_label("Closes at", exact=False).fill("08:00")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".errorlist").first).to_contain_text("2027-07-02 has hours that run backwards")
    keep(page, "calendar-refused")
    page.get_by_label("Closes at", exact=False).fill("13:00")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#result_list")).to_contain_text("US_EQUITY")
    keep(page, "calendar-holidays")
    assert Holiday.objects.get().closes_at.hour == 13  # type: ignore[union-attr]  # it was just given one


def test_hours_that_do_not_follow_one_another_are_refused(page: Page, site: Site) -> None:
    page.goto(f"{site.origin}/admin/trading/markethours/add/")
    for label, text in (
        ("Group", "XLON"),
        ("Valid from", "2027-07-02"),
        ("Regular open", "08:00"),
        ("Regular close", "16:30"),
        ("Pre open", "08:30"),
        ("Reason", "Trial"),
    ):
        page.get_by_label(label, exact=False).first.fill(text)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".errornote")).to_be_visible()
    keep(page, "calendar-hours-refused")
    page.get_by_label("Pre open", exact=False).fill("07:00")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#result_list")).to_contain_text("XLON")
    keep(page, "calendar-hours")
