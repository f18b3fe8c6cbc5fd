"""How much room a store takes and how fast that grows.

Owns: the figures of the heartbeat. Why: an LMDB file never shrinks, a reader that was killed keeps it growing, and a
full one refuses every write.
"""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from portfolio.arctic.address import folder_of, map_size_of
from portfolio.arctic.health import ArcticUnavailableError, data_bytes

MEASURE_EVERY_S = 60.0
NEARLY_FULL = 0.8  # of the map size, which each library has for itself
GROWTH_BYTES_H = 1_000_000_000
LEAST_FREE = 64_000_000  # several times what one flush takes
_WINDOW_S = 3_600.0
_MEGA = 1_000_000


def check_room(uri: str) -> None:
    """Refuse to write on a disk that is nearly full.

    Why: when LMDB finds no room in a commit, ArcticDB frees memory twice and the whole process ends; no code can catch
    that. The margin leaves what other programs may write between this look and the commit.

    Raises: ArcticUnavailableError.
    """
    folder = folder_of(uri)
    if folder is None or not folder.exists():
        return
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE:
        raise ArcticUnavailableError(
            f"The disk of {folder} has {free / _MEGA:,.0f} MB free, ArcticDB writes from {LEAST_FREE / _MEGA:,.0f} MB "
            "on; make room. Trading goes on, and what is lacking is appended then."
        )


class StoreSpace:
    """Measures at most once a minute; any thread may ask for the figures."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque()
        self._figures: dict[str, Any] = {"size_mb": None, "used": None, "growth_mb_h": None, "alert": ""}

    def figures(self) -> dict[str, Any]:
        """Return size in MB, the fullest library's share of its map, growth in MB an hour, and the alert."""
        return dict(self._figures)

    def measure(self, uri: str) -> None:
        """Look again when a minute has passed; a store that is no folder has no figures."""
        folder, now = folder_of(uri), self._clock()
        if folder is None or (self._samples and now - self._samples[-1][0] < MEASURE_EVERY_S):
            return
        sizes = data_bytes(folder)
        self._samples.append((now, sum(sizes.values())))
        while self._samples[0][0] < now - _WINDOW_S:
            self._samples.popleft()
        fullest, limit = max(sizes, key=lambda name: sizes[name], default=""), map_size_of(uri)
        used = sizes[fullest] / limit if limit and fullest else None
        growth = self._growth()
        self._figures = {
            "size_mb": round(self._samples[-1][1] / _MEGA, 1),
            "used": None if used is None else round(used, 4),
            "growth_mb_h": None if growth is None else round(growth / _MEGA, 1),
            "alert": _alert(fullest, used, growth),
        }

    def _growth(self) -> float | None:
        """Return bytes an hour over the window; None before a second sample."""
        (begun, before), (ended, after) = self._samples[0], self._samples[-1]
        return (after - before) / (ended - begun) * 3_600 if ended > begun else None


def _alert(library: str, used: float | None, growth: float | None) -> str:
    if used is not None and used >= NEARLY_FULL:
        return (
            f"ArcticDB's library {library} fills {used:.0%} of its map size; give MATS_ARCTIC_URI a larger map_size "
            "and restart."
        )
    if growth is not None and growth >= GROWTH_BYTES_H:
        return f"ArcticDB grows by {growth / _MEGA:,.0f} MB an hour; a reader that was killed may hold old pages."
    return ""
