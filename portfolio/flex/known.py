"""Read from the books what a statement is compared with: executions, and cash and positions at its end.

Owns: which movements belong to the days of a statement. Rule: an execution belongs to the statement when it stands in
it, or happened before its last day ended (17:00 New York); anything else by the day on which it moved IB's cash.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from django.db.models import Q

from portfolio.bulk import chunks
from portfolio.flex.fields import NEW_YORK
from portfolio.flex.match import KnownBooks, KnownExecution, end_of_day
from portfolio.flex.rows import FlexFile, Statement
from portfolio.ledger.money import ZERO
from portfolio.ledger.reconciliation import ExpectedCash, Held, expected_cash
from portfolio.ledger.revisions import split_exec_id
from portfolio.models import (
    Account,
    Adjustment,
    AdjustmentKind,
    AdjustmentState,
    CashBalance,
    Execution,
    FlexFinding,
    Instrument,
    Movement,
    Position,
)

_COLUMNS = (
    "exec_id",
    "instrument_id",
    "instrument__symbol",
    "quantity",
    "price",
    "executed_at",
    "commission",
    "commission_currency",
    "superseded",
)


_OF_MOVEMENTS = (
    "cash",
    "currency",
    "instrument_id",
    "quantity",
    "execution__exec_id",
    "execution__executed_at",
    "adjustment__key",
    "adjustment__effective_at",
)


@dataclass(slots=True)
class BooksAt:
    """Σ owners at the end of a statement."""

    quantities: dict[int, Decimal] = field(default_factory=dict)
    cash: dict[str, Decimal] = field(default_factory=dict)


def known_books(file: FlexFile, account: Account) -> KnownBooks:
    """Return the executions that the file names, their relatives, and those of its days."""
    first = datetime.combine(file.from_date, time(), NEW_YORK)
    last = datetime.combine(file.to_date + timedelta(days=1), time(), NEW_YORK)
    mine = Execution.objects.filter(account=account)
    found = {
        row[0]: KnownExecution(*row) for row in mine.filter(executed_at__range=(first, last)).values_list(*_COLUMNS)
    }
    families = {
        split_exec_id(row.exec_id)[0] for statement in file.statements for row in statement.trades if row.exec_id
    }
    for block in chunks(families):
        found.update((row[0], KnownExecution(*row)) for row in mine.filter(family__in=block).values_list(*_COLUMNS))
    _add_later_fees(account, found)
    return KnownBooks(account.account_id, account.opened_at, found)


def _add_later_fees(account: Account, found: dict[str, KnownExecution]) -> None:
    """Add what adjustments changed of a commission since; IB's own adjustments of it stand apart in the statement."""
    rows = Adjustment.objects.filter(account=account, kind=AdjustmentKind.FEE, details__has_key="exec_id")
    for key, state, details in rows.values_list("key", "state", "details"):
        known = found.get(str(details.get("exec_id")))
        amount = _decimal(details.get("amount"))
        if known is None or amount is None:
            continue
        own = key.startswith("flex:fee:")
        booked = state == AdjustmentState.BOOKED
        if key.startswith("flex:tax:"):
            found[known.exec_id] = replace(known, tax_booked=True)
        elif own or not key.startswith("flex:"):
            found[known.exec_id] = replace(
                known,
                later_fees=known.later_fees + (amount if booked else ZERO),
                fee_count=known.fee_count + own,
                fee_undone=known.fee_undone or (own and not booked),
            )


def _decimal(text: object) -> Decimal | None:
    try:
        return Decimal(str(text))
    except InvalidOperation:
        return None


def books_at_end(file: FlexFile, account: Account) -> BooksAt:
    """Return positions and cash of all owners as of the file's last day: today's less what came after."""
    books = BooksAt()
    for con_id, quantity in Position.objects.filter(account=account).values_list("instrument_id", "quantity"):
        books.quantities[con_id] = books.quantities.get(con_id, ZERO) + quantity
    for currency, amount in CashBalance.objects.filter(account=account).values_list("currency", "amount"):
        books.cash[currency] = books.cash.get(currency, ZERO) + amount
    for movement in _after(file, account):
        books.cash[movement.currency] = books.cash.get(movement.currency, ZERO) - movement.cash
        if movement.instrument_id is not None:
            held = books.quantities.get(movement.instrument_id, ZERO)
            books.quantities[movement.instrument_id] = held - movement.quantity
    return books


class _Moved(NamedTuple):
    """A movement with when and by what it came, as far as the end of a statement asks."""

    cash: Decimal
    currency: str
    instrument_id: int | None
    quantity: Decimal
    exec_id: str | None
    executed_at: datetime
    key: str | None
    effective_at: datetime

    @property
    def origin(self) -> str:
        """The key of its adjustment, or of the one that this takes back; empty when it is of none."""
        return (self.key or "").removeprefix("undo:")


def _after(file: FlexFile, account: Account) -> Iterable[_Moved]:
    """Yield the movements that IB's cash and positions of the file's last day do not show."""
    grey = end_of_day(file.to_date)
    midnight = datetime.combine(file.to_date + timedelta(days=1), time(), NEW_YORK)
    named = {row.exec_id for statement in file.statements for row in statement.trades}
    keys = {f"flex:{row.transaction_id}" for statement in file.statements for row in statement.cash}
    # Booked before the last day ended: it cannot have happened after; an hour is for clocks that differ.
    rows = Movement.objects.filter(account=account, booked_at__gt=grey - timedelta(hours=1))
    late = rows.filter(Q(execution=None) | Q(execution__executed_at__gt=grey)).order_by("id")
    found = [_Moved(*row) for row in late.values_list(*_OF_MOVEMENTS)]
    posted = _posted({row.origin for row in found if row.origin})
    for row in found:
        if row.exec_id is not None:
            if row.exec_id not in named:
                yield row
        elif row.origin and row.origin not in keys:
            day = posted.get(row.origin)
            if row.effective_at >= midnight if day is None else day > file.to_date:
                yield row


def _posted(keys: set[str]) -> dict[str, date]:
    """Return when IB's cash moved for adjustments that came from statements: a dividend counts from its ex-date."""
    names = [key.removeprefix("flex:") for key in keys if key.startswith("flex:")]
    found: dict[str, date] = {}
    for block in chunks(names):
        for name, details in FlexFinding.objects.filter(key__in=block).values_list("key", "details"):
            if isinstance(details, dict) and details.get("posted"):
                found[f"flex:{name}"] = date.fromisoformat(str(details["posted"]))
    return found


def expected_at_end(books: BooksAt, last: Statement) -> ExpectedCash:
    """Return what IB's cash should be at the end of the statement; its own marks value the futures."""
    marks = {row.contract.con_id: row.mark for row in last.positions}
    held = [
        Held(one.con_id, one.symbol, one.sec_type, one.currency, one.multiplier, books.quantities[one.con_id], mark)
        for one in Instrument.objects.filter(con_id__in=list(books.quantities), sec_type__in=["FUT", "CASH"])
        for mark in [marks.get(one.con_id)]
    ]
    return expected_cash(books.cash, held)


def last_statement(file: FlexFile) -> Statement:
    """Return the statement with the latest day."""
    return max(file.statements, key=lambda one: one.to_date)


def opened_after(account: Account, file: FlexFile) -> bool:
    """Tell whether the books were opened only after the statement ends, so that there is nothing to compare."""
    return account.opened_at is None or account.opened_at.astimezone(UTC) > end_of_day(file.to_date)
