"""The analytics page: an owner's equity and drawdown over time, its figures, and where its weight stands."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from portfolio import queries as books
from trading.pages.shell import frame_state, owners, render_page

PERIODS = {"1w": 7, "1m": 30, "3m": 91, "1y": 365, "all": 0}
POINTS = 1000


@never_cache
@login_required
@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """Show one owner, or the account."""
    owner = request.GET.get("owner", "")
    if owner and owner not in owners():
        raise Http404(f"There is no owner «{owner}».")
    period = request.GET.get("period", "3m")
    period = period if period in PERIODS else "3m"
    since = None if not PERIODS[period] else timezone.now() - timedelta(days=PERIODS[period])
    state = frame_state()
    return render_page(
        request,
        "trading/analytics.html",
        {**state, "owner": owner, "equity": curve(owner, since)},
        owner=owner,
        owners=owners(),
        period=period,
        periods=list(PERIODS),
    )


def curve(owner: str, since: datetime | None) -> dict[str, object]:
    """Return an owner's equity for drawing: numbers, aligned on epoch seconds."""
    points = books.equity_series(owner, since, max_points=POINTS)
    return {
        "at": [point.taken_at.timestamp() for point in points],
        "owners": {owner: [float(point.equity) for point in points]},
    }
