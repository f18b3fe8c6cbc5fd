"""SQLite's write-ahead log as bytes, and what a database says, for cutting one and asking the other.

Layout (sqlite.org/fileformat2.html, 4): a header of 32 bytes, then frames of 24 bytes and one page; a frame whose
second word is not zero ends a transaction; frames with other salts than the header's are left from an earlier log.
"""

from __future__ import annotations

import hashlib
import sqlite3
import struct
from dataclasses import dataclass
from pathlib import Path

HEADER, FRAME_HEADER = 32, 24
# What the engine's process says of itself, or Django of its tables, is not the books.
_LEFT_OUT = ("sqlite_", "django_", "auth_")


@dataclass(frozen=True, slots=True)
class Frame:
    """One page in the log. Units: ``end`` bytes from the start of the file."""

    page: int
    end: int
    is_commit: bool


def frames(log: bytes) -> list[Frame]:
    """Return the frames of the log's present life."""
    if len(log) < HEADER:
        return []
    page_size: int = struct.unpack(">I", log[8:12])[0]
    salts = log[16:24]
    found: list[Frame] = []
    start = HEADER
    while start + FRAME_HEADER + page_size <= len(log) and log[start + 8 : start + 16] == salts:
        page, size_after = struct.unpack(">II", log[start : start + 8])
        start += FRAME_HEADER + page_size
        found.append(Frame(page, start, size_after != 0))
    return found


def page_size_of(log: bytes) -> int:
    """Return the size of a page in bytes."""
    size: int = struct.unpack(">I", log[8:12])[0]
    return size


def state_of(connection: sqlite3.Connection) -> str:
    """Return a hash over every row of the books, in one state."""
    found = hashlib.sha256()
    connection.execute("BEGIN")
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")]
    for name in names:
        if not name.startswith(_LEFT_OUT):
            found.update(name.encode())
            for row in connection.execute(f'SELECT * FROM "{name}" ORDER BY 1'):  # noqa: S608 - names of our tables
                found.update(repr(row).encode())
    connection.execute("ROLLBACK")
    return found.hexdigest()


def state_at(path: Path) -> str:
    """Return the hash of a database that somebody else has open."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
    try:
        return state_of(connection)
    finally:
        connection.close()
