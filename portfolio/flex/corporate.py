"""Propose what options that ended and corporate actions do to the books. Pure.

Owns: recognising exercise, assignment, expiry, splits and changes of contract. Leaves: everything else to a person.
Rule: nothing here is booked at once, since who holds what and at which ratio is decided by an operator; a proposal is
made only where the statement leaves no choice.

Source: IB tells of an ended option twice, in OptionEAE and as BookTrade rows of Trades with the notes A, Ex or Ep; of a
split in words (``SPLIT 4 FOR 1``), as one row for the same contract or as two rows, out of the old and into the new.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal

from portfolio.flex.fields import NEW_YORK
from portfolio.flex.findings import Comparison, Details, Finding, Plan
from portfolio.flex.match import is_booking_row, said, trade_facts
from portfolio.flex.rows import ContractRow, CorporateRow, Statement, TradeRow
from portfolio.ledger.money import plain

_OPTIONS = {"OPT", "FOP", "WAR"}
_ENDINGS = {"Exercise": "exercise", "Assignment": "exercise", "Expiration": "expiry"}
_NOTES = {"Ex": "exercise", "AEx": "exercise", "MEx": "exercise", "A": "exercise", "Ep": "expiry"}
_DELIVERIES = {"Buy", "Sell"}
_SPLITS = {"FS", "RS"}
_RATIO = re.compile(r"SPLIT\s+(\d{1,9})\s+FOR\s+(\d{1,9})", re.IGNORECASE)
_CLOSE = time(16, 20)  # IB books the ends of options after the close


@dataclass(frozen=True, slots=True)
class Ending:
    """An option position that ended; identity: contract, kind and day."""

    kind: str  # exercise or expiry
    contract: ContractRow
    quantity: Decimal  # signed as the position moved or was; only its size counts
    day: date
    trade_ids: frozenset[str]


def option_findings(statements: Iterable[Statement], opened_at: datetime | None) -> Comparison:
    """Return a proposal for each option that was exercised, assigned or expired."""
    result = Comparison()
    found = list(statements)
    booked = [row for statement in found for row in statement.trades if is_booking_row(row)]
    endings = _endings(found, booked)
    for ending in endings.values():
        at = datetime.combine(ending.day, _CLOSE, NEW_YORK).astimezone(UTC)
        if opened_at is not None and at <= opened_at:
            result.before_opening += 1
        else:
            result.findings.append(_ending_finding(ending, at))
    delivered = {(ending.contract.underlying_con_id, ending.day) for ending in endings.values()}
    for row in _unexplained(booked, delivered, opened_at):
        text = f"A booking of IB that nothing in the statement explains: {said(row)}."
        result.findings.append(Finding("book_trade", row.transaction_id or row.trade_id, text, trade_facts(row)))
    return result


def _endings(statements: list[Statement], booked: list[TradeRow]) -> dict[tuple[int, str, date], Ending]:
    """Merge the two tellings: parts of one kind, contract and day are one ending; OptionEAE goes first."""
    told: dict[tuple[int, str, date], list[tuple[ContractRow, Decimal, str]]] = {}
    for statement in statements:
        for option in statement.options:
            kind = _ENDINGS.get(option.kind)
            if kind and option.contract.category in _OPTIONS:
                key = (option.contract.con_id, kind, option.day)
                told.setdefault(key, []).append((option.contract, option.quantity, option.trade_id))
    traded: dict[tuple[int, str, date], list[tuple[ContractRow, Decimal, str]]] = {}
    for row in booked:
        kind = next((_NOTES[note] for note in sorted(row.notes) if note in _NOTES), None)
        if kind and row.contract.category in _OPTIONS:
            key = (row.contract.con_id, kind, row.executed_at.astimezone(NEW_YORK).date())
            traded.setdefault(key, []).append((row.contract, row.quantity, row.trade_id))
    return {key: _merge(key, {**traded, **told}[key]) for key in sorted({**traded, **told})}


def _merge(key: tuple[int, str, date], parts: list[tuple[ContractRow, Decimal, str]]) -> Ending:
    distinct = {(trade_id or str(index)): (contract, size) for index, (contract, size, trade_id) in enumerate(parts)}
    contract = max((one for one, _ in distinct.values()), key=lambda one: one.underlying_con_id)
    total = sum((abs(size) for _, size in distinct.values()), Decimal(0))
    return Ending(key[1], contract, total, key[2], frozenset(trade_id for _, _, trade_id in parts if trade_id))


def _ending_finding(ending: Ending, at: datetime) -> Finding:
    contract = ending.contract
    name = f"{contract.symbol} ({contract.con_id})"
    text = f"{ending.kind.capitalize()} of {plain(ending.quantity)} {name} on {ending.day}."
    facts: Details = {
        "con_id": contract.con_id,
        "quantity": plain(ending.quantity),
        "underlying_con_id": contract.underlying_con_id,
        "day": ending.day.isoformat(),
        "trade_ids": sorted(ending.trade_ids),
    }
    key = f"flex:{ending.kind}:{contract.con_id}:{ending.day:%Y%m%d}"
    finding = Finding(ending.kind, key.removeprefix("flex:"), text, facts)
    if ending.kind == "expiry" and contract.con_id:
        details: Details = {"con_id": contract.con_id, "settlement_price": "0"}
        finding.plan = Plan("expiry", details, key, at, f"Flex: {text}", propose=True)
    elif contract.con_id and contract.underlying_con_id:
        details = {
            "con_id": contract.con_id,
            "underlying_con_id": contract.underlying_con_id,
            "quantity": plain(ending.quantity),
        }
        finding.plan = Plan("exercise", details, key, at, f"Flex: {text}", propose=True)
    else:
        finding.text = f"{text} The statement does not name the underlying; add its conid to the query."
    return finding


def _unexplained(
    booked: list[TradeRow], delivered: set[tuple[int, date]], opened_at: datetime | None
) -> list[TradeRow]:
    """Return the booking rows that are neither an option's end nor the shares that one delivered."""
    return [
        row
        for row in booked
        if not (opened_at is not None and row.executed_at <= opened_at)
        and not (row.contract.category in _OPTIONS and row.notes & _NOTES.keys())
        and (row.contract.con_id, row.executed_at.astimezone(NEW_YORK).date()) not in delivered
    ]


def corporate_findings(statements: Iterable[Statement], opened_at: datetime | None) -> Comparison:
    """Return a proposal for each split or change of contract, and an open finding for any other action."""
    result = Comparison()
    actions: dict[str, dict[str, CorporateRow]] = {}
    for statement in statements:
        for row in statement.corporate:
            if opened_at is not None and row.at <= opened_at:
                result.before_opening += 1
                continue
            action = row.action_id or f"{row.kind}:{row.at:%Y%m%d}:{row.description[:60]}"
            actions.setdefault(action, {})[row.transaction_id or f"{row.contract.con_id}:{row.quantity}"] = row
    for rows in actions.values():
        result.findings.append(_corporate_finding(sorted(rows.values(), key=lambda row: row.transaction_id)))
    return result


def _corporate_finding(rows: list[CorporateRow]) -> Finding:
    first = rows[0]
    about = first.description or f"{first.kind} of {first.contract.symbol}"
    facts: Details = {
        "type": first.kind,
        "rows": [
            {"con_id": row.contract.con_id, "symbol": row.contract.symbol, "quantity": plain(row.quantity)}
            for row in rows
        ],
        "amount": plain(sum((row.amount for row in rows), Decimal(0))),
        "at": first.at.isoformat(),
    }
    key = first.transaction_id or f"{first.kind}:{first.contract.con_id}:{first.at:%Y%m%d}"
    finding = Finding("corporate_action", key, f"{about}.", facts)
    proposed = _proposal(rows) if first.transaction_id else None
    if proposed is None:
        finding.text = f"Corporate action to be booked by hand: {about}."[:400]
        return finding
    kind, details = proposed
    finding.plan = Plan(kind, details, f"flex:{key}", first.at, f"Flex: {about}"[:400], propose=True)
    return finding


def _proposal(rows: list[CorporateRow]) -> tuple[str, Details] | None:
    kind, ratio = rows[0].kind, _RATIO.search(rows[0].description)
    con_ids = {row.contract.con_id for row in rows}
    if any(row.amount for row in rows) or 0 in con_ids:
        return None  # cash came with it: how it divides is for a person
    split: Details = {}
    if kind in _SPLITS:
        if ratio is None or not int(ratio[1]) or not int(ratio[2]):
            return None
        split = {"numerator": int(ratio[1]), "denominator": int(ratio[2])}
        if len(rows) == 1:
            return "split", {"con_id": rows[0].contract.con_id, **split}
    if kind not in _SPLITS | {"IC"} or len(rows) != 2 or len(con_ids) != 2:
        return None
    out, into = sorted(rows, key=lambda row: row.quantity)
    if not out.quantity < 0 < into.quantity or (kind == "IC" and out.quantity != -into.quantity):
        return None  # a short position, or a ratio that nobody states
    return "symbol_change", {"con_id": out.contract.con_id, "new_con_id": into.contract.con_id, **split}
