"""Turn a statement's cash rows into adjustments of the books. Pure.

Owns: which of IB's words means what, when it counts, and what is already in the opening balances. Leaves: options and
corporate actions (``corporate``), booking (``book``).

* Dividends, payments in lieu and tax withheld on them belong to who held the instrument when it went ex: at midnight,
  New York, of the ex-date that the row or a dividend accrual of the same contract and pay date names; without one, at
  the pay date. A reversal is negative and is divided the same way.
* A row that was posted before the books were opened is in the opening balances. On the day of the opening a row
  without a time of day cannot be told apart: it stays open.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from portfolio.flex.fields import NEW_YORK
from portfolio.flex.findings import Comparison, Details, Finding, Plan
from portfolio.flex.rows import AccrualRow, CashRow, Statement
from portfolio.ledger.money import exact, plain

DISCRETIONARY = "Discretionary"
_HELD = {
    "Dividends": "dividend",
    "Payment In Lieu Of Dividends": "dividend",
    "Withholding Tax": "tax",
    "871(m) Withholding": "tax",
}
_INTEREST = {"Broker Interest Paid", "Broker Interest Received"}
_TRANSFERS = {"Deposits/Withdrawals", "Deposits & Withdrawals"}
_FEES = {"Other Fees", "Commission Adjustments", "Broker Fees", "Advisor Fees"}
_BONDS = {"Bond Interest Paid", "Bond Interest Received"}
_PAY_DATE_SLACK = timedelta(days=3)


def cash_findings(
    statements: Iterable[Statement], opened_at: datetime | None, executions: dict[str, str]
) -> Comparison:
    """Return a finding, mostly with its plan, for each cash row that is not in the opening balances.

    ``executions`` gives the execution id of a trade id, for adjustments of commissions.
    """
    result = Comparison()
    found = list(statements)
    accruals = [row for statement in found for row in statement.accruals]
    seen: dict[str, CashRow] = {}
    for row in (row for statement in found for row in statement.cash):
        if row.transaction_id and seen.setdefault(row.transaction_id, row) is not row:
            _repeated(row, seen[row.transaction_id], result)
        elif row.amount:
            _take(row, opened_at, accruals, executions, result)
    return result


def _repeated(row: CashRow, first: CashRow, result: Comparison) -> None:
    if row != first:
        text = f"Transaction {row.transaction_id} stands twice in the file with different content: {_said(row)}."
        result.findings.append(Finding("duplicate", f"{row.transaction_id}:{row.at:%Y%m%d}", text, cash_facts(row)))


def _take(
    row: CashRow,
    opened_at: datetime | None,
    accruals: list[AccrualRow],
    executions: dict[str, str],
    result: Comparison,
) -> None:
    if opened_at is not None:
        before = posted_before(row, opened_at)
        if before:
            result.before_opening += 1
            return
        if before is None:
            text = f"Posted on the day when the books were opened, it may be in the opening balance: {_said(row)}."
            result.findings.append(Finding("unclear", _key(row), text, cash_facts(row)))
            return
    kind, plan = _plan(row, accruals, executions)
    finding = Finding(kind, _key(row), f"{_said(row)}.", cash_facts(row), plan)
    if plan is None:
        finding.text = f"Not understood, book it by hand: {_said(row)}."
    result.findings.append(finding)


def posted_before(row: CashRow, opened_at: datetime) -> bool | None:
    """Tell whether a row was in the account's cash when the books were opened; None when that cannot be told."""
    opening = opened_at.astimezone(NEW_YORK).date()
    if row.posted != opening:
        return row.posted < opening
    if row.has_time and row.at.astimezone(NEW_YORK).date() == opening:
        return row.at <= opened_at
    return None


def _plan(row: CashRow, accruals: list[AccrualRow], executions: dict[str, str]) -> tuple[str, Plan | None]:
    amount = exact(row.amount)
    if not row.transaction_id or not amount:
        return "cash_row", None
    if row.kind in _HELD and row.con_id:
        details: Details = {"con_id": row.con_id, "currency": row.currency, "amount": plain(amount)}
        return _HELD[row.kind], _booking(_HELD[row.kind], details, row, entitled_at(row, accruals))
    if row.kind in _BONDS and row.con_id:
        details = {"con_id": row.con_id, "currency": row.currency, "amount": plain(amount)}
        return "interest", _booking("dividend", details, row, row.at, propose=True)
    if row.kind in _INTEREST:
        details = {"owner": DISCRETIONARY, "currency": row.currency, "amount": plain(amount)}
        return "interest", _booking("interest", details, row, row.at)
    if row.kind in _TRANSFERS:
        kind = "deposit" if amount > 0 else "withdrawal"
        details = {"owner": DISCRETIONARY, "currency": row.currency, "amount": plain(abs(amount))}
        return kind, _booking(kind, details, row, row.at)
    if row.kind in _FEES or row.kind == "Withholding Tax":
        return "fee", _booking("fee", _fee(row, amount, executions), row, row.at)
    return "cash_row", None


def _fee(row: CashRow, amount: Decimal, executions: dict[str, str]) -> Details:
    details: Details = {"currency": row.currency, "amount": plain(-amount)}
    if row.kind == "Commission Adjustments" and row.trade_id in executions:
        return {**details, "exec_id": executions[row.trade_id]}
    return {**details, "owner": DISCRETIONARY}


def _booking(kind: str, details: Details, row: CashRow, at: datetime, *, propose: bool = False) -> Plan:
    return Plan(kind, details, f"flex:{row.transaction_id}", at, f"Flex: {_said(row)}"[:400], propose)


def entitled_at(row: CashRow, accruals: list[AccrualRow]) -> datetime:
    """Return the moment whose holders a payment belongs to."""
    ex_date = row.ex_date or _accrued_ex_date(row, accruals)
    return row.at if ex_date is None else datetime.combine(ex_date, time(), NEW_YORK).astimezone(UTC)


def _accrued_ex_date(row: CashRow, accruals: list[AccrualRow]) -> date | None:
    """Return the ex-date of the accrual that this payment settles; None when there is none or more than one."""
    paid = row.at.astimezone(NEW_YORK).date()
    found = {
        accrual.ex_date
        for accrual in accruals
        if accrual.con_id == row.con_id and accrual.pay_date and abs(accrual.pay_date - paid) <= _PAY_DATE_SLACK
    }
    return found.pop() if len(found) == 1 else None


def _key(row: CashRow) -> str:
    return row.transaction_id or f"{row.kind}:{row.posted:%Y%m%d}:{row.currency}:{plain(row.amount)}:{row.con_id}"[:96]


def _said(row: CashRow) -> str:
    what = f"{row.kind} {plain(row.amount)} {row.currency}"
    about = row.description or row.symbol
    return f"{what}, {about}, {row.posted}" if about else f"{what}, {row.posted}"


def cash_facts(row: CashRow) -> Details:
    """Return a cash row for the record; decimals as text. ``posted`` is the day on which it moved IB's cash."""
    return {
        "type": row.kind,
        "amount": plain(row.amount),
        "currency": row.currency,
        "con_id": row.con_id,
        "symbol": row.symbol,
        "description": row.description,
        "at": row.at.isoformat(),
        "posted": row.posted.isoformat(),
        "ex_date": row.ex_date.isoformat() if row.ex_date else None,
    }
