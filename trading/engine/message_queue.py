"""The queue between the threads that hear the broker and the one thread that writes the ledger.

Owns: order of arrival, the bound, coalescing of statuses, first sieve of duplicates.
Leaves: folding (``handlers``), the thread and its transactions (``writer``).
Rule: fills, commissions and orders are never dropped, also past the bound (``spilled`` counts them); of several waiting
statuses of one order only the last stays, and every one that ends it; log lines are dropped when the queue is full. A
duplicate that the sieve misses is caught by the ledger's unique keys: the sieve only saves work.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from strategies.crashpoints import reach
from strategies.events import CommissionSnapshot, QueueMessage

_SIEVE_SIZE = 50_000
REPLAYS_AHEAD = 2_000  # repeated executions that may wait; more of them stay in the socket
_ENDS = frozenset({"Cancelled", "ApiCancelled", "Inactive", "Filled"})


@dataclass(slots=True)
class Job:
    """A write that is no broker message (marks, snapshots, states): done in its place in the queue."""

    work: Callable[[], Any]
    name: str
    future: Future[Any] = field(default_factory=Future)

    def settle(self, result: Any) -> None:
        """Hand over the result; a waiter that gave up is no error."""
        with suppress(InvalidStateError):
            self.future.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Hand over the failure; a waiter that gave up is no error."""
        with suppress(InvalidStateError):
            self.future.set_exception(error)


@dataclass(slots=True)
class Slot:
    """One place in the queue; ``item`` None when a later status of the same order replaced it."""

    item: QueueMessage | Job | None
    arrived_ns: int
    order: Hashable | None = None  # of a plain status: the order whose next status replaces it


@dataclass(slots=True)
class QueueFigures:
    """Counters since the start of the engine."""

    size: int = 0
    high_water: int = 0
    coalesced: int = 0
    spilled: int = 0
    duplicates: int = 0
    dropped_logs: int = 0


class Sieve:
    """Remembers the last keys it saw, with what came under them. Not thread-safe: used under the queue's lock."""

    def __init__(self, size: int = _SIEVE_SIZE) -> None:
        self._keys: OrderedDict[Hashable, int] = OrderedDict()
        self._size = size

    def is_new(self, key: Hashable, content: int = 0) -> bool:
        """Tell whether the key was not seen before, and remember it; one with other content is new every time."""
        if key in self._keys:
            return self._keys[key] != content
        self._keys[key] = content
        if len(self._keys) > self._size:
            self._keys.popitem(last=False)
        return True

    def __contains__(self, key: Hashable) -> bool:
        return key in self._keys

    def forget(self, key: Hashable) -> None:
        """Let the key pass again."""
        self._keys.pop(key, None)


def duplicate_key(message: QueueMessage) -> Hashable | None:
    """Return what makes an execution or commission the same as another one; None for what may repeat."""
    if message["type"] == "fill":
        return message["fill"].exec_id
    if message["type"] == "commission":
        return _fee_key(message["commission"])
    return None


def content_of(message: QueueMessage) -> int:
    """Return what tells two executions under one id apart: a repeat that says something else is no duplicate."""
    if message["type"] != "fill":
        return 0
    fill = message["fill"]
    return hash((fill.contract.con_id, fill.side, fill.quantity, fill.price, fill.account))


def _fee_key(report: CommissionSnapshot) -> Hashable:
    return (report.exec_id, report.amount, report.currency)


def order_key(message: QueueMessage) -> Hashable | None:
    """Return the identity of the order of a plain status; None for errors and everything that must stay."""
    trade = message["trade"]
    if message["type"] != "status_change" or trade is None or message["status"].code:
        return None
    return trade.order_ref or trade.perm_id or (trade.client_id, trade.order_id)


def _ends_order(item: QueueMessage | Job | None) -> bool:
    """Tell whether a status is the end of an order: one that was overtaken on another connection must not hide it."""
    return isinstance(item, dict) and item["type"] == "status_change" and item["status"].status in _ENDS


def _is_replay(item: QueueMessage | Job | None) -> bool:
    return isinstance(item, dict) and item["type"] == "fill" and item["fill"].is_replay


class MessageQueue:
    """Thread-safe queue; ``put`` from any thread, ``take`` from the message thread only."""

    def __init__(self, capacity: int = 10_000) -> None:
        self.capacity = capacity
        self._slots: deque[Slot] = deque()
        self._waiting_status: dict[Hashable, Slot] = {}
        self._sieve = Sieve()
        self._lock = threading.Lock()
        self._figures = QueueFigures()
        self._replaced = 0
        self._replays = 0
        self._wake: Callable[[], object] | None = None

    # The lock guards the sieve, the statuses and the counters, each for a moment. Appending and popping need none
    # (both are atomic): a consumer that held it over a whole batch would stall the threads that read the sockets.

    def put(self, message: QueueMessage) -> None:
        """Accept one message; never blocks for long."""
        slot = Slot(message, time.perf_counter_ns(), order_key(message))
        with self._lock:
            if self._is_superfluous(message):
                return
            if slot.order is not None:
                self._replace_waiting_status(slot)
            elif _is_replay(message):
                self._replays += 1
        self._append(slot)

    @property
    def is_replay_ahead(self) -> bool:
        """Tell whether repeated executions come faster than they are taken; live messages alone never make it so."""
        return self._replays >= REPLAYS_AHEAD

    def has_heard(self, exec_id: str, fee: CommissionSnapshot | None = None) -> bool:
        """Tell whether an execution, or this fee of it, was put and is not forgotten. One look, no lock."""
        return (exec_id if fee is None else _fee_key(fee)) in self._sieve

    def submit(self, work: Callable[[], Any], name: str) -> Future[Any]:
        """Have ``work()`` done by the message thread inside its fenced transaction; return its future."""
        job = Job(work, name)
        self._append(Slot(job, time.perf_counter_ns()))
        return job.future

    def _is_superfluous(self, message: QueueMessage) -> bool:
        key = duplicate_key(message)
        if key is not None and not self._sieve.is_new(key, content_of(message)):
            self._figures.duplicates += 1
            return True
        if message["type"] == "log" and len(self) >= self.capacity:
            self._figures.dropped_logs += 1
            return True
        return False

    def _replace_waiting_status(self, slot: Slot) -> None:
        earlier = self._waiting_status.get(slot.order)
        if earlier is not None and not _ends_order(earlier.item):
            earlier.item = None
            self._replaced += 1
            self._figures.coalesced += 1
        self._waiting_status[slot.order] = slot

    def _append(self, slot: Slot) -> None:
        self._slots.append(slot)
        size = len(self)
        if size > self._figures.high_water:
            self._figures.high_water = size
        if size > self.capacity:
            with self._lock:
                self._figures.spilled += 1
        self._call_wake()

    def _call_wake(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    def take(self, limit: int) -> list[Slot]:
        """Remove and return up to ``limit`` slots in order; empty when nothing waits."""
        taken: list[Slot] = []
        while self._slots and len(taken) < limit:
            slot = self._slots.popleft()
            if slot.order is None or self._is_last_status(slot):
                taken.append(slot)
        self._count_replays(taken, -1)
        if taken:
            reach("dequeue")
        return taken

    def _is_last_status(self, slot: Slot) -> bool:
        """Take a status out of reach of later ones; tell False when one has replaced it already."""
        with self._lock:
            if slot.item is None:
                self._replaced -= 1
                return False
            if self._waiting_status.get(slot.order) is slot:
                del self._waiting_status[slot.order]
            return True

    def put_back(self, slots: Iterable[Slot]) -> None:
        """Return slots that were taken to the front, in their order."""
        returned = list(slots)
        self._count_replays(returned, 1)
        self._slots.extendleft(reversed(returned))
        self._call_wake()

    def _count_replays(self, slots: Iterable[Slot], sign: int) -> None:
        found = sum(1 for slot in slots if _is_replay(slot.item))
        if found:
            with self._lock:
                self._replays += sign * found

    def forget(self, message: QueueMessage) -> None:
        """Let a message that could not be folded come again, as a replay will bring it."""
        key = duplicate_key(message)
        if key is not None:
            with self._lock:
                self._sieve.forget(key)

    def arm(self, wake: Callable[[], object]) -> bool:
        """Ask for a call of ``wake`` at the next message; tell False, and do not, when something waits already."""
        self._wake = wake
        if self._slots:  # looked at after arming: a message that came just before it called nobody
            self._wake = None
            return False
        return True

    def __len__(self) -> int:
        return len(self._slots) - self._replaced

    def figures(self) -> QueueFigures:
        """Return a copy of the counters."""
        with self._lock:
            self._figures.size = len(self)
            return QueueFigures(
                self._figures.size,
                self._figures.high_water,
                self._figures.coalesced,
                self._figures.spilled,
                self._figures.duplicates,
                self._figures.dropped_logs,
            )
