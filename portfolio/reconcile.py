"""Compare IB's positions and cash with the ledger's and keep the differences as breaks.

Owns: the life of a break, and IB's holdings as last answered. Leaves: what may explain a break (``causes``), whether a
look counts (``trading.engine.reconciler``).
Rule: a difference of a position locks the instrument and is shown, one of cash is shown; neither ever moves anything.
Only a complete answer of the broker may be passed: an answer that failed or was cut off changes nothing, because it
never gets here. A break clears by itself when the books agree again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from django.db import transaction

from portfolio import causes
from portfolio.bulk import update_rows, upsert_rows
from portfolio.causes import BrokerDay
from portfolio.facts import BreakFact, BrokerPosition
from portfolio.instruments import marks_in_money
from portfolio.ledger.money import ZERO, exact
from portfolio.ledger.reconciliation import (
    CashDifference,
    Difference,
    ExpectedCash,
    Held,
    compare,
    compare_money,
    expected_cash,
)
from portfolio.models import (
    Account,
    Break,
    BreakKind,
    BreakState,
    BrokerHolding,
    CashBalance,
    Execution,
    Instrument,
    Mark,
    Position,
)
from strategies.exceptions import LedgerError

logger = logging.getLogger(__name__)

_SAVED = ("ib_quantity", "ledger_quantity", "state", "cleared_at", "cause")
_ROWS = 100  # written by one statement
_NEWEST = 5_000  # executions looked at for what moves: more than come in two seconds


def ledger_quantities(account_id: str) -> dict[int, Decimal]:
    """Return Σ owners by contract id."""
    held: dict[int, Decimal] = {}
    rows = Position.objects.filter(account_id=account_id).values_list("instrument_id", "quantity")
    for con_id, quantity in rows:
        held[con_id] = held.get(con_id, ZERO) + quantity
    return held


def ledger_cash(account_id: str, marks: Mapping[int, Decimal] | None = None) -> ExpectedCash:
    """Return what IB's cash should be by currency: Σ owners' cash, and what futures and FX pairs stand for.

    ``marks`` are IB's own prices by contract id, of the moment of its cash; the latest known ones stand in.
    """
    owned: dict[str, Decimal] = {}
    for currency, amount in CashBalance.objects.filter(account_id=account_id).values_list("currency", "amount"):
        owned[currency] = owned.get(currency, ZERO) + amount
    quantities: dict[int, Decimal] = {}
    apart = Position.objects.filter(account_id=account_id, instrument__sec_type__in=["FUT", "CASH"])
    for con_id, quantity in apart.values_list("instrument_id", "quantity"):
        quantities[con_id] = quantities.get(con_id, ZERO) + quantity
    rows = list(Instrument.objects.filter(con_id__in=quantities))
    latest = dict(Mark.objects.filter(instrument__in=rows).values_list("instrument_id", "price"))
    prices = {**latest, **marks_in_money(marks or {})}
    held = [
        Held(
            row.con_id,
            row.symbol,
            row.sec_type,
            row.currency,
            row.multiplier,
            quantities[row.con_id],
            prices.get(row.con_id),
        )
        for row in rows
    ]
    return expected_cash(owned, held)


def cash_differences(
    account_id: str, ib_cash: Mapping[str, Decimal], marks: Mapping[int, Decimal] | None = None
) -> list[CashDifference]:
    """Return the currencies in which IB's cash is not what the books expect."""
    return compare_money(ib_cash, ledger_cash(account_id, marks))


def store_holdings(account_id: str, positions: Sequence[BrokerPosition], at: datetime) -> None:
    """Keep a complete answer of IB about positions; rows of what is no longer held go."""
    with transaction.atomic():
        wanted = {row.contract.con_id: row for row in positions if row.quantity}
        known = {row.instrument_id: row for row in BrokerHolding.objects.filter(account_id=account_id)}
        gone = [row.pk for con_id, row in known.items() if con_id not in wanted]
        if gone:
            BrokerHolding.objects.filter(pk__in=gone).delete()
        said = {con_id: (exact(row.quantity), exact(row.average_cost)) for con_id, row in wanted.items()}
        stored = {con_id: (row.quantity, row.average_cost) for con_id, row in known.items()}
        upsert_rows(
            BrokerHolding,
            ("account_id", "instrument_id", "quantity", "average_cost"),
            ("account_id", "instrument_id"),
            [(account_id, con_id, *figures) for con_id, figures in said.items() if stored.get(con_id) != figures],
        )
        Account.objects.filter(account_id=account_id).update(positions_at=at)


def note_reconciled(account_id: str, at: datetime) -> None:
    """Note that a complete check of the books ended."""
    Account.objects.filter(account_id=account_id).update(reconciled_at=at)


def moving_contracts(account_id: str, since: datetime) -> frozenset[int]:
    """Return the contracts that executions were booked in since a moment of the last seconds.

    IB's positions and the books are not of one moment: while a contract trades without a pause they differ for ever.
    """
    newest = Execution.objects.filter(account_id=account_id).order_by("-id")
    rows = newest.values_list("instrument_id", "recorded_at")[:_NEWEST]
    return frozenset(con_id for con_id, recorded_at in rows if recorded_at >= since)


def compare_positions(
    account_id: str,
    ib_positions: Mapping[int, Decimal],
    at: datetime,
    *,
    day: BrokerDay | None = None,
    moving: Collection[int] = (),
) -> list[BreakFact]:
    """Open, update and clear breaks; return those that changed. Running it twice on the same facts changes nothing.

    ``day`` is what IB's replay held; without it causes among the day's executions are not looked for. A difference in a
    ``moving`` contract says nothing yet: neither opens nor changes a break.
    Raises: LedgerError when IB holds a contract that the ledger has never seen described (ensure it first).
    """
    with transaction.atomic():
        found = {one.con_id: one for one in compare(ib_positions, ledger_quantities(account_id))}
        known = Instrument.objects.in_bulk(found)
        unknown = sorted(set(found) - set(known))
        if unknown:
            raise LedgerError(
                f"IB holds contracts that are not described yet: {', '.join(map(str, unknown))}.",
                code="unknown_instrument",
                con_ids=unknown,
            )
        opened = list(
            Break.objects.filter(account_id=account_id, state=BreakState.OPEN, kind=BreakKind.POSITION).select_related(
                "instrument"
            )
        )
        settled = {con_id: one for con_id, one in found.items() if con_id not in moving}
        why = {
            con_id: causes.as_json(lines)
            for con_id, lines in causes.of_positions(account_id, list(settled.values()), day, at).items()
        }
        changed = []
        for row in opened:
            assert row.instrument_id is not None  # noqa: S101 - a break of a position has one
            con_id = row.instrument_id
            if con_id in found and con_id not in settled:
                continue
            if _continue_position(row, settled.pop(con_id, None), ib_positions.get(con_id, ZERO), at, why):
                changed.append(row)
        update_rows(Break, _SAVED, "id", (_saved(row) for row in changed))
        news = [_new_position(account_id, one, known[one.con_id], at, why) for one in settled.values()]
        made = Break.objects.bulk_create(news, batch_size=_ROWS)
        return [_fact(row) for row in [*changed, *made]]


def compare_cash(
    account_id: str,
    ib_cash: Mapping[str, Decimal],
    at: datetime,
    *,
    marks: Mapping[int, Decimal] | None = None,
    day: BrokerDay | None = None,
) -> list[BreakFact]:
    """Open, update and clear breaks of cash, currency by currency; return those that changed.

    Shape: ``ib_cash`` holds IB's cash by currency code of a complete download, without BASE. Money, not cents: the
    tolerances are those of ``expected_cash``.
    """
    with transaction.atomic():
        expected = ledger_cash(account_id, marks)
        found = {one.currency: one for one in compare_money(ib_cash, expected)}
        facts: list[BreakFact] = []
        for row in Break.objects.filter(account_id=account_id, state=BreakState.OPEN, kind=BreakKind.CASH):
            difference = found.pop(row.currency, None)
            if difference is None and row.currency in expected.unknown:
                continue
            fact: BreakFact | None
            if difference is None:
                fact = _clear(row, ib_cash.get(row.currency, ZERO), expected.amounts.get(row.currency, ZERO), at)
            else:
                fact = _update(row, *_cash_values(account_id, difference, day))
            if fact is not None:
                facts.append(fact)
        facts.extend(_open_cash(account_id, one, at, day) for one in found.values())
    return facts


Causes = Mapping[int, dict[str, object]]


def _continue_position(row: Break, difference: Difference | None, agreed: Decimal, at: datetime, why: Causes) -> bool:
    """Clear or bring up to date an open break; tell whether it changed."""
    if difference is None:
        _set_cleared(row, agreed, agreed, at)
        return True
    return _set_values(row, difference.broker_quantity, difference.ledger_quantity, why[difference.con_id])


def _new_position(account_id: str, difference: Difference, instrument: Instrument, at: datetime, why: Causes) -> Break:
    theirs, ours = difference.broker_quantity, difference.ledger_quantity
    logger.error("break opened con_id=%s symbol=%s ib=%s ledger=%s", instrument.pk, instrument.symbol, theirs, ours)
    return Break(
        account_id=account_id,
        instrument=instrument,
        ib_quantity=theirs,
        ledger_quantity=ours,
        cause=why[difference.con_id],
        opened_at=at,
    )


def _open_cash(account_id: str, difference: CashDifference, at: datetime, day: BrokerDay | None) -> BreakFact:
    theirs, ours, cause = _cash_values(account_id, difference, day)
    row = Break.objects.create(
        account_id=account_id,
        kind=BreakKind.CASH,
        currency=difference.currency,
        ib_quantity=theirs,
        ledger_quantity=ours,
        cause=cause,
        opened_at=at,
    )
    logger.error("break opened currency=%s ib=%s expected=%s", row.currency, theirs, ours)
    return _fact(row)


Values = tuple[Decimal, Decimal, dict[str, object]]


def _cash_values(account_id: str, difference: CashDifference, day: BrokerDay | None) -> Values:
    found = causes.of_cash(account_id, difference.currency, difference.amount, difference.tolerance, day)
    return difference.broker_amount, difference.expected_amount, causes.as_json(found)


def _saved(row: Break) -> tuple[object, ...]:
    return (
        row.ib_quantity,
        row.ledger_quantity,
        BreakState(row.state).value,
        row.cleared_at,
        json.dumps(row.cause),
        row.pk,
    )


def _update(row: Break, theirs: Decimal, ours: Decimal, cause: dict[str, object]) -> BreakFact | None:
    if not _set_values(row, theirs, ours, cause):
        return None
    row.save(update_fields=_SAVED)
    return _fact(row)


def _set_values(row: Break, theirs: Decimal, ours: Decimal, cause: dict[str, object]) -> bool:
    if (row.ib_quantity, row.ledger_quantity, row.cause) == (theirs, ours, cause):
        return False
    row.ib_quantity, row.ledger_quantity, row.cause = theirs, ours, cause
    return True


def _clear(row: Break, theirs: Decimal, ours: Decimal, at: datetime) -> BreakFact:
    _set_cleared(row, theirs, ours, at)
    row.save(update_fields=_SAVED)
    return _fact(row)


def _set_cleared(row: Break, theirs: Decimal, ours: Decimal, at: datetime) -> None:
    row.ib_quantity, row.ledger_quantity = theirs, ours
    row.state, row.cleared_at = BreakState.CLEARED, at
    logger.info("break cleared con_id=%s currency=%s quantity=%s", row.instrument_id, row.currency, theirs)


def _fact(row: Break) -> BreakFact:
    instrument = row.instrument
    return BreakFact(
        con_id=instrument.con_id if instrument is not None else 0,
        symbol=instrument.symbol if instrument is not None else "",
        ib_quantity=row.ib_quantity,
        ledger_quantity=row.ledger_quantity,
        state=BreakState(row.state).value,
        kind=BreakKind(row.kind).value,
        currency=row.currency,
        cause=row.cause,
        id=row.pk,
    )
