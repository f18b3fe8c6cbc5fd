"""Exchange rates as the portfolio page shows them: known ones with source and age, and those that are needed."""

from __future__ import annotations

from portfolio.fx_cache import FXCache, RateRow
from portfolio.models import Account, CashBalance, Position
from strategies.exceptions import LedgerError


def rows(account_id: str) -> list[tuple[str, RateRow | None]]:
    """Return (currency, rate) without the base currency; None where money or a position needs a rate and has none."""
    base = Account.objects.filter(pk=account_id).values_list("base_currency", flat=True).first() or ""
    cash = {row.currency for row in CashBalance.objects.filter(account_id=account_id) if row.amount}
    held = Position.objects.filter(account_id=account_id).select_related("instrument")
    needed = cash | {row.instrument.currency for row in held if row.quantity}
    try:
        known = {row.currency: row for row in FXCache(lambda: account_id).quotes()}
    except LedgerError:
        known = {}
    return [(currency, known.get(currency)) for currency in sorted((needed | set(known)) - {base, ""})]
