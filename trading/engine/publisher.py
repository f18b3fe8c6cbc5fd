"""Tells the pages about strategies, connections and the engine itself, in order, through the message thread.

Owns: the StrategyRun rows and the ``strategy``, ``connection``, ``engine``, ``bar`` and ``marks`` events.
Rule: nothing here waits: every call hands a job to the queue and returns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal

from portfolio.services import record_marks
from trading.engine import events
from trading.engine.events import EventKind
from trading.engine.message_queue import MessageQueue
from trading.models import StrategyRun

_RUN_FIELDS = [
    "state",
    "client_id",
    "connected",
    "message",
    "traceback",
    "started_at",
    "heartbeat_at",
    "restarts",
    "updated_at",
]


class Publisher:
    """Jobs that write what the pages show. Thread-safe."""

    def __init__(self, queue: MessageQueue, epoch: Callable[[], int]) -> None:
        self._queue = queue
        self._epoch = epoch

    def run(self, row: StrategyRun) -> None:
        """Store a strategy's runtime state and report it."""

        def _write() -> None:
            StrategyRun.objects.bulk_create(
                [row], update_conflicts=True, unique_fields=["symbol"], update_fields=_RUN_FIELDS
            )
            events.emit(EventKind.STRATEGY, events.strategy_payload(row), row.symbol)

        self._queue.submit(_write, "strategy_run")

    def connection(self, client_id: int, role: str, name: str, connected: bool, message: str) -> None:
        """Report that a connection came, went or could not be made."""
        payload = events.connection_payload(client_id, role, name, connected, message)
        strategy = name if role == "strategy" else ""
        self._queue.submit(lambda: events.emit(EventKind.CONNECTION, payload, strategy), "connection")

    def engine(self, state: str, message: str) -> None:
        """Report the engine's own state."""
        payload = events.engine_payload(state, message, self._epoch())
        self._queue.submit(lambda: events.emit(EventKind.ENGINE, payload), "engine")

    def bar(
        self,
        con_id: int,
        symbol: str,
        start: datetime,
        ohlc: tuple[Decimal, Decimal, Decimal, Decimal],
        volume: Decimal,
    ) -> None:
        """Report a 5-second bar."""
        payload = events.bar_payload(con_id, symbol, start, ohlc, volume)
        self._queue.submit(lambda: events.emit(EventKind.BAR, payload), "bar")

    def log(self, level: str, strategy: str, text: str, logger_name: str) -> None:
        """Add a line to the log strip; dropped when the queue is full."""
        self._queue.put(
            {"type": "log", "strategy": strategy, "trade": None, "text": text, "level": level, "logger": logger_name}
        )

    def marks(self, marks: Mapping[int, Decimal]) -> None:
        """Store the latest prices and report them."""

        def _write() -> None:
            now = datetime.now(UTC)
            record_marks(marks, now)
            events.emit(EventKind.MARKS, events.marks_payload(now, marks))

        self._queue.submit(_write, "marks")
