"""Have a strategy's loop do something at once, or know for certain that it will not.

Owns: the claim that exactly one of two threads does the work: the loop that owns the connection, or whoever waited for
it and goes past it.
Leaves: what is done past a loop (``cancelling``, ``trade_manager``; the bytes: ``ib.line``).
Rule: work that was given up never begins later, and work that has begun is never done a second time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from strategies.exceptions import OrderRefusedError, TransientError

T = TypeVar("T")

ANSWERS_WITHIN_S = 0.1
"""A loop that has not begun by then is taken for hung. Units: seconds."""


class Claim:
    """The right to do one piece of work. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = threading.Event()
        self._given_up = False

    def begin(self) -> bool:
        """Take the work; tell False when nobody waits for it any more."""
        with self._lock:
            if not self._given_up:
                self._begun.set()
            return not self._given_up

    def is_taken(self, within_s: float) -> bool:
        """Wait until the work has begun; when it has not in time it never will, and is the caller's."""
        if self._begun.wait(max(0.0, within_s)):
            return True
        with self._lock:
            self._given_up = not self._begun.is_set()
            return not self._given_up


def loop_of(strategy: Any) -> asyncio.AbstractEventLoop:
    """Return a strategy's loop.

    Raises: OrderRefusedError (owner_gone) when it has ended.
    """
    loop: asyncio.AbstractEventLoop | None = strategy._loop
    if loop is None or loop.is_closed():
        raise OrderRefusedError(f"{strategy.symbol} is ending; try again.", code="owner_gone")
    return loop


def is_own_loop(loop: asyncio.AbstractEventLoop) -> bool:
    """Tell whether the caller runs on the loop: then it cannot wait for it."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


class Errand:
    """A function on its way to a strategy's loop; ``deliver`` first, then ``outcome`` or past it."""

    def __init__(self, strategy: Any, work: Callable[[], None]) -> None:
        self.strategy = strategy
        self._claim, self._ended = Claim(), threading.Event()
        self._work = work
        self._error: BaseException | None = None

    def deliver(self) -> None:
        """Hand the work to the loop; on that loop it is done at once."""
        loop = loop_of(self.strategy)
        if is_own_loop(loop):
            self._do()
        else:
            try:
                loop.call_soon_threadsafe(self._do)
            except RuntimeError as error:
                raise OrderRefusedError(f"{self.strategy.symbol} is ending; try again.", code="owner_gone") from error

    def _do(self) -> None:
        if not self._claim.begin():
            return
        try:
            self._work()
        except Exception as error:  # noqa: BLE001 - raised where the work was asked for
            self._error = error
        finally:
            self._ended.set()

    def is_taken(self, within_s: float = ANSWERS_WITHIN_S) -> bool:
        """Tell whether the loop has begun; if not, it never will."""
        return self._claim.is_taken(within_s)

    def finish(self, timeout_s: float) -> None:
        """Wait for work that was taken. Raises: what it raised; TransientError when it does not end."""
        if not self._ended.wait(timeout_s):
            raise TransientError(f"{self.strategy.symbol} does not end what it began.", code="owner_blocked")
        if self._error is not None:
            raise self._error


def begin_on(
    strategy: Any, work: Callable[[], Coroutine[Any, Any, T]], within_s: float = ANSWERS_WITHIN_S
) -> asyncio.Future[T] | Any | None:
    """Start a coroutine on a strategy's loop; return its future, or None when the loop does not take it.

    On that loop itself a task is returned.
    """
    loop = loop_of(strategy)
    if is_own_loop(loop):
        return asyncio.ensure_future(work())
    claim = Claim()

    async def _claimed() -> Any:
        return await work() if claim.begin() else None

    future = asyncio.run_coroutine_threadsafe(_claimed(), loop)
    if claim.is_taken(within_s):
        return future
    future.cancel()
    return None
