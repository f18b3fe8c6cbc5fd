"""The Execution page: ticket, working orders, today's orders; and what it asks the engine without changing anything.

Owns: what the page shows, the preview and the search for instruments. Leaves: what its forms do (``actions``), fields
(``tickets``). Rule: a viewer sees the orders; the ticket and every button are an operator's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from portfolio.models import Execution, Instrument
from strategies.api_rules import OPERATE
from strategies.exceptions import MatsError
from strategies.order_types import TIFS, TYPES
from strategies.sizing import URGENCIES
from trading import services
from trading.models import Order
from trading.orders.state import WORKING, OrderState
from trading.orders.wishes import SEC_TYPES
from trading.pages import tickets
from trading.pages.shell import frame_state, owners, render_page
from trading.templatetags.console import moment, price, quantity

SHOWN = 200
WAIT_S = 10.0
_WORKING = [str(state) for state in WORKING]
_EXIT_TYPES = ("MKT", "LMT", "STP", "STP LMT")


@dataclass(frozen=True, slots=True)
class OrderLine:
    """An order as the page shows it."""

    row: Order
    words: str
    fills: list[Execution]
    fields: list[tuple[str, str, Decimal | None]]
    may_change: bool
    may_settle: bool


@never_cache
@login_required
@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """Show ticket and orders."""
    midnight = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    working = Order.objects.filter(state__in=_WORKING).order_by("-id")[:SHOWN]
    ended = Order.objects.filter(updated_at__gte=midnight).exclude(state__in=_WORKING).order_by("-updated_at")[:SHOWN]
    return render_page(
        request,
        "trading/execution.html",
        frame_state(),
        working=_lines(list(working)),
        ended=_lines(list(ended)),
        shown=SHOWN,
        **choices(),
    )


def choices() -> dict[str, Any]:
    """Return what the ticket offers."""
    return {
        "types": list(TYPES.values()),
        "prices": [(name, label, tickets.types_with(name)) for name, label in tickets.LABELS.items()],
        "tifs": [
            (name, words, "|".join(t.name for t in TYPES.values() if name in t.tifs)) for name, words in TIFS.items()
        ],
        "adaptive_types": "|".join(name for name, kind in TYPES.items() if kind.adaptive),
        "outside_types": "|".join(name for name, kind in TYPES.items() if kind.outside_rth),
        "exit_types": "|".join(_EXIT_TYPES),
        "urgencies": URGENCIES,
        "sec_types": SEC_TYPES,
        "owners": owners(),
        "known": list(Instrument.objects.order_by("symbol").values_list("symbol", flat=True).distinct()[:500]),
    }


def _lines(rows: list[Order]) -> list[OrderLine]:
    fills: dict[str, list[Execution]] = {row.order_ref: [] for row in rows}
    found = Execution.objects.filter(order_ref__in=[ref for ref in fills if ref], superseded=False)
    for execution in found.select_related("instrument").order_by("executed_at"):
        fills[execution.order_ref].append(execution)
    return [_line(row, fills[row.order_ref]) for row in rows]


def _line(row: Order, fills: list[Execution]) -> OrderLine:
    state = OrderState(row.state)
    return OrderLine(
        row=row,
        words=terms_in_words(row),
        fills=fills,
        fields=tickets.change_fields(row),
        may_change=state in (OrderState.ACCEPTED, OrderState.PARTIAL, OrderState.SENT, OrderState.INACTIVE),
        may_settle=state is OrderState.UNKNOWN,
    )


def terms_in_words(row: Order) -> str:
    """Write an order's type, prices and times on one line."""
    parts = [row.order_type or "type not known"]
    parts += [text for value, text in _prices(row) if value is not None]
    parts.append(f"{row.tif} till {_at(row.good_till)}" if row.good_till else row.tif)
    if row.good_after:
        parts.append(f"from {_at(row.good_after)}")
    parts += [text for text in (row.algo, "outside hours" if row.outside_rth else "") if text]
    return " · ".join(part for part in parts if part)


def _prices(row: Order) -> list[tuple[Decimal | None, str]]:
    return [
        (row.limit_price, f"limit {price(row.limit_price)}"),
        (row.stop_price, f"stop {price(row.stop_price)}"),
        (row.trail_amount, f"trails by {price(row.trail_amount)}"),
        (row.trail_percent, f"trails by {quantity(row.trail_percent)} %"),
        (row.limit_offset, f"limit {price(row.limit_offset)} off"),
    ]


def _at(value: datetime) -> str:
    return moment(value)


@never_cache
@login_required
@require_POST
def preview(request: HttpRequest) -> HttpResponse:
    """Show what the posted ticket would send; places nothing."""
    shown: dict[str, Any]
    try:
        kind, args = tickets.read_ticket(_operators(request))
        exits = {name: args.pop(name) for name in ("take_profit", "stop_loss") if name in args}
        shown = {**_ask(request, "preview_order", args), "exits": exits, "is_bracket": kind == "place_bracket"}
    except MatsError as error:
        shown = {"error": error.message}
    template = "trading/_order_preview.html" if request.GET.get("part") else "trading/order_preview.html"
    return render(request, template, {"preview": shown})


@never_cache
@login_required
@require_POST
def instruments(request: HttpRequest) -> HttpResponse:
    """Show what IB lists for the posted symbol, as buttons that fill the ticket."""
    pattern = _operators(request).get("symbol", "").strip()
    try:
        found = _ask(request, "find_contracts", {"pattern": pattern})["contracts"] if pattern else []
    except MatsError as error:
        return render(request, "trading/_instruments.html", {"error": error.message})
    return render(request, "trading/_instruments.html", {"found": found, "pattern": pattern})


def _operators(request: HttpRequest) -> dict[str, str]:
    if not request.user.has_perm(OPERATE):
        raise PermissionDenied
    return {name: str(request.POST[name]) for name in request.POST}


def _ask(request: HttpRequest, kind: str, args: dict[str, Any]) -> dict[str, Any]:
    return services.answer_of(kind, args, user=request.user, source="page", wait_s=WAIT_S)
