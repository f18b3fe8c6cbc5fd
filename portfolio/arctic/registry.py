"""Where an app above this one says where its rows come from.

Owns: the registrations: order rows, and who holds the engine's lease. Why apart from ``sources``: every process
registers as it starts, and only those that project need pandas and ArcticDB, which take a second to import.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Fetch = Callable[[int, int], Sequence[Row]]

Holder = Callable[[], str]

_order_rows: list[Fetch] = []
_holders: list[Holder] = []


def register_order_rows(fetch: Fetch) -> None:
    """Set where order events come from: ``fetch(after_seq, limit)`` returns rows by ``schema.ORDERS`` plus ``at``.

    Orders belong to an app above this one; it registers itself when it is ready.
    """
    _order_rows[:] = [fetch]


def registered_order_rows() -> Fetch | None:
    """Return where order events come from, None while nobody said."""
    return next(iter(_order_rows), None)


def register_engine_holder(holder: Holder) -> None:
    """Set how to learn which engine holds a lease that is in force: its name, empty when none does."""
    _holders[:] = [holder]


def registered_engine_holder() -> str:
    """Return the engine that holds the lease, empty while none does or nobody said how to learn it."""
    return next((holder() for holder in _holders), "")
