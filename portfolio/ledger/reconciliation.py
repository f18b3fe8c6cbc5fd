"""Compare the broker's positions with the ledger's. A difference is a value to show, never a correction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from portfolio.ledger.money import ZERO, exact


@dataclass(frozen=True, slots=True)
class Difference:
    """One contract in which the two books disagree."""

    con_id: int
    broker_quantity: Decimal
    ledger_quantity: Decimal


def compare(broker: Mapping[int, Decimal], ledger: Mapping[int, Decimal]) -> list[Difference]:
    """Return every contract whose quantities differ, by contract id; a missing contract holds zero.

    The caller passes a broker answer only when it is complete: a partial one would look like sold positions.

    >>> compare({1: Decimal(100)}, {1: Decimal(60), 2: Decimal(5)})[0]
    Difference(con_id=1, broker_quantity=Decimal('100.0000000000'), ledger_quantity=Decimal('60.0000000000'))
    >>> compare({1: Decimal(100)}, {1: Decimal("100.00"), 2: Decimal(0)})
    []
    """
    found = []
    for con_id in sorted({*broker, *ledger}):
        theirs, ours = exact(broker.get(con_id, ZERO)), exact(ledger.get(con_id, ZERO))
        if theirs != ours:
            found.append(Difference(con_id, theirs, ours))
    return found
