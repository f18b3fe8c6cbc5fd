"""StreamSubscription: who notifies of data and who works on it, kept in step.

Owns: counting what was notified and is not done yet, turns, overruns, waiting with a look at the worker's life.
Leaves: the worker and its queue (``strategy_thread``), whom to wait for (``dispatcher``).
Rule: ready means that nothing notified is left undone; several notifications of one bar (1m, 5m, 15m) are all waited
for. A turn lasts from one ``reset`` to the next. A worker that is still at an earlier turn when a new one notifies it,
or that a wait gave up on, has overrun: at most once a turn. In data-driven mode time stands still, so there are none.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from strategies.exceptions import StrategyError

logger = logging.getLogger(__name__)

DATA_DRIVEN, CLOCK_DRIVEN, LIVE = "data-driven", "clock-driven", "live"
MODES = (DATA_DRIVEN, CLOCK_DRIVEN, LIVE)
LOOK_EVERY_S = 1.0  # at the worker's life, while a data-driven wait lasts
WARN_EVERY_S = 10.0


class StreamSubscription:
    """One stream of notifications to one worker. Thread-safe."""

    def __init__(
        self,
        mode: str,
        stream_id: str,
        *,
        is_alive: Callable[[], bool] = lambda: True,
        look_every_s: float = LOOK_EVERY_S,
        warn_every_s: float = WARN_EVERY_S,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"The mode {mode!r} is unknown; use one of {', '.join(MODES)}.")
        self.mode = mode
        self.stream_id = stream_id
        self._is_alive = is_alive
        self._look_every_s, self._warn_every_s = look_every_s, warn_every_s
        self._changed = threading.Condition()
        self._outstanding = 0
        self._left_over = 0  # of the outstanding ones, those of earlier turns: they are done first
        self._overrun_count = 0
        self._is_turn_counted = False
        self._closed = False

    # -- who notifies

    def notify(self) -> None:
        """Count one notification that is about to be handed over."""
        with self._changed:
            if self._left_over:
                self._count_overrun()
            self._outstanding += 1

    def reset(self) -> None:
        """Begin a new turn: what is left undone now is behind from here on."""
        with self._changed:
            self._left_over = self._outstanding
            self._is_turn_counted = False

    # -- who works

    def signal_ready(self) -> None:
        """Take note that one notification is done, well or badly; one that nobody counted changes nothing."""
        with self._changed:
            if not self._outstanding:
                return
            self._outstanding -= 1
            if self._left_over:
                self._left_over -= 1
            if not self._outstanding:
                self._changed.notify_all()

    def close(self) -> None:
        """End every wait, now and later: the worker does no more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # -- who waits

    def wait_until_ready(self, timeout: float | None = None) -> bool:
        """Wait until nothing is outstanding; tell False when ``timeout`` seconds passed first, or the worker ended.

        Data-driven waits have no timeout: the slowest sets the pace. They warn now and then, and look whether the
        worker lives.

        Raises: StrategyError (strategy_thread_ended) when a data-driven worker died with work left.
        """
        if self.mode == DATA_DRIVEN:
            return self._wait_without_end()
        with self._changed:
            is_ready = self._changed.wait_for(self._is_over, timeout) and not self._outstanding
            if not is_ready and not self._closed:
                self._count_overrun()
            return is_ready

    def _wait_without_end(self) -> bool:
        began = warned = time.monotonic()
        while True:
            with self._changed:
                if self._changed.wait_for(self._is_over, self._look_every_s):
                    return not self._outstanding
            if not self._is_alive():
                with self._changed:
                    if self._is_over():  # it ended in good order right after its last one
                        return not self._outstanding
                raise StrategyError(
                    f"{self.stream_id}: the thread died with {self._outstanding} notification(s) left.",
                    code="strategy_thread_ended",
                )
            now = time.monotonic()
            if now - warned >= self._warn_every_s:
                warned = now
                logger.warning(
                    "waiting stream=%s outstanding=%s for_s=%.0f", self.stream_id, self._outstanding, now - began
                )

    def _is_over(self) -> bool:
        return not self._outstanding or self._closed

    # -- figures

    @property
    def outstanding(self) -> int:
        """Return how many notifications are not done yet."""
        return self._outstanding

    def is_ready(self) -> bool:
        """Tell whether nothing is outstanding."""
        return not self._outstanding

    def get_overrun_count(self) -> int:
        """Return in how many turns the worker was behind."""
        return self._overrun_count

    def _count_overrun(self) -> None:
        if self.mode != DATA_DRIVEN and not self._is_turn_counted:
            self._is_turn_counted = True
            self._overrun_count += 1
