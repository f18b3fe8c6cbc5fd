"""The pages about the books in a real Chromium, on seeded tables: what they show, follow, ask and refuse."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import Group
from playwright.sync_api import Browser, Page, expect

from portfolio.models import Break, Position
from tests.browser import seed, seed_books
from tests.browser.conftest import SHOTS, keep, open_live, sign_in
from tests.browser.server import Site
from trading.models import Alert, EngineCommand

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PATHS = (
    "/portfolio/",
    "/portfolio/?group=strategy",
    "/portfolio/contracts/756733/",
    "/breaks/",
    "/adjustments/",
    "/adjustments/?kind=split",
    "/flex/",
    "/connections/",
    "/analytics/",
    "/risk/",
    "/alerts/",
    "/audit/",
)


@pytest.fixture
def books(console: None) -> None:
    """The seeded console with a journal, breaks, alerts and a statement."""
    seed_books.everything()


def answer(command: EngineCommand, state: str = "done", error: str = "") -> None:
    """Finish a command as an engine would, and tell the pages."""
    command.state, command.error = state, error
    command.save()
    payload = {"id": str(command.id), "kind": command.kind, "args": command.args, "state": state, "error": error}
    seed.tell("command", {**payload, "error_code": "", "user": "operator"})


def test_assign_is_posted_with_its_parts_and_done_only_after_the_engine_said_so(
    page: Page, site: Site, books: None
) -> None:
    open_live(page, site, "/portfolio/")
    page.click('tr[data-contract="756733"] [data-expand]')
    row = page.locator(f'tr[data-execution="{seed_books.BY_HAND}"]')
    row.get_by_role("button", name="Assign").click()
    form = page.locator(f'[id="assign-{seed_books.BY_HAND}"] form')
    form.locator('[name="owner"]').nth(0).select_option("TREND")
    form.locator('[name="quantity"]').nth(0).fill("60")
    form.locator('[name="owner"]').nth(1).select_option("PAIRS")
    form.locator('[name="quantity"]').nth(1).fill("40")
    form.locator('[name="reason"]').fill("meant for both")
    with page.expect_response("**/actions/assign/") as sent:
        form.locator('button[type="submit"]').click()
    assert sent.value.status == 202
    command = EngineCommand.objects.get()
    assert (command.kind, command.args["owners"]) == ("divide_execution", {"TREND": "60", "PAIRS": "40"})
    assert command.source == "page"
    expect(page.locator("#toasts .toast-line")).to_have_count(0)
    answer(command, "failed", "PAIRS is closed.")
    expect(page.locator("#toasts")).to_contain_text("PAIRS is closed.")


def test_assigning_more_than_is_there_is_refused_in_the_form(page: Page, site: Site, books: None) -> None:
    open_live(page, site, "/portfolio/contracts/756733/")
    page.click(f'[data-toggle="assign-{seed_books.BY_HAND}"]')
    form = page.locator(f'[id="assign-{seed_books.BY_HAND}"] form')
    form.locator('[name="owner"]').nth(0).select_option("TREND")
    form.locator('[name="quantity"]').nth(0).fill("101")
    form.locator('[name="reason"]').fill("too much")
    form.locator('button[type="submit"]').click()
    expect(form.locator(".form-error")).to_have_text("Discretionary has 100 of this execution, 101 are given away.")
    assert not EngineCommand.objects.exists()


def test_position_on_the_page_follows_the_events_and_opened_rows_stay_open(page: Page, site: Site, books: None) -> None:
    open_live(page, site, "/portfolio/")
    page.click('tr[data-contract="756733"] [data-expand]')
    page.wait_for_selector("tr.explained .executions")
    Position.objects.filter(owner="PAIRS").update(quantity=399)
    seed.tell("position", {"strategy": "PAIRS", "con_id": 272093, "symbol": "MSFT", "quantity": "399"}, "PAIRS")
    expect(page.locator('tr[data-contract="272093"]')).to_contain_text("399")
    expect(page.locator("tr.explained .executions")).to_be_visible()


def test_form_that_somebody_fills_in_is_left_alone_by_events(page: Page, site: Site, books: None) -> None:
    open_live(page, site, "/breaks/")
    words = page.locator('.break[data-kind="cash"] [name="reason"]')
    words.fill("looking into")
    Break.objects.filter(kind="position").update(ledger_quantity=401)
    seed.tell("break", {"kind": "position", "con_id": 265598, "symbol": "AAPL", "state": "open"})
    with page.expect_response("**/alerts/strip/"):
        seed.tell("alert", {"id": 1})
    expect(words).to_have_value("looking into")


def test_break_shows_both_sides_its_cause_and_what_to_do(page: Page, site: Site, books: None) -> None:
    open_live(page, site, "/breaks/")
    cash = page.locator('.break[data-kind="cash"]')
    for text in ("858,490.88", "857,240.88", "+1,250.00", "No execution and no proposal explains 1250 USD."):
        expect(cash).to_contain_text(text)
    position = page.locator('.break[data-kind="position"]')
    expect(position).to_contain_text("could not be booked")
    expect(position.get_by_role("link", name="fill:0000e0d5.bbbb0001.01.01").first).to_be_visible()
    keep(page, "breaks-dark")
    cash.get_by_role("link", name="Book as deposit").click()
    expect(page.locator("#f-amount")).to_have_value("1250")
    expect(page.locator("#f-currency")).to_have_value("USD")
    expect(page.locator("#preview-lines")).to_contain_text("+1,250.00 USD")
    keep(page, "deposit-dark")
    page.locator("#book-form").get_by_role("button", name="Book", exact=True).click()
    command = wait_for_command(page, "book_adjustment")
    assert command.args["kind"] == "deposit"
    assert command.args["details"] == {"owner": "Discretionary", "currency": "USD", "amount": "1250"}
    answer(command)
    expect(page.locator("#toasts")).to_contain_text("Deposit: done.")


def wait_for_command(page: Page, kind: str) -> EngineCommand:
    """Return the command of a kind as soon as it is queued."""
    page.wait_for_function("document.querySelector('form[aria-busy=\"true\"]') !== null")
    for _ in range(200):
        command = EngineCommand.objects.filter(kind=kind).first()
        if command is not None:
            return command
        page.wait_for_timeout(20)
    pytest.fail(f"no {kind} was queued")


def test_preview_says_what_is_wrong_before_anything_is_booked(page: Page, site: Site, books: None) -> None:
    open_live(page, site, "/adjustments/?kind=transfer_cash")
    page.select_option("#f-from", "TREND")
    page.select_option("#f-to", "PAIRS")
    page.fill("#f-currency", "USD")
    page.fill("#f-amount", "1,250")
    expect(page.locator("#preview")).to_contain_text("without thousands separators")
    page.fill("#f-amount", "1250.5")
    expect(page.locator("#preview-lines")).to_contain_text("−1,250.50 USD")
    expect(page.locator("#preview-lines")).to_contain_text("+1,250.50 USD")
    assert not EngineCommand.objects.exists()


def test_alert_appears_on_every_page_and_is_acknowledged_from_the_strip(page: Page, site: Site) -> None:
    open_live(page, site)
    expect(page.locator("#alerts")).to_be_hidden()
    alert = Alert.objects.create(
        key="x", severity="critical", title="The gateway is gone", opened_at=seed.now(), last_at=seed.now()
    )
    seed.tell("alert", {"id": alert.pk})
    expect(page.locator("#alerts")).to_contain_text("The gateway is gone")
    page.locator("#alerts summary").focus()
    page.keyboard.press("Enter")
    page.locator("#alerts").get_by_role("button", name="Acknowledge").click()
    command = wait_for_command(page, "acknowledge_alert")
    assert command.args == {"alert": alert.pk}
    Alert.objects.update(acknowledged_at=seed.now(), acknowledged_by="operator")
    answer(command)
    seed.tell("alert", {"id": alert.pk})
    expect(page.locator("#alerts")).to_contain_text("seen by operator")
    expect(page.locator("#alerts").get_by_role("button", name="Acknowledge")).to_have_count(0)


def test_viewer_sees_everything_and_no_button(browser: Browser, site: Site, books: None) -> None:
    user = seed.user("viewer", is_superuser=False)
    user.groups.add(Group.objects.get(name="viewer"))
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    sign_in(context, site, "viewer")
    page = context.new_page()
    for path in (path for path in PATHS if path != "/audit/"):
        open_live(page, site, path)
        assert page.locator("main form[data-action]").count() == 0, path
    assert page.goto(site.origin + "/audit/").status == 403  # type: ignore[union-attr]
    page.goto(site.origin + "/breaks/")
    token = page.locator('meta[name="csrf-token"]').get_attribute("content")
    refused = context.request.post(
        site.origin + "/actions/reconcile/", headers={"X-CSRFToken": token or "", "Referer": site.origin + "/"}
    )
    assert refused.status == 403
    assert not EngineCommand.objects.exists()
    context.close()


@pytest.mark.parametrize(("theme", "width"), [("dark", 1366), ("light", 1366), ("dark", 390)])
def test_pages_fit_the_width_and_no_script_fails(
    browser: Browser, site: Site, books: None, theme: str, width: int
) -> None:
    errors: list[str] = []
    requests: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": 768}, color_scheme=theme)  # type: ignore[arg-type]
    sign_in(context, site)
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: requests.append(request.url))
    for path in PATHS:
        open_live(page, site, path)
        assert page.evaluate("document.documentElement.scrollWidth") == width, path
        keep(page, f"{path.split('?')[0].strip('/').replace('/', '-')}-{theme}-{width}")
    assert errors == []
    assert {urlsplit(url).netloc for url in requests if not url.startswith("data:")} == {f"127.0.0.1:{site.port}"}
    context.close()


def test_pages_of_an_empty_database_say_so(browser: Browser, site: Site, transactional_db: None) -> None:
    seed.user()
    context = browser.new_context()
    sign_in(context, site)
    page = context.new_page()
    for path in PATHS:
        answer = page.goto(site.origin + path)
        assert answer is not None
        assert answer.status == (404 if "contracts" in path else 200), path
        assert "None" not in (page.locator("main").text_content() or ""), path
    context.close()


def test_analytics_draw_every_chart_and_say_why_a_figure_is_unknown(page: Page, site: Site, books: None) -> None:
    open_live(page, site, "/analytics/?owner=TREND&period=3m")
    for chart in ("owner-equity", "returns-chart", "drawdown-chart", "exposure-chart"):
        page.wait_for_selector(f"#{chart} canvas")
    figures = page.locator("#figures")
    expect(figures.locator("tr", has_text="Sharpe").locator("td").nth(1)).not_to_have_text("–")
    expect(figures.locator("tr", has_text="Beta")).to_contain_text("No benchmark is set.")
    expect(page.locator("#weights tbody tr")).to_have_count(1)
    page.screenshot(path=str(SHOTS / "analytics-trend.png"), full_page=True)


def test_the_flex_page_shows_live_how_far_an_import_is(page: Page, site: Site, books: None) -> None:
    command = EngineCommand.objects.create(kind="import_flex", args={}, source="cli", created_at=seed.now())
    open_live(page, site, "/flex/")
    row = page.locator("#imports-region .progress-row")
    expect(row).to_contain_text("The import is queued.")
    for number in (1, 2):
        command.state = "accepted"
        text = f"Flex statement: slice {number} of 4, {500 * number:,} of 1,900 executions and fees booked."
        command.result = {"slice": number, "slices": 4, "done": 500 * number, "of": 1_900, "text": text}
        command.save()
        answer(command, "accepted")
        expect(row).to_contain_text(f"slice {number} of 4, {500 * number:,} of 1,900")
        expect(row.locator("progress")).to_have_attribute("value", str(number))
        expect(row.locator("progress")).to_have_attribute("max", "4")
    keep(page, "flex-progress")
    answer(command)
    expect(page.locator("#imports-region")).to_be_hidden()
