"""Compare cash and positions at a statement's end with the books of that day.

Rule: a difference becomes a finding and nothing else: what caused it stands among the other findings, or is unknown.
"""

from __future__ import annotations

from decimal import Decimal

from portfolio.flex.findings import Finding
from portfolio.flex.known import books_at_end, expected_at_end, last_statement, opened_after
from portfolio.flex.rows import FlexFile, Statement
from portfolio.ledger.money import ZERO, plain
from portfolio.ledger.reconciliation import ExpectedCash, compare, compare_money
from portfolio.models import Account, Instrument


def ending_findings(file: FlexFile, account: Account) -> list[Finding]:
    """Return what differs at the end of the file's last day; nothing when the books begin after it."""
    if opened_after(account, file):
        return []
    last = last_statement(file)
    books = books_at_end(file, account)
    found: list[Finding] = []
    if last.ending_cash:
        found += _cash(last, expected_at_end(books, last))
    if "OpenPositions" in last.sections and not any(bad.section == "OpenPositions" for bad in last.bad):
        found += _positions(last, books.quantities)
    return found


def _cash(last: Statement, expected: ExpectedCash) -> list[Finding]:
    found = []
    for one in compare_money(last.ending_cash, expected):
        theirs, ours = plain(one.broker_amount), plain(one.expected_amount)
        text = f"Cash at the end of {last.to_date}: IB says {theirs} {one.currency}, the books {ours}."
        details: dict[str, object] = {"ib": theirs, "books": ours, "difference": plain(one.amount)}
        found.append(Finding("cash", one.currency, text, details))
    for currency in sorted(expected.unknown):
        text = f"Cash in {currency} cannot be compared: the statement has no mark of a future that is held."
        found.append(Finding("cash_unknown", currency, text))
    return found


def _positions(last: Statement, quantities: dict[int, Decimal]) -> list[Finding]:
    broker: dict[int, Decimal] = {}
    names = {}
    for row in last.positions:
        con_id = row.contract.con_id
        broker[con_id] = broker.get(con_id, ZERO) + row.quantity
        names[con_id] = row.contract.symbol
    known = {one.con_id: one for one in Instrument.objects.filter(con_id__in=[*broker, *quantities])}
    # IB lists currency pairs as cash, not among the positions.
    ours = {con_id: held for con_id, held in quantities.items() if known[con_id].sec_type != "CASH"}
    found = []
    for one in compare(broker, ours):
        name = known[one.con_id].symbol if one.con_id in known else names[one.con_id]
        theirs, held = plain(one.broker_quantity), plain(one.ledger_quantity)
        text = f"Position in {name} at the end of {last.to_date}: IB says {theirs}, the books {held}."
        details: dict[str, object] = {"ib": theirs, "books": held, "con_id": one.con_id}
        found.append(Finding("position", str(one.con_id), text, details))
    return found
