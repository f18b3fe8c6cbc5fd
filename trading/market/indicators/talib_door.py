"""TA-Lib, imported when a formula is first asked for: it brings pandas along, which a web process starts without.

Owns: the moment of the import. Leaves: which functions are used (``sites``).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any


@lru_cache(maxsize=1)
def functions() -> Any:
    """Return the module of functions over arrays."""
    import talib

    return talib


@lru_cache(maxsize=1)
def streams() -> Any:
    """Return the module of functions that go on bar by bar."""
    from talib import stream

    return stream


@lru_cache(maxsize=1)
def too_short() -> type[Exception]:
    """Return what a stream raises over fewer bars than it needs."""
    from talib._ta_lib import InsufficientHistory  # type: ignore[attr-defined]  # the stubs leave it out

    found: type[Exception] = InsufficientHistory
    return found
