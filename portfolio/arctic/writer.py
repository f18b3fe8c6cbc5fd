"""Write to ArcticDB: appends, whole tables, compaction.

Owns: every write. Rules: only under the process lock and the caller's lease; one thread at a time for each symbol,
whichever writer it goes through; a failed append is raised and repeated by the caller, never replaced by a write, which
would drop the history; old versions are pruned by compaction now and then, not on every append, which would double its
cost and break readers.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from portfolio.arctic.client import ArcticClient, get_ac, guarded
from portfolio.arctic.lock import writer_lock
from portfolio.arctic.space import check_room

logger = logging.getLogger(__name__)

COMPACT_EVERY = 500
COMPACT_AT_CLOSE = 20  # appends; fewer fragments cost a reader nothing that he would notice
PRUNE_TABLE_EVERY = 100
LeaseCheck = Callable[[], object]

_symbol_locks: dict[tuple[str, str, str], threading.RLock] = {}
_registry = threading.Lock()


def always() -> None:
    """Permit writing: for tools that run under the process lock alone."""


class ArcticWriter:
    """Writes to one store; takes the process lock at the first write and keeps it until ``close``."""

    def __init__(self, lease_check: LeaseCheck = always, *, client: ArcticClient | None = None) -> None:
        self._lease_check = lease_check
        self._client = client
        self._guard = threading.RLock()
        self._appended: Counter[tuple[str, str]] = Counter()
        self._holds = False

    @property
    def client(self) -> ArcticClient:
        """The store, opened at first use: after a fork, and only by who writes."""
        if self._client is None:
            self._client = get_ac()
        return self._client

    def open(self) -> None:
        """Take the process lock.

        Raises: ArcticBusyError when another process writes; ArcticUnavailableError.
        """
        with self._guard:
            if not self._holds:
                writer_lock(self.client).acquire()
                self._holds = True

    def close(self) -> None:
        """Give the lock back; writing again takes it again."""
        with self._guard:
            if self._holds:
                self._holds = False
                self._appended.clear()
                writer_lock(self.client).release()

    def symbol_lock(self, library: str, symbol: str) -> threading.RLock:
        """Return the lock that every writer of this process takes for a symbol; for who looks first and writes then."""
        key = (self.client.uri, library, symbol)
        with _registry:
            return _symbol_locks.setdefault(key, threading.RLock())

    def append(self, library: str, symbol: str, data: pd.DataFrame, metadata: Mapping[str, Any] | None) -> int:
        """Append rows and their metadata as one version, and compact when it is time; return the version.

        Raises: ArcticUnavailableError; the rows may then be written or not, the metadata tells.
        """
        store, lock = self._ready(library, symbol)
        with lock:
            item = guarded(self.client.uri, lambda: store.append(symbol, data, metadata=_plain(metadata)))
            version = int(item.version)
            self._appended[library, symbol] += 1
            if version and version % COMPACT_EVERY == 0:
                self._compact(store, library, symbol)
        return version

    def compact(self) -> int:
        """Compact every symbol that was appended to often enough since it last was; return how many that were."""
        due = [key for key, appends in self._appended.items() if appends >= COMPACT_AT_CLOSE]
        for library, symbol in due:
            store, lock = self._ready(library, symbol)
            with lock:
                self._compact(store, library, symbol)
        return len(due)

    def _compact(self, store: Any, library: str, symbol: str) -> None:
        guarded(self.client.uri, lambda: store.compact_data(symbol, prune_previous_versions=True))
        self._appended.pop((library, symbol), None)
        logger.info("arctic compacted library=%s symbol=%s", library, symbol)

    def write(self, library: str, symbol: str, data: pd.DataFrame, metadata: Mapping[str, Any] | None) -> int:
        """Replace a whole table; the last versions stay readable. Histories are appended to, not written."""
        store, lock = self._ready(library, symbol)
        with lock:
            item = guarded(self.client.uri, lambda: store.write(symbol, data, metadata=_plain(metadata)))
            version = int(item.version)
            if version and version % PRUNE_TABLE_EVERY == 0:
                guarded(self.client.uri, lambda: store.prune_previous_versions(symbol))
        return version

    def update(self, library: str, symbol: str, data: pd.DataFrame, metadata: Mapping[str, Any] | None) -> int:
        """Replace the rows between the first and the last of ``data`` by it; return the version.

        Shape: an index of times, sorted and without duplicates; rows before and after stay as they are.
        """
        store, lock = self._ready(library, symbol)
        with lock:
            item = guarded(self.client.uri, lambda: store.update(symbol, data, metadata=_plain(metadata), upsert=True))
            version = int(item.version)
            if version and version % COMPACT_EVERY == 0:
                self._compact(store, library, symbol)
        return version

    def delete(self, library: str, symbol: str = "") -> None:
        """Delete a symbol with all its versions, or without one a whole library; what is not there stays so."""
        self.open()
        self._lease_check()
        if not self.client.has_library(library):
            return
        if not symbol:
            self.client.drop_library(library)
        elif self.client.has_symbol(library, symbol):
            with self.symbol_lock(library, symbol):
                guarded(self.client.uri, lambda: self.client.library(library).delete(symbol))

    def _ready(self, library: str, symbol: str) -> tuple[Any, threading.RLock]:
        self.open()
        self._lease_check()
        check_room(self.client.uri)
        return self.client.library(library), self.symbol_lock(library, symbol)


def _plain(metadata: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if metadata is None else dict(metadata)
