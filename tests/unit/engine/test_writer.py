"""What the message thread does with what cannot be folded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import OperationalError, connections

from portfolio.models import ParkedReport
from strategies.events import FillSnapshot, QueueMessage
from tests.unit.portfolio.builders import ACCOUNT, contract, fill
from trading.engine.handlers import Folding
from trading.engine.message_queue import MessageQueue
from trading.engine.writer import LedgerWriter
from trading.models import Alert

pytestmark = pytest.mark.django_db(transaction=True)


class Poisoned(Folding):
    """Real folding whose store fails a few times when a report is to be parked."""

    failures = 0

    def park(self, item: QueueMessage, error: BaseException) -> bool:
        """Fail as a full disk does, then store."""
        if self.failures:
            self.failures -= 1
            raise OperationalError("database or disk is full")
        return super().park(item, error)


def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition, at most ten seconds."""
    deadline, tick = time.monotonic() + 10.0, threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        tick.wait(0.01)


@pytest.fixture
def queue() -> MessageQueue:
    return MessageQueue()


@pytest.fixture
def folding(queue: MessageQueue) -> Poisoned:
    made = Poisoned(lambda: ACCOUNT, queue)
    made.release()
    return made


@pytest.fixture
def parked(queue: MessageQueue, folding: Poisoned) -> Iterator[list[BaseException]]:
    """Run a writer; what it tells of parked messages."""
    from portfolio.services import ensure_account

    ensure_account(ACCOUNT, "USD")
    told: list[BaseException] = []
    writer = LedgerWriter(
        queue,
        folding,
        lambda: None,
        on_stale=lambda: None,
        on_trouble=lambda text: None,
        on_parked=lambda slot, error: told.append(error),
    )
    writer.start()
    yield told
    writer.stop(5.0)
    connections.close_all()


def message(report: FillSnapshot) -> QueueMessage:
    return {"type": "fill", "strategy": "", "trade": None, "fill": report}


def bad(number: int) -> FillSnapshot:
    return fill(number, of=contract(0, "NONE"))


def booked() -> int:
    from portfolio.models import Execution

    return Execution.objects.count()


def test_bad_reports_are_stored_and_their_neighbours_booked(queue: MessageQueue, parked: list[BaseException]) -> None:
    for number in range(1, 8):
        queue.put(message(bad(number) if number in (3, 4) else fill(number)))
    until(lambda: booked() == 5 and ParkedReport.objects.count() == 2)
    until(lambda: len(parked) == 2)
    assert Alert.objects.filter(key__startswith="parked:", cleared_at=None).count() == 2


def test_report_that_comes_again_is_counted_and_told_once(queue: MessageQueue, parked: list[BaseException]) -> None:
    for turn in range(1, 4):
        queue.put(message(bad(1)))
        until(lambda turn=turn: ParkedReport.objects.filter(times=turn).exists())  # type: ignore[misc]
        queue.submit(lambda: None, "fence").result(10)  # until then it is not forgotten and would be a duplicate
    assert len(parked) == 1


def test_full_disk_while_parking_loses_nothing(
    queue: MessageQueue, folding: Poisoned, parked: list[BaseException]
) -> None:
    folding.failures = 3
    queue.put(message(bad(1)))
    queue.put(message(fill(2)))
    until(lambda: booked() == 1 and ParkedReport.objects.count() == 1)
    assert folding.failures == 0
