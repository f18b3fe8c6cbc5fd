"""Mends a live session's gaps on a thread of its own, so that no strategy waits for an answer of IB.

Leaves: which gaps there are and how often each is asked for (``gaps``), writing (``session_data``, which locks a symbol
while it is written).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from strategies.exceptions import MatsError

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
JOIN_S = 5.0


class GapKeeper:
    """Calls ``run(now_ns)`` every few seconds between ``start`` and ``stop``."""

    def __init__(
        self, run: Callable[[int], object], now_ns: Callable[[], int], *, every_s: float = LOOK_EVERY_S
    ) -> None:
        self._run_once, self._now_ns, self._every_s = run, now_ns, every_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; a second time changes nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="session-gaps", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End; what is being asked for is not waited for long."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(JOIN_S)

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self._run_once(self._now_ns())
            except MatsError as error:
                logger.warning("gaps not mended reason=%s", error.message)
            except Exception:
                logger.exception("gaps not mended")
