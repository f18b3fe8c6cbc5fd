"""Threads that do the same thing at the same moment, each on a connection of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from django.db import connection

PATIENCE_S = 60.0


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """Run every call on a thread of its own, started together; return by position what came back or was raised."""
    start = threading.Barrier(len(works))
    outcomes: list[Any] = [None] * len(works)

    def _run(index: int, work: Callable[[], Any]) -> None:
        try:
            connection.ensure_connection()
            start.wait(PATIENCE_S)
            outcomes[index] = work()
        except Exception as error:  # noqa: BLE001 - handed to the test
            outcomes[index] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=_run, args=pair, daemon=True) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert not any(thread.is_alive() for thread in threads), "a writer waits for ever"
    return outcomes


def errors_of(outcomes: Sequence[Any]) -> list[Exception]:
    """Return what was raised."""
    return [outcome for outcome in outcomes if isinstance(outcome, Exception)]
