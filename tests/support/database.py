"""The ledger of a test as another process sees it, on either database: its address, its rows, its locks."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from django.db import connection, connections

# What every write of the ledger meets first on PostgreSQL; held exclusively it keeps all of them out.
_LOCK_OUT = "LOCK TABLE trading_enginelease, trading_engineevent, trading_order, portfolio_execution IN EXCLUSIVE MODE"


def ledger_url() -> str:
    """Return the ``DATABASE_URL`` of the database that this test uses."""
    own = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{own['NAME']}"
    user = quote(own["USER"]) + (f":{quote(own['PASSWORD'])}" if own["PASSWORD"] else "")
    return f"postgres://{user}@{own['HOST']}:{own['PORT']}/{own['NAME']}"


@contextlib.contextmanager
def opened(url: str) -> Iterator[Any]:
    """Open a plain connection, past Django; every statement commits by itself."""
    if url.startswith("sqlite"):
        made: Any = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, timeout=20)
    else:
        import psycopg

        made = psycopg.connect(url, autocommit=True)
    try:
        yield made
    finally:
        made.close()


def query(url: str, sql: str) -> list[tuple[Any, ...]]:
    """Read rows past Django."""
    with opened(url) as database:
        return list(database.execute(sql).fetchall())


@contextlib.contextmanager
def ledger_locked_by_another_program() -> Iterator[None]:
    """Keep every writer out of the ledger."""
    with opened(ledger_url()) as other:
        other.execute("BEGIN IMMEDIATE" if connection.vendor == "sqlite" else "BEGIN")
        if connection.vendor == "postgresql":
            other.execute(_LOCK_OUT)
        try:
            yield
        finally:
            other.execute("ROLLBACK")


def wait_for_locks_only(seconds: float, options: dict[str, Any] | None = None) -> None:
    """Have connections made from now on give up on a lock after ``seconds``; ``options`` are those to change."""
    target = connections.databases["default"]["OPTIONS"] if options is None else options
    if connection.vendor == "sqlite":
        target["timeout"] = seconds
    else:
        target["options"] = f"-c lock_timeout={int(seconds * 1000)}ms"
