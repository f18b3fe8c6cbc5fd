"""The engine's message thread without its thread: real queue, real folding, real commits, and an end at any point.

Owns: starting and crashing an engine, emptying the tables between examples, reading the books as fractions.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from fractions import Fraction
from types import ModuleType
from typing import Any

from django.apps import apps
from django.db import connection, transaction

from portfolio.arctic.sources import movement_rows, split_movements
from portfolio.models import CashBalance, Execution, PendingCommission, Position
from portfolio.shares import by_quantity, holdings_of
from strategies import crashpoints
from strategies.events import QueueMessage
from tests.unit.portfolio.builders import ACCOUNT
from trading.engine import handlers
from trading.engine.handlers import Folding
from trading.engine.lease import Lease
from trading.engine.message_queue import Job, MessageQueue, Slot
from trading.engine.writer import LedgerWriter
from trading.orders.inflight import in_flight
from trading.orders.recording import owners

Report = Any  # an execution or a commission
POINTS = ("dequeue", "begin", "fill", "position", "cash", "event", "commit", "committed", "ring")


class Crash(BaseException):
    """The process ends here."""


@contextmanager
def crash_at(point: str, nth: int) -> Iterator[None]:
    """End the engine when it passes a point of the fill path the n-th time."""

    class _Kill:
        @staticmethod
        def getpid() -> int:
            return os.getpid()

        @staticmethod
        def kill(pid: int, signal: int) -> None:
            raise Crash(point)

    names = {"_target": point, "_remaining": nth, "os": _Kill}
    kept = {name: getattr(crashpoints, name) for name in names}
    _set(crashpoints, names)
    try:
        yield
    finally:
        _set(crashpoints, kept)


def _set(module: ModuleType, names: dict[str, Any]) -> None:
    for name, value in names.items():
        setattr(module, name, value)


class _Clock:
    """Stands in for the class ``datetime`` where the message thread asks for the time."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now

    def now(self, zone: object) -> datetime:
        return self._now()


@contextmanager
def own_clocks() -> Iterator[None]:
    """Give the message thread the wall clock back at the end."""
    try:
        yield
    finally:
        _set(handlers, {"datetime": datetime})


class _Writer(LedgerWriter):
    """Tells of every batch that is committed, also of one that the engine did not live to hear of."""

    committed: Callable[[list[Slot]], None]

    def _fold(self, slots: list[Slot]) -> list[Callable[[], object]]:
        try:
            after = super()._fold(slots)
        except Crash as crash:
            if str(crash) == "committed":
                self.committed(slots)
            raise
        self.committed(slots)
        return after


class Engine:
    """One life of the engine. ``hear`` is called with the reports of each committed batch."""

    def __init__(self, hear: Callable[[list[Report]], None], now: Callable[[], datetime]) -> None:
        _set(handlers, {"datetime": _Clock(now)})
        owners.forget()
        with in_flight._lock:
            in_flight._members.clear()
        self.queue = MessageQueue()
        self.lease = Lease(ttl_s=0.0)
        self.lease.acquire()
        self.folding = Folding(lambda: ACCOUNT, self.queue)
        self.folding.release()
        self.stale = False
        self.parked: list[str] = []
        self._hear = hear
        self.writer = _Writer(
            self.queue,
            self.folding,
            self.lease.assert_epoch,
            on_stale=lambda: None,
            on_trouble=lambda text: None,
            on_parked=lambda slot, error: self.parked.append(str(error)),
        )
        self.writer.loop.close()
        self.writer.committed = self._committed

    def _committed(self, slots: list[Slot]) -> None:
        found = []
        for slot in slots:
            if isinstance(slot.item, dict) and slot.item["type"] in ("fill", "commission"):
                found.append(slot.item["fill"] if slot.item["type"] == "fill" else slot.item["commission"])
        if found:
            self._hear(found)

    def pump(self, limit: int = 500) -> None:
        """Commit everything that waits, in batches."""
        while slots := self.queue.take(limit):
            self.writer._commit(slots)

    def deliver(self, messages: Sequence[QueueMessage], limit: int = 500) -> None:
        """Hear messages and commit them."""
        for message in messages:
            self.queue.put(message)
        self.pump(limit)

    def do(self, work: Callable[[], Any], name: str) -> Any:
        """Do a job in its place in the queue; return its result or raise its error."""
        future = self.queue.submit(work, name)
        self.pump()
        return future.result(0)


def empty() -> None:
    """Forget everything that is in the tables."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("PRAGMA defer_foreign_keys = ON")
        for app in ("portfolio", "trading", "strategies"):
            for model in apps.get_app_config(app).get_models():
                cursor.execute(f'DELETE FROM "{model._meta.db_table}"')  # noqa: S608 - names of our own tables


Kept = dict[tuple[str, Any], tuple[Fraction, ...]]


def positions() -> Kept:
    """Return quantity, basis and realised profit by owner and contract."""
    rows = Position.objects.values_list("owner", "instrument_id", "quantity", "cost_basis", "realized_pnl")
    return {(owner, con_id): tuple(map(Fraction, rest)) for owner, con_id, *rest in rows}


def balances() -> Kept:
    """Return cash and what was realised apart from positions, by owner and currency."""
    rows = CashBalance.objects.values_list("owner", "currency", "amount", "realized_apart")
    return {(owner, currency): tuple(map(Fraction, rest)) for owner, currency, *rest in rows}


def frames(*, in_order: bool) -> list[str]:
    """Return the rows that the research store is given, without ids and times of booking."""
    lines = []
    for target, records in sorted(split_movements(movement_rows(0, 1_000_000)).items(), key=str):
        rows = [str({k: v for k, v in one.values.items() if k not in ("seq", "ts")}) for one in records]
        lines += [str(target), *(rows if in_order else sorted(rows))]
    return lines


def books_hash(*, journal: bool = True) -> str:
    """Return a digest of positions, cash, realised profit, executions and their shares, and of the research rows."""
    lines = [f"{key} {row}" for key, row in sorted({**positions(), **balances()}.items(), key=str) if any(row)]
    columns = ("exec_id", "superseded", "owner", "divided", "quantity", "price", "commission", "commission_currency")
    lines += sorted(map(str, Execution.objects.values_list(*columns)))
    lines += sorted(map(str, PendingCommission.objects.values_list("exec_id", "amount", "currency")))
    for exec_id in sorted(Execution.objects.filter(superseded=False).values_list("exec_id", flat=True)):
        lines.append(f"{exec_id} {sorted(by_quantity(holdings_of(exec_id)[0]).items())}")
    lines += frames(in_order=True) if journal else []
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


__all__ = ["ACCOUNT", "Crash", "Engine", "Job", "balances", "books_hash", "crash_at", "empty", "positions"]
