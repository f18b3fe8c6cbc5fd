"""What IB said of how contracts are quoted: the price magnifier of contract details, by contract id.

Owns: the memory of this process. Leaves: keeping it (``Instrument.price_magnifier``), dividing (``portfolio``).
Rule: every answer with contract details that passes any connection is noted (``tap``); what it says never changes.
A dictionary of ints: safe from any thread.
"""

from __future__ import annotations

from typing import Any

_said: dict[int, int] = {}


def note(details: Any) -> None:
    """Note contract details; IB leaves the magnifier at 0 where it says nothing."""
    contract = details.contract
    if contract is not None and contract.conId and details.priceMagnifier > 0:
        _said[contract.conId] = int(details.priceMagnifier)


def magnifier_said(con_id: int) -> int | None:
    """Return what quoted prices of a contract are divided by, None until IB described it."""
    return _said.get(con_id)
