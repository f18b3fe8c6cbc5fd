"""When IB's cash may be compared with the books, and whether it agrees.

Owns: the conditions of a look, and the differences that are known as breaks. Leaves: the figures (``broker_state``),
the arithmetic and the breaks (``portfolio.reconcile``).
Rule: IB's figures lag behind its executions, so a look counts only when no execution was booked for a while and every
commission of the day is known; otherwise nothing opens and nothing clears.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from portfolio import services as books
from portfolio.causes import BrokerDay, day_start
from portfolio.ledger.reconciliation import CashDifference
from portfolio.models import Break, BreakKind, BreakState, Execution
from strategies.exceptions import LedgerError
from trading.engine.broker_state import AccountAnswer
from trading.engine.check_alerts import report_breaks, report_commissions

_NAMED = 10


@dataclass(frozen=True, slots=True)
class CheckTimes:
    """How often the books are checked, and how long a check waits. Units: seconds."""

    compare_every_s: float = 15.0
    replay_every_s: float = 300.0
    look_pause_s: float = 0.25
    quiet_s: float = 10.0
    commission_alarm_s: float = 60.0


@dataclass(frozen=True, slots=True)
class CashLook:
    """One look at cash. ``waiting`` says why it does not count, and is empty when it does."""

    waiting: str = ""
    differs: bool = False  # other than the breaks that are known
    missing: tuple[str, ...] = ()  # executions of the day without commission, the first of them
    count: int = 0  # of those; negative when they were not counted


class CashCheck:
    """Decides on the master's loop; ``look`` only reads and may run on any thread, ``record`` is a job."""

    def __init__(self, account: str, times: CheckTimes) -> None:
        self.account = account
        self._times = times
        self._known: dict[str, Decimal] = {}
        self._unknown_since: float | None = None
        self._alarm: bool | None = None  # None: an earlier engine may have left one

    def look(self, answer: AccountAnswer, now: datetime) -> CashLook:
        """Tell whether IB's cash differs from the books other than is known. An answer without cash is none."""
        try:
            cash = answer.cash()
        except LedgerError as error:
            return CashLook(error.message, count=-1)
        if self._is_busy(now):
            return CashLook("Cash waits for calm.", count=-1)
        missing = self._without_commission(now)
        if count := len(missing):
            return CashLook(
                f"Cash waits for {count} commission{'s' if count > 1 else ''}.", False, tuple(missing[:_NAMED]), count
            )
        found = books.cash_differences(self.account, cash, answer.marks)
        return CashLook(differs=not self._is_known(found))

    def needs_check(self, look: CashLook) -> bool:
        """Tell whether a look calls for a complete check: cash differs, or commissions are overdue or came at last."""
        if look.count > 0 and self._unknown_since is None:
            self._unknown_since = time.monotonic()
        if look.count == 0:
            self._unknown_since = None
        if look.differs or (look.count == 0 and self._alarm):
            return True
        return self._is_overdue() and not self._alarm

    def record(self, answer: AccountAnswer, look: CashLook, day: BrokerDay | None, now: datetime) -> int:
        """Open, update and clear breaks and alarms by the last look; return how many currencies differ."""
        if not look.waiting and not self._is_busy(now):
            report_breaks(books.compare_cash(self.account, answer.cash(), now, marks=answer.marks, day=day), now)
        if look.count == 0 and self._alarm is not False:
            report_commissions([], 0, now)
            self._alarm = False
        elif look.count > 0 and self._is_overdue():
            report_commissions(look.missing, look.count, now)
            self._alarm = True
        opened = Break.objects.filter(account_id=self.account, state=BreakState.OPEN, kind=BreakKind.CASH)
        self._known = {row.currency: row.ib_quantity - row.ledger_quantity for row in opened}
        return len(self._known)

    def _without_commission(self, now: datetime) -> list[str]:
        # The account is compared here: named in the query, SQLite goes by its index and reads the whole history.
        rows = Execution.objects.filter(superseded=False, commission=None, executed_at__gte=day_start(now))
        found = rows.order_by("executed_at", "id").values_list("account_id", "exec_id")
        return [exec_id for account, exec_id in found.iterator(chunk_size=5_000) if account == self.account]

    def _is_busy(self, now: datetime) -> bool:
        rows = Execution.objects.filter(account_id=self.account).order_by("-id")
        recorded_at = rows.values_list("recorded_at", flat=True).first()
        return recorded_at is not None and abs((now - recorded_at).total_seconds()) < self._times.quiet_s

    def _is_overdue(self) -> bool:
        since = self._unknown_since
        return since is not None and time.monotonic() - since >= self._times.commission_alarm_s

    def _is_known(self, found: list[CashDifference]) -> bool:
        """Whether these are the open breaks; both sides of one may move together, as with every fill."""
        if {one.currency for one in found} != set(self._known):
            return False
        return all(abs(one.amount - self._known[one.currency]) <= one.tolerance for one in found)
