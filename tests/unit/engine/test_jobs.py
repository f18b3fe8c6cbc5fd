"""What the engine does by the clock."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from django.db import connection

from strategies.models import Strategy
from trading.engine.jobs import checkpoint, give_memory_back

pytestmark = pytest.mark.django_db(transaction=True)


def _log() -> tuple[int, int, int]:
    """Return whether somebody was in the way, the pages of the log, and how many of them the file holds."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(NOOP)")
        busy, pages, copied = cursor.fetchone()
    return busy, pages, copied


@pytest.mark.skipif(
    connection.vendor != "sqlite",
    reason="asks SQLite how far its log was copied",
)
def test_log_is_copied_beside_the_commits_that_leave_it_alone() -> None:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_autocheckpoint")
        assert cursor.fetchone() == (10_000,)
    Strategy.objects.create(symbol="ALPHA", filename="alpha.py")
    _, pages, copied = _log()
    assert copied < pages
    checkpoint()
    assert _log()[1:] == (pages, pages)


@pytest.mark.parametrize("library", [True, False], ids=["with malloc_trim", "without"])
def test_memory_is_given_back_where_the_c_library_can(library: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    trimmed: list[int] = []
    found = SimpleNamespace(malloc_trim=trimmed.append) if library else SimpleNamespace()
    monkeypatch.setattr("trading.engine.jobs.ctypes.CDLL", lambda name: found)
    give_memory_back()
    assert trimmed == ([0] if library else [])
