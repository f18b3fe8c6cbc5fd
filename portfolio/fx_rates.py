"""Exchange rates in the database: those of the moment, those of the past, and how they are kept.

Owns: the rate table of an account (IB's ExchangeRate with the account's figures, then the dated rates), recording and
thinning. Leaves: asking IB for a price (``trading.market.fx_source``), the arithmetic (``ledger.fx``).
Rule: a rate that is no positive number is not kept; BASE rows are no currency.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation

from portfolio.ledger.fx import ACCOUNT, DELAYED, Quote, Rates, better, is_rate
from portfolio.models import Account, AccountValue, FxRate
from strategies.exceptions import LedgerError

logger = logging.getLogger(__name__)

FRESH = timedelta(minutes=15)  # IB repeats the account's figures every three minutes, MATS stores them every five
FRESH_IN_PAST = timedelta(hours=1) + FRESH  # old rates are thinned to one an hour


def base_currency_of(account_id: str) -> str:
    """Return the account's base currency.

    Raises: LedgerError code base_currency_unknown until IB has said it.
    """
    base = Account.objects.filter(account_id=account_id).values_list("base_currency", flat=True).first()
    if not base:
        raise LedgerError(f"The base currency of account {account_id} is not known yet.", code="base_currency_unknown")
    return base


def present_rates(account_id: str, now: datetime) -> Rates:
    """Return the best known rate of each currency, of any age, those older than ``FRESH`` flagged stale.

    Raises: LedgerError while the base currency is unknown.
    """
    base = base_currency_of(account_id)
    quotes = dict(_account_quotes(account_id, now))
    for row in _latest(base, None):
        if (chosen := better(quotes.get(row.currency), _dated(row, now, FRESH))) is not None:
            quotes[row.currency] = chosen
    return Rates.of_quotes(base, quotes)


def _account_quotes(account_id: str, now: datetime) -> Iterator[tuple[str, Quote]]:
    rows = AccountValue.objects.filter(account_id=account_id, tag="ExchangeRate")
    for currency, text, at in rows.values_list("currency", "value", "updated_at"):
        worth = number(text)
        if currency not in ("", "BASE") and is_rate(worth):
            yield currency, Quote(worth, at, ACCOUNT, now - at > FRESH)


def _latest(base: str, moment: datetime | None) -> Iterator[FxRate]:
    """Give the last row of each currency up to a moment: one look-up in the index each, whatever the table holds."""
    rows = FxRate.objects.filter(base=base).order_by("-currency", "-at")
    if moment is not None:
        rows = rows.filter(at__lte=moment)
    row = rows.first()
    while row is not None:
        yield row
        row = rows.filter(currency__lt=row.currency).first()


def _dated(row: FxRate, moment: datetime, fresh: timedelta) -> Quote:
    return Quote(row.worth, row.at, row.source, row.source == DELAYED or moment - row.at > fresh)


def number(text: str) -> Decimal | None:
    """Return the number in one of IB's texts, None when it is none."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def rates_at(account_id: str, moment: datetime) -> Rates:
    """Return the rates as they were last recorded at a moment of the past, those too far before it flagged stale.

    Raises: LedgerError while the base currency is unknown.
    """
    base = base_currency_of(account_id)
    return Rates.of_quotes(base, {row.currency: _dated(row, moment, FRESH_IN_PAST) for row in _latest(base, moment)})
