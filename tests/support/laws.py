"""How many examples a law is tried with: enough for each change in `make test`, all of them in `make prove`."""

from __future__ import annotations

import os

IS_PROOF = bool(os.environ.get("MATS_EXPLORE"))


def examples(short: int, long: int) -> int:
    """Return the number for this run."""
    return long if IS_PROOF else short
