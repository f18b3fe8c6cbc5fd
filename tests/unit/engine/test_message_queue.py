"""What the queue keeps, merges, counts and drops."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from strategies.events import (
    CommissionSnapshot,
    ContractSnapshot,
    FillSnapshot,
    QueueMessage,
    StatusSnapshot,
    TradeSnapshot,
)
from trading.engine.message_queue import REPLAYS_AHEAD, Job, MessageQueue, Sieve

NOW = datetime(2026, 1, 5, 15, tzinfo=UTC)
SPY = ContractSnapshot(756733, "SPY", "STK", "SMART", "USD")


def trade(order_ref: str, status: str = "Submitted", filled: int = 0) -> TradeSnapshot:
    """Return an order of ten shares."""
    return TradeSnapshot(
        order_ref, 1, 5, 900, "DU1", SPY, "BUY", Decimal(10), "MKT", None, None, "DAY", status,
        Decimal(filled), Decimal(10 - filled), None,
    )  # fmt: skip


def status(order_ref: str, word: str, filled: int = 0, code: int = 0) -> QueueMessage:
    """Return a status or, with a code, an error."""
    snapshot = StatusSnapshot(word, Decimal(filled), Decimal(10 - filled), None, NOW, code)
    return {
        "type": "status_change",
        "strategy": "A",
        "trade": trade(order_ref, word, filled),
        "status": snapshot,
    }


def fill(number: int) -> QueueMessage:
    """Return an execution of one share."""
    one = Decimal(1)
    snapshot = FillSnapshot(
        f"0001.0001.01.{number:02}", "DU1", SPY, "BOT", one, one, NOW, 900, 1, 5, "A/1", one, one, "SMART"
    )
    return {"type": "fill", "strategy": "A", "trade": None, "fill": snapshot}


def commission(number: int, amount: str = "1") -> QueueMessage:
    """Return a fee report."""
    report = CommissionSnapshot(f"0001.0001.01.{number:02}", Decimal(amount), "USD")
    return {"type": "commission", "strategy": "A", "trade": None, "commission": report}


def log(text: str) -> QueueMessage:
    """Return a log line."""
    return {"type": "log", "strategy": "", "trade": None, "text": text}


def items(queue: MessageQueue, limit: int = 1000) -> list[Any]:
    """Take everything."""
    return [slot.item for slot in queue.take(limit)]


def test_messages_come_out_in_order_of_arrival() -> None:
    queue = MessageQueue()
    sent = [fill(1), status("A/1", "Submitted"), commission(1), log("x")]
    for message in sent:
        queue.put(message)
    assert items(queue) == sent
    assert len(queue) == 0


def test_of_waiting_statuses_of_one_order_the_last_stays_in_its_place() -> None:
    queue = MessageQueue()
    last, other = status("A/1", "Filled", 10), status("B/1", "Submitted")
    for message in (status("A/1", "PreSubmitted"), fill(1), other, last):
        queue.put(message)
    assert len(queue) == 3
    assert items(queue) == [fill(1), other, last]
    assert queue.figures().coalesced == 1


def test_a_status_that_was_taken_is_not_merged_with_a_later_one() -> None:
    queue = MessageQueue()
    queue.put(status("A/1", "Submitted"))
    assert len(items(queue)) == 1
    queue.put(status("A/1", "Filled", 10))
    assert len(items(queue)) == 1
    assert queue.figures().coalesced == 0


def test_errors_of_an_order_are_never_merged() -> None:
    queue = MessageQueue()
    for code in (399, 10349):
        queue.put(status("A/1", "Submitted", code=code))
    assert len(items(queue)) == 2


def test_an_execution_heard_twice_is_taken_once() -> None:
    queue = MessageQueue()
    for message in (fill(1), fill(1), commission(1), commission(1), commission(1, "2")):
        queue.put(message)
    assert items(queue) == [fill(1), commission(1), commission(1, "2")]
    assert queue.figures().duplicates == 2


def test_an_execution_that_comes_again_with_other_content_passes() -> None:
    queue = MessageQueue()
    first, other = fill(1), fill(1)
    other["fill"] = replace(other["fill"], price=Decimal(2))
    for message in (first, fill(1), other, fill(1)):
        queue.put(message)
    assert [slot.item for slot in queue.take(10)] == [first, other]
    assert queue.figures().duplicates == 2


def test_a_message_that_could_not_be_booked_may_come_again() -> None:
    queue = MessageQueue()
    queue.put(fill(1))
    items(queue)
    queue.forget(fill(1))
    queue.put(fill(1))
    assert items(queue) == [fill(1)]


def test_a_full_queue_drops_log_lines_and_never_fills() -> None:
    queue = MessageQueue(capacity=2)
    for number in range(5):
        queue.put(fill(number))
    queue.put(log("lost"))
    assert items(queue) == [fill(number) for number in range(5)]
    figures = queue.figures()
    assert (figures.spilled, figures.dropped_logs, figures.high_water) == (3, 1, 5)


def test_slots_put_back_come_first_again() -> None:
    queue = MessageQueue()
    for number in range(4):
        queue.put(fill(number))
    queue.put_back(queue.take(2))
    assert items(queue) == [fill(number) for number in range(4)]


def test_a_wake_is_called_once_at_the_next_message_and_not_armed_over_waiting_ones() -> None:
    queue, woken = MessageQueue(), []
    assert queue.arm(lambda: woken.append(1))
    queue.put(fill(1))
    queue.put(fill(2))
    assert woken == [1]
    assert not queue.arm(lambda: woken.append(2))


def test_jobs_keep_their_place_and_hand_over_their_result() -> None:
    queue = MessageQueue()
    queue.put(fill(1))
    future = queue.submit(lambda: 42, "answer")
    first, job = items(queue)
    assert first == fill(1)
    assert isinstance(job, Job)
    job.settle(job.work())
    assert future.result(0) == 42


def test_a_waiter_that_gave_up_disturbs_nobody() -> None:
    job = Job(lambda: 1, "late")
    assert job.future.cancel()
    job.settle(1)
    job.fail(ValueError())


def test_many_threads_lose_nothing() -> None:
    queue = MessageQueue(capacity=10)

    def _send(first: int) -> None:
        for number in range(first, first + 500):
            queue.put(commission(number))

    threads = [threading.Thread(target=_send, args=(start,)) for start in (0, 500, 1000, 1500)]
    taken: list[Any] = []
    for thread in threads:
        thread.start()
    while len(taken) < 2000:
        taken += items(queue, 37)
    for thread in threads:
        thread.join()
    assert len({message["commission"].exec_id for message in taken}) == 2000


def test_the_sieve_forgets_the_oldest() -> None:
    sieve = Sieve(size=2)
    assert [sieve.is_new(key) for key in ("a", "b", "a", "c", "a")] == [True, True, False, True, True]


def test_a_status_that_ends_an_order_is_not_hidden_by_a_late_one() -> None:
    queue = MessageQueue()
    for word in ("Submitted", "Cancelled", "Submitted", "PreSubmitted"):
        queue.put(status("A/1", word))
    taken = [slot.item for slot in queue.take(10)]
    assert [item["status"].status for item in taken if isinstance(item, dict)] == ["Cancelled", "PreSubmitted"]
    assert len(queue) == 0


def test_queue_tells_which_executions_and_fees_it_has_heard() -> None:
    queue = MessageQueue()
    queue.put(fill(1))
    fee = commission(1)["commission"]
    assert queue.has_heard("0001.0001.01.01")
    assert not queue.has_heard("0001.0001.01.02")
    assert not queue.has_heard(fee.exec_id, fee)
    queue.put(commission(1))
    assert queue.has_heard(fee.exec_id, fee)
    queue.forget(fill(1))
    assert not queue.has_heard("0001.0001.01.01")


def repeated(number: int) -> QueueMessage:
    """Return an execution that a replay brings."""
    message = fill(number)
    message["fill"] = replace(message["fill"], exec_id=f"0001.0001.{number}.01", is_replay=True)
    return message


def test_only_repeated_executions_that_wait_put_a_replay_ahead() -> None:
    queue = MessageQueue(capacity=10)
    for number in range(REPLAYS_AHEAD + 10):
        queue.put(status(f"A/{number}", "Submitted"))
    ahead = [queue.is_replay_ahead]  # live messages alone never hold a connection
    for number in range(REPLAYS_AHEAD - 1):
        queue.put(repeated(number))
        queue.put(repeated(number))  # sieved out: it waits nowhere
    ahead.append(queue.is_replay_ahead)
    queue.put(repeated(REPLAYS_AHEAD))
    ahead.append(queue.is_replay_ahead)
    taken = queue.take(REPLAYS_AHEAD + 11)
    ahead.append(queue.is_replay_ahead)
    queue.put_back(taken)  # what could not be written waits again
    ahead.append(queue.is_replay_ahead)
    assert len(items(queue, 3 * REPLAYS_AHEAD)) == 2 * REPLAYS_AHEAD + 10
    ahead.append(queue.is_replay_ahead)
    assert ahead == [False, False, True, False, True, False]
