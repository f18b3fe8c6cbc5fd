"""Named points where a test may kill this process; without the variable every call is one comparison. Pure.

Rule: ``MATS_CRASH_AT=name:nth`` kills the process with SIGKILL when the point ``name`` is reached the n-th time, so
that the proof of recovery can stop the engine between any two steps of the fill path.
It lies in the lowest app because the ledger, the broker and the engine all pass such points.
"""

from __future__ import annotations

import os
import signal
import threading

VARIABLE = "MATS_CRASH_AT"
POINTS = (
    "read",
    "decode",
    "enqueue",
    "dequeue",
    "begin",
    "fill",
    "position",
    "cash",
    "event",
    "commit",
    "committed",
    "ring",
    "arctic",
    "arctic_append",
    "intent_before",
    "intent_after",
    "sent",
    "ack",
    "reconcile",
    "snapshot",
    "adjustment",
    "audit",
    "park",
    "outcome",
)
# Of frames that other processes hand over; no fill passes them.
PARCEL_POINTS = ("parcel_file", "parcel_row", "parcel_written", "parcel_marked")


def parse(text: str) -> tuple[str, int]:
    """Return point and count of ``name:nth``; the count defaults to 1.

    Raises: ValueError when the name is no point or the count is no positive number.
    """
    name, _, nth = text.partition(":")
    count = int(nth or 1)
    if name not in (*POINTS, *PARCEL_POINTS) or count < 1:
        raise ValueError(f"{VARIABLE}={text} names no crash point; choose one of {', '.join(POINTS)}.")
    return name, count


_target, _remaining = parse(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else ("", 0)
_lock = threading.Lock()


def reach(name: str) -> None:
    """Pass a point; the process dies here when the environment says so."""
    global _remaining
    if name != _target:
        return
    with _lock:
        _remaining -= 1
        if _remaining <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
