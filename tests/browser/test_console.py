"""The console in a real Chromium against a real web process."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, WebSocketRoute, expect

from strategies.models import Strategy
from tests.browser import seed
from tests.browser.conftest import keep, open_live, sign_in
from tests.browser.server import Site
from trading.models import EngineCommand, EngineLease, StrategyRun
from trading.templatetags import console as console_tags

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PAYLOAD = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
RECORD_SOCKETS = """
    const Real = WebSocket;
    window.sockets = [];
    window.WebSocket = class extends Real {
        constructor(...given) { super(...given); window.sockets.push(this); }
    };
"""


def wait_for_fill(page: Page, exec_id: str, timeout_ms: int = 10_000) -> None:
    page.wait_for_selector(f'#fills tr[data-key="{exec_id}"]', timeout=timeout_ms)


def tell_fills(names: list[str]) -> None:
    for name in names:
        seed.tell("fill", seed.fill_payload(name), "TREND")


def shown(page: Page, prefix: str) -> list[str]:
    """Return the shown execution ids with a prefix, oldest first."""
    keys: list[str] = page.eval_on_selector_all("#fills tbody tr", "rows => rows.map(row => row.dataset.key)")
    return [key for key in reversed(keys) if key.startswith(prefix)]


def test_fill_appears_within_a_second_and_its_fee_follows(page: Page, site: Site) -> None:
    open_live(page, site)
    seed.tell("fill", seed.fill_payload("live-1"), "TREND")
    wait_for_fill(page, "live-1", timeout_ms=1_000)
    fill = page.locator('#fills tr[data-key="live-1"]')
    expect(fill.locator('[data-f="price"]')).to_have_text("227.41")
    expect(fill.locator('[data-f="commission"]')).to_have_text("–")
    seed.tell(
        "commission",
        {"exec_id": "live-1", "strategy": "TREND", "commission": "1.05", "currency": "USD", "realized_pnl": "0"},
        "TREND",
    )
    expect(fill.locator('[data-f="commission"]')).to_have_text("1.05")


def test_killed_web_process_shows_stale_within_three_seconds_then_no_gap_and_no_double(page: Page, site: Site) -> None:
    open_live(page, site)
    names = [f"gap-{number:03}" for number in range(60)]
    tell_fills(names[:20])
    wait_for_fill(page, names[19])
    site.kill()
    page.wait_for_selector('#live-badge[data-tone="bad"]', timeout=4_500)
    keep(page, "dashboard-stale")
    tell_fills(names[20:40])
    site.start()
    tell_fills(names[40:])
    wait_for_fill(page, names[-1])
    page.wait_for_selector('#live-badge[data-tone="good"]')
    assert shown(page, "gap-") == names


def test_dropped_socket_resumes_where_it_was(page: Page, site: Site) -> None:
    # The page's own sockets are recorded, so that the test can cut one as a network would.
    page.add_init_script(RECORD_SOCKETS)
    open_live(page, site)
    names = [f"drop-{number:03}" for number in range(30)]
    for start in range(0, 30, 10):
        tell_fills(names[start : start + 5])
        page.evaluate("window.sockets.at(-1).close()")
        tell_fills(names[start + 5 : start + 10])
        wait_for_fill(page, names[start + 9])
    assert shown(page, "drop-") == names
    assert page.evaluate("window.sockets.length") >= 3


def test_page_reloads_when_what_it_missed_is_no_longer_kept(page: Page, site: Site) -> None:
    addresses: list[str] = []

    def answer(socket: WebSocketRoute) -> None:
        addresses.append(socket.url)
        if len(addresses) == 1:
            socket.send('{"type":"reset"}')
        else:
            socket.connect_to_server()

    page.route_web_socket("**/ws/live**", answer)
    open_live(page, site)
    assert len(addresses) == 2


def test_start_button_posts_with_csrf_and_shows_the_engines_refusal(page: Page, site: Site) -> None:
    open_live(page, site)
    with page.expect_response("**/api/strategies/PAIRS/start") as answer:
        page.click('tr[data-strategy="PAIRS"] [data-command="start"]')
    assert answer.value.status == 202
    assert answer.value.request.headers["x-csrftoken"]
    command = EngineCommand.objects.get(kind="start_strategy")
    assert command.args == {"symbol": "PAIRS"}
    command.state, command.error, command.error_code = "failed", "pairs.py cannot be loaded: no class.", "load_error"
    command.save()
    payload = {
        "id": str(command.id),
        "kind": command.kind,
        "args": command.args,
        "state": "failed",
        "error": command.error,
        "error_code": "load_error",
        "user": "operator",
    }
    seed.tell("command", payload)
    expect(page.locator("#toasts")).to_contain_text("pairs.py cannot be loaded")


def test_cancel_button_names_the_order(page: Page, site: Site) -> None:
    open_live(page, site, "/strategies/TREND/")
    with page.expect_response("**/api/trade/orders/**/cancel") as answer:
        page.click("#orders [data-cancel]")
    assert answer.value.status == 202
    assert EngineCommand.objects.get(kind="cancel_order").args == {"order_ref": "TREND/01JD5Q8Z3V0000000000000001"}


def test_strategy_that_fails_says_so_on_the_page(page: Page, site: Site) -> None:
    open_live(page, site)
    run = {
        "symbol": "TREND",
        "state": "failed",
        "client_id": None,
        "connected": False,
        "message": "KeyError: 'AAPL'",
        "restarts": 1,
    }
    seed.tell("strategy", run, "TREND")
    trend = page.locator('tr[data-strategy="TREND"]')
    expect(trend.locator('[data-f="state"]')).to_have_text("failed")
    expect(trend.locator('[data-f="message"]')).to_have_text("KeyError: 'AAPL'")
    expect(trend.locator('[data-command="start"]')).to_be_enabled()


def test_markup_in_logs_names_and_messages_is_text(page: Page, site: Site) -> None:
    Strategy.objects.filter(symbol="TREND").update(name=PAYLOAD, filename=PAYLOAD[:60], params={"note": PAYLOAD})
    StrategyRun.objects.filter(symbol="TREND").update(message=PAYLOAD, state="failed")
    EngineLease.objects.update(status={"state": PAYLOAD, "message": PAYLOAD})
    seed.tell("log", {"level": "info", "strategy": "TREND", "text": f"old {PAYLOAD}", "logger": PAYLOAD}, "TREND")
    for path in ("/", "/strategies/TREND/"):
        open_live(page, site, path)
        seed.tell("log", {"level": "info", "strategy": "TREND", "text": f"new {PAYLOAD}", "logger": PAYLOAD}, "TREND")
        seed.tell("fill", seed.fill_payload(f"xss{path}", symbol=PAYLOAD, strategy="TREND"), "TREND")
        seed.tell(
            "strategy",
            {
                "symbol": "TREND",
                "state": "failed",
                "client_id": 1,
                "connected": False,
                "message": PAYLOAD,
                "restarts": 0,
            },
            "TREND",
        )
        expect(page.locator("#log li").last).to_contain_text(f"new {PAYLOAD}")
        assert page.evaluate("window.hacked") is None
        assert page.locator("main img[src=x]").count() == 0


def test_nothing_is_loaded_from_elsewhere_and_no_script_fails(page: Page, site: Site) -> None:
    requests: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("websocket", lambda socket: requests.append(socket.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    for path in ("/", "/strategies/TREND/", "/login/"):
        page.goto(site.origin + path)
        page.wait_for_load_state("networkidle")
    hosts = {urlsplit(url).netloc for url in requests if not url.startswith("data:")}
    assert hosts == {f"127.0.0.1:{site.port}"}
    assert errors == []


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_first_screen_fits_1366_by_768(browser: Browser, site: Site, console: None, theme: str) -> None:
    context = browser.new_context(viewport={"width": 1366, "height": 768}, color_scheme=theme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(site.origin + "/login/")
    keep(page, f"login-{theme}")
    sign_in(context, site)
    for name, path in (("dashboard", "/"), ("strategy", "/strategies/TREND/")):
        open_live(page, site, path)
        page.wait_for_selector("#equity-chart canvas")
        keep(page, f"{name}-{theme}")
        size = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
        assert size == [1366, 768]
        assert page.evaluate("document.documentElement.dataset.bsTheme") == theme
    context.close()


def test_theme_is_switched_by_keyboard_and_remembered(page: Page, site: Site) -> None:
    open_live(page, site)
    page.focus("#theme-toggle")
    page.keyboard.press("Enter")
    assert page.evaluate("document.documentElement.dataset.bsTheme") == "light"
    page.reload()
    assert page.evaluate("document.documentElement.dataset.bsTheme") == "light"


def test_paused_log_holds_lines_back_until_resumed(page: Page, site: Site) -> None:
    open_live(page, site)
    page.click("#log-pause")
    seed.tell("log", {"level": "info", "strategy": "TREND", "text": "while paused", "logger": "x"}, "TREND")
    tell_fills(["after-pause"])
    wait_for_fill(page, "after-pause")
    expect(page.locator("#log")).not_to_contain_text("while paused")
    page.click("#log-pause")
    expect(page.locator("#log")).to_contain_text("while paused")


def test_no_engine_says_how_to_start_one(page: Page, site: Site) -> None:
    EngineLease.objects.all().delete()
    page.goto(site.origin)
    expect(page.locator("#engine-banner")).to_contain_text("manage.py run_engine")
    expect(page.locator("#engine-badge")).to_contain_text("not running")


def test_tiles_follow_account_marks_and_equity(page: Page, site: Site) -> None:
    open_live(page, site)
    seed.tell(
        "account",
        {
            "net_liquidation": "1010000.5",
            "cash": "1",
            "unrealized_pnl": "-3.5",
            "realized_pnl": "0",
            "currency": "USD",
            "at": seed.iso(seed.now()),
        },
    )
    expect(page.locator('#tiles [data-f="net_liquidation"]')).to_have_text("1,010,000.50")
    expect(page.locator('#tiles [data-f="unrealized_pnl"]')).to_have_text("−3.50")
    seed.tell("marks", {"at": seed.iso(seed.now()), "marks": {"265598": "100", "756733": "100", "272093": "100"}})
    # 400 AAPL and 400 MSFT long; SPY −300 and +400 net to 100.
    expect(page.locator('#tiles [data-f="gross"]')).to_have_text("90,000.00")
    rows = [
        {
            "owner": "TREND",
            "equity": "500000",
            "cash": "1",
            "realized_pnl": "2",
            "unrealized_pnl": "3",
            "currency": "USD",
        }
    ]
    seed.tell("equity", {"at": seed.iso(seed.now()), "rows": rows})
    expect(page.locator('tr[data-strategy="TREND"] [data-f="equity"]')).to_have_text("500,000.00")


def test_state_in_the_page_is_parsed_json_not_script(page: Page, site: Site) -> None:
    page.goto(site.origin)
    state = json.loads(page.locator("#state").text_content() or "")
    assert state["last"] > 0
    inline = page.eval_on_selector_all(
        "script", "all => all.filter(s => !s.src && s.type !== 'application/json').length"
    )
    assert inline == 0


NUMBERS = ["0", "-0", "0.004", "-0.004", "1234567.895", "-1234567.125", "25", "0.000001", "1e3", "NaN", None, "", "x"]


def test_live_numbers_are_written_as_the_server_writes_them(page: Page, site: Site) -> None:
    page.goto(site.origin + "/login/")
    names = ["money", "whole", "quantity", "price", "signed", "tone"]
    script = """([values, names]) => import("/static/mats/format.js").then(
        (written) => values.map((value) => names.map((name) => written[name](value))))"""
    expected = [[getattr(console_tags, name)(value) for name in names] for value in NUMBERS]
    assert page.evaluate(script, [NUMBERS, names]) == expected


@pytest.mark.parametrize(("width", "path"), [(1366, "/"), (390, "/risk/")])
def test_header_fits_and_its_menus_open_by_keyboard(page: Page, site: Site, width: int, path: str) -> None:
    page.set_viewport_size({"width": width, "height": 768})
    open_live(page, site, path)
    for name, entry in (("Books", "Breaks"), ("System", "Connections")):
        summary = page.locator(".top-nav summary", has_text=name)
        summary.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("link", name=entry, exact=True)).to_be_visible()
        expect(page.locator(".nav-menu[open]")).to_have_count(1)  # the other one closed
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.keyboard.press("Escape")
    expect(page.locator(".nav-menu[open]")).to_have_count(0)
    expect(page.locator(".top-nav summary", has_text="System")).to_be_focused()


def test_halt_is_in_sight_on_a_phone(page: Page, site: Site) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    open_live(page, site, "/risk/")
    box = page.locator("#states-region").get_by_role("button", name="Halt", exact=True).first.bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= 390
