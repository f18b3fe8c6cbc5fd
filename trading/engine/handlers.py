"""What each message of the queue does to the tables: one batch, inside one transaction.

Owns: the order in which a batch is folded, and the events that report it.
Leaves: quantities and cash (``portfolio.services``), order states (``trading.orders.services``), commit (``writer``).
Rule: orders first, so that their fills find an owner; then executions and commissions; statuses after them, since a
cancel is believed only when the executions agree; jobs last, since they look at the result. Of an order, a position
or a cash balance that changed several times in the batch only the end is reported.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from django.db import InterfaceError, OperationalError, transaction

from portfolio import services as books
from portfolio.facts import FoldResult
from portfolio.models import ParkedState
from strategies.events import CommissionSnapshot, FillSnapshot, QueueMessage
from strategies.exceptions import StaleEpochError
from trading.engine import events
from trading.engine.check_alerts import report_contradictions, report_parked
from trading.engine.events import Event, EventKind
from trading.engine.message_queue import Job, MessageQueue, Slot
from trading.engine.risk_alerts import halt_overfilled
from trading.engine.undescribed import Undescribed, is_under_way
from trading.models import Order
from trading.orders import services as orders
from trading.orders.rows import OrderBatch

logger = logging.getLogger(__name__)

_REFUSED_KEPT = 1000


@dataclass(slots=True)
class Sorted:
    """A batch by kind, each kind in order of arrival."""

    orders: list[QueueMessage] = field(default_factory=list)
    money: list[FillSnapshot | CommissionSnapshot] = field(default_factory=list)
    money_slots: list[Slot] = field(default_factory=list)
    statuses: list[QueueMessage] = field(default_factory=list)
    logs: list[QueueMessage] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)


def sort(slots: Iterable[Slot]) -> Sorted:
    """Put a batch into the order in which it is folded."""
    found = Sorted()
    for slot in slots:
        item = slot.item
        if item is None:
            continue
        if isinstance(item, Job):
            found.jobs.append(item)
        elif item["type"] in ("fill", "commission"):
            found.money.append(item["fill"] if item["type"] == "fill" else item["commission"])
            found.money_slots.append(slot)
        elif item["type"] == "order":
            found.orders.append(item)
        elif item["type"] == "status_change":
            found.statuses.append(item)
        elif item["type"] == "log":
            found.logs.append(item)
    return found


class Folding:
    """Folds batches for one account. Runs on the message thread only.

    Executions are held back until the account is opened: its opening balances must not count them twice.
    """

    def __init__(self, account: Callable[[], str], queue: MessageQueue) -> None:
        self._account = account
        self._queue = queue
        self._held: list[Slot] = []
        self._refused: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self._holding = True
        self.undescribed = Undescribed()
        self.on_positions: Callable[[], object] = lambda: None  # called after a commit that moved positions
        self.on_currencies: Callable[[frozenset[str]], object] = lambda _: None  # after one that moved cash, with which

    def release(self) -> None:
        """Fold executions from now on, those held back first."""
        with self._lock:
            self._holding = False
            held, self._held = self._held, []
        self._queue.put_back(held)

    def fold(self, slots: list[Slot]) -> list[Callable[[], object]]:
        """Write a batch and the events that report it; return what to call after the commit."""
        batch = sort(slots)
        now = datetime.now(UTC)
        changed: dict[str, Order] = {}
        placed = [message["trade"] for message in batch.orders if message["trade"] is not None]
        heard = [(m["trade"], m["status"]) for m in batch.statuses if m["trade"] is not None]
        fills = [item for item in batch.money if isinstance(item, FillSnapshot)]
        opened = orders.open_batch([*placed, *(trade for trade, _ in heard)], fills, now)
        _note(changed, orders.record_orders(placed, now, opened))
        result, after = self._fold_money(batch, opened, now)
        report_contradictions(result.contradictions, now)
        filled = orders.record_executions(result.new_executions, now, opened)
        _note(changed, filled)
        halt_overfilled(filled)
        _note(changed, orders.record_statuses(heard, now, opened))
        opened.write()
        events.write([*report(result, changed.values(), now), *(_log_event(line, now) for line in batch.logs)])
        if result.touched_positions:
            after.append(self.on_positions)
        if result.touched_cash:
            moved = frozenset(cash.currency for cash in result.touched_cash)
            after.append(lambda: self.on_currencies(moved))
        after += [settled for settled in (_do(job) for job in batch.jobs) if settled is not None]
        return after

    def park(self, item: QueueMessage, error: BaseException) -> bool:
        """Keep an execution or a fee that cannot be booked; tell whether that is news. Others are only reported.

        One whose contract is yet to be described is no trouble: the news brings about the check that asks for it.
        """
        if item["type"] not in ("fill", "commission"):
            return self._is_news(item)
        now = datetime.now(UTC)
        row = books.park(item["fill"] if item["type"] == "fill" else item["commission"], error, now)
        if row.state != ParkedState.WAITING:
            return False  # an operator let go of it
        if is_under_way(error):
            self.undescribed.note()
        else:
            report_parked(row, now)
        return row.times == 1

    def _is_news(self, item: QueueMessage) -> bool:
        """Tell it once of an order: every check asks for orders again, and must not bring about the next check."""
        order = item["trade"]
        what = item["type"], str(order and (order.order_ref or order.perm_id))
        if what in self._refused:
            return False
        if len(self._refused) >= _REFUSED_KEPT:
            self._refused.clear()
        self._refused.add(what)
        return True

    def _fold_money(
        self, batch: Sorted, opened: OrderBatch, now: datetime
    ) -> tuple[FoldResult, list[Callable[[], object]]]:
        if not batch.money:
            return FoldResult(), []
        with self._lock:
            if self._holding:
                # Moved only after the commit: a batch that fails comes again with the same slots.
                return FoldResult(), [lambda: self._hold(batch.money_slots)]
        owners = orders.owners_of_batch(opened.write)
        return books.fold_batch(self._account(), batch.money, owners, now), []

    def _hold(self, slots: list[Slot]) -> None:
        with self._lock:
            if self._holding:
                self._held.extend(slots)
                return
        self._queue.put_back(slots)


def _note(changed: dict[str, Order], rows: Iterable[Order]) -> None:
    for row in rows:
        changed.pop(row.order_ref, None)  # keep the order of the last changes
        changed[row.order_ref] = row


def _do(job: Job) -> Callable[[], object] | None:
    """Do a job in a savepoint of its own; its future is settled when the batch is committed."""
    try:
        with transaction.atomic():
            result = job.work()
    except StaleEpochError:
        raise
    except Exception as error:
        if transaction.get_connection().needs_rollback or isinstance(error, OperationalError | InterfaceError):
            raise
        logger.exception("job failed name=%s", job.name)
        failure = error
        return lambda: job.fail(failure)
    return lambda: job.settle(result)


def report(result: FoldResult, changed: Iterable[Order], now: datetime) -> Iterable[Event]:
    """Return the events of a fold and of the orders that it moved."""
    for fill in result.new_executions:
        yield Event(EventKind.FILL, events.fill_payload(fill), fill.strategy, now)
    for fee in result.commissions:
        yield Event(EventKind.COMMISSION, events.commission_payload(fee), fee.strategy, now)
    for order in changed:
        yield Event(EventKind.ORDER, events.order_payload(order), order.owner, now)
    for position in result.touched_positions:
        yield Event(EventKind.POSITION, events.position_payload(position), position.strategy, now)
    for cash in result.touched_cash:
        yield Event(EventKind.CASH, events.cash_payload(cash), cash.strategy, now)


def _log_event(message: QueueMessage, now: datetime) -> Event:
    strategy, level = message["strategy"], message.get("level", "info")
    payload = events.log_payload(level, strategy, message.get("text", ""), message.get("logger", ""))
    return Event(EventKind.LOG, payload, strategy, now)
