"""What the engine does at times of the clock: the books of every hour, rebalancing by the account's schedule.

Owns: when each is due, that it happens once, what follows a failure or a time that was missed.
Leaves: the deeds (``portfolio.hourly``, ``portfolio.rebalance``), the thread (``jobs.Periodic``).
Rule: nothing is written before orders may flow and the books were compared within the last half minute; each deed is
one job of the message thread and leaves its mark in the same transaction, so that an engine that dies does it once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from portfolio import hourly, rebalance
from portfolio.cron import CHANGED, count_due, last_due
from portfolio.ledger.money import plain
from portfolio.models import Account
from portfolio.rebalance import RebalanceLine
from strategies import audit
from strategies.exceptions import TransientError
from strategies.models import AuditEntry
from trading.alerts import clear_alert, raise_alert
from trading.engine import events
from trading.engine.books_commands import write_bookings
from trading.engine.gate import Gate
from trading.engine.message_queue import MessageQueue
from trading.models import Severity

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
RETRY_AFTER = timedelta(seconds=300)
COMPARED_WITHIN = timedelta(seconds=30)
LATE_AT_MOST = timedelta(days=1)
JOB_WAIT_S = 60.0
DONE = "rebalance.scheduled"
ALERT = "rebalance:schedule"


class Session(Protocol):
    """The master session."""

    @property
    def connected(self) -> bool:
        """Tell whether the broker can be asked."""

    def reconcile(self, timeout_s: float = ...) -> dict[str, Any]:
        """Compare the books now."""


class Host(Protocol):
    """What the schedule needs of the engine."""

    account_id: str
    gate: Gate
    message_queue: MessageQueue

    @property
    def session(self) -> Session:
        """The master session."""


def _now() -> datetime:
    return datetime.now(UTC)


class Schedule:
    """The timed deeds of one engine. Each method is called every few seconds, on a thread of its own."""

    def __init__(self, host: Host, clock: Callable[[], datetime] = _now) -> None:
        self.keeps_hours = True
        self._host = host
        self._clock = clock
        self._started_at = clock()
        self._hour_done: datetime | None = None
        self._retry_at: datetime | None = None
        self._given_up: datetime | None = None

    def keep_hour(self) -> None:
        """Keep the books of the running hour when nobody has; after a failure again in five minutes.

        Raises: what kept it from it, for the log.
        """
        now = self._clock()
        if not self.keeps_hours or not self._is_ready() or hourly.hour_of(now) == self._hour_done:
            return
        if self._retry_at is not None and now < self._retry_at:
            return
        try:
            if hourly.is_due(self._host.account_id, now):
                self._compare(now)
                self._do(self._take_hour, "hourly")
        except Exception:
            self._retry_at = self._clock() + RETRY_AFTER
            raise
        self._hour_done, self._retry_at = hourly.hour_of(now), None

    def rebalance(self) -> None:
        """Rebalance when the account's schedule says so: once for each time, the last one alone of those missed.

        Raises: ConfigError for a schedule that is none; what kept it from it, for the log.
        """
        if not self._is_ready():
            return
        account, now = self._host.account_id, self._clock()
        cron = Account.objects.filter(pk=account).values_list("rebalance_cron", flat=True).first()
        if not cron:
            return
        due, settled = last_due(cron, now), self._settled_until(account)
        if due <= settled or due == self._given_up:
            return
        missed = count_due(cron, settled, due) - 1
        if missed > 0:
            logger.warning("rebalancing missed count=%d since=%s", missed, settled.isoformat())
        if now - due > LATE_AT_MOST:
            self._given_up = due
            logger.warning("rebalancing not made up for due=%s: more than a day late", due.isoformat())
            return
        self._compare(now)
        self._do(lambda: rebalance_at(account, due, self._clock()), "rebalance")

    def _is_ready(self) -> bool:
        host = self._host
        return bool(host.account_id) and host.session.connected and host.gate.is_open

    def _compare(self, now: datetime) -> None:
        """Compare the books unless that was done just now.

        Raises: TransientError when the broker does not answer, or the gate fell shut.
        """
        compared = Account.objects.filter(pk=self._host.account_id).values_list("reconciled_at", flat=True).first()
        if compared is None or not timedelta(0) <= now - compared <= COMPARED_WITHIN:
            self._host.session.reconcile()
        if not self._host.gate.is_open:
            raise TransientError("The books do not stand yet.", code="not_reconciled")

    def _do(self, work: Callable[[], Any], name: str) -> None:
        self._host.message_queue.submit(work, name).result(JOB_WAIT_S)

    def _take_hour(self) -> None:
        now = self._clock()
        hourly.take_hourly_snapshot(self._host.account_id, hourly.hour_of(now), now)

    def _settled_until(self, account: str) -> datetime:
        """Return up to when nothing is owed: the last time that was done, or when the schedule was last changed.

        Without either it is the start of this engine: a schedule of unknown age owes nothing.
        """
        last = AuditEntry.objects.filter(action__in=[DONE, CHANGED], subject=account).order_by("-id").first()
        if last is None:
            return self._started_at
        if last.action == CHANGED:
            return last.at
        return _due_of(last)


def _due_of(entry: AuditEntry) -> datetime:
    return datetime.fromisoformat((entry.after or {})["due"])


def rebalance_at(account: str, due: datetime, now: datetime) -> list[RebalanceLine]:
    """Rebalance all strategies for one time of the schedule, once, and report it; inside a job."""
    stamp = events.iso(due)
    done = AuditEntry.objects.filter(action=DONE, subject=account).order_by("-id").first()
    if done is not None and _due_of(done) >= due:
        return []
    lines, bookings = rebalance.apply(
        account, actor=audit.SCHEDULE, source=audit.SCHEDULE, key=f"cron:{stamp}", now=now
    )
    write_bookings(bookings, now)
    audit.record(
        DONE,
        account,
        actor=audit.SCHEDULE,
        source=audit.SCHEDULE,
        after={
            "due": stamp,
            "moved": {line.strategy: f"{plain(line.amount)} {line.currency}" for line in lines if line.amount},
            "refused": {line.strategy: line.reason for line in lines if line.refused},
            "limited": {line.strategy: line.limited_by for line in lines if line.limited_by},
        },
        now=now,
    )
    _tell(lines, now)
    return lines


def _tell(lines: Sequence[RebalanceLine], now: datetime) -> None:
    """Raise or clear the alert that not every strategy could be brought to its target."""
    open_ends = [f"{line.strategy}: {line.reason}" for line in lines if line.refused]
    open_ends += [f"{line.strategy}: {line.limited_by}." for line in lines if line.limited_by]
    warning = rebalance.target_warning()
    open_ends += [warning] if warning else []
    if not open_ends:
        clear_alert(ALERT, now)
        return
    title = "Not every strategy could be brought to its target weight"
    raise_alert(ALERT, Severity.WARNING, title, " ".join(open_ends), now=now)
