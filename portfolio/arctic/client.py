"""Open ArcticDB: one client per address and process, made at first use.

Owns: opening, libraries, reading with retries. Leaves: writing (``writer``), shapes (``schema``), addresses and their
secrets (``address``), damage (``health``).
Rules, each measured: two clients on one LMDB folder in one process lose writes, so there is one, behind a lock; a
client must not survive a fork, so it is kept by process id; readers ask for the newest version every time
(``VersionMap.ReloadInterval`` 0) and read again when a version was pruned under them; the map size is always given.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from arcticdb import Arctic, LibraryOptions
from arcticdb.config import set_config_int
from arcticdb.exceptions import (
    ArcticDbNotYetImplemented,
    ArcticException,
    NoDataFoundException,
    NormalizationException,
    SchemaException,
    SortingException,
    StreamDescriptorMismatch,
    UserInputException,
)
from django.conf import settings

from portfolio.arctic import horizon
from portfolio.arctic.address import S3_TIMEOUTS, complete, endpoint_of, explain, folder_of, place_of
from portfolio.arctic.health import ArcticDamagedError, ArcticUnavailableError, check_folder, check_library
from strategies.exceptions import ConfigError

__all__ = ["ArcticClient", "ArcticDamagedError", "ArcticUnavailableError", "folder_of", "get_ac", "guarded"]

logger = logging.getLogger(__name__)

READ_TRIES = 3
PROBE_S = 3.0
_OPTIONS = LibraryOptions(dynamic_schema=True)
# The same frame is refused again tomorrow: these say nothing of the store.
_REFUSALS = (
    ArcticDbNotYetImplemented,
    NormalizationException,
    SchemaException,
    SortingException,
    StreamDescriptorMismatch,
    UserInputException,
)
Result = TypeVar("Result")


_lock = threading.RLock()
_clients: dict[tuple[int, str], ArcticClient] = {}


class ArcticClient:
    """An open ArcticDB. Thread-safe for reads; writes go through ``writer``."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._libraries: dict[str, Any] = {}
        self._lock = threading.RLock()
        set_config_int("VersionMap.ReloadInterval", 0)
        os.environ.setdefault("AWS_MAX_ATTEMPTS", "3")  # the AWS library's own ten take half a minute
        for name, milliseconds in S3_TIMEOUTS.items():
            set_config_int(name, milliseconds)
        self._arctic = _open(uri)

    @property
    def place(self) -> str:
        """Where the store is, without what is secret in its address."""
        return place_of(self.uri)

    def check(self) -> None:
        """Look whether the store can be used, without touching it: are its files whole, does its endpoint answer.

        Raises: ArcticDamagedError naming the file; ArcticUnavailableError.
        """
        _check(self.uri)

    @property
    def folder(self) -> Path | None:
        """The LMDB folder; None when the store is not a folder."""
        return folder_of(self.uri)

    def library(self, name: str) -> Any:
        """Return a library, made when missing.

        Raises: ConfigError for a name that ArcticDB would mix up with another; ArcticUnavailableError.
        """
        if not name or "." in name or name.startswith("/"):
            raise ConfigError(f"«{name}» cannot name an ArcticDB library: no dots, no leading slash.", library=name)
        with self._lock:
            found = self._libraries.get(name)
            if found is None:
                if self.folder is not None:
                    check_library(self.folder / name)
                found = guarded(
                    self.uri, lambda: self._arctic.get_library(name, create_if_missing=True, library_options=_OPTIONS)
                )
                self._libraries[name] = found
            return horizon.CutLibrary(found) if horizon.is_set() else found

    def get_library(self, name: str) -> Any:
        """Return a library by ArcticDB's own method name."""
        return self.library(name)

    def __getitem__(self, name: str) -> Any:
        """Return a library, as ``ac["general"]``."""
        return self.library(name)

    def list_libraries(self) -> list[str]:
        """Return the names of all libraries."""
        return sorted(guarded(self.uri, self._arctic.list_libraries))

    def has_library(self, name: str) -> bool:
        """Whether a library exists; asking makes none."""
        return bool(guarded(self.uri, lambda: self._arctic.has_library(name)))

    def has_symbol(self, library: str, symbol: str) -> bool:
        """Whether a symbol exists; asking makes no library."""
        return self.has_library(library) and bool(guarded(self.uri, lambda: self.library(library).has_symbol(symbol)))

    def read(self, library: str, symbol: str, **options: Any) -> Any:
        """Read a symbol's data and metadata; options are ArcticDB's (columns, date_range, row_range).

        Raises: NoDataFoundException when the symbol does not exist; ArcticUnavailableError.
        """
        return guarded(self.uri, lambda: _retry(lambda: self.library(library).read(symbol, **options)))

    def row_count(self, library: str, symbol: str) -> int:
        """Return how many rows a symbol has; nothing is read but its index."""
        return int(self.describe(library, symbol).row_count)

    def list_symbols(self, library: str) -> list[str]:
        """Return the symbols of a library, none when it does not exist; asking makes none."""
        if not self.has_library(library):
            return []
        return sorted(guarded(self.uri, self.library(library).list_symbols))

    def describe(self, library: str, symbol: str) -> Any:
        """Return ArcticDB's description of a symbol's newest version: rows, columns, range of dates, time of the write.

        Raises: NoDataFoundException when the symbol does not exist; ArcticUnavailableError.
        """
        return guarded(self.uri, lambda: _retry(lambda: self.library(library).get_description(symbol)))

    def version_of(self, library: str, symbol: str) -> int | None:
        """Return the number of a symbol's newest version, None when it does not exist."""
        if not self.has_symbol(library, symbol):
            return None
        found = guarded(self.uri, lambda: _retry(lambda: self.library(library).read_metadata(symbol)))
        return int(found.version)

    def drop_library(self, name: str) -> None:
        """Delete everything in a library that exists; only ``writer`` calls this.

        On LMDB its empty folder stays: a process that has it open would go on reading the deleted file, which shows
        nothing of what is written to a new one of that name, and nothing closes a single library safely.
        """
        with self._lock:
            if self.folder is not None:
                library = self.library(name)
                for symbol in self.list_symbols(name):
                    guarded(self.uri, partial(library.delete, symbol))
                return
            self._libraries.pop(name, None)
            guarded(self.uri, lambda: self._arctic.delete_library(name))

    def head(self, library: str, symbol: str, rows: int) -> Any:
        """Read a symbol's first rows."""
        return guarded(self.uri, lambda: _retry(lambda: self.library(library).head(symbol, n=rows)))

    def tail(self, library: str, symbol: str, rows: int) -> Any:
        """Read a symbol's last rows."""
        return guarded(self.uri, lambda: _retry(lambda: self.library(library).tail(symbol, n=rows)))

    def metadata(self, library: str, symbol: str) -> dict[str, Any]:
        """Return a symbol's metadata, empty when it has none or does not exist."""
        if not self.has_symbol(library, symbol):
            return {}
        found = guarded(self.uri, lambda: _retry(lambda: self.library(library).read_metadata(symbol)))
        return dict(found.metadata or {})


def get_ac(uri: str | None = None) -> ArcticClient:
    """Return this process's client for an address, by default the configured one.

    Raises: ArcticUnavailableError naming the folder when it cannot be used.
    """
    address = complete(uri or settings.MATS.arctic_uri)
    key = (os.getpid(), address)
    with _lock:
        if key not in _clients:
            _clients[key] = ArcticClient(address)
            logger.info("arctic opened place=%s", place_of(address))
        return _clients[key]


def guarded(uri: str, call: Callable[[], Result]) -> Result:
    """Run a call into ArcticDB and name the store when it fails; ``fields["is_refusal"]`` tells that the data are why.

    A full map surfaces as UnicodeDecodeError: LMDB's message is cut inside a character.
    """
    try:
        return call()
    except NoDataFoundException:
        raise
    except UnicodeDecodeError as error:
        raise ArcticUnavailableError(
            f"ArcticDB at {place_of(uri)} is full; give MATS_ARCTIC_URI a larger map_size and restart."
        ) from error
    except (ArcticException, OSError) as error:
        # The cause is not chained: its text may repeat the address with its keys.
        raise ArcticUnavailableError(
            f"ArcticDB at {place_of(uri)} cannot be used: {explain(str(error), uri)}",
            is_refusal=isinstance(error, _REFUSALS),
        ) from None


def _retry(call: Callable[[], Result]) -> Result:
    for _ in range(READ_TRIES - 1):
        try:
            return call()
        except NoDataFoundException:
            continue
    return call()


def _open(uri: str) -> Any:
    folder = folder_of(uri)
    if folder is not None:
        _require_writable(folder)
    _check(uri)
    arctic = guarded(uri, lambda: Arctic(uri))
    if folder is None:
        # A bucket that is missing or closed would look like an empty one to who only asks what is there.
        guarded(uri, lambda: arctic.get_library("general", create_if_missing=True, library_options=_OPTIONS))
    return arctic


def _check(uri: str) -> None:
    folder, endpoint = folder_of(uri), endpoint_of(uri)
    if folder is not None:
        check_folder(folder)
    if endpoint is not None:
        # ArcticDB tries a dead endpoint for half a minute and holds the interpreter's lock: nothing else would run.
        try:
            socket.create_connection(endpoint, timeout=PROBE_S).close()
        except OSError as error:
            raise ArcticUnavailableError(
                f"ArcticDB at {place_of(uri)} does not answer ({error}); check host and port in MATS_ARCTIC_URI."
            ) from None


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArcticUnavailableError(
            f"The ArcticDB folder {folder} cannot be made ({error.strerror}); "
            "point MATS_ARCTIC_URI at a writable folder."
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ArcticUnavailableError(
            f"The ArcticDB folder {folder} is not writable; LMDB needs that even to read. "
            "Change its owner or point MATS_ARCTIC_URI elsewhere."
        )
