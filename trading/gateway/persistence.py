"""The state file of the paper gateway: a snapshot beside an append-only journal.

Owns: reading both, appending records, replacing the snapshot.
Leaves: what records mean (``exchange_state``).
Rule: a record is in the journal before anyone hears of it. Appends are single writes without fsync: they outlive the
process, not the machine. One process at a time holds the file. A snapshot carries the number of the last record in it,
so dying between writing the snapshot and cutting the journal repeats nothing; a torn last line was never announced and
is dropped.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from strategies.exceptions import ConfigError

VERSION = 1
COMPACT_BYTES = 64 * 1024 * 1024

Record = list[Any]  # [kind, …] of JSON values


def encode(number: int, record: Record) -> str:
    """One journal line."""
    return json.dumps([number, *record], separators=(",", ":"), default=str) + "\n"


class Journal:
    """Records on disk. Not thread-safe."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal_path = path.with_name(path.name + ".journal")
        self._number = 0
        self._size = 0
        self._fd: int | None = None

    def load(self) -> list[Record]:
        """All records in order, and be ready to append.

        Raises: ConfigError when the files cannot be read or written, or are not ours.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self.journal_path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            _lock(self._fd, self.path)
            records = self._load_snapshot()
            records.extend(self._load_journal(self._fd))
        except OSError as error:
            raise ConfigError(
                f"The gateway's state file {self.path} cannot be used: {error}", code="state_file"
            ) from error
        return records

    def append(self, records: Sequence[Record]) -> None:
        """Write records behind those before, in one piece."""
        if self._fd is None:
            raise RuntimeError("the journal was not loaded")
        lines: list[str] = []
        for record in records:
            self._number += 1
            lines.append(encode(self._number, record))
        data = memoryview("".join(lines).encode())
        self._size += len(data)
        while data:
            data = data[os.write(self._fd, data) :]

    @property
    def wants_compaction(self) -> bool:
        """Tell whether the journal has grown enough to be folded into a snapshot."""
        return self._size > COMPACT_BYTES

    def compact(self, records: Iterable[Record]) -> None:
        """Replace everything by these records, atomically."""
        if self._fd is None:
            raise RuntimeError("the journal was not loaded")
        text = json.dumps(
            {"version": VERSION, "number": self._number, "records": list(records)}, separators=(",", ":"), default=str
        )
        scratch = self.path.with_name(self.path.name + ".new")
        with scratch.open("w", encoding="utf-8") as stream:
            scratch.chmod(0o600)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        scratch.replace(self.path)
        os.ftruncate(self._fd, 0)
        self._size = 0

    def close(self) -> None:
        """Let go of the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _load_snapshot(self) -> list[Record]:
        if not self.path.exists():
            return []
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            number, records, version = content["number"], content["records"], content["version"]
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(self.path, str(error)) from error
        if version != VERSION:
            raise self._damaged(self.path, f"it has version {version}, this gateway writes {VERSION}")
        self._number = int(number)
        return list(records)

    def _load_journal(self, fd: int) -> list[Record]:
        # Read through the locked descriptor: closing another one of the same file would drop the lock.
        size = os.fstat(fd).st_size
        data = b""
        while len(data) < size:
            data += os.pread(fd, size - len(data), len(data))
        whole, newline, torn = data.rpartition(b"\n")
        if torn:
            os.ftruncate(fd, len(whole) + len(newline))
        records: list[Record] = []
        for line in whole.split(b"\n") if whole else []:
            try:
                number, *record = json.loads(line)
            except ValueError as error:
                raise self._damaged(self.journal_path, str(error)) from error
            if number > self._number:
                records.append(record)
                self._number = number
        self._size = len(whole)
        return records

    def _damaged(self, path: Path, why: str) -> ConfigError:
        return ConfigError(
            f"The gateway's state file {path} is damaged ({why}): move it away or start with --reset.",
            code="state_file",
        )


def _lock(fd: int, path: Path) -> None:
    """Keep other processes out for as long as this one lives."""
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(
            f"The gateway's state file {path} is used by another running gateway: stop that one, or name another file.",
            code="state_file_in_use",
        ) from None


def remove(path: Path) -> None:
    """Delete a state file with its journal.

    Raises: ConfigError when a running gateway uses it.
    """
    journal = path.with_name(path.name + ".journal")
    if journal.exists():
        with journal.open("ab") as stream:
            _lock(stream.fileno(), path)
    for each in (path, path.with_name(path.name + ".journal"), path.with_name(path.name + ".new")):
        each.unlink(missing_ok=True)
