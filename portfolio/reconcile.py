"""Compare IB's positions with the ledger's and keep the differences as breaks.

Owns: the life of a break. Rule: a difference locks the instrument and is shown; it never moves a position. Only a
complete answer of the broker may be passed: an answer that failed or was cut off changes nothing, because it never
gets here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from django.db import transaction

from portfolio.facts import BreakFact
from portfolio.ledger.money import ZERO
from portfolio.ledger.reconciliation import Difference, compare
from portfolio.models import Break, BreakKind, BreakState, Instrument, Position
from strategies.exceptions import LedgerError

logger = logging.getLogger(__name__)


def ledger_quantities(account_id: str) -> dict[int, Decimal]:
    """Return Σ owners by contract id."""
    held: dict[int, Decimal] = {}
    rows = Position.objects.filter(account_id=account_id).values_list("instrument_id", "quantity")
    for con_id, quantity in rows:
        held[con_id] = held.get(con_id, ZERO) + quantity
    return held


def compare_positions(account_id: str, ib_positions: Mapping[int, Decimal], at: datetime) -> list[BreakFact]:
    """Open, update and clear breaks; return those that changed. Running it twice on the same facts changes nothing.

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
        facts = []
        opened = Break.objects.filter(account_id=account_id, state=BreakState.OPEN, kind=BreakKind.POSITION)
        for row in opened.select_related("instrument"):
            assert row.instrument is not None  # noqa: S101 - a break of a position has one
            fact = _continue(row, row.instrument, found.pop(row.instrument.con_id, None), ib_positions, at)
            if fact is not None:
                facts.append(fact)
        facts.extend(_open(account_id, difference, known[difference.con_id], at) for difference in found.values())
    return facts


def _continue(
    row: Break,
    instrument: Instrument,
    difference: Difference | None,
    ib_positions: Mapping[int, Decimal],
    at: datetime,
) -> BreakFact | None:
    """Clear or update an open break; None when it stands as it was."""
    if difference is None:
        agreed = ib_positions.get(instrument.con_id, ZERO)
        row.ib_quantity = row.ledger_quantity = agreed
        row.state, row.cleared_at = BreakState.CLEARED, at
        logger.info("break cleared con_id=%s quantity=%s", instrument.con_id, agreed)
    elif (row.ib_quantity, row.ledger_quantity) == (difference.broker_quantity, difference.ledger_quantity):
        return None
    else:
        row.ib_quantity, row.ledger_quantity = difference.broker_quantity, difference.ledger_quantity
    row.save(update_fields=["ib_quantity", "ledger_quantity", "state", "cleared_at"])
    return _fact(row, instrument)


def _open(account_id: str, difference: Difference, instrument: Instrument, at: datetime) -> BreakFact:
    row = Break.objects.create(
        account_id=account_id,
        instrument=instrument,
        ib_quantity=difference.broker_quantity,
        ledger_quantity=difference.ledger_quantity,
        opened_at=at,
    )
    logger.error(
        "break opened con_id=%s symbol=%s ib=%s ledger=%s",
        instrument.con_id,
        instrument.symbol,
        difference.broker_quantity,
        difference.ledger_quantity,
    )
    return _fact(row, instrument)


def _fact(row: Break, instrument: Instrument) -> BreakFact:
    return BreakFact(
        instrument.con_id, instrument.symbol, row.ib_quantity, row.ledger_quantity, BreakState(row.state).value
    )
