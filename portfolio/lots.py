"""Show a position as lots, first in first out, with their dates.

Owns: the query. Leaves: the rule to ``ledger.lots``. Cost: the length of that position's journal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from portfolio.ledger.lots import lots_of_entries
from portfolio.ledger.money import ZERO
from portfolio.ledger.positions import average_cost
from portfolio.models import Instrument, Movement
from portfolio.refolding import adjustment_ref, execution_ref, read_journal
from strategies.exceptions import NotFoundError


@dataclass(frozen=True, slots=True)
class OpenLot:
    """Units that are held. Units: signed; price per unit; cost with multiplier, in the instrument's currency."""

    opened_at: datetime
    quantity: Decimal
    price: Decimal
    cost: Decimal


@dataclass(frozen=True, slots=True)
class SoldLot:
    """Units that were closed, and what they realised before fees."""

    opened_at: datetime
    closed_at: datetime
    quantity: Decimal
    cost: Decimal
    proceeds: Decimal
    realized_pnl: Decimal


@dataclass(frozen=True, slots=True)
class PositionLots:
    """All lots of one owner in one instrument; ``realized_pnl`` with income and less fees, first in first out."""

    open: list[OpenLot] = field(default_factory=list)
    closed: list[SoldLot] = field(default_factory=list)
    fees: Decimal = ZERO
    income: Decimal = ZERO
    realized_pnl: Decimal = ZERO


def position_lots(account_id: str, owner: str, con_id: int) -> PositionLots:
    """Return the lots of one owner in one instrument.

    Raises: NotFoundError when the books know no such contract.
    """
    instrument = Instrument.objects.filter(con_id=con_id).first()
    if instrument is None:
        raise NotFoundError(f"The books know no contract {con_id}.", code="unknown_contract", con_id=con_id)
    journal = read_journal(account_id, owner, con_id, instrument.currency, instrument.multiplier)
    found = lots_of_entries(journal.all_entries(), instrument.multiplier)
    times = _times(account_id, con_id)
    return PositionLots(
        open=[
            OpenLot(
                times[lot.ref],
                lot.quantity,
                average_cost(lot.quantity, lot.cost, instrument.multiplier),
                lot.cost,
            )
            for lot in found.open
        ],
        closed=[
            SoldLot(times[one.opened], times[one.closed], one.quantity, one.cost, one.proceeds, one.realized)
            for one in found.closed
        ],
        fees=found.fees,
        income=found.income,
        realized_pnl=found.realized,
    )


def _times(account_id: str, con_id: int) -> dict[str, datetime]:
    """Return when each entry of the journals of a contract happened."""
    found: dict[str, datetime] = {}
    rows: Iterable[Any] = Movement.objects.filter(account_id=account_id, instrument_id=con_id).values(
        "id",
        "booked_at",
        "execution__exec_id",
        "execution__executed_at",
        "adjustment__key",
        "adjustment__effective_at",
    )
    for row in rows:
        if row["execution__exec_id"] is not None:
            found[execution_ref(row["execution__exec_id"])] = row["execution__executed_at"]
        elif row["adjustment__key"] is not None:
            found[adjustment_ref(row["adjustment__key"])] = row["adjustment__effective_at"]
        else:
            found[f"row:{row['id']}"] = row["booked_at"]
    return found
