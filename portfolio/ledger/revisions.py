"""Execution ids: which reports are revisions of the same fill.

Source: IB repeats a corrected execution with only the digits after the last dot changed (``….01`` becomes ``….02``).
"""

from __future__ import annotations

FIRST_REVISION = 1


def split_exec_id(exec_id: str) -> tuple[str, int]:
    """Return the family that corrections share, and the revision; an id without a revision is its own family.

    >>> split_exec_id("0000e0d5.6580b9a2.01.02")
    ('0000e0d5.6580b9a2.01', 2)
    >>> split_exec_id("manual")
    ('manual', 0)
    """
    family, dot, last = exec_id.rpartition(".")
    if not dot or not family or not (last.isascii() and last.isdigit()):
        return exec_id, 0
    return family, int(last)
