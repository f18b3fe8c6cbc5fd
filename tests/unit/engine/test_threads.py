"""A thread that computes does not hold up one that waits for disk."""

from __future__ import annotations

import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from trading.engine.threads import SWITCH_INTERVAL_S, tune_switching


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


def waits(path: Path, count: int = 40) -> float:
    """Return the median seconds of ten small writes to disk, each of which lets go of the interpreter."""
    spent = []
    with path.open("wb", buffering=0) as file:
        for _ in range(count):
            start = time.perf_counter()
            for _ in range(10):
                os.pwrite(file.fileno(), b"x", 0)
                os.fsync(file.fileno())
            spent.append(time.perf_counter() - start)
    return statistics.median(spent)


def test_small_writes_beside_a_computing_thread_take_a_fraction_of_what_they_took(tmp_path: Path) -> None:
    ended = threading.Event()

    def compute() -> None:
        while not ended.is_set():
            sum(number * number for number in range(200))

    other = threading.Thread(target=compute)
    other.start()
    try:
        sys.setswitchinterval(50 * SWITCH_INTERVAL_S)  # ten times Python's own, so that load alone cannot decide
        before = waits(tmp_path / "file", 5)
        tune_switching()
        after = waits(tmp_path / "file")
    finally:
        ended.set()
        other.join()
    assert after < before / 2
