"""Executions of contracts that IB has not described yet: quiet while the answer is under way, trouble when none comes.

Owns: how long is in time, and that somebody looks when no check of the books can be made. Leaves: keeping the reports
(``portfolio.parking``), asking IB and trying again (``reconciler``), the words of alerts (``check_alerts``).
Rule: such a report waits without an alert until the check that asks for its contract has ended, and never longer than
``PATIENCE``; from then on it is trouble like any other report that cannot be booked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from portfolio.instruments import UNDESCRIBED
from portfolio.models import ParkedReport, ParkedState
from trading.engine.check_alerts import report_waiting

PATIENCE = timedelta(seconds=30)  # a check is asked for at once, begins within two seconds and gives IB fifteen


def is_under_way(error: BaseException) -> bool:
    """Tell whether a report could not be booked only because IB has not described its contract yet."""
    return getattr(error, "code", "") == UNDESCRIBED


class Undescribed:
    """Since when a report may wait for its contract. Thread-safe. An earlier engine may have left some."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._since: float | None = clock()

    def note(self) -> None:
        """Note that a report waits."""
        with self._lock:
            self._since = self._clock() if self._since is None else self._since

    def take_overdue(self) -> bool:
        """Tell, once for what was noted, whether it has been waiting for too long by now."""
        with self._lock:
            is_over = self._since is not None and self._clock() - self._since >= PATIENCE.total_seconds()
            self._since = None if is_over else self._since
            return is_over

    def report(self, now: datetime) -> None:
        """Open the alerts of reports that wait for too long; inside a job. Younger ones are looked at again."""
        waiting = list(ParkedReport.objects.filter(state=ParkedState.WAITING, code=UNDESCRIBED).order_by("id"))
        overdue = [row for row in waiting if now - row.parked_at >= PATIENCE]
        report_waiting(overdue, now)
        if len(overdue) < len(waiting):
            self.note()
