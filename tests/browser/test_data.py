"""The Data pages in a real browser: the catalogue, a series as chart and rows, asking for an ingest."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from django.conf import settings
from django.utils import timezone
from playwright.sync_api import Browser, Page

from portfolio.arctic.client import get_ac
from portfolio.arctic.parcels import DELETE, deliver, submit
from tests.browser import seed
from tests.browser.conftest import keep, open_live, sign_in
from tests.browser.server import Site
from trading.market.adjustments import action_frame
from trading.market.ingest_store import store_actions, store_bars
from trading.market.universe import store_universe
from trading.models import EngineLease
from trading.work_models import Job, JobState

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def data(console: None) -> Iterator[None]:
    """Bars with holes, splits, a universe, a pair, and ingests in every state."""
    EngineLease.objects.all().delete()  # the seeded engine writes nothing
    dice = np.random.default_rng(7)
    minutes = pd.date_range("2024-11-25T14:30Z", periods=390, freq="1min", name="ts").as_unit("ns")
    three_days = [minute + pd.Timedelta(days=day) for day in (0, 1, 2) for minute in minutes]
    index = pd.DatetimeIndex(three_days, name="ts").as_unit("ns").delete([*range(100, 130), 500])
    closes = 227.0 + np.cumsum(dice.normal(0, 0.05, len(index)))
    frame = pd.DataFrame(
        {"open": closes, "high": closes + 0.1, "low": closes - 0.1, "close": closes}, index=index
    ).round(2)
    store_bars(
        "AAPL", "1_min", frame.assign(volume=1200.0), {"use_rth": True, "split_basis": "2024-11-28"}, source="ib"
    )
    days = pd.date_range("2020-01-01", "2024-11-27", freq="B", tz="UTC", name="ts").as_unit("ns")
    walk = 100 * np.exp(np.cumsum(dice.normal(0, 0.01, len(days))))
    daily = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), walk), index=days).round(2).assign(volume=5e6)
    store_bars("MSFT", "1_day", daily, {}, source="file:msft.csv")
    store_bars("EUR.USD", "1_day", daily, {"calendar": ""}, source="ib")
    store_actions("AAPL", action_frame({pd.Timestamp("2020-08-31").date(): 4.0}, {}, "by hand"), source="by hand")
    store_universe(
        "univ", "big", pd.DataFrame({"Symbol": ["AAPL", "MSFT"], "Sector": ["Tech", "Tech"]}), source="file:big.csv"
    )
    folder = settings.MATS.mats_home / "import"
    folder.mkdir(exist_ok=True)
    (folder / "AAPL.csv").write_text("Date,Open,High,Low,Close,Volume\n2024-01-02,1,1,1,1,1\n")
    now = timezone.now()
    for state, done, words in (
        (JobState.DONE, 1.0, "AAPL: series 1 of 1, 100%, 12,000 bars in 4 requests, 3,400 bars/s."),
        (JobState.RUNNING, 0.42, "MSFT: series 1 of 2, 42%, 5,000 bars in 9 requests, 800 bars/s, 2 min 10 s left."),
        (JobState.FAILED, 0.1, ""),
    ):
        Job.objects.create(
            kind="ingest", args={"source": "ib", "symbols": ["AAPL"], "timeframe": "1_min"}, state=state, progress=done,
            message=words, error="" if words else "Nothing listens on 127.0.0.1:7497.", created_by="operator",
            created_at=now,
        )  # fmt: skip
    seed.engine()
    yield
    EngineLease.objects.all().delete()
    for library in ("market_data", "univ"):
        deliver(submit(library, "", None, mode=DELETE, source="test"), 30.0)
    assert get_ac().list_symbols("univ") == []


def test_catalogue_leads_to_a_series_with_its_chart_gaps_and_rows(page: Page, site: Site, data: None) -> None:
    open_live(page, site, "/data/")
    row = page.locator("#series tr", has_text="market_data/AAPL_1_min")
    assert "97.35 %" in row.inner_text()
    keep(page, "data")
    row.get_by_role("link").click()
    page.wait_for_selector("#series-chart canvas")
    assert page.locator("#gaps tbody tr").count() == 2
    assert page.locator("#rows tbody tr").count() == 100
    assert page.locator("#rows tbody tr").first.inner_text().startswith("2024-11-27T20:59:00Z")
    page.get_by_role("link", name="Older").click()
    page.wait_for_selector("text=101–200 of 1139")
    keep(page, "data_series")


def test_download_is_queued_and_stopped_from_the_page(page: Page, site: Site, data: None) -> None:
    open_live(page, site, "/data/")
    page.fill("#symbols", "spy, qqq")
    page.select_option("#timeframe", "1_day")
    page.fill("#start", "2024-01-02")
    page.get_by_role("button", name="Queue the download").click()
    page.wait_for_selector("#jobs tr:has-text('SPY QQQ')") if False else page.wait_for_selector(
        "#jobs tr:has-text('spy qqq')"
    )
    job = Job.objects.get(state=JobState.QUEUED)
    assert job.args == {"source": "ib", "symbols": ["spy", "qqq"], "timeframe": "1_day", "start": "2024-01-02"}
    page.locator("#jobs tr", has_text="spy qqq").get_by_role("button", name="Stop").click()
    page.wait_for_selector("#jobs tr:has-text('spy qqq'):has-text('cancelled')")


def test_gaps_of_one_series_and_of_all_are_asked_for_from_the_pages(page: Page, site: Site, data: None) -> None:
    open_live(page, site, "/data/series/market_data/AAPL_1_min/")
    page.get_by_role("button", name="Fill from IB").click()
    page.wait_for_selector("#jobs tr:has-text('gaps of AAPL 1_min')")
    page.get_by_role("button", name="Fill all gaps").click()
    page.wait_for_selector("#jobs tr:has-text('gaps of all series')")
    queued = Job.objects.filter(state=JobState.QUEUED).order_by("pk").values_list("args", flat=True)
    assert list(queued) == [
        {"source": "ib", "fill_gaps": True, "symbols": ["AAPL"], "timeframe": "1_min"},
        {"source": "ib", "fill_gaps": True, "symbols": []},
    ]


def test_mistake_is_said_beside_its_field_and_makes_no_job(page: Page, site: Site, data: None) -> None:
    open_live(page, site, "/data/")
    page.fill("#symbols", "../etc")
    page.get_by_role("button", name="Queue the download").click()
    page.wait_for_selector(".field-error:has-text('is no symbol')")
    assert page.input_value("#symbols") == "../etc"
    assert not Job.objects.filter(state=JobState.QUEUED).exists()


def test_deleting_needs_the_typed_name(page: Page, site: Site, data: None) -> None:
    EngineLease.objects.all().delete()
    open_live(page, site, "/data/series/univ/big/")
    page.fill("#confirm", "big")
    page.get_by_role("button", name="Delete").click()
    page.wait_for_selector("text=nothing was deleted")
    page.fill("#confirm", "univ/big")
    page.get_by_role("button", name="Delete").click()
    page.wait_for_url("**/data/")
    assert page.locator("text=univ/big").count() == 0


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("width", [390, 1366])
def test_pages_fit_their_window_in_both_themes(
    browser: Browser, site: Site, data: None, scheme: str, width: int
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 844}, color_scheme="dark" if scheme == "dark" else "light"
    )
    sign_in(context, site)
    page = context.new_page()
    for name, path in (
        ("data", "/data/"),
        ("data_series", "/data/series/market_data/AAPL_1_min/"),
        ("data_universe", "/data/series/univ/big/"),
    ):
        page.goto(site.origin + path)
        page.wait_for_selector('#live-badge[data-tone="good"]')
        if scheme == "light":
            page.evaluate(
                "document.documentElement.dataset.bsTheme = 'light'; document.dispatchEvent(new Event('mats:theme'))"
            )
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        keep(page, f"{name}_{scheme}_{width}")
    context.close()
