"""The Connections page: how the link to IB stands, what resets are coming, what is used of the gateway's limits."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from trading import console, queries
from trading.pages.shell import frame_state, render_page

WORDS = {
    "connected": "Connected: IB answers.",
    "degraded": "Connected, but a data farm of IB is down: prices or history of its markets stand still.",
    "upstream_lost": "TWS or the gateway lost IB's servers. Late fills are still taken.",
    "down": "No connection to TWS or the gateway; MATS tries again by itself.",
    "reset": "A scheduled reset is under way; MATS waits quietly.",
    "needs_human": "Somebody has to look: it does not come back by itself.",
}
TONES = {"connected": "running", "degraded": "warning", "reset": "info", "needs_human": "critical"}
BUDGET = (
    ("sockets", "Connections to the gateway"),
    ("lines", "Market data lines"),
    ("messages", "Messages in the last second"),
    ("history_open", "Open history requests"),
    ("history", "Small history requests in ten minutes"),
)


@never_cache
@login_required
@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """Show link, budget, every connection and the alert channels, as the engine told a second ago."""
    state = frame_state()
    engine = state["engine"]
    status = engine["status"] if engine["running"] else {}
    link = status.get("link")
    return render_page(
        request,
        "trading/connections.html",
        state,
        link=None if link is None else {**link, "words": WORDS[link["state"]], "tone": tone(link["state"])},
        gate=status.get("gate", ""),
        budget=budget_rows(status.get("budget") or {}),
        held=(status.get("budget") or {}).get("held", {}).get("used", 0),
        connections=console.connections(engine),
        channels=status.get("channels") or [],
        told=queries.connection_status(engine),
    )


def tone(link_state: str) -> str:
    """Return the colour of a state, in the words of the style sheet."""
    return TONES.get(link_state, "failed")


def budget_rows(figures: dict[str, dict[str, int]]) -> list[dict[str, Any]]:
    """Return the limits with what is used of each, and whether it is nearly all."""
    rows = []
    for name, label in BUDGET:
        one = figures.get(name)
        if one is not None:
            rows.append({"label": label, **one, "is_tight": one["used"] >= 0.9 * one["most"]})
    return rows
