"""Tail the event table once per web process and keep what is recent ready to send.

Owns: one thread (while any page is open) that waits for the doorbell or 250 ms, reads ``id > last``, serialises each
event once into a ring, and wakes every subscribed page; the engine state of the heartbeat, read once a second for all.
Leaves: sockets, cursors of pages and slow clients (``consumers.py``).
Rule: the table is the truth, ring and doorbell only make it fast: a page whose cursor is older than the ring reads the
table, and one whose cursor is older than the table is told to reload.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import Error as DatabaseError
from django.db import connection

from trading import queries
from trading.engine.doorbell import EVENTS, Listener
from trading.engine.events import iso

logger = logging.getLogger(__name__)

POLL_S = 0.25
STATE_EVERY_S = 1.0
RETRY_S = 1.0
READ_LIMIT = 5_000
FRAME_LIMIT = 500
RING_SIZE = 20_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One event, already JSON. ``strategy`` is empty for what concerns every page."""

    id: int
    strategy: str
    text: str


@dataclass(frozen=True, slots=True)
class Frame:
    """A batch to send: ``last`` is the cursor afterwards, ``text`` None when nothing in it concerns the page."""

    text: str | None
    last: int


def read_entries(after: int, limit: int) -> list[Entry]:
    """Read events behind a cursor from the table, oldest first.

    The payload is stored as JSON text and is passed through unparsed: raw SQL, because the ORM would parse it only for
    us to write it again.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, at, kind, strategy, payload FROM trading_engineevent WHERE id > %s ORDER BY id LIMIT %s",
            [after, limit],
        )
        return [Entry(row[0], row[3], _event_text(*row)) for row in cursor.fetchall()]


def _event_text(event_id: int, at: datetime | str, kind: str, strategy: str, payload: object) -> str:
    # SQLite hands out naive text in UTC, PostgreSQL an aware datetime.
    moment = datetime.fromisoformat(at).replace(tzinfo=UTC) if isinstance(at, str) else at
    body = payload if isinstance(payload, str) else json.dumps(payload)
    return (
        f'{{"id":{event_id},"at":"{iso(moment)}","kind":{json.dumps(kind)},'
        f'"strategy":{json.dumps(strategy)},"payload":{body}}}'
    )


def build_frame(entries: Sequence[Entry], strategy: str) -> Frame:
    """Join entries into one frame, leaving out what concerns other strategies only. ``entries`` is not empty."""
    texts = [entry.text for entry in entries if not strategy or entry.strategy in ("", strategy)]
    last = entries[-1].id
    if not texts:
        return Frame(None, last)
    return Frame(f'{{"type":"events","events":[{",".join(texts)}],"last":{last}}}', last)


class Ring:
    """The latest events, in order. Knows every event behind ``floor``; thread-safe."""

    def __init__(self, floor: int, size: int = RING_SIZE) -> None:
        self.floor = floor
        self._size = size
        self._ids: list[int] = []
        self._entries: list[Entry] = []
        self._frames: dict[tuple[int, str], Frame] = {}
        self._lock = threading.Lock()

    @property
    def last(self) -> int:
        """The newest id seen."""
        with self._lock:
            return self._ids[-1] if self._ids else self.floor

    def extend(self, entries: Sequence[Entry]) -> None:
        """Append newer events; forget the oldest beyond twice the size, in one go."""
        with self._lock:
            self._ids.extend(entry.id for entry in entries)
            self._entries.extend(entries)
            self._frames.clear()
            if len(self._ids) > 2 * self._size:
                cut = len(self._ids) - self._size
                self.floor = self._ids[cut - 1]
                del self._ids[:cut]
                del self._entries[:cut]

    def frame_after(self, cursor: int, strategy: str) -> Frame | None:
        """Return the next frame behind a cursor, or None when there is nothing newer.

        Raises: LookupError when the cursor is older than the ring; read the table then.
        """
        with self._lock:
            if cursor < self.floor:
                raise LookupError(cursor)
            # Pages at the same place, which is nearly all of them, share one joined text.
            found = self._frames.get((cursor, strategy))
            if found is not None:
                return found
            start = bisect_right(self._ids, cursor)
            entries = self._entries[start : start + FRAME_LIMIT]
            if not entries:
                return None
            frame = self._frames[(cursor, strategy)] = build_frame(entries, strategy)
            return frame


class Tail:
    """The tail thread of this process and whom it wakes."""

    def __init__(self) -> None:
        self.ring: Ring | None = None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._subscribers: dict[object, tuple[asyncio.AbstractEventLoop, Callable[[], None]]] = {}
        self._state_text = ""
        self._state_at = float("-inf")
        self._looked_at = float("-inf")
        self._data_version: int | None = None

    def subscribe(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> object:
        """Call ``wake`` on ``loop`` whenever there may be news; start the thread if need be. Returns a token."""
        token = object()
        with self._lock:
            self._subscribers[token] = (loop, wake)
            if self._thread is None:
                # Daphne has no lifespan hooks, so the first page starts the tail and the last one ends it.
                self._looked_at = time.monotonic()
                self._thread = threading.Thread(target=self._run, name="event-tail", daemon=True)
                self._thread.start()
        return token

    def unsubscribe(self, token: object) -> None:
        """Stop waking the holder of the token."""
        with self._lock:
            self._subscribers.pop(token, None)

    def engine_text(self) -> str | None:
        """Return the engine state as JSON for the heartbeat, or None when the tail itself is not keeping up."""
        return self._state_text if time.monotonic() - self._state_at < 3 * STATE_EVERY_S else None

    @property
    def is_healthy(self) -> bool:
        """Whether the tail looked at the table lately; a tail that no page needed yet is healthy."""
        return self._thread is None or time.monotonic() - self._looked_at < 5.0

    def _run(self) -> None:
        while not self._is_over():
            try:
                with Listener(EVENTS) as bell:
                    self._follow(bell)
            except DatabaseError:
                logger.exception("event tail lost the database, retrying retry_s=%s", RETRY_S)
                time.sleep(RETRY_S)
            except Exception:  # thread border: pages would silently stand still if the tail died
                logger.exception("event tail failed, retrying retry_s=%s", RETRY_S)
                time.sleep(RETRY_S)
            finally:
                connection.close()

    def _is_over(self) -> bool:
        """Tell whether the last page has gone; if so, forget the thread, so that the next page starts another."""
        with self._lock:
            if self._subscribers:
                return False
            self._thread, self.ring, self._data_version = None, None, None
            return True

    def _follow(self, bell: Listener) -> None:
        """Read until the last page has gone."""
        self._data_version = None
        ring = self.ring = self.ring or Ring(queries.last_event_id())
        self._wake_all()
        while self._subscribers:
            rang = bell.wait(POLL_S)
            if rang or self._has_changed():
                self._read_new(ring)
            self._looked_at = time.monotonic()
            if self._looked_at - self._state_at >= STATE_EVERY_S:
                self._read_state()

    def _has_changed(self) -> bool:
        """Tell whether another connection committed since the last look; PostgreSQL has no such word: always."""
        if connection.vendor != "sqlite":
            return True
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA data_version")
            version = int(cursor.fetchone()[0])
        changed = version != self._data_version
        self._data_version = version
        return changed

    def _read_new(self, ring: Ring) -> None:
        while entries := read_entries(ring.last, READ_LIMIT):
            ring.extend(entries)
            self._wake_all()
            if len(entries) < READ_LIMIT:
                return

    def _read_state(self) -> None:
        self._state_text = json.dumps(queries.engine_state())
        self._state_at = time.monotonic()

    def _wake_all(self) -> None:
        with self._lock:
            subscribers = list(self._subscribers.items())
        for token, (loop, wake) in subscribers:
            try:
                loop.call_soon_threadsafe(wake)
            except RuntimeError:  # its loop has closed
                self.unsubscribe(token)


tail = Tail()


def backfill_frame(cursor: int, strategy: str) -> Frame | None:
    """Read the next frame from the table for a page that is older than the ring; None when there is nothing newer.

    Raises: LookupError when events behind the cursor are gone, or the cursor is ahead of the table: the page reloads.
    """
    first, last = queries.first_event_id(), queries.last_event_id()
    if cursor > last or (first and cursor + 1 < first):
        raise LookupError(cursor)
    entries = read_entries(cursor, FRAME_LIMIT)
    return build_frame(entries, strategy) if entries else None
