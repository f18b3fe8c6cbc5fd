"""The Checks pages in a real browser: a check that ends shows its verdict by itself, and every page fits its window."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import Browser, Page

from tests.browser.conftest import keep, open_live, sign_in
from tests.browser.server import Site
from trading.work_models import Job, JobKind, JobState

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SENTENCE = "An entry of 2010-03-02 21:00:00Z (BUY 10 AAPL MKT) is not there when the bars end at 2010-03-02 21:00:00Z."
LOOKED = {
    "verdict": "lookahead",
    "strategies": [
        {"strategy": "cheat", "verdict": "lookahead", "trades": 240, "sampled": 20, "entries": 20, "exits": 20,
         "orders": 3, "quiet": 10, "reruns": 71, "found": 68, "findings": [SENTENCE] * 12, "reasons": []}
    ],
    "notes": ["The bars were changed since the run; this checked those of now."],
}  # fmt: skip
LENGTH = {"bars": 199, "compared": True, "enough": False, "text": "5.8107 %", "worst": "AAPL 1d on_bars.ema",
          "reason": "", "signals": 3, "spoken": 20}  # fmt: skip
WARMED = {
    "verdict": "short",
    "strategies": [
        {"strategy": "slow", "verdict": "short", "sentence": "It declares 199 bars of warm-up, which is too few.",
         "declared": 199, "needed": 499, "history": 3247, "watched": 20, "numbers": 3, "reasons": [], "notes": [],
         "lengths": [LENGTH, {**LENGTH, "bars": 499, "enough": True, "text": "0.0032 %"}],
         "drifting": [{"name": "AAPL 1d on_bars.ema", "texts": ["5.8107 %", "0.0032 %"]}]}
    ],
}  # fmt: skip
ORDER = {
    "at": "2026-03-02 15:30:01",
    "symbol": "SPY",
    "what": "other quantity",
    "live": "15:30:01 BUY 12 MKT exit 590.25",
    "replayed": "15:30:00 BUY 10 MKT exit 590.25",
    "ref": "SPY/01JABCDEFGHJKMNPQRSTVWXYZ0",
}
REPLAYED = {
    "verdict": "different",
    "strategy": "TURN",
    "day": "2026-03-02",
    "orders": 2,
    "differences": 1,
    "bars": 78,
    "signals": 2,
    "refused": {},
    "reasons": [],
    "notes": [],
    "different": [ORDER],
    "same": [{**ORDER, "what": "the same"}],
}


def made(kind: str, result: dict[str, Any], state: str = JobState.DONE, **changes: Any) -> Job:
    fields = {"kind": kind, "state": state, "result": result, "created_by": "operator", "created_at": timezone.now()}
    return Job.objects.create(**fields | changes)


def test_a_check_that_ends_shows_its_verdict_without_a_hand(page: Page, site: Site) -> None:
    job = made(JobKind.LOOKAHEAD, {}, JobState.RUNNING, progress=0.4, message="cheat: bars to 2010-03-02.")
    open_live(page, site, f"/checks/{job.pk}/")
    page.wait_for_selector("text=cheat: bars to 2010-03-02.")
    Job.objects.filter(pk=job.pk).update(state=JobState.DONE, result=LOOKED)
    page.wait_for_selector("#verdict:has-text('lookahead')")
    assert page.locator(".findings tbody tr").count() == 12
    keep(page, "check_lookahead")


def test_a_check_is_asked_for_from_the_page_and_stopped(page: Page, site: Site) -> None:
    open_live(page, site, "/checks/")
    page.select_option("#files", "simple_ma_cross.py")
    page.fill("#symbols", "aapl")
    page.fill("#start", "2010-01-04")
    page.fill("#end", "2012-12-31")
    page.get_by_role("button", name="Check the warm-up").click()
    page.wait_for_selector("h1:has-text('Warm-up check')")
    job = Job.objects.get()
    assert (job.kind, job.state, job.args["backtest"]["symbols"]) == ("warm_up", "queued", ["AAPL"])
    page.get_by_role("button", name="Stop").click()
    page.wait_for_selector("text=It ended without an answer.")


@pytest.mark.parametrize(("scheme", "width"), [("dark", 1366), ("light", 390)])
def test_pages_fit_their_window(browser: Browser, site: Site, console: None, scheme: Any, width: int) -> None:
    jobs = [made(JobKind.LOOKAHEAD, LOOKED), made(JobKind.WARM_UP, WARMED), made(JobKind.SHADOW, REPLAYED)]
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    sign_in(context, site)
    page = context.new_page()
    for name, path in (("checks", "/checks/"), *((f"check_{job.kind}", f"/checks/{job.pk}/") for job in jobs)):
        page.goto(site.origin + path)
        keep(page, f"{name}_{scheme}_{width}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    context.close()
