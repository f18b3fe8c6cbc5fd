"""Denials that repeat: a strategy that keeps trying leaves one row for each second and order, with the number of tries.

Owns: which denial is the same again, and how often it came. Leaves: rows (``intents``), when to write the numbers.
Rule: nothing is silent: every try is counted, and its number is on record within about a second. Thread-safe, and pure
but for its lock.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from trading.orders.drafts import OrderDraft

SAME_WITHIN_S = 1.0
Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class _Denial:
    order_ref: str
    since: float
    repeats: int = 0


class Denials:
    """What was denied within the last second. Units: seconds of a monotonic clock, given by the caller."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[Key, _Denial] = {}
        self._over: list[tuple[str, int]] = []

    def repeated(self, draft: OrderDraft, code: str, now: float) -> str:
        """Count a denial and return the reference of the row that stands for it; empty when it needs its own."""
        key = key_of(draft, code)
        with self._lock:
            found = self._known.get(key)
            if found is None or now - found.since >= SAME_WITHIN_S:
                return ""
            self._known[key] = replace(found, repeats=found.repeats + 1)
            return found.order_ref

    def begin(self, draft: OrderDraft, code: str, order_ref: str, now: float) -> None:
        """Have a row stand for the same denials of the next second."""
        key = key_of(draft, code)
        with self._lock:
            before = self._known.get(key)
            if before is not None and before.repeats:
                self._over.append((before.order_ref, before.repeats))
            self._known[key] = _Denial(order_ref, now)

    def take_over(self, now: float) -> list[tuple[str, int]]:
        """Return the rows whose second is over with the number of further tries, each once."""
        with self._lock:
            over = {key: one for key, one in self._known.items() if now - one.since >= SAME_WITHIN_S}
            for key in over:
                del self._known[key]
            found, self._over = self._over, []
            return [*found, *((one.order_ref, one.repeats) for one in over.values() if one.repeats)]


def key_of(draft: OrderDraft, code: str) -> Key:
    """Return what makes two denials the same: the order's terms, whose it is, and the check."""
    return (
        code,
        draft.owner,
        draft.contract.con_id,
        tuple((leg.con_id, leg.ratio) for leg in draft.contract.legs),
        draft.side,
        draft.quantity,
        draft.order_type,
        draft.limit_price,
        draft.stop_price,
        draft.trail_amount,
        draft.trail_percent,
    )
