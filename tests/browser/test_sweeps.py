"""The Sweeps pages in a real browser: the form, a heat map, a table that sorts, windows in and out of sample."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import Browser, Page

from tests.browser.conftest import keep, open_live, sign_in
from tests.browser.server import Site
from trading import job_run, work_services
from trading.work_models import BacktestRun, Job, JobKind, JobState

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

WISH: dict[str, Any] = {
    "backtest": {
        "strategies": [{"file": "simple_ma_cross.py", "params": {"interval": "1d", "min_quality": 0}}],
        "symbols": ["IBM"],
        "source": "sample",
        "start": "2004-01-02",
        "end": "2006-12-29",
    },
    "space": {"fast_period": "5:15:5", "slow_period": "10:40:10"},
    "workers": 0,
}
WINDOWS = {"in_sample_days": 365, "out_of_sample_days": 182}


@pytest.fixture
def studies(console: None) -> Iterator[list[int]]:
    """Sweeps over two parameters and over one, a walk-forward, and a sweep that runs."""
    found = []
    one = {**WISH, "space": {"fast_period": "3:15:3"}}
    for kind, args in ((JobKind.SWEEP, WISH), (JobKind.SWEEP, one), (JobKind.WALK_FORWARD, {**one, **WINDOWS})):
        job = work_services.ask_for(kind, args, actor="operator", source="page")
        assert job_run.run_job(job.pk) == JobState.DONE
        job.refresh_from_db()
        found.append(job.result["run_id"])
    Job.objects.create(
        kind=JobKind.SWEEP, args=WISH, state=JobState.RUNNING, progress=0.42, message="5 of 12 sets",
        created_by="operator", created_at=timezone.now(), beat_at=timezone.now(),
    )  # fmt: skip
    yield found
    for run in BacktestRun.objects.filter(pk__in=found):
        work_services.forget_run(run, actor="test", source="page")


def test_a_sweep_is_asked_for_and_read(page: Page, site: Site, studies: list[int]) -> None:
    open_live(page, site, "/sweeps/")
    assert "5 of 12 sets" in page.locator("#jobs").inner_text()
    page.select_option("#file", "simple_ma_cross.py")
    page.fill("#start", "2004-01-02")
    page.fill("#end", "2006-12-29")
    page.fill("#space", "fast_period = 9:1")
    page.get_by_role("button", name="Run").click()
    page.wait_for_selector(".field-error:has-text('before it begins')")
    assert page.input_value("#space") == "fast_period = 9:1"
    keep(page, "sweeps")
    page.locator(f"#studies a[href='/sweeps/{studies[0]}/']").click()
    page.wait_for_selector("#equity-chart canvas")
    assert page.locator("#heat td[data-shade]").count() == 9 + 1
    assert page.locator("#sets tbody tr").count() == 10
    page.locator("#sets thead").get_by_role("link", name="Trades").click()
    page.wait_for_selector("#sets th[aria-sort]:has-text('Trades')")
    trades = [int(text) for text in page.locator("#sets tbody tr td:nth-child(11)").all_inner_texts()]
    assert trades == sorted(trades, reverse=True)
    keep(page, "study_sweep")
    open_live(page, site, f"/sweeps/{studies[1]}/")
    page.wait_for_selector("#line-chart canvas")
    keep(page, "study_line")


@pytest.mark.parametrize(("scheme", "width"), [("dark", 1366), ("light", 390)])
def test_pages_fit_their_window_in_both_themes(
    browser: Browser, site: Site, studies: list[int], scheme: str, width: int
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 844}, color_scheme="dark" if scheme == "dark" else "light"
    )
    sign_in(context, site)
    page = context.new_page()
    page.set_default_timeout(30_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    for name, path in (("sweeps", "/sweeps/"), *((f"study_{one}", f"/sweeps/{one}/") for one in studies)):
        page.goto(site.origin + path)
        page.wait_for_selector('#live-badge[data-tone="good"]')
        if scheme == "light":
            page.evaluate(
                "document.documentElement.dataset.bsTheme = 'light'; document.dispatchEvent(new Event('mats:theme'))"
            )
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        keep(page, f"{name}_{scheme}_{width}")
    assert not errors
    context.close()
