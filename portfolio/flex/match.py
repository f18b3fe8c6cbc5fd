"""Compare the executions of a statement with those of the books, by execution id. Pure.

Owns: what is the same, missing on either side, or different. Leaves: cash and corporate events (``events``), reading
the books (``known``), settling (``book``). Rule: only rows at the level of an execution count; IB's day ends at 17:00
New York for currencies, so an execution after that on the last day is not missed when the statement has it not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import ROUND_HALF_EVEN, Decimal

from portfolio.flex.fields import NEW_YORK
from portfolio.flex.findings import Comparison, Details, Finding, Plan
from portfolio.flex.rows import Statement, TradeRow
from portfolio.ledger.money import exact, plain
from portfolio.ledger.revisions import split_exec_id

DAY_END = time(17)
_TRADES = {"ExchTrade", "FracShare", "TradeCorrect"}
_SIDES = {"BUY": "BOT", "SELL": "SLD"}
_ROUNDED = 4  # IB shortens prices and fees to no fewer decimals than these


@dataclass(frozen=True, slots=True)
class KnownExecution:
    """An execution of the books; ``later_fees`` are corrections of its commission that were booked since."""

    exec_id: str
    con_id: int
    symbol: str
    quantity: Decimal  # signed
    price: Decimal
    executed_at: datetime
    commission: Decimal | None
    commission_currency: str
    superseded: bool = False
    later_fees: Decimal = Decimal(0)
    fee_count: int = 0
    fee_undone: bool = False
    tax_booked: bool = False


@dataclass(frozen=True, slots=True)
class KnownBooks:
    """What the books know that a statement is compared with."""

    account_id: str
    opened_at: datetime | None
    executions: Mapping[str, KnownExecution]

    @property
    def families(self) -> set[str]:
        """The families of all known executions: corrections of one fill share one."""
        return {split_exec_id(exec_id)[0] for exec_id in self.executions}


def compare_trades(statements: Iterable[Statement], books: KnownBooks) -> Comparison:
    """Compare all executions of a file with the books, in both directions."""
    result = Comparison()
    found = list(statements)
    rows: dict[str, TradeRow] = {}
    for statement in found:
        for row in statement.trades:
            _sort_in(row, rows, result)
    families = books.families
    for row in sorted(rows.values(), key=lambda one: (one.executed_at, one.exec_id)):
        known = books.executions.get(row.exec_id)
        if known is not None:
            _compare(row, known, result)
        else:
            _missing(row, books, families, result)
    _absent(found, rows, books, result)
    return result


def is_booking_row(row: TradeRow) -> bool:
    """Tell whether a row is IB's own booking (exercise, assignment, expiry, delivery), not an execution."""
    return row.transaction_type == "BookTrade"


def end_of_day(day: date) -> datetime:
    """Return the moment after which executions of a day may stand in the next day's statement."""
    return datetime.combine(day, DAY_END, NEW_YORK)


def _sort_in(row: TradeRow, rows: dict[str, TradeRow], result: Comparison) -> None:
    if is_booking_row(row):
        return
    key = row.exec_id or row.transaction_id or row.trade_id
    if row.transaction_type == "TradeCancel" or row.side not in _SIDES:
        result.findings.append(
            Finding(
                "trade_cancel", key, f"IB cancelled a trade in {row.contract.symbol}: {said(row)}.", trade_facts(row)
            )
        )
    elif row.transaction_type not in _TRADES or not row.exec_id:
        text = f"A trade of type {row.transaction_type} without a match by execution id: {said(row)}."
        result.findings.append(Finding("other_trade", key, text, trade_facts(row)))
    elif row.exec_id in rows:
        if rows[row.exec_id] != row:
            text = f"Execution {row.exec_id} stands twice in the file with different content: {said(row)}."
            result.findings.append(Finding("duplicate", f"{row.exec_id}:{row.transaction_id}", text, trade_facts(row)))
    else:
        rows[row.exec_id] = row


def _compare(row: TradeRow, known: KnownExecution, result: Comparison) -> None:
    before = len(result.findings)
    if known.superseded:
        text = f"The statement has {row.exec_id}, which a later correction replaced in the books."
        result.findings.append(Finding("superseded", row.exec_id, text, trade_facts(row)))
        return
    differing = [
        ("contract", row.contract.con_id, known.con_id, row.contract.con_id == known.con_id),
        ("side", row.side, "BUY" if known.quantity > 0 else "SELL", (row.side == "BUY") == (known.quantity > 0)),
        (
            "quantity",
            plain(abs(row.quantity)),
            plain(abs(known.quantity)),
            _same(abs(row.quantity), abs(known.quantity)),
        ),
        ("price", plain(row.price), plain(known.price), _same(row.price, known.price)),
    ]
    for kind, theirs, ours, same in differing:
        if not same:
            text = f"{row.exec_id} ({known.symbol}): IB says {kind} {theirs}, the books {ours}."
            facts: Details = {"ib": str(theirs), "books": str(ours), "con_id": known.con_id}
            result.findings.append(Finding(kind, row.exec_id, text, facts))
    _compare_fee(row, known, result)
    _compare_tax(row, known.tax_booked, result)
    result.matched += len(result.findings) == before


def _same(theirs: Decimal, ours: Decimal) -> bool:
    """Tell whether two figures are one, where IB's may be shortened to four decimals or more."""
    exponent = theirs.as_tuple().exponent
    if isinstance(exponent, int) and exponent <= -_ROUNDED:
        return theirs == ours.quantize(Decimal(1).scaleb(exponent), rounding=ROUND_HALF_EVEN) or exact(theirs) == ours
    return exact(theirs) == exact(ours)


def _compare_fee(row: TradeRow, known: KnownExecution, result: Comparison) -> None:
    if row.commission is None:
        return
    theirs, currency = exact(-row.commission), row.commission_currency
    symbol = known.symbol
    if known.commission is None:
        text = f"Commission of {row.exec_id} ({symbol}) was not known: {plain(theirs)} {currency}."
        facts: Details = {"ib": plain(theirs), "currency": currency, "con_id": known.con_id}
        result.findings.append(Finding("commission_unknown", row.exec_id, text, facts, commission=(theirs, currency)))
        return
    ours = known.commission + known.later_fees
    if currency == known.commission_currency and _same(-row.commission, ours):
        return
    text = (
        f"Commission of {row.exec_id} ({symbol}): IB says {plain(theirs)} {currency}, "
        f"the books {plain(ours)} {known.commission_currency}."
    )
    facts = {"ib": f"{plain(theirs)} {currency}", "books": f"{plain(ours)} {known.commission_currency}"}
    finding = Finding("commission", row.exec_id, text, facts)
    if currency == known.commission_currency and not known.fee_undone:
        finding.plan = _fee_plan(row, f"flex:fee:{row.exec_id}:{known.fee_count + 1}", theirs - ours, currency, text)
    result.findings.append(finding)


def _compare_tax(row: TradeRow, booked: bool, result: Comparison) -> None:
    if not row.taxes or booked:
        return
    amount, currency = exact(-row.taxes), row.contract.currency
    text = f"Tax on {row.exec_id} ({row.contract.symbol}): {plain(amount)} {currency}."
    plan = _fee_plan(row, f"flex:tax:{row.exec_id}", amount, currency, text)
    facts: Details = {"ib": plain(amount), "currency": currency}
    result.findings.append(Finding("trade_tax", row.exec_id, text, facts, plan))


def _fee_plan(row: TradeRow, key: str, amount: Decimal, currency: str, reason: str) -> Plan:
    details: Details = {"currency": currency, "amount": plain(amount), "exec_id": row.exec_id}
    return Plan("fee", details, key, row.executed_at, reason)


def _missing(row: TradeRow, books: KnownBooks, families: set[str], result: Comparison) -> None:
    if books.opened_at is not None and row.executed_at <= books.opened_at:
        result.before_opening += 1  # it is in the opening balances
        return
    finding = Finding("missing_execution", row.exec_id, f"Not in the books: {said(row)}.", trade_facts(row))
    if row.transaction_type == "TradeCorrect" and split_exec_id(row.exec_id)[0] not in families:
        finding.text = f"A correction of a trade that the books do not have: {said(row)}."
    elif not row.contract.con_id or not row.contract.category:
        finding.text = f"Not in the books, and the statement does not name its contract: {said(row)}."
    elif row.quantity == 0 or (row.quantity > 0) != (row.side == "BUY"):
        finding.text = f"Not in the books, and side and quantity contradict: {said(row)}."
    else:
        finding.execution = row
    result.findings.append(finding)
    if finding.execution is not None:
        _compare_tax(row, booked=False, result=result)


def _absent(statements: list[Statement], rows: Mapping[str, TradeRow], books: KnownBooks, result: Comparison) -> None:
    """Note what the books have within the statement's days and the statement has not."""
    unreadable = {bad.name for one in statements for bad in one.bad}  # it has them, whatever it says
    families = {split_exec_id(exec_id)[0] for exec_id in {*rows, *unreadable}}
    spans = [
        (datetime.combine(one.from_date, time(), NEW_YORK), end_of_day(one.to_date))
        for one in statements
        if "Trades" in one.sections
    ]
    for known in books.executions.values():
        if known.superseded or split_exec_id(known.exec_id)[0] in families:
            continue
        if any(first <= known.executed_at <= last for first, last in spans):
            text = f"IB's statement does not have {known.exec_id}: {plain(known.quantity)} {known.symbol}"
            text += f" at {plain(known.price)}, {known.executed_at:%Y-%m-%d %H:%M:%S} UTC."
            facts: Details = {"quantity": plain(known.quantity), "price": plain(known.price), "con_id": known.con_id}
            result.findings.append(Finding("not_in_statement", known.exec_id, text, facts))


def said(row: TradeRow) -> str:
    """Return a trade in words."""
    when = f"{row.executed_at:%Y-%m-%d %H:%M:%S} UTC"
    return f"{row.side} {plain(abs(row.quantity))} {row.contract.symbol} at {plain(row.price)}, {when}"


def trade_facts(row: TradeRow) -> Details:
    """Return a trade for the record; decimals as text."""
    return {
        "con_id": row.contract.con_id,
        "symbol": row.contract.symbol,
        "side": row.side,
        "quantity": plain(row.quantity),
        "price": plain(row.price),
        "executed_at": row.executed_at.isoformat(),
        "commission": None if row.commission is None else plain(-row.commission),
        "currency": row.commission_currency,
        "order_ref": row.order_ref,
        "transaction_id": row.transaction_id,
    }
