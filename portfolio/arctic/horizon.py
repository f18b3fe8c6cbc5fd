"""Reading the store as it would have been at a moment: rows from then on are left out.

Owns: the moment, and cutting what is read. Leaves: reading itself (``client``), who sets the moment: checks that a
strategy does not see the future. Rule: a row belongs to the past when its index is before the moment; frames without an
index of times are as they are. One process sets it for its own reads, for the time of a block. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any

_horizon: ContextVar[datetime | None] = ContextVar("arctic_horizon", default=None)
_READS = frozenset({"read", "head", "tail"})


@contextmanager
def reading_until(moment: datetime | None) -> Iterator[None]:
    """Let every read of this block end before an aware moment; None reads everything."""
    token = _horizon.set(moment)
    try:
        yield
    finally:
        _horizon.reset(token)


def is_set() -> bool:
    """Tell whether reads are cut now."""
    return _horizon.get() is not None


def cut(item: Any) -> Any:
    """Return what was read without the rows from the horizon on; the item itself while there is none."""
    moment = _horizon.get()
    index: Any = getattr(getattr(item, "data", None), "index", None)
    if moment is None or index is None or getattr(index, "inferred_type", "") != "datetime64":
        return item
    bound = moment if index.tz is not None else moment.replace(tzinfo=None)
    item.data = item.data[index < bound]
    return item


class CutLibrary:
    """A library whose reads end at the horizon; everything else is the library's own."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._library, name)
        if name in _READS:
            return lambda *args, **options: cut(found(*args, **options))
        if name == "read_batch":
            return lambda *args, **options: [cut(item) for item in found(*args, **options)]
        return found
