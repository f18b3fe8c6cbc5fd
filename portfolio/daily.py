"""What each owner realised today, kept up by reading only what is new.

Owns: the running sums of one day in one process. Why: a loss limit is checked before every order, and adding up the
day's movements each time would cost more with every fill.
Rule: a movement belongs to the day of its execution, UTC; a new day starts from the executions of that day.
"""

from __future__ import annotations

import threading
from datetime import date, datetime, timedelta
from decimal import Decimal

from django.db.models import Max, Min

from portfolio.accounts import rates_of
from portfolio.ledger.money import ZERO
from portfolio.models import Execution, Movement
from portfolio.valuation import currency_of


class DailyPnl:
    """Realised P&L of the day by owner. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._day: date | None = None
        self._last = 0
        self._sums: dict[tuple[str, str, str], Decimal] = {}

    def realized(self, account_id: str, owner: str, now: datetime) -> Decimal:
        """Return what an owner realised since midnight UTC, net of fees, in its own currency.

        Raises: LedgerError when a currency in it has no rate.
        """
        with self._lock:
            self._catch_up(now)
            mine = {key[2]: total for key, total in self._sums.items() if key[:2] == (account_id, owner) and total}
        if not mine:
            return ZERO
        rates = rates_of(account_id)
        currency = currency_of(owner, rates.base)
        return sum((rates.convert(total, source, currency) for source, total in mine.items()), ZERO)

    def _catch_up(self, now: datetime) -> None:
        start = now.replace(hour=0, minute=0, second=0, microsecond=0)
        newest = Movement.objects.aggregate(newest=Max("id"))["newest"] or 0
        if self._day != start.date() or newest < self._last:
            self._day, self._last, self._sums = start.date(), _before(start, newest), {}
        rows = Movement.objects.filter(
            id__gt=self._last,
            id__lte=newest,
            execution__executed_at__gte=start,
            execution__executed_at__lt=start + timedelta(days=1),
        )
        for account_id, owner, currency, gain in rows.values_list("account_id", "owner", "currency", "realized_pnl"):
            key = (account_id, owner, currency)
            self._sums[key] = self._sums.get(key, ZERO) + gain
        self._last = newest


def _before(start: datetime, newest: int) -> int:
    """Return a movement id below every movement of the executions since ``start``, found without reading the journal.

    Executions and movements are numbered as they are booked, so the first execution of the day has the first movements;
    a few are looked at because a superseded one has none.
    """
    first = Execution.objects.filter(executed_at__gte=start).order_by("executed_at").values_list("id", flat=True)
    oldest = min(first, default=None)
    if oldest is None:
        return newest
    few = Execution.objects.filter(id__gte=oldest).order_by("id").values_list("id", flat=True)[:100]
    found = Movement.objects.filter(execution_id__in=list(few)).aggregate(first=Min("id"))["first"]
    return 0 if found is None else found - 1
