"""Keep prices and equity over time.

Owns: marks and equity snapshots. Rule: one moment for all owners of a snapshot; an owner that cannot be valued (a price
or rate is missing) is left out rather than written with an invented number.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from django.db import transaction

from portfolio.accounts import net_liquidation, rates_of, to_decimal
from portfolio.bulk import insert_rows, upsert_rows
from portfolio.facts import EquityFact
from portfolio.instruments import instruments_by_id
from portfolio.ledger.fx import Rates
from portfolio.ledger.money import ZERO, exact
from portfolio.models import AccountValue, EquitySnapshot, Mark
from portfolio.valuation import Value, currency_of, owners_of, value_of
from strategies.exceptions import LedgerError

logger = logging.getLogger(__name__)


def record_marks(marks: Mapping[int, Decimal], at: datetime) -> None:
    """Keep the latest price of each instrument that the ledger knows; prices that are no number are left out."""
    usable = {con_id: exact(price) for con_id, price in marks.items() if price.is_finite()}
    known = instruments_by_id(usable).values_list("con_id", flat=True)
    rows = [(con_id, usable[con_id], at) for con_id in known]
    upsert_rows(Mark, ("instrument_id", "price", "marked_at"), ("instrument_id",), rows)


def take_equity_snapshot(account_id: str, at: datetime) -> list[EquityFact]:
    """Write the equity of every owner and of the account (owner empty) at one moment, and return it.

    Running it twice for the same moment writes once.
    """
    try:
        rates = rates_of(account_id)
    except LedgerError as error:
        logger.info("no equity snapshot account=%s reason=%s", account_id, error.code)
        return []
    with transaction.atomic():
        if EquitySnapshot.objects.filter(account_id=account_id, taken_at=at).exists():
            return []
        facts, complete = _owners(account_id, rates)
        account = _account(account_id, rates, facts if complete else None)
        if account is not None:
            facts.append(account)
        insert_rows(
            EquitySnapshot,
            ("account_id", "owner", "taken_at", "currency", "equity", "cash", "realized_pnl", "unrealized_pnl"),
            [(account_id, f.owner, at, f.currency, f.equity, f.cash, f.realized_pnl, f.unrealized_pnl) for f in facts],
        )
    return facts


def _owners(account_id: str, rates: Rates) -> tuple[list[EquityFact], bool]:
    """Value every owner; the flag says whether all could be."""
    facts, complete = [], True
    for owner in owners_of(account_id):
        try:
            value = value_of(account_id, owner, currency_of(owner, rates.base), rates)
        except LedgerError as error:
            logger.info("owner not valued owner=%s reason=%s", owner, error.code)
            complete = False
        else:
            facts.append(_fact(owner, value))
    return facts, complete


def _fact(owner: str, value: Value) -> EquityFact:
    return EquityFact(owner, value.equity, value.cash, value.realized_pnl, value.unrealized_pnl, value.currency)


def _account(account_id: str, rates: Rates, owners: list[EquityFact] | None) -> EquityFact | None:
    """Return IB's net liquidation with the sums of the books beside it; None while IB has not said it."""
    try:
        equity = net_liquidation(account_id, rates.base)
    except LedgerError:
        return None
    row = AccountValue.objects.filter(account_id=account_id, tag="TotalCashValue", currency=rates.base).first()
    return EquityFact(
        owner="",
        equity=exact(equity),
        cash=None if row is None else _exact_or_none(row.value),
        realized_pnl=_total(owners, "realized_pnl", rates),
        unrealized_pnl=_total(owners, "unrealized_pnl", rates),
        currency=rates.base,
    )


def _exact_or_none(text: str) -> Decimal | None:
    value = to_decimal(text)
    return None if value is None else exact(value)


def _total(owners: list[EquityFact] | None, name: str, rates: Rates) -> Decimal | None:
    if owners is None:
        return None
    return sum((rates.convert(getattr(fact, name), fact.currency, rates.base) for fact in owners), ZERO)
