"""Database work of loops that must not block: a small pool whose connections stay open and are dropped when they fail.

Rule: one call is one unit of work; the pool's threads never hold a transaction between calls.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import DatabaseError, connection

P = ParamSpec("P")
T = TypeVar("T")

_THREADS = 4  # SQLite has one writer at a time; more would only wait for its lock
_pool = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="orders-db")


def _work(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return function(*args, **kwargs)
    except DatabaseError:
        connection.close()  # the next call opens a fresh one
        raise


def in_db_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
    """Run ``function`` on the pool; await the result on the calling loop."""
    loop = asyncio.get_running_loop()
    return loop.run_in_executor(_pool, lambda: _work(function, *args, **kwargs))


def close_all() -> None:
    """Close the database connection of every thread of the pool; for the end of a process or a test."""
    together = threading.Barrier(_THREADS)  # so that no thread takes two of the calls

    def _close() -> None:
        together.wait(10.0)
        connection.close()

    for future in [_pool.submit(_close) for _ in range(_THREADS)]:
        future.result()
