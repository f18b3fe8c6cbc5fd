"""The engine's pulse: a file that is touched once a second while the engine lives, for who watches without a database.

Owns: the file. Rule: touched by the thread that watches the halt file, which waits for no database; an engine that
stops in order takes it away, so that a file that grows old means an engine that died.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

NAME = Path("run") / "engine.pulse"


class Pulse:
    """``$MATS_HOME/run/engine.pulse``."""

    def __init__(self, home: Path) -> None:
        self.path = home / NAME

    def beat(self) -> None:
        """Touch the file; a disk that refuses is told by what watches."""
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()

    def end(self) -> None:
        """Take the file away."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def age_s(self) -> float | None:
        """Return how long ago it was touched; None when there is none."""
        try:
            return max(0.0, time.time() - self.path.stat().st_mtime)
        except OSError:
            return None
