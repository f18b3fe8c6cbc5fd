"""What a strategy's code opens beside the bars that it is given: files and connections.

Owns: seeing it, for the time of a block. Leaves: what follows from it (``lookahead``).
Rule: what a strategy reads by itself cannot be cut at a moment, so a check must say that it could not look there.
Python's own files and what belongs to its installation are left out. The hook stays in the process, and is silent
outside of such blocks. Pure.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any

_CODE = frozenset({".py", ".pyc", ".pyi", ".so", ".pth"})
_SYSTEM = ("/proc/", "/dev/", "/sys/", "/usr/share/zoneinfo", "/etc/localtime")
_MEMORY = "/dev/shm/"  # noqa: S108 - files like others, only not on a disk
_CONNECTIONS = frozenset({"socket.connect", "sqlite3.connect"})
_state: dict[str, set[str] | bool | None] = {"seen": None, "is_hooked": False}


@contextmanager
def noting(seen: set[str]) -> Iterator[None]:
    """Add to ``seen`` the names of what is opened for reading in this block."""
    if not _state["is_hooked"]:
        sys.addaudithook(_hook)
        _state["is_hooked"] = True
    before = _state["seen"]
    _state["seen"] = seen
    try:
        yield
    finally:
        _state["seen"] = before


def _hook(event: str, args: tuple[Any, ...]) -> None:
    seen = _state["seen"]
    if not isinstance(seen, set):
        return
    if event == "open" and isinstance(args[0], str | bytes | os.PathLike):
        name = os.fsdecode(args[0])
        if not args[2] & (os.O_WRONLY | os.O_CREAT) and not _is_own(name):
            seen.add(PurePath(name).name)
    elif event in _CONNECTIONS:
        seen.add(f"a connection ({event.partition('.')[0]})")


def _is_own(name: str) -> bool:
    if name.startswith(_MEMORY):
        return PurePath(name).suffix in _CODE
    return PurePath(name).suffix in _CODE or name.startswith((sys.prefix, sys.base_prefix, *_SYSTEM))
