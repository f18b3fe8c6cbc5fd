"""Whether the books hold the same executions of the day as IB's complete replay.

Owns: the two sets and their difference. Leaves: the replay itself (``broker_state``), alerts (``check_alerts``).
Rule: one live revision of each execution counts, on both sides. What was booked while the replay ran is left out: IB
may have answered before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from portfolio.bulk import select_rows
from portfolio.causes import BrokerDay, day_start
from portfolio.ledger.revisions import split_exec_id
from portfolio.models import Account, Execution


def live_executions(executions: Mapping[str, int]) -> dict[str, int]:
    """Return the revision in force of each execution, with its contract."""
    latest: dict[str, tuple[int, str]] = {}
    for exec_id in executions:
        family, revision = split_exec_id(exec_id)
        known = latest.get(family)
        if known is None or known[0] < revision:
            latest[family] = revision, exec_id
    return {exec_id: executions[exec_id] for _, exec_id in latest.values()}


def compare_day(account_id: str, replayed: Mapping[str, int], asked_at: datetime, now: datetime) -> BrokerDay:
    """Return how the books' executions of the day differ from a complete replay that was asked for at ``asked_at``.

    Reads only; costs the day's executions once, so it is done outside of the thread that writes the books.
    """
    broker = live_executions(replayed)
    since = day_start(now)
    opened_at = Account.objects.filter(account_id=account_id).values_list("opened_at", flat=True).first()
    if opened_at is None:
        return BrokerDay(broker, since)
    rows = Execution.objects.filter(account_id=account_id, superseded=False, executed_at__gte=since)
    booked: set[str] = set()
    late: set[str] = set()
    for exec_id, recorded_at in rows.values_list("exec_id", "recorded_at").iterator(chunk_size=5000):
        (booked if recorded_at < asked_at else late).add(exec_id)
    candidates = set(broker) - booked - late
    elsewhere = {row[0] for row in select_rows(Execution, ("exec_id",), "exec_id", candidates)}
    return BrokerDay(broker, since, frozenset(candidates - elsewhere), frozenset(booked - set(broker)))


def both(first: BrokerDay, second: BrokerDay) -> BrokerDay:
    """Return the second look with only those differences that the first had too."""
    return BrokerDay(
        second.executions, second.since, first.missing & second.missing, first.unconfirmed & second.unconfirmed
    )
