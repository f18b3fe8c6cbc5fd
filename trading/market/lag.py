"""How late bars are, symbol by symbol: whoever is late is not decided on until it caught up.

Leaves: suppressing notifications (``processor``). Pure.
Rule: looked at every so many bars of a symbol; lag is the age of a bar when it is handed out, counted from its end.
"""

from __future__ import annotations

from collections import Counter

SECOND_NS = 1_000_000_000


class LagControl:
    """Lag of every symbol. ``threshold_s`` more is late."""

    def __init__(self, threshold_s: float, every: int) -> None:
        self._threshold_ns = int(threshold_s * SECOND_NS)
        self._every = every
        self._seen: Counter[str] = Counter()
        self._lag_ns: dict[str, int] = {}
        self._late: set[str] = set()

    def note(self, symbol: str, end_ns: int, now_ns: int) -> bool | None:
        """Take note of a bar; tell True when its symbol became late, False when it caught up, None for no change."""
        self._lag_ns[symbol] = max(0, now_ns - end_ns)
        count = self._seen[symbol]
        self._seen[symbol] = count + 1
        if count % self._every:
            return None
        is_late = self._lag_ns[symbol] > self._threshold_ns
        if is_late == (symbol in self._late):
            return None
        if is_late:
            self._late.add(symbol)
        else:
            self._late.discard(symbol)
        return is_late

    def is_late(self, symbol: str) -> bool:
        """Tell whether strategies hear nothing of a symbol."""
        return symbol in self._late

    def lag_s(self, symbol: str) -> float | None:
        """Return the lag of the last bar in seconds; None before the first."""
        lag = self._lag_ns.get(symbol)
        return None if lag is None else lag / SECOND_NS

    def forget(self, symbol: str) -> None:
        """Forget a symbol."""
        self._seen.pop(symbol, None)
        self._lag_ns.pop(symbol, None)
        self._late.discard(symbol)

    def clear(self) -> None:
        """Forget everything: another day."""
        self._seen.clear()
        self._lag_ns.clear()
        self._late.clear()
