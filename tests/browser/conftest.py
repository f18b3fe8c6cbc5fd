"""A Chromium, a real web process, and a page that is signed in; skipped with one line where no browser is."""

from __future__ import annotations

import os
import random
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.browser import seed
from tests.browser.server import Site

# Playwright's synchronous API runs a loop in this thread, which Django takes for asynchronous code.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"

SHOTS = Path(settings.BASE_DIR) / "build" / "screenshots"


def chromium_path() -> str | None:
    """Return the system's Chromium."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def _free_port() -> int:
    for port in random.sample(range(20_000, 32_000), 200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    pytest.fail("no free port between 20000 and 32000")


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests here; each has a context of its own."""
    path = chromium_path()
    if path is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def site(django_db_setup: None, django_db_blocker: object) -> Iterator[Site]:
    """A web process for all tests here, over a database that each test finds empty."""
    site = Site(_free_port())
    site.start()
    yield site
    site.stop()


@pytest.fixture
def console(transactional_db: None) -> None:
    """A seeded database with one operator."""
    seed.user()
    seed.everything()


def sign_in(context: BrowserContext, site: Site, username: str = "operator") -> None:
    """Give a context the session of a user, as if he had signed in."""
    client = Client()
    assert client.login(username=username, password=seed.PASSWORD)
    value = client.cookies[settings.SESSION_COOKIE_NAME].value
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": value, "url": site.origin}])


@pytest.fixture
def page(browser: Browser, site: Site, console: None) -> Iterator[Page]:
    """The dashboard of a signed-in operator, live; every request and every script error is recorded."""
    context = browser.new_context(viewport={"width": 1366, "height": 768}, color_scheme="dark")
    sign_in(context, site)
    page = context.new_page()
    page.set_default_timeout(10_000)
    page.set_default_navigation_timeout(30_000)  # the first page that needs pandas waits for its import
    yield page
    context.close()


def open_live(page: Page, site: Site, path: str = "/") -> None:
    """Open a page and wait until its socket follows."""
    page.goto(site.origin + path)
    page.wait_for_selector('#live-badge[data-tone="good"]')


def keep(page: Page, name: str) -> None:
    """Keep a screenshot as an artefact."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(SHOTS / f"{name}.png"))
