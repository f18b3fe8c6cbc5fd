"""One writing process for each ArcticDB.

Owns: an exclusive file lock beside the LMDB folder. Why: two processes that append to one symbol lose each other's rows
silently; ArcticDB documents the last writer as the winner. The lock is the kernel's: it falls with its process, also by
SIGKILL. Within a process it is shared and counted.
A store without a folder (S3) has its lock file in MATS_HOME, which keeps only processes of this home apart. Between
machines the engine's lease in the database decides: the engine writes under it, tools refuse while it is held
(``refuse_beside_engine``); nothing keeps two tools on two machines apart.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from pathlib import Path
from typing import IO, Self

from django.conf import settings

from portfolio.arctic.client import ArcticClient, ArcticUnavailableError
from portfolio.arctic.registry import registered_engine_holder
from strategies.exceptions import TransientError

logger = logging.getLogger(__name__)


class ArcticBusyError(TransientError):
    """Another process holds the writer lock; ``fields["pid"]`` names it when it said so."""

    code = "arctic_busy"


class WriterLock:
    """The lock of one store in this process; use ``writer_lock`` to get it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._guard = threading.RLock()
        self._users = 0
        self._file: IO[str] | None = None

    @property
    def held(self) -> bool:
        """Whether this process holds it."""
        return self._file is not None

    def acquire(self) -> None:
        """Take the lock, or one more share of it.

        Raises: ArcticBusyError when another process holds it; ArcticUnavailableError when the file cannot be made.
        """
        with self._guard:
            if self._file is None:
                self._file = self._lock_file()
            self._users += 1

    def release(self) -> None:
        """Give back one share; the last one opens the lock for other processes."""
        with self._guard:
            self._users = max(0, self._users - 1)
            if self._users == 0 and self._file is not None:
                self._file.close()
                self._file = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _lock_file(self) -> IO[str]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = self.path.open("a+", encoding="ascii")
        except OSError as error:
            raise ArcticUnavailableError(
                f"The ArcticDB lock file {self.path} cannot be made ({error.strerror}); make its folder writable."
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            handle.seek(0)
            pid = handle.read().strip()
            handle.close()
            holder = f"pid {pid}" if pid else "unknown"
            raise ArcticBusyError(
                f"Another process ({holder}) writes to ArcticDB and keeps its lock {self.path}.", pid=pid
            ) from error
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        return handle


_locks: dict[tuple[int, Path], WriterLock] = {}
_registry = threading.Lock()


def writer_lock(client: ArcticClient) -> WriterLock:
    """Return this process's lock for a store: beside its folder, or in MATS_HOME for a store without one."""
    return writer_lock_of(client.folder)


def writer_lock_of(folder: Path | None) -> WriterLock:
    """Return this process's lock for the store in a folder, None for one without."""
    path = folder.with_name(folder.name + ".lock") if folder else settings.MATS.mats_home / "run" / "arctic.lock"
    key = (os.getpid(), path)
    with _registry:
        return _locks.setdefault(key, WriterLock(path))


def refuse_beside_engine() -> None:
    """Refuse to write while an engine holds its lease, wherever it runs.

    Raises: ArcticBusyError naming it.
    """
    holder = registered_engine_holder()
    if holder:
        raise ArcticBusyError(f"The engine {holder} holds the lease and writes to ArcticDB.", pid=holder)
