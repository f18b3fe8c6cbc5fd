"""Whether the books hold the same executions of the day as IB's complete replay.

Owns: the two sets and their difference. Leaves: the replay itself (``broker_state``), alerts (``check_alerts``).
Rule: one live revision of each execution counts, on both sides. What was booked while the replay ran is left out: IB
may have answered before it. A difference counts when two looks have it; only what the first lacked is named by the
second, so that a day costs a few bytes by execution and not its texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from portfolio.bulk import select_rows
from portfolio.causes import BrokerDay, day_start
from portfolio.ledger.revisions import split_exec_id
from portfolio.models import Account, Execution
from trading.engine.marks import Marks

_CHUNK = 5_000


@dataclass(slots=True)
class Replayed:
    """The executions that a replay brought; of those that are ``wanted`` also id and contract."""

    wanted: Marks = field(default_factory=Marks)
    marks: Marks = field(default_factory=Marks)
    named: dict[str, int] = field(default_factory=dict)

    def take(self, exec_id: str, con_id: int) -> None:
        """Note one execution."""
        self.marks.add(exec_id)
        if exec_id in self.wanted:
            self.named[exec_id] = con_id


@dataclass(frozen=True, slots=True)
class DayLook:
    """One comparison: what the books lack, by its marks, and what the broker did not report."""

    since: datetime
    missing: Marks
    unconfirmed: frozenset[str]

    @property
    def agrees(self) -> bool:
        """Tell whether both sides hold the same."""
        return not len(self.missing) and not self.unconfirmed


def live_executions(executions: Mapping[str, int]) -> dict[str, int]:
    """Return the revision in force of each execution, with its contract."""
    latest: dict[str, tuple[int, str]] = {}
    for exec_id in executions:
        family, revision = split_exec_id(exec_id)
        known = latest.get(family)
        if known is None or known[0] < revision:
            latest[family] = revision, exec_id
    return {exec_id: executions[exec_id] for _, exec_id in latest.values()}


def look_at_day(
    account_id: str, replayed: Replayed, asked_at: datetime, now: datetime, since: datetime | None = None
) -> DayLook:
    """Return how the books' executions of the day differ from a complete replay that was asked for at ``asked_at``.

    ``since`` is the moment from which on executions were asked for, None for the whole day; IB knows whole seconds.
    Reads only; costs the day's executions once, so it is done outside of the thread that writes the books.
    """
    since = day_start(now) if since is None else max(day_start(now), since.replace(microsecond=0))
    if not Account.objects.filter(account_id=account_id, opened_at__isnull=False).exists():
        return DayLook(since, Marks(), frozenset())
    booked, all_of_day = Marks(), Marks()
    for exec_id, superseded, recorded_at in _of_day(account_id, since):
        all_of_day.add(exec_id)
        if not superseded and recorded_at < asked_at:
            booked.add(exec_id)
    unknown = booked.without(replayed.marks)
    named = (row[0] for row in _of_day(account_id, since) if row[0] in unknown) if len(unknown) else ()
    return DayLook(since, replayed.marks.without(all_of_day), frozenset(named))


def settle_day(first: DayLook, second: DayLook, named: Mapping[str, int]) -> BrokerDay:
    """Return what both looks found, ``named`` by the second replay.

    An execution of another day, or one that a correction replaced, is neither expected nor missing.
    """
    missing = first.missing.shared(second.missing)
    candidates = live_executions({exec_id: con_id for exec_id, con_id in named.items() if exec_id in missing})
    elsewhere = {row[0] for row in select_rows(Execution, ("exec_id",), "exec_id", candidates)}
    left = {exec_id: con_id for exec_id, con_id in candidates.items() if exec_id not in elsewhere}
    return BrokerDay(left, second.since, frozenset(left), first.unconfirmed & second.unconfirmed)


def _of_day(account_id: str, since: datetime) -> Iterator[tuple[str, bool, datetime]]:
    # The account is compared here: named in the query, SQLite goes by its index and reads the executions of all days.
    rows = Execution.objects.filter(executed_at__gte=since)
    columns = rows.values_list("account_id", "exec_id", "superseded", "recorded_at")
    for account, exec_id, superseded, recorded_at in columns.iterator(chunk_size=_CHUNK):
        if account == account_id:
            yield exec_id, superseded, recorded_at
