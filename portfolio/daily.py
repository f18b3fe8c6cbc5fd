"""What each owner realised today, kept up by reading only what is new.

Owns: the running sums of one day in one process. Why: a loss limit is checked before every order, and adding up the
day's movements each time would cost more with every fill.
Rule: everything that realises something counts: fills and fees, and what is no fill (dividends, taxes, interest, fees,
expiries, settlements), since money that is lost is lost however it went. A movement belongs to the UTC day of its
execution, one without to the day on which its adjustment took effect; a new day starts from what belongs to it.
"""

from __future__ import annotations

import threading
from datetime import date, datetime, timedelta
from decimal import Decimal

from django.db.models import Max, Min, Q

from portfolio.accounts import rates_of
from portfolio.ledger.money import ZERO
from portfolio.models import Adjustment, Execution, Movement
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
        end = start + timedelta(days=1)
        of_fills = Q(execution__executed_at__gte=start, execution__executed_at__lt=end)
        of_events = Q(execution=None, adjustment__effective_at__gte=start, adjustment__effective_at__lt=end)
        rows = Movement.objects.filter(of_fills | of_events, id__gt=self._last, id__lte=newest)
        for account_id, owner, currency, gain in rows.values_list("account_id", "owner", "currency", "realized_pnl"):
            key = (account_id, owner, currency)
            self._sums[key] = self._sums.get(key, ZERO) + gain
        self._last = newest


def _before(start: datetime, newest: int) -> int:
    """Return a movement id below every movement of the day that starts, found without reading the journal.

    Adjustments are few. Executions and movements are numbered as they are booked, so the first execution of the day has
    the first movements; a few are looked at because a superseded one has none.
    """
    first = Execution.objects.filter(executed_at__gte=start).order_by("executed_at").values_list("id", flat=True)
    oldest = min(first, default=None)
    events = list(Adjustment.objects.filter(effective_at__gte=start).order_by("id").values_list("id", flat=True)[:500])
    event = Movement.objects.filter(adjustment_id__in=events).aggregate(first=Min("id"))["first"]
    until = newest if event is None else min(newest, event - 1)
    if oldest is None:
        return until
    few = Execution.objects.filter(id__gte=oldest).order_by("id").values_list("id", flat=True)[:100]
    found = Movement.objects.filter(execution_id__in=list(few)).aggregate(first=Min("id"))["first"]
    return 0 if found is None else min(until, found - 1)
