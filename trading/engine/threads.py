"""How the engine's threads share the interpreter.

A thread that waits for the interpreter asks the one that runs to let go only after the switch interval, and again after
every wait for disk or socket. At Python's 5 ms a fill that passes three threads and a commit waited for tens of
milliseconds while one other thread computed (ArcticDB's rows, a snapshot); at 1 ms for a few.
"""

from __future__ import annotations

import sys

SWITCH_INTERVAL_S = 0.001


def tune_switching() -> None:
    """Have a computing thread let go soon; for a process whose fills must not wait."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
