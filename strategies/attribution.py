"""Which strategy the running code belongs to, so that log records of user code reach the right page. Pure.

Owns: the mark on a strategy's thread and on what its coroutines start. Leaves: what is shown (``trading.engine``).
Rule: a context travels into tasks and ``asyncio.to_thread``; what other threads hand to the strategy's loop brings
their own context, so the thread is marked too.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar

_of_context: ContextVar[str] = ContextVar("mats_strategy", default="")
_of_thread = threading.local()


def enter(symbol: str) -> None:
    """Mark the calling thread, for the rest of its life, as a strategy's."""
    _of_context.set(symbol)
    _of_thread.symbol = symbol


def enter_context(symbol: str) -> None:
    """Mark the calling task alone, and what it starts: for strategies that share a thread with others."""
    _of_context.set(symbol)


def current_strategy() -> str:
    """Return the symbol of the strategy whose code is running; empty outside of strategies."""
    return _of_context.get() or str(getattr(_of_thread, "symbol", ""))
