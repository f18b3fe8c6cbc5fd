"""The breaks page: where IB and the books differ, why that may be, and what can be done; parked reports with it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from portfolio.models import Break, BreakKind, BreakState, Execution, ParkedReport, ParkedState
from strategies.models import DISCRETIONARY
from trading.engine.events import plain
from trading.pages.shell import frame_state, render_page

HISTORY = 50
LINKS = 6


@dataclass(frozen=True, slots=True)
class CauseLine:
    """One fact that may explain a break, what can be done, and (words, address) of what it names."""

    text: str
    action: str
    links: list[tuple[str, str]]
    more: int  # named facts beyond the links


@dataclass(frozen=True, slots=True)
class BreakLine:
    """One difference with its causes; ``bookings`` are (words, query) of forms filled in."""

    row: Break
    difference: Decimal
    name: str
    causes: list[CauseLine]
    parked: list[ParkedReport]
    bookings: list[tuple[str, str]]


@never_cache
@login_required
@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """Show open breaks, parked reports and the history."""
    rows = Break.objects.select_related("instrument", "account")
    return render_page(
        request,
        "trading/breaks.html",
        frame_state(),
        open_breaks=[line(row) for row in rows.filter(state=BreakState.OPEN).order_by("-id")],
        history=[line(row) for row in rows.filter(state=BreakState.CLEARED).order_by("-cleared_at", "-id")[:HISTORY]],
        parked=list(ParkedReport.objects.filter(state=ParkedState.WAITING).order_by("-id")),
        settled=list(ParkedReport.objects.exclude(state=ParkedState.WAITING).order_by("-settled_at")[:HISTORY]),
    )


def line(row: Break) -> BreakLine:
    """Describe a break for a person."""
    items = row.cause.get("items", []) if isinstance(row.cause, dict) else []
    difference = row.ib_quantity - row.ledger_quantity
    name = row.currency if row.kind == BreakKind.CASH else (row.instrument.symbol if row.instrument else "")
    return BreakLine(
        row=row,
        difference=difference,
        name=name,
        causes=[_cause(item) for item in items if isinstance(item, dict)],
        parked=_parked(row, items),
        bookings=bookings(row, difference),
    )


def _cause(item: dict[str, Any]) -> CauseLine:
    kind, ids = str(item.get("kind", "")), [str(one) for one in item.get("ids", [])]
    links: list[tuple[str, str]]
    if kind == "split_ratio" and len(ids) == 3:
        query = urlencode({"kind": "split", "con_id": ids[0], "numerator": ids[1], "denominator": ids[2]})
        links = [(f"Split {ids[1]} for {ids[2]}", f"{reverse('adjustments')}?{query}")]
    elif kind == "proposed_adjustment":
        links = [(f"adjustment {one}", f"{reverse('adjustments')}?state=proposed#adjustment-{one}") for one in ids]
    elif kind == "parked_report":
        links = [(one, "#parked") for one in ids]
    else:
        known = dict(Execution.objects.filter(exec_id__in=ids).values_list("exec_id", "instrument_id"))
        links = [(one, reverse("contract", args=[known[one]]) if one in known else "") for one in ids]
    shown = links[:LINKS]
    more = max(0, int(item.get("count", 0) or 0) - len(shown)) if kind != "split_ratio" else 0
    return CauseLine(str(item.get("text", "")), str(item.get("action", "")), shown, more)


def _parked(row: Break, items: list[Any]) -> list[ParkedReport]:
    """Return the waiting reports of the break's contract, and those that its causes name."""
    waiting = ParkedReport.objects.filter(state=ParkedState.WAITING)
    causes = [item for item in items if isinstance(item, dict) and item.get("kind") == "parked_report"]
    keys = [str(key) for item in causes for key in item.get("ids", [])]
    by_contract = waiting.filter(con_id=row.instrument_id) if row.instrument_id else waiting.none()
    return sorted({*by_contract, *waiting.filter(key__in=keys)}, key=lambda report: report.pk)


def bookings(row: Break, difference: Decimal) -> list[tuple[str, str]]:
    """Return forms that would clear a break of cash, filled in; a break of a position is cleared by its executions."""
    if row.kind != BreakKind.CASH or not difference:
        return []
    size, signed = plain(abs(difference)) or "", plain(difference) or ""
    common = {"currency": row.currency, "owner": DISCRETIONARY}
    flow = "deposit" if difference > 0 else "withdrawal"
    forms: list[tuple[str, dict[str, str]]] = [
        (flow, {**common, "amount": size}),
        ("dividend", {"currency": row.currency, "amount": signed}),
        ("interest", {**common, "amount": signed}),
        ("fee", {**common, "amount": plain(-difference) or ""}),
    ]
    reason = f"Clears the break of {row.currency}"
    return [(kind, urlencode({"kind": kind, **values, "reason": reason})) for kind, values in forms]
