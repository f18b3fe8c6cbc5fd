"""Requests for small bars of the last ten minutes, counted over all processes of this machine that share a home.

Owns: a small file with the times of requests, behind a lock of the kernel. Leaves: the limits (``pacing``).
Why: IB counts sixty in ten minutes over all API clients, so an ingest beside the engine must know of the engine's.
Units: seconds of ``time.monotonic``, which on Linux is one clock for all processes; after a restart of the machine
times that lie ahead are forgotten.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)

_ONE = struct.Struct("<d")


class SharedSpan:
    """The shared count. A file that cannot be used costs the sharing, not the data: each process counts its own."""

    def __init__(self, path: Path, span_s: float) -> None:
        self._path = path
        self._span_s = span_s
        self._in_trouble = False

    def wait_s(self, now: float, most: int) -> float:
        """Return how long until one more stays within ``most``; 0 when it does now."""
        with self._opened() as handle:
            return self._wait_s(self._read(handle, now), now, most)

    def _wait_s(self, times: list[float], now: float, most: int) -> float:
        over = len(times) - most
        return 0.0 if over < 0 else max(0.001, times[over] + self._span_s - now)

    def count(self, now: float) -> int:
        """Return how many there were within the span."""
        with self._opened() as handle:
            return len(self._read(handle, now))

    def take(self, now: float, most: int, weight: int = 1) -> float:
        """Count one, or several at once, and return 0, or return how long they must wait to stay within ``most``."""
        with self._opened() as handle:
            times = self._read(handle, now)
            wait_s = self._wait_s(times, now, most - weight + 1)
            if not wait_s:
                self._write(handle, times, now, weight)
            return wait_s

    def add(self, now: float, weight: int = 1) -> None:
        """Count one, or several at once."""
        with self._opened() as handle:
            self._write(handle, self._read(handle, now), now, weight)

    def _write(self, handle: int | None, times: list[float], now: float, weight: int) -> None:
        if handle is not None:
            times = [*times, *[now] * weight]
            os.pwrite(handle, b"".join(_ONE.pack(at) for at in times), 0)
            os.ftruncate(handle, _ONE.size * len(times))

    @contextmanager
    def _opened(self) -> Iterator[int | None]:
        handle = None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(handle, fcntl.LOCK_EX)
            self._in_trouble = False
        except OSError as error:
            if not self._in_trouble:
                logger.warning("requests for bars are not counted together path=%s reason=%s", self._path, error)
            self._in_trouble = True
        try:
            yield handle
        finally:
            if handle is not None:
                os.close(handle)

    def _read(self, handle: int | None, now: float) -> list[float]:
        if handle is None:
            return []
        data = os.pread(handle, 1 << 16, 0)
        times = [_ONE.unpack_from(data, place)[0] for place in range(0, len(data) // _ONE.size * _ONE.size, _ONE.size)]
        return sorted(at for at in times if now - self._span_s < at <= now)
