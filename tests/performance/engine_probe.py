"""An engine that writes now and then what its memory is made of: ``python -m tests.performance.engine_probe FILE``.

Shape: one JSON object a line; sizes in MB, the rest counts. ``anon`` is what counts as growth: mapped pages of SQLite,
LMDB and libraries belong to the page cache. ``python`` is what CPython's own allocator hands out, ``heap`` what the C
library's does, ``heap_free`` what the C library keeps although nobody uses it.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

EVERY_S = 10.0
_MEGA = 1_000_000


class _Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


def resident() -> dict[str, float]:
    """Return this process's resident memory by kind, in MB."""
    found = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in ("VmRSS", "RssAnon", "RssFile", "RssShmem"):
            found[name] = int(rest.split()[0]) * 1024 / _MEGA
    return found


def heap() -> dict[str, float]:
    """Return what the C library's allocator holds, in MB; its main arena and mapped blocks only are counted by it."""
    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = _Mallinfo
    found = ask()
    return {
        "heap": found.uordblks / _MEGA,
        "heap_free": found.fordblks / _MEGA,
        "mapped": found.hblkhd / _MEGA,
    }


def containers(least: int = 2_000) -> dict[str, int]:
    """Return the largest containers by a name that says what they hold."""
    found: Counter[str] = Counter()
    for one in gc.get_objects():
        if isinstance(one, dict | list | set) and len(one) >= least:
            inside = next(iter(one.values() if isinstance(one, dict) else one))
            key = f"{type(one).__name__} of {type(inside).__name__} @{id(one):x}"
            found[key] = len(one)
    return dict(found.most_common(12))


class Pauses:
    """How long the collector looked once the engine runs, by generation: times, CPU seconds, the longest in ms."""

    def __init__(self) -> None:
        self.figures: dict[int, list[float]] = {}
        self._since: dict[int, int] = {}
        gc.callbacks.append(self._note)

    def _note(self, phase: str, info: dict[str, int]) -> None:
        thread = threading.get_ident()
        if phase == "start":
            self._since[thread] = time.thread_time_ns()
            return
        spent = time.thread_time_ns() - self._since.pop(thread, time.thread_time_ns())
        if not gc.get_freeze_count():
            return  # still starting
        found = self.figures.setdefault(info["generation"], [0, 0.0, 0.0])
        found[0] += 1
        found[1] += spent / 1e9
        found[2] = max(found[2], spent / 1e6)


def sample(*, deep: bool) -> dict[str, Any]:
    """Return one line of figures."""
    found: dict[str, Any] = {"at": time.time(), **resident(), **heap(), "blocks": sys.getallocatedblocks()}
    if deep:
        found["objects"] = dict(Counter(type(one).__name__ for one in gc.get_objects()).most_common(25))
        found["containers"] = containers()
    return found


def _watch(path: str) -> None:
    number, pauses = 0, Pauses()
    deep_every = int(os.environ.get("MATS_PROBE_DEEP", "6"))
    with Path(path).open("a") as out:
        while True:
            found = sample(deep=bool(deep_every) and number % deep_every == 0)
            print(json.dumps(found | {"gc": pauses.figures}), file=out, flush=True)
            number += 1
            time.sleep(EVERY_S)


def main() -> None:
    """Run the engine beside the watcher."""
    from django.core.management import execute_from_command_line

    threading.Thread(target=_watch, args=(sys.argv[1],), daemon=True, name="probe").start()
    execute_from_command_line(["manage.py", "run_engine", *sys.argv[2:]])


if __name__ == "__main__":
    main()
