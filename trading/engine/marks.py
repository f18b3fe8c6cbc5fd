"""Texts remembered by eight bytes each, for a day whose executions may be a million.

Owns: the set. Rule: a mark is Python's own hash of the text, so it holds within one process only; two texts share one
about once in ten million days of a million executions.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

Sorted = npt.NDArray[np.int64]


class Marks:
    """A set of texts that can only tell whether one is in it. Adding costs next to nothing, the first look sorts."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._raw = array("q", map(hash, texts))
        self._sorted: Sorted | None = None

    def add(self, text: str) -> None:
        """Take a text in."""
        self._raw.append(hash(text))
        self._sorted = None

    def __contains__(self, text: object) -> bool:
        found, mark = self._look(), hash(text)
        at = int(np.searchsorted(found, mark))
        return at < len(found) and int(found[at]) == mark

    def __len__(self) -> int:
        return len(self._look())

    def without(self, *others: Marks) -> Marks:
        """Return those that none of the others has."""
        left: Any = self._look()
        for other in others:
            left = np.setdiff1d(left, other._look(), assume_unique=True)
        return Marks._of(left)

    def shared(self, other: Marks) -> Marks:
        """Return those that the other has as well."""
        return Marks._of(np.intersect1d(self._look(), other._look(), assume_unique=True))

    @classmethod
    def _of(cls, found: Any) -> Marks:
        made = cls()
        made._raw = array("q", found.tobytes())
        return made

    def _look(self) -> Sorted:
        if self._sorted is None:
            # A copy: a view would keep the array from growing.
            self._sorted = np.unique(np.array(self._raw, dtype=np.int64))
            self._raw = array("q", self._sorted.tobytes())
        return self._sorted
