"""Look at the files of an LMDB store without opening them, and put damaged ones aside.

Owns: finding damage and clearing the way for a rebuild. Why before opening: LMDB maps its file into memory; reading
past the end of one that was cut off ends the process with SIGBUS, which no code can catch.
Rule: a damaged library is moved aside, never deleted: recorded bars cannot be made again from the ledger.
"""

from __future__ import annotations

import logging
import shutil
import struct
from datetime import datetime
from pathlib import Path

from strategies.exceptions import TransientError

logger = logging.getLogger(__name__)

DATA = "data.mdb"
_PAGE = 4096
_META = struct.Struct("<II QQ 96x QQ")  # magic, version, address, map size, two trees, last page, transaction
_HEAD = 16  # of a page, before the meta record
_MAGIC = 0xBEEFC0DE


class ArcticUnavailableError(TransientError):
    """ArcticDB cannot be opened or reached; the ledger is untouched and the projection catches up later."""

    code = "arctic_unavailable"


class ArcticDamagedError(ArcticUnavailableError):
    """A file of the store is not whole; the ledger has what is needed to make its histories again."""

    code = "arctic_damaged"


def damage_of(library: Path) -> str:
    """Return what is wrong with a library's data file, empty when it is whole or not there."""
    path = library / DATA
    try:
        with path.open("rb") as handle:
            metas = [_meta(handle.read(_PAGE)) for _ in range(2)]
            size = path.stat().st_size
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    whole = [meta for meta in metas if meta is not None]
    if not size:
        return "is empty"
    if not whole:
        return "is no LMDB file"
    last_page = max(whole, key=lambda meta: meta[1])[0]
    needed = (last_page + 1) * _PAGE
    return f"was cut off: {size:,} of at least {needed:,} bytes" if size < needed else ""


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


def _meta(page: bytes) -> tuple[int, int] | None:
    """Return last page and transaction of a meta page, None when it is none."""
    if len(page) < _HEAD + _META.size:
        return None
    magic, _, _, _, last_page, transaction = _META.unpack_from(page, _HEAD)
    return (last_page, transaction) if magic == _MAGIC else None
