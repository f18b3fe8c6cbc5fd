"""The page of a reactive strategy: what became of its bars and signals, live."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from strategies.models import Strategy, StrategyKind
from tests.browser import seed
from tests.browser.conftest import keep, open_live
from tests.browser.server import Site
from trading.models import EngineLease

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PAYLOAD = '<img src=x onerror="window.hacked=1">'


def figures(handled: int, refused: int, refusal: str = "") -> dict[str, Any]:
    """What the engine tells of one reactive strategy."""
    return {
        "metrics": {
            "notifications_processed": handled,
            "errors": 0,
            "queue_size": 0,
            "overruns": 3,
            "avg_processing_time_ms": 0.1234,
            "max_processing_time_ms": 4.567,
        },
        "signals": {
            "received": 9,
            "traded": 2,
            "hold": 4,
            "idle": 1,
            "refused": refused,
            "refused_by_code": {},
            "last_refusal": refusal,
        },
        "followed": [{"symbol": "SPY", "interval": "1m", "bars": 312, "quality": 99.6}],
    }


def told(page: Page) -> dict[str, str]:
    """Return what the panel shows, by its names."""
    cells = page.locator("#reactive [data-f]")
    return {str(cell.get_attribute("data-f")): cell.inner_text() for cell in cells.all()}


def test_bars_signals_and_refusals_are_shown_and_follow_the_engine(page: Page, site: Site) -> None:
    Strategy.objects.filter(symbol="TREND").update(kind=StrategyKind.REACTIVE)
    seed.engine(reactive={"TREND": figures(0, 0)})
    open_live(page, site, "/strategies/TREND/")
    assert told(page) == {
        "handled": "0",
        "errors": "0",
        "received": "9",
        "traded": "2",
        "refused": "0",
        "idle": "1, 4",
        "taken": "0.12, 4.6",
        "waits": "3, 0",
        "followed": "SPY 1m (312, 100 %)",
        "refusal": "–",
    }
    refusal = f"BUY SPY: quality 62 % is below 80 %. {PAYLOAD}"
    seed.engine(reactive={"TREND": figures(41, 2, refusal)})
    panel = page.locator("#reactive")
    expect(panel.locator('[data-f="handled"]')).to_have_text("41")
    expect(panel.locator('[data-f="refused"]')).to_have_text("2")
    expect(panel.locator('[data-f="refusal"]')).to_have_text(refusal)
    assert page.evaluate("window.hacked") is None
    keep(page, "reactive-dark")
    size = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
    assert size == [1366, 768]
    EngineLease.objects.update(status={})
    expect(panel.locator('[data-f="handled"]')).to_have_text("–")
    expect(panel.locator('[data-f="followed"]')).to_have_text("–")


def test_other_strategies_and_a_stopped_engine_show_no_figures(page: Page, site: Site) -> None:
    seed.engine(reactive={"TREND": figures(5, 0)})
    open_live(page, site, "/strategies/TREND/")
    expect(page.locator("#reactive")).to_have_count(0)
    Strategy.objects.filter(symbol="TREND").update(kind=StrategyKind.REACTIVE)
    EngineLease.objects.update(holder="", expires_at=None)
    page.reload()
    expect(page.locator("#engine-badge")).to_contain_text("not running")
    expect(page.locator('#reactive [data-f="handled"]')).to_have_text("–")
    assert set(told(page).values()) == {"–"}
