"""One symbol of a session: its pairs, who holds it, its calendar.

Owns: looking the calendar up again when bars leave it or an operator edits it, figures. Leaves: everything else. Pure.
"""

from __future__ import annotations

import threading
from datetime import date
from typing import Any, Protocol

import numpy as np

from strategies.bar_series import moment_of
from strategies.exceptions import ConflictError
from trading.market.session_pair import Pair
from trading.market.session_table import SessionTable


class Calendar(Protocol):
    """The clock and calendar that the data goes by: a ``TimeManager``."""

    revision: int

    def now_ns(self) -> int:
        """Return the present in epoch nanoseconds."""

    def session_table(
        self, exchange: str | None = None, first: date | None = None, last: date | None = None
    ) -> SessionTable:
        """Return the sessions between two days at least."""


class SymbolData:
    """One symbol: its pairs, who holds it, its calendar."""

    def __init__(self, name: str, exchange: str, calendar: Calendar, *, adhoc: bool) -> None:
        self.name, self.exchange, self.adhoc = name, exchange, adhoc
        self.locks: set[str] = set()
        self.pairs: dict[str, Pair] = {}
        self.lock = threading.RLock()
        self._calendar = calendar
        self._table: SessionTable | None = None
        self._revision = -1
        self._bounds = (0, 0)

    def table(self) -> SessionTable:
        """Return the calendar as it was last looked up."""
        if self._table is None:
            now = moment_of(self._calendar.now_ns()).date()
            self.cover(now, now)
        return self._known()

    def _known(self) -> SessionTable:
        if self._table is None:
            raise ConflictError(f"{self.name} has no calendar yet.", code="no_calendar")
        return self._table

    def cover(self, first: date, last: date) -> bool:
        """Look the calendar up where it changed, or where days lie outside; tell whether it changed."""
        fits = self._table is not None and self._bounds[0] <= first.toordinal() and last.toordinal() <= self._bounds[1]
        edited = self._revision not in (-1, self._calendar.revision)
        if fits and not edited:
            return False
        found = self._calendar.session_table(self.exchange, first, last)
        self._table, self._revision = found, self._calendar.revision
        self._bounds = (found.first_day.toordinal(), found.last_day.toordinal())
        return edited

    def cover_ns(self, first_ns: int, last_ns: int) -> None:
        """Look the calendar up for bars; after an operator's edit everything is computed anew."""
        if self.cover(moment_of(first_ns).date(), moment_of(last_ns).date()):
            for pair in self.pairs.values():
                if pair.source is None:
                    pair.recompute()

    def figures(self, now_ns: int, *, with_quality: bool) -> dict[str, Any]:
        """Return figures for people, JSON-able; what is not known is None."""
        finest = min(self.pairs.values(), key=lambda pair: pair.interval.seconds, default=None)
        return {
            "symbol": self.name,
            "exchange": self.exchange,
            "adhoc": self.adhoc,
            "locked_by": sorted(self.locks),
            "pairs": {
                interval: pair.figures(now_ns, with_quality=with_quality)
                for interval, pair in sorted(self.pairs.items())
            },
            "today": self._today(finest, now_ns) if finest is not None else None,
        }

    def _today(self, pair: Pair, now_ns: int) -> dict[str, float | int] | None:
        table, series = self.table(), pair.series
        session = table.session_at(now_ns)
        first = int(np.searchsorted(series.starts, table.pre[session])) if session >= 0 else series.count
        if first >= series.count:
            return None
        return {
            "bars": series.count - first,
            "high": float(series.high[first:].max()),
            "low": float(series.low[first:].min()),
            "last": float(series.close[-1]),
            "volume": float(series.volume[first:].sum()),
        }
