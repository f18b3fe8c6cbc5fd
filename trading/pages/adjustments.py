"""The adjustments page: what was booked beside fills, what waits for approval, and the form with its preview."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from portfolio import adjustments
from portfolio import queries as books
from portfolio.books import Line
from portfolio.models import Adjustment, AdjustmentKind, AdjustmentState, CashBalance, Instrument, Movement
from strategies.api_rules import OPERATE
from strategies.exceptions import MatsError, NotFoundError
from trading.pages.forms import KINDS, KindForm, read_details, read_moment
from trading.pages.shell import frame_state, owners, render_page

SHOWN = 200


@dataclass(frozen=True, slots=True)
class AdjustmentLine:
    """One adjustment with what it moved."""

    row: Adjustment
    words: str
    movements: list[Movement]


@never_cache
@login_required
@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """Show the list, filtered by state and kind, and the form of the chosen kind."""
    return _page(request, request.GET.get("kind", ""), request.GET.dict())


def _page(
    request: HttpRequest, kind: str, values: dict[str, str], preview: dict[str, Any] | None = None
) -> HttpResponse:
    chosen = kind if kind in KINDS else ""
    state = values.get("state", "")
    return render_page(
        request,
        "trading/adjustments.html",
        frame_state(),
        lines=_lines(state, values.get("only", "")),
        states=AdjustmentState.choices,
        kinds=AdjustmentKind.choices,
        chosen_state=state,
        chosen_only=values.get("only", ""),
        forms=KINDS,
        form=_form(chosen, values) if chosen else None,
        kind=chosen,
        values=values,
        preview=preview,
        **choices(),
    )


def choices() -> dict[str, Any]:
    """Return what the fields offer."""
    currencies = CashBalance.objects.order_by("currency").values_list("currency", flat=True).distinct()
    return {
        "owners": owners(),
        "currencies": list(currencies),
        "instruments": list(Instrument.objects.order_by("symbol", "con_id")[:2000]),
    }


def _form(kind: str, values: dict[str, str]) -> dict[str, Any]:
    form: KindForm = KINDS[kind]
    return {
        "kind": kind,
        "title": form.title,
        "hint": form.hint,
        "fields": [(field, values.get(field.name, "")) for field in form.fields],
    }


def _lines(state: str, kind: str) -> list[AdjustmentLine]:
    rows = Adjustment.objects.select_related("instrument", "execution", "undoes").order_by("-id")
    if state in AdjustmentState.values:
        rows = rows.filter(state=state)
    if kind in AdjustmentKind.values:
        rows = rows.filter(kind=kind)
    page_rows = list(rows[:SHOWN])
    moved: dict[int, list[Movement]] = {row.pk: [] for row in page_rows}
    found = Movement.objects.filter(adjustment_id__in=list(moved)).select_related("instrument").order_by("id")
    for movement in found:
        if movement.adjustment_id is not None:
            moved[movement.adjustment_id].append(movement)
    return [AdjustmentLine(row, details_in_words(row.details), moved[row.pk]) for row in page_rows]


def details_in_words(details: Any) -> str:
    """Write the details of an adjustment on one line."""
    if not isinstance(details, dict):
        return str(details)
    return ", ".join(f"{str(name).replace('_', ' ')} {_flat(value)}" for name, value in details.items())


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name} {_flat(part)}" for name, part in value.items()) + ")"
    return str(value)


@never_cache
@login_required
@require_POST
def preview(request: HttpRequest) -> HttpResponse:
    """Show what the posted form would book; writes nothing. A part for a script, else the page around it."""
    if not request.user.has_perm(OPERATE):
        raise PermissionDenied
    posted = {name: str(request.POST[name]) for name in request.POST}
    kind = posted.get("kind", "")
    outcome: dict[str, Any]
    try:
        lines = _would_book(kind, posted)
        names = dict(
            Instrument.objects.filter(con_id__in={line.con_id for line in lines if line.con_id}).values_list(
                "con_id", "symbol"
            )
        )
        outcome = {"lines": [(line, names.get(line.con_id or 0, "")) for line in lines]}
    except MatsError as error:
        outcome = {"error": error.message, "errors": error.fields.get("errors", {})}
    if request.GET.get("part"):
        return render(request, "trading/_preview.html", {"preview": outcome})
    return _page(request, kind, posted, outcome)


def _would_book(kind: str, posted: dict[str, str]) -> list[Line]:
    account_id = books.account_id_or_none()
    if account_id is None:
        raise NotFoundError("No account is known yet; the engine has not connected.", code="account_unknown")
    now = timezone.now()
    moment = read_moment(posted.get("effective_at", "")) or now
    return list(adjustments.preview_adjustment(account_id, kind, read_details(kind, posted), moment, now))
