"""The message thread: the only writer of the ledger.

Owns: the thread, its loop (on which IB client 99 lives), batches, transactions, retries, isolation of poison messages.
Leaves: what a message means (``handlers``), who may write (``lease``).
Rule: a batch is one transaction that first asserts the lease's epoch; a batch that cannot be committed now is kept and
tried again, nothing overtakes it; a message that can never be folded is stored as it came, reported, and the rest
goes on.
The loop runs only between batches, so that the ORM never works inside a running loop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

from django.db import InterfaceError, InternalError, OperationalError, connection, transaction

from strategies.crashpoints import reach
from strategies.events import QueueMessage
from strategies.exceptions import StaleEpochError
from trading.engine import doorbell
from trading.engine.message_queue import Job, MessageQueue, Slot
from trading.engine.undescribed import is_under_way

logger = logging.getLogger(__name__)

BATCH_LIMIT = 500
LINGER_S = 0.005
_GATHER_S = 0.001  # what IB says of one fill comes in some five messages: together they cost one commit
_BUSY_BATCH = 24  # from here on, collecting for a moment costs less than one commit for a few messages
_RETRY_FIRST_S = 0.05
_RETRY_MAX_S = 5.0


class Folder(Protocol):
    """Turns slots into rows, inside the transaction; see ``handlers.Folding``."""

    def fold(self, slots: list[Slot]) -> list[Callable[[], object]]:
        """Write everything; return what to call after the commit."""

    def park(self, item: QueueMessage, error: BaseException) -> bool:
        """Keep a message that can never be folded as it is; tell whether that is news."""


@dataclass(slots=True)
class WriterFigures:
    """What the message thread did so far. Units: nanoseconds from arrival in the queue to the commit."""

    batches: int = 0
    messages: int = 0
    retries: int = 0
    parked: int = 0
    trouble: str = ""
    latencies_ns: deque[int] = field(default_factory=lambda: deque(maxlen=4096))


class LedgerWriter:
    """Run the message thread. ``on_stale`` is called once when another engine took over; ``on_parked`` per message."""

    def __init__(
        self,
        queue: MessageQueue,
        folder: Folder,
        assert_epoch: Callable[[], None],
        *,
        on_stale: Callable[[], None],
        on_trouble: Callable[[str], None],
        on_parked: Callable[[Slot, BaseException], None],
    ) -> None:
        self.figures = WriterFigures()
        self.loop = asyncio.new_event_loop()
        self._queue = queue
        self._folder = folder
        self._assert_epoch = assert_epoch
        self._on_stale = on_stale
        self._on_trouble = on_trouble
        self._on_parked = on_parked
        self._stopping = threading.Event()
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mats-queue", daemon=True)
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def spawn(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Run a coroutine on the thread's loop, beside the batches. Thread-safe."""

        def _create() -> None:
            task = self.loop.create_task(make())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self.loop.call_soon_threadsafe(_create)

    def stop(self, timeout_s: float) -> bool:
        """Fold what waits, end the thread; tell whether everything was committed in time."""
        self._stopping.set()
        if not self._thread.is_alive():
            return len(self._queue) == 0
        self._queue.put_back([])
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._abandoned.set()
            self._thread.join(1.0)
        return len(self._queue) == 0

    @property
    def is_alive(self) -> bool:
        """Tell whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self._work()
            self._end_tasks()
            self._drain()
        except StaleEpochError:
            logger.error("ledger writer stops: another engine took over")  # noqa: TRY400 - expected, no trace
            self._on_stale()
        except Exception as error:  # thread border: the engine must hear of it and stop
            logger.exception("ledger writer died")
            self._on_trouble(f"The message thread died: {error}")
            self._on_stale()
        finally:
            self._end_tasks()
            self.loop.close()
            connection.close()

    def _work(self) -> None:
        last_size = 0
        while True:
            self.loop.run_until_complete(self._wait(last_size))
            slots = self._queue.take(BATCH_LIMIT)
            last_size = len(slots)
            if slots:
                self._commit(slots)
            elif self._stopping.is_set():
                return

    async def _wait(self, last_size: int) -> None:
        if self._stopping.is_set():
            await asyncio.sleep(0)
            return
        if last_size >= _BUSY_BATCH and len(self._queue) < BATCH_LIMIT:
            await asyncio.sleep(LINGER_S)
            return
        woken = asyncio.Event()
        armed = self._queue.arm(lambda: self.loop.call_soon_threadsafe(woken.set))
        if armed and not self._stopping.is_set():  # looked at again: stop() rings once, perhaps before we armed
            await woken.wait()
            if not self._stopping.is_set():
                await asyncio.sleep(_GATHER_S)
        else:
            await asyncio.sleep(0)  # let client 99 breathe between two batches

    def _commit(self, slots: list[Slot]) -> None:
        delay = _RETRY_FIRST_S
        while not self._abandoned.is_set():
            try:
                after = self._fold(slots)
            except StaleEpochError:
                self._queue.put_back(slots)
                raise
            except (OperationalError, InterfaceError, InternalError) as error:
                self._note_trouble(f"The ledger cannot be written ({error}); {len(slots)} messages wait.")
                connection.close()
                self._abandoned.wait(delay)
                delay = min(delay * 2, _RETRY_MAX_S)
            except Exception as error:  # noqa: BLE001 - one bad message must not stop the books
                self._isolate(slots, error)
                return
            else:
                self._committed(slots, after)
                return
        self._queue.put_back(slots)

    def _fold(self, slots: list[Slot]) -> list[Callable[[], object]]:
        with transaction.atomic():
            reach("begin")
            self._assert_epoch()
            after = self._folder.fold(slots)
            reach("commit")
        reach("committed")
        return after

    def _committed(self, slots: list[Slot], after: list[Callable[[], object]]) -> None:
        now = time.perf_counter_ns()
        doorbell.ring()
        reach("ring")
        figures = self.figures
        figures.batches += 1
        figures.messages += len(slots)
        for slot in slots:
            if not isinstance(slot.item, Job) and slot.item is not None and slot.item["type"] == "fill":
                figures.latencies_ns.append(now - (slot.item["fill"].received_ns or slot.arrived_ns))
        if figures.trouble:
            figures.trouble = ""
            self._on_trouble("")
        for call in after:
            call()

    def _note_trouble(self, text: str) -> None:
        self.figures.retries += 1
        if text != self.figures.trouble:
            logger.error("ledger trouble: %s", text)
            self.figures.trouble = text
            self._on_trouble(text)

    def _isolate(self, slots: list[Slot], error: BaseException) -> None:
        """Halve until the poison stands alone, so that its neighbours are committed."""
        if len(slots) > 1:
            middle = len(slots) // 2
            self._commit(slots[:middle])
            self._commit(slots[middle:])
            return
        slot = slots[0]
        self.figures.parked += 1
        if isinstance(slot.item, Job):
            logger.error("job failed name=%s", slot.item.name, exc_info=error)
            slot.item.fail(error)
            self._on_parked(slot, error)
        elif slot.item is not None:
            self._park(slot, slot.item, error)

    def _park(self, slot: Slot, item: QueueMessage, error: BaseException) -> None:
        """Store a message in a transaction of its own, tried as long as any other; only then may it come again."""
        job: Job = Job(lambda: self._folder.park(item, error), "park")
        self._commit([Slot(job, slot.arrived_ns)])
        failed = not job.future.done() or job.future.exception() is not None
        if failed or job.future.result():
            if not failed and is_under_way(error):
                logger.info("message waits for its contract: %r", item)
            else:
                logger.error("message set aside: %r", item, exc_info=error)
            self._on_parked(slot, error)
        self._queue.forget(item)

    def _drain(self) -> None:
        """Fold what the loop's tasks said while they ended."""
        while not self._abandoned.is_set() and (slots := self._queue.take(BATCH_LIMIT)):
            self._commit(slots)

    def _end_tasks(self) -> None:
        tasks = [task for task in self._tasks if not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
