"""The portfolio page: the account, each contract by owner, each owner's figures, cash beside IB's, exchange rates."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.crypto import get_random_string
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from portfolio import explain
from portfolio import queries as books
from portfolio.fx_rates import to_decimal
from portfolio.models import AccountValue, Adjustment, AdjustmentKind
from strategies.api_rules import OPERATE
from strategies.exceptions import LedgerError, NotFoundError
from strategies.models import Strategy
from trading.pages import rates
from trading.pages.shell import frame_state, owners, render_page

# IB names a currency's cash by either, by how it was asked; the first that is there counts.
CASH_TAGS = ("TotalCashBalance", "CashBalance")


@dataclass(frozen=True, slots=True)
class CashLine:
    """Cash of one currency: by owner, their sum, and IB's figure, None when IB said none."""

    currency: str
    by_owner: list[Decimal | None]  # in the order of the table's columns; None: never had any
    books: Decimal
    ib: Decimal | None
    difference: Decimal | None
    ib_at: datetime | None


@never_cache
@login_required
@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """Show the portfolio, by contract or by strategy."""
    account_id = books.account_id_or_none()
    columns, cash = cash_table(account_id) if account_id else ([], [])
    return render_page(
        request,
        "trading/portfolio.html",
        frame_state(),
        summary=_summary(account_id),
        contracts=explain.explain_positions(account_id) if account_id else [],
        by_owner=_by_owner(account_id) if request.GET.get("group") == "strategy" else [],
        group="strategy" if request.GET.get("group") == "strategy" else "symbol",
        weights=_weights(),
        cash_owners=columns,
        cash=cash,
        rates=rates.rows(account_id) if account_id else [],
        now=timezone.now(),
    )


@never_cache
@login_required
@require_GET
def contract(request: HttpRequest, con_id: int) -> HttpResponse:
    """Show one contract to the execution: as a page, or as the part that opens below its row."""
    account_id = books.account_id_or_none() or ""
    try:
        row = explain.explain_contract(account_id, con_id)
    except NotFoundError as error:
        raise Http404(error.message) from None
    context: dict[str, Any] = {
        "contract": row,
        "holdings": explain.explain_holdings(account_id, con_id),
        "executions": explain.executions_of(account_id, con_id),
        "adjustments": _adjustments(con_id),
        "owners": owners(),
    }
    if request.GET.get("part"):
        can_operate = request.user.has_perm(OPERATE)
        frame = {"can_operate": can_operate, "request_key": get_random_string(32)}
        return render(request, "trading/_contract.html", {**context, **frame})
    return render_page(request, "trading/contract.html", frame_state(), **context)


def _adjustments(con_id: int) -> list[Adjustment]:
    """Return the latest events of a contract that are no fills and not the assignments shown with their executions."""
    rows = Adjustment.objects.filter(instrument_id=con_id).exclude(kind=AdjustmentKind.REASSIGNMENT)
    return list(rows.order_by("-id")[:30])


def _summary(account_id: str | None) -> books.Summary | None:
    try:
        return books.summary(account_id)
    except LedgerError:
        return None


def _weights() -> dict[str, Strategy]:
    return {row.symbol: row for row in Strategy.objects.all()}


def _by_owner(account_id: str | None) -> list[tuple[str, list[books.PositionView]]]:
    grouped: dict[str, list[books.PositionView]] = defaultdict(list)
    for view in books.positions(account_id):
        grouped[view.owner].append(view)
    return sorted(grouped.items())


def cash_table(account_id: str) -> tuple[list[str], list[CashLine]]:
    """Return the owners with cash, and one line a currency."""
    views = books.cash(account_id)
    columns = sorted({view.owner for view in views})
    amounts = {(view.currency, view.owner): view.amount for view in views}
    told = _ib_cash(account_id)
    lines = []
    for currency in sorted({view.currency for view in views} | set(told)):
        by_owner = [amounts.get((currency, owner)) for owner in columns]
        total = sum((amount for amount in by_owner if amount is not None), Decimal(0))
        ib, at = told.get(currency, (None, None))
        lines.append(CashLine(currency, by_owner, total, ib, None if ib is None else ib - total, at))
    return columns, [line for line in lines if line.books or line.ib or any(line.by_owner)]


def _ib_cash(account_id: str) -> dict[str, tuple[Decimal | None, datetime | None]]:
    rows = AccountValue.objects.filter(account_id=account_id, tag__in=CASH_TAGS).exclude(currency__in=["", "BASE"])
    found: dict[str, tuple[Decimal | None, datetime | None]] = {}
    for row in sorted(rows, key=lambda row: CASH_TAGS.index(row.tag), reverse=True):
        found[row.currency] = (to_decimal(row.value), row.updated_at)
    return found
