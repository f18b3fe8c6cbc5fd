"""One at a time, in order of arrival. Pure threads.

Why: SQLite has one writer; who finds it busy sleeps up to a tenth of a second and tries again, so that of a hundred
threads some never meet the moment in which it is free and give up after the whole timeout: «database is locked».
"""

from __future__ import annotations

import os
import threading
from collections import deque


class Turnstile:
    """Lets one thread through; the one that waits longest is next. Not reentrant. Thread-safe."""

    def __init__(self) -> None:
        self.reset()
        os.register_at_fork(after_in_child=self.reset)  # the thread that was inside does not exist in a child

    def reset(self) -> None:
        """Forget everybody."""
        self._lock = threading.Lock()
        self._is_taken = False
        self._waiting: deque[threading.Event] = deque()

    def enter(self, timeout_s: float) -> bool:
        """Wait for the turn; tell whether it came in time. Whoever got it calls ``leave``."""
        with self._lock:
            if not self._is_taken:
                self._is_taken = True
                return True
            mine = threading.Event()
            self._waiting.append(mine)
        try:
            came = mine.wait(timeout_s)
        except BaseException:
            if self._gave_up(mine):
                self.leave()
            raise
        return came or self._gave_up(mine)

    def _gave_up(self, mine: threading.Event) -> bool:
        """Leave the queue; tell whether the turn came at the last moment after all."""
        with self._lock:
            if mine.is_set():
                return True
            self._waiting.remove(mine)
            return False

    def leave(self) -> None:
        """Give the turn to the next."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._is_taken = False
