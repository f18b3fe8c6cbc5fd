"""Look at the files of an LMDB store without opening them, and put damaged ones aside.

Owns: finding damage and clearing the way for a rebuild. Why before opening: LMDB maps its file into memory; reading
past the end of one that was cut off ends the process with SIGBUS, which no code can catch.
Rule: a damaged library is moved aside, never deleted: recorded bars cannot be made again from the ledger.
"""

from __future__ import annotations

import logging
import os
import shutil
from datetime import datetime
from pathlib import Path

from portfolio.arctic.lmdb_pages import PAGE, last_referred_page, newest_meta
from strategies.exceptions import TransientError

logger = logging.getLogger(__name__)

DATA = "data.mdb"
_TRIES = 5


class ArcticUnavailableError(TransientError):
    """ArcticDB cannot be opened or reached; the ledger is untouched and the projection catches up later."""

    code = "arctic_unavailable"


class ArcticDamagedError(ArcticUnavailableError):
    """A file of the store is not whole; the ledger has what is needed to make its histories again."""

    code = "arctic_damaged"


def damage_of(library: Path) -> str:
    """Return what is wrong with a library's data file, empty when it is whole or not there."""
    try:
        handle = os.open(library / DATA, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    try:
        return _damage(handle)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    finally:
        os.close(handle)


def _damage(handle: int) -> str:
    for _ in range(_TRIES):
        meta = newest_meta(handle)
        size = os.fstat(handle).st_size
        if not size:
            return "is empty"
        if meta is None:
            return "is no LMDB file"
        if size >= (meta.last_page + 1) * PAGE:
            return ""
        try:
            needed = (last_referred_page(handle, meta) + 1) * PAGE
            found = f"was cut off: {size:,} of at least {needed:,} bytes" if size < needed else ""
        except ValueError as error:
            found = f"was cut off: {size:,} bytes, and {error}"
        if newest_meta(handle) == meta:
            return found
    return ""  # written to faster than it can be read: it lives


def libraries_in(folder: Path) -> list[Path]:
    """Return the folders of all libraries, ArcticDB's own list of them included."""
    return sorted(path.parent for path in folder.rglob(DATA)) if folder.is_dir() else []


def check_library(library: Path) -> None:
    """Raises: ArcticDamagedError when the library's file is not whole."""
    found = damage_of(library)
    if found:
        raise ArcticDamagedError(
            f"ArcticDB's file {library / DATA} {found}. Stop the engine and run «manage.py rebuild_arctic --all»: "
            "it puts the file aside and writes the histories again from the ledger.",
            path=str(library / DATA),
        )


def check_folder(folder: Path) -> None:
    """Raises: ArcticDamagedError for the first library whose file is not whole."""
    for library in libraries_in(folder):
        check_library(library)


def put_damaged_aside(folder: Path, now: datetime) -> list[Path]:
    """Move damaged libraries to a folder beside the store; return where they are now. Use before opening it."""
    moved = []
    for library in libraries_in(folder):
        found = damage_of(library)
        if found:
            target = folder.with_name(f"{folder.name}.damaged") / f"{now:%Y%m%dT%H%M%SZ}" / library.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(library, target)
            logger.error("arctic library put aside path=%s now=%s damage=%s", library, target, found)
            moved.append(target)
    return moved


def data_bytes(folder: Path) -> dict[str, int]:
    """Return the size of each library's file; sparse pages that were never written do not count."""
    found = {}
    for library in libraries_in(folder):
        try:
            found[str(library.relative_to(folder))] = (library / DATA).stat().st_size
        except OSError:
            continue
    return found
